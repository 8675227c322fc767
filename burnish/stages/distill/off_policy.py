"""Given responses of off-policy distillation: those of rows, or those that the teacher wrote; and the teacher's streams
of them, in a table or filled in each step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from burnish.data.cache import cache_entry, entry_lock, finish_entry
from burnish.data.eviction import mark_used
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.errors import DataError, ModelError
from burnish.evaluate.detokenize import response_decoder
from burnish.model.policy import Model
from burnish.model.stop_tokens import end_of_turn, stop_tokens_of
from burnish.roles.filler import Filler
from burnish.sampling.base import Sampler
from burnish.sampling.open import sampler_of
from burnish.sources.tabled import TabledRows
from burnish.stages.distill.data import DistillData
from burnish.stages.distill.sources import LocalSource, template_of
from burnish.stages.distill.teachers import Teachers, mask_of, training_signal
from burnish.stages.role import POLICY
from burnish.teachers.remote import ServerTeacher
from burnish.teachers.responses import Written, written_responses
from burnish.teachers.tables import (
    TOLERANCE,
    Rows,
    Streaming,
    TableFacts,
    TopKTable,
    identity_of,
    probe,
    read_table,
    require_table,
    write_table,
)
from burnish.train.dry_run import costliest
from burnish.types import Group, Response
from burnish.watch.counter import count_on_terminal

KIND = "teacher-tables"
"""Kind of the entries in the cache."""


@dataclass(frozen=True, eq=False, slots=True)
class OffPolicyRows:
    """Rows with given responses."""

    rows: Rows
    """The groups of each row, with streams if a table has them."""
    filler: Filler | None = None
    """Fills the streams in each step; None: the rows have them, or need none."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def filled(self, groups: Sequence[Group]) -> Sequence[Group]:
        """Groups of the rows with all their streams."""
        return groups if self.filler is None else self.filler(groups)

    def costliest(self, budget: int, size: int) -> list[Group]:
        """Groups of the largest microbatch of a step of `size` rows, for the dry run."""
        longest = sorted(range(len(self.rows)), key=lambda row: -sum(group.num_tokens for group in self.rows[row]))
        return costliest(self.filled([group for row in longest[:size] for group in self.rows[row]]), budget, size)


def off_policy_rows(data: DistillData, models: Mapping[str, Model], teachers: Teachers) -> OffPolicyRows:
    """The rows of a stage whose responses are given.

    Raises:
        ModelError: the teacher reads prompts in another template than that of the rows.
        DataError: a table in a folder of the user's is not that of the rows.
    """
    settings = data.settings
    given: Rows = _written(data, teachers.sources[0]) if data.given is None else data.given.draws
    if settings.special_tokens == "mask":
        mask = mask_of(data)
        given = [mask(groups) for groups in given]
    identity = {"the responses": identity_of(given)}
    if settings.loss == "cross_entropy":
        return OffPolicyRows(given, None, identity)
    require_own_prompts(teachers.sources)
    if settings.loss == "full":
        return OffPolicyRows(given, teachers.fill, identity)
    table, note = _table(data, models, teachers, given, identity["the responses"])
    if not teachers.sources and not teachers.servers:
        identity["the teacher's table"] = table.sha256
    return OffPolicyRows(TabledRows(given, table), None, identity, (note,))


def require_own_prompts(sources: Sequence[LocalSource]) -> None:
    """Refuses a teacher that reads other prompts than those of the rows.

    Raises:
        ModelError: it has another template.
    """
    if any(source.renderer is not None for source in sources):
        raise ModelError(
            given="a teacher with another chat template than the student's, and responses of the data",
            rule="teacher and student read the rows in the same tokens",
            remedy="give both the same chat_template, or set response_source: student",
        )


def _table(
    data: DistillData, models: Mapping[str, Model], teachers: Teachers, rows: Rows, identity: str
) -> tuple[TopKTable, str]:
    """The table of the rows: of the user's folder or of the cache, computed if it is missing."""
    settings, [teacher] = data.settings, data.settings.teachers
    served = "".join(server.fingerprint for server in teachers.servers.values())
    fingerprint = next(iter(teachers.fingerprints.values()), served)
    facts = TableFacts(identity, settings.resolved_top_k, settings.resolved_temperature, fingerprint)
    if not teachers.sources and not teachers.servers:
        assert teacher.tables is not None, "a teacher without a model is a table"
        return require_table(Path(teacher.tables), facts), f"the teacher is the table in {teacher.tables}"
    filler, dtype = _streaming(data, models, teachers)
    if teacher.tables is not None:
        folder = Path(teacher.tables)
        folder.mkdir(parents=True, exist_ok=True)
        with entry_lock(folder):
            return _read_or_write(folder, filler, rows, facts, dtype, is_cache=False)
    name = hashlib.sha256(f"burnish table 1 {facts}".encode()).hexdigest()
    with cache_entry(KIND, name) as entry, entry_lock(entry):
        found = _read_or_write(entry, filler, rows, facts, dtype, is_cache=True)
        mark_used(entry)
        finish_entry(entry)
    return found


def _streaming(data: DistillData, models: Mapping[str, Model], teachers: Teachers) -> tuple[Streaming, torch.dtype]:
    """The only teacher, and the type of its numbers."""
    if teachers.sources:
        source = teachers.sources[0]
        signal = training_signal(data, models[POLICY])
        return source.teacher(signal, data.tokens_per_microbatch), source.facts.causal_lm.dtype
    assert isinstance(teachers.fill, ServerTeacher), "a teacher that is no model is a server"
    return teachers.fill, torch.bfloat16


def _read_or_write(
    folder: Path, teacher: Streaming, rows: Rows, facts: TableFacts, dtype: torch.dtype, *, is_cache: bool
) -> tuple[TopKTable, str]:
    """The table in the folder, if a probe of the teacher agrees with it; otherwise written now. A folder of the user's
    is never overwritten."""
    found = read_table(folder)
    if found is not None:
        table, known = found
        is_alike = (known.rows, known.k, known.temperature) == (facts.rows, facts.k, facts.temperature)
        difference = probe(teacher, rows, table, dtype) if is_alike else None
        if difference is not None and difference <= TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16]):
            return table, f"the teacher's table is from an earlier run (a probe differs by {difference:.1e} nats)"
        if not is_cache:
            raise DataError(
                given=f"teacher.tables: {folder}, a table of "
                + ("other rows or another top_k or temperature" if difference is None else "another teacher"),
                rule="a table that is there is compared with the teacher on a few rows before it is used",
                remedy="name another folder, or delete this one",
            )
    told = count_on_terminal("rows under the teacher")
    return write_table(folder, teacher, rows, facts, told), "the teacher's table is computed once and kept"


def _written(data: DistillData, source: LocalSource) -> list[list[Group]]:
    """The groups of the teacher's own responses to the prompts of training, in the student's tokens."""
    settings, seed = data.settings, data.context.recipe.seed
    params, prompts = settings.params(seed), data.train.tokenized
    facts = [source.fingerprint, data.train.preparation.identity, repr(params), str(settings.responses_per_prompt)]
    facts += [repr(template_of(data, source.facts)), repr(teacher_ends(data, source))]
    renderer = source.renderer

    def seen(prompt: TokenizedPrompt) -> Tensor:
        return prompt.tokens if renderer is None else renderer.prompt(prompt.task)

    with ExitStack() as stack:

        def sampler() -> Sampler:
            model = stack.enter_context(source.opened())
            return sampler_of(model, teacher_ends(data, source))

        written = written_responses(
            sampler,
            prompts,
            seen,
            settings.responses_per_prompt,
            params,
            hashlib.sha256("\n".join(["burnish teacher responses 2", *facts]).encode()).hexdigest(),
            count_on_terminal("prompts answered by the teacher"),
        )
    to_student = _ToStudent(data, source)
    pairs = zip(prompts, written, strict=True)
    return [[Group(prompt=p.tokens, responses=tuple(to_student(each, p.task) for each in own))] for p, own in pairs]


def teacher_ends(data: DistillData, source: LocalSource) -> tuple[int, ...]:
    """Tokens that end a teacher's responses."""
    model = source.facts
    return stop_tokens_of(model.causal_lm.generation_config, model.tokenizer, template_of(data, model))


class _ToStudent:
    """Converts responses of a teacher to the student's tokens; the end token becomes the student's own. What the
    teacher's prompt opened and the student's did not, such as a thought, is the beginning of the response."""

    def __init__(self, data: DistillData, source: LocalSource) -> None:
        reader = data.context.reader
        self.tokenizer, self.limit, self.same = reader.tokenizer, data.settings.max_new_tokens, source.same_tokens
        self.ends, self.renderer = teacher_ends(data, source), source.renderer
        self.decode = response_decoder(source.facts.tokenizer, self.ends)
        end = end_of_turn(reader.tokenizer, reader.template) if data.train.spoken else None
        self.end = reader.tokenizer.eos_token_id if end is None else end

    def __call__(self, written: Written, task: Task) -> Response:
        ended = written.ended and written.tokens[-1] in self.ends  # not by a text that stops it, which is content
        content = list(written.tokens[:-1] if ended else written.tokens)
        if not self.same:
            text = self.decode(written.tokens)
            content = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        begun = "" if self.renderer is None else self.renderer.opened_beyond(task)
        beginning = self.tokenizer.encode(begun, add_special_tokens=False) if begun else []
        tokens = (beginning + content + [self.end] * ended)[: self.limit + len(beginning)]
        ids = torch.tensor(tokens or [self.end], dtype=torch.int64)
        return Response(tokens=ids, trainable=torch.ones(len(ids), dtype=torch.bool))
