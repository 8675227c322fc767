"""The teachers of a stage: what fills the streams of training and of evaluation, and what scoring compares with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from burnish.data.writer import Writer
from burnish.losses.distillation.settings import DivergenceOptions
from burnish.model.divergence import Comparison, FullVocabulary, OtherVocabulary, TopK
from burnish.model.head import Head
from burnish.model.policy import Model
from burnish.model.stop_tokens import end_of_turn
from burnish.roles.filler import Filler
from burnish.roles.logprob_server import LogprobServer, ServerSettings
from burnish.runs.training_state import StatefulObject
from burnish.sources.filled import SnapshotSync
from burnish.stages.distill.data import DistillData
from burnish.stages.distill.groups import STUDENT, TeacherSettings
from burnish.stages.distill.sources import LocalSource, local_source, require_tokens, teacher_role
from burnish.stages.role import POLICY
from burnish.teachers.prompts import PrivilegedContext, PromptRenderer, differs_by_row
from burnish.teachers.remote import ServedModel, ServerTeacher
from burnish.teachers.routed import Route, RoutedTeachers, route_of
from burnish.teachers.signal import Signal
from burnish.teachers.special_tokens import MaskSpecialTokens
from burnish.types import Group

REVERSE = DivergenceOptions("reverse_kl", "full")
"""The divergence that evaluations measure."""


@dataclass(frozen=True, eq=False, slots=True)
class Teachers:
    """The teachers of a stage, ready to fill."""

    fill: Filler
    """Fills the streams of training."""
    comparison: Comparison | None
    """What the loss of training compares with; None: it compares no distributions."""
    measure: Filler
    """Fills the streams of evaluations."""
    measured: Comparison | None
    """None: evaluations estimate the divergence from sampled tokens."""
    measured_temperature: float
    """Divisor of the logits in evaluations."""
    sources: Sequence[LocalSource] = ()
    """Teachers that compute in this process, in their order."""
    servers: Mapping[str, LogprobServer] = field(default_factory=dict)
    """Role → the server of a teacher."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def sync(self) -> SnapshotSync | None:
        """Updates of a moving average of the student."""
        return next((source.sync for source in self.sources if source.sync is not None), None)

    @property
    def snapshots(self) -> Mapping[str, StatefulObject]:
        """What checkpoints have of teachers, by role: earlier weights of the student, and probes of servers."""
        found = next((source.snapshot for source in self.sources if source.snapshot is not None), None)
        student: dict[str, StatefulObject] = {} if found is None else {STUDENT: found}
        return {**student, **{role: ServedModel(server) for role, server in self.servers.items()}}


def teachers_of(data: DistillData, models: Mapping[str, Model]) -> Teachers:
    """Sets up the teachers of a stage, before the student is trained and before a checkpoint is restored.

    Raises:
        ModelError: a teacher's tokenizer, end token or positions do not fit the student's.
        DataError: a row has no teacher, or no privileged context.
    """
    settings, budget, student = data.settings, data.tokens_per_microbatch, models[POLICY]
    named = dict(enumerate(settings.teachers))
    local = {n: local_source(data, models, n, teacher) for n, teacher in named.items() if teacher.is_local}
    for source in local.values():
        require_tokens(data, source)
    servers = {n: _server(data, teacher) for n, teacher in named.items() if teacher.kind == "server"}

    def filler(number: int, signal: Signal) -> Filler:
        if number in local:
            return local[number].filler(signal, budget)
        renderer = _served_renderer(data, settings.teachers[number])
        return ServerTeacher(servers[number], signal, renderer)

    signal, whole = training_signal(data, student), measured_signal(data, student, local, servers)
    given = [number for number, teacher in named.items() if teacher.kind != "tables"]
    heads = [source.head for source in local.values()]
    return Teachers(
        fill=_routed(data, [filler(number, signal) for number in given]),
        comparison=None if settings.compared is None else _comparison(settings.compared, heads),
        measure=_routed(data, [filler(number, whole) for number in given]),
        measured=_measured(whole, heads),
        measured_temperature=whole.temperature,
        sources=list(local.values()),
        servers={teacher_role(number, settings.teachers[number]).name: server for number, server in servers.items()},
        fingerprints={
            teacher_role(number, source.settings).name: source.fingerprint for number, source in local.items()
        },
        notes=tuple(_notes(data, list(local.values()))),
    )


def measured_signal(
    data: DistillData, student: Model, local: Mapping[int, LocalSource], servers: Mapping[int, LogprobServer]
) -> Signal:
    """What evaluations need: whole distributions, the most probable tokens of a server, or, across tokenizers, the
    log-probabilities of sampled tokens."""
    settings = data.settings
    if not all(source.same_tokens for source in local.values()):
        return Signal("logprobs", temperature=settings.sampling.temperature)
    if servers or any(source.snapshot is not None for source in local.values()):
        # A moving average has a head of its own, which is in place only while it computes; a server knows one
        # temperature.
        temperature = 1.0 if servers else settings.sampling.temperature
        return Signal("top_k", settings.resolved_top_k, temperature, student.head.vocabulary)
    return Signal("states", temperature=settings.sampling.temperature)


def _measured(signal: Signal, heads: Sequence[Callable[[], Head]]) -> Comparison | None:
    """Reverse KL over what evaluations get of the teacher; None: it is estimated from sampled tokens."""
    if signal.form == "logprobs":
        return None
    return TopK(REVERSE) if signal.form == "top_k" else FullVocabulary(REVERSE, heads)


def _server(data: DistillData, teacher: TeacherSettings) -> LogprobServer:
    """Opens the server of a teacher, which is closed at the end of the stage."""
    options = teacher.server
    asked = ServerSettings(
        url=str(teacher.url),
        model=teacher.model,
        api_key_variable=options.api_key_variable or "",
        concurrency=options.concurrency,
        timeout_s=options.timeout,
        deadline_s=options.deadline,
    )
    server = LogprobServer.open(asked, k=data.settings.resolved_top_k)
    data.servers.append(server)
    return server


def _served_renderer(data: DistillData, teacher: TeacherSettings) -> PromptRenderer | None:
    """A served teacher has the student's template, and may have privileged context."""
    if not teacher.has_context:
        return None
    reader = data.context.reader
    writer = Writer(reader.tokenizer, reader.template, data.context.settings.chat_template_kwargs)
    return PromptRenderer(writer, PrivilegedContext(teacher.context or "", teacher.context_column or ""))


def _comparison(options: DivergenceOptions, heads: Sequence[Callable[[], Head]]) -> Comparison:
    if options.support == "top_k":
        return TopK(options)
    return FullVocabulary(options, heads) if options.support == "full" else OtherVocabulary(heads[0])


def training_signal(data: DistillData, student: Model) -> Signal:
    """What the loss of training needs of a teacher."""
    settings, vocabulary = data.settings, student.head.vocabulary
    if settings.loss == "policy_gradient":
        return Signal("logprobs", temperature=settings.sampling.temperature)
    if settings.loss in ("full", "uld"):
        return Signal("states")
    return Signal("top_k", settings.resolved_top_k, settings.resolved_temperature, vocabulary)


def dry_streams(signal: Signal, hidden_size: int, length: int) -> Mapping[str, Tensor]:
    """Streams of a response of this length, for the dry run."""
    if signal.form == "logprobs":
        return {"teacher_logprobs": torch.zeros(length)}
    if signal.form == "states":
        index = torch.zeros(length, dtype=torch.int64)
        return {"teacher_states": torch.zeros(length, hidden_size), "teacher_index": index}
    k = signal.k if signal.vocabulary is None else min(signal.k, signal.vocabulary)
    return {
        "teacher_topk_tokens": torch.arange(k).expand(length, -1).contiguous(),
        "teacher_topk_logprobs": torch.full((length, k), -8.0),
        "teacher_tail_logprobs": torch.full((length,), -1.0),
    }


def _no_teacher(groups: Sequence[Group]) -> list[Group]:
    """A teacher that is a table fills no other rows."""
    raise AssertionError("a table has the streams of its rows alone")


def _routed(data: DistillData, fillers: Sequence[Filler]) -> Filler:
    """The filler of all groups: the only teacher's, or each row's own."""
    teachers = data.settings.teachers
    if not fillers:
        return _no_teacher
    if len(teachers) == 1 and not teachers[0].where:
        return fillers[0]
    routes = [Route(teacher.where, filler) for teacher, filler in zip(teachers, fillers, strict=True)]
    for prompts in (data.train, data.held_out):
        for prompt in () if prompts is None else prompts.tokenized:
            route_of(routes, prompt.task)
    return RoutedTeachers(routes)


def _notes(data: DistillData, sources: Sequence[LocalSource]) -> Iterator[str]:
    tasks = [prompt.task for prompt in data.train.tokenized]
    for source in sources:
        context = None if source.renderer is None else source.renderer.context
        if context is not None and differs_by_row(context, tasks):
            yield (
                "warning: the teacher's context differs from row to row: studies find that a student cannot learn what "
                "it is not told at test time, and becomes worse (arXiv 2605.11182); a context that is the same for all "
                "rows, such as instructions, can be learned"
            )
        if source.renderer is not None and context is None:
            yield f"teacher {source.settings.model} reads prompts in its own chat template"


def with_mask(data: DistillData, fill: Filler) -> Filler:
    """The filler, after special tokens are made untrained if the stage masks them."""
    if data.settings.special_tokens == "train":
        return fill
    mask = mask_of(data)
    return lambda groups: fill(mask(groups))


def mask_of(data: DistillData) -> MaskSpecialTokens:
    """Masks the student's special tokens, the end of a turn included."""
    reader = data.context.reader
    added = (index for index, token in reader.tokenizer.added_tokens_decoder.items() if token.special)
    end = end_of_turn(reader.tokenizer, reader.template)
    return MaskSpecialTokens({*reader.tokenizer.all_special_ids, *added, *([] if end is None else [end])})
