"""Teachers that compute in the trainer's process: a model, one that is loaded when it is used, or the student's earlier
weights; with the checks that they read what the student writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch

from burnish.data.template import Template, choose_template
from burnish.data.writer import Writer
from burnish.errors import ModelError, RecipeError
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.head import Head
from burnish.model.policy import Model
from burnish.model.positions import exact_positions
from burnish.model.snapshot import Snapshot
from burnish.model.stop_tokens import end_of_turn, stop_tokens_of
from burnish.roles.filler import Filler
from burnish.sources.filled import SnapshotSync
from burnish.stages.distill.data import DistillData
from burnish.stages.distill.groups import TeacherSettings
from burnish.stages.models import load_frozen
from burnish.stages.role import POLICY, TEACHER, Role
from burnish.teachers.local import LocalTeacher, Opened
from burnish.teachers.other_tokenizer import OtherTokenizer, TwoTokenizers
from burnish.teachers.prompts import PrivilegedContext, PromptRenderer
from burnish.teachers.signal import Signal


def teacher_role(number: int, teacher: TeacherSettings) -> Role:
    """Role of a teacher that is a model."""
    name = TEACHER if number == 0 else f"{TEACHER}-{number + 1}"
    return Role(name, trained=False, model=teacher.model, has_own_tokens=True)


@dataclass(frozen=True, eq=False, slots=True)
class LocalSource:
    """A teacher that computes in this process."""

    settings: TeacherSettings
    opened: Opened
    head: Callable[[], Head]
    """Its output head, which stays when its weights are freed."""
    facts: Model
    """The teacher, or one with its tokenizer and configuration whose weights are not used."""
    renderer: PromptRenderer | None
    """None: it reads the student's prompts."""
    same_tokens: bool
    """Whether its tokens are the student's."""
    fingerprint: str
    sync: SnapshotSync | None = None
    snapshot: Snapshot | None = None
    two: TwoTokenizers | None = None
    """Tokenizers of student and teacher, if they differ; None: the tokens are the same."""

    def filler(self, signal: Signal, budget: int) -> Filler:
        """Fills the streams of the signal."""
        if self.two is None:
            return self.teacher(signal, budget)
        assert self.renderer is not None, "a teacher with its own tokens has its own prompts"
        return OtherTokenizer(LocalTeacher(self.opened, signal, budget), self.renderer, self.two)

    def teacher(self, signal: Signal, budget: int) -> LocalTeacher:
        """The teacher of the student's own tokens."""
        return LocalTeacher(self.opened, signal, budget, self.renderer)


def local_source(data: DistillData, models: Mapping[str, Model], number: int, settings: TeacherSettings) -> LocalSource:
    """A teacher that computes in this process."""
    policy, role = models[POLICY], teacher_role(number, settings)
    if settings.kind == "student":
        return _student(data, policy, settings)
    if settings.placement == "resident":
        model = models[role.name]
        opened: Opened = lambda: nullcontext(model)  # noqa: E731
        head = model.head
    else:
        model = load_frozen(data.context, role)
        kept = model.head
        head = replace(kept, weight=kept.weight.detach().clone())
        opened = _InTurns(data, role)
    same = _same_tokens(data, model)
    renderer, fingerprint = _renderer(data, model, settings, same), whole_fingerprint(model)
    facts = model if settings.placement == "resident" else _without_weights(model)
    _require_one_beginning(data, renderer, settings)
    two = None if same else _two_tokenizers(data, policy, model)
    return LocalSource(settings, opened, lambda: head, facts, renderer, same, fingerprint, two=two)


def _student(data: DistillData, policy: Model, settings: TeacherSettings) -> LocalSource:
    """The student itself, with its present weights, those of the start, or their moving average.

    Raises:
        RecipeError: the student's weights are sharded.
    """
    if policy.placement.gathers:
        raise RecipeError(
            given="a teacher of kind student, with parallel.shard",
            rule="processes that have the weights together compute equally often; each asks its teacher by itself",
            remedy="set parallel.shard: 1 (every process has all weights), or name another teacher",
        )
    renderer = _renderer(data, policy, settings, True)
    fingerprint = hashlib.sha256(f"student {settings.model_dump_json()}".encode()).hexdigest()
    if settings.ema_decay == 0:
        return LocalSource(
            settings, lambda: nullcontext(policy), lambda: policy.head, policy, renderer, True, fingerprint
        )
    snapshot = Snapshot(policy)
    decay = settings.ema_decay
    sync = None if decay is None else SnapshotSync(snapshot, every=1, share=1 - decay)
    return LocalSource(
        settings, snapshot.in_place, lambda: policy.head, policy, renderer, True, fingerprint, sync, snapshot
    )


@dataclass(frozen=True, eq=False, slots=True)
class _InTurns:
    """Loads a teacher for the time of its use."""

    data: DistillData
    role: Role

    def __call__(self) -> AbstractContextManager[Model]:
        return self._loaded()

    @contextmanager
    def _loaded(self) -> Iterator[Model]:
        model = load_frozen(self.data.context, self.role)
        try:
            yield model
        finally:
            del model
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _without_weights(model: Model) -> Model:
    """The model with tokenizer and configuration alone, on the meta device."""
    return replace(model, model=model.model.to("meta"))


def _same_tokens(data: DistillData, model: Model) -> bool:
    own, theirs = data.context.reader.tokenizer.get_vocab(), model.tokenizer.get_vocab()
    return all(theirs.get(token) == index for token, index in own.items())


def _require_positions(data: DistillData, source: LocalSource) -> None:
    """Refuses a teacher that has no positions for the student's longest prompt and response. One with prompts of its
    own measures them when it reads them.

    Raises:
        ModelError: it has fewer positions.
    """
    limit = exact_positions(source.facts.causal_lm.config)
    sets = [data.train] if data.held_out is None else [data.train, data.held_out]
    longest = max(len(prompt.tokens) for prompts in sets for prompt in prompts.tokenized) + data.settings.max_new_tokens
    if data.given is not None:
        lengths = (len(g.prompt) + len(r.tokens) for row in data.given.draws for g in row for r in g.responses)
        longest = max(longest, *lengths)
    if source.renderer is None and longest > limit:
        raise ModelError(
            given=f"teacher.model: {source.settings.model}, which supports {limit:,} positions",
            rule=f"a prompt with its response has up to {longest:,} tokens",
            remedy="lower max_new_tokens or max_length, or name another teacher",
        )


def _require_one_beginning(data: DistillData, renderer: PromptRenderer | None, settings: TeacherSettings) -> None:
    """Refuses a teacher that would read the student's responses within something that its own prompt opened.

    Raises:
        ModelError: its generation prompt opens a thought, say, and the student's does not.
    """
    if renderer is None or data.settings.response_source != "student":
        return
    if opened := next(filter(None, (renderer.opened_beyond(p.task) for p in data.train.tokenized[:8])), ""):
        raise ModelError(
            given=f"teacher.model: {settings.model}, whose template begins the answer with {opened!r}",
            rule="the student's template does not, so that the teacher would read its answers within that",
            remedy="give both the same chat_template, or set chat_template_kwargs such as enable_thinking: false",
        )


def _two_tokenizers(data: DistillData, policy: Model, model: Model) -> TwoTokenizers:
    """The tokenizers of student and teacher, with the tokens that end their turns."""
    reader = data.context.reader
    ends = stop_tokens_of(policy.causal_lm.generation_config, policy.tokenizer, reader.template)
    end = end_of_turn(model.tokenizer, template_of(data, model)) if data.train.spoken else None
    if end is None:
        end = stop_tokens_of(model.causal_lm.generation_config, model.tokenizer)[0]
    return TwoTokenizers(reader.tokenizer, model.tokenizer, ends, end)


def template_of(data: DistillData, model: Model) -> Template:
    """The teacher's own chat template; the student's, if it has none."""
    own = choose_template(model.tokenizer)
    return data.context.reader.template if model.tokenizer.chat_template is None else own


def _renderer(data: DistillData, model: Model, settings: TeacherSettings, same_tokens: bool) -> PromptRenderer | None:
    template = template_of(data, model)
    has_own = data.train.spoken and template != data.context.reader.template
    if same_tokens and not has_own and not settings.has_context:
        return None
    context = PrivilegedContext(settings.context or "", settings.context_column or "") if settings.has_context else None
    limit = exact_positions(model.causal_lm.config)
    options = data.context.settings.chat_template_kwargs
    return PromptRenderer(Writer(model.tokenizer, template, options), context, limit)


def require_tokens(data: DistillData, source: LocalSource) -> None:
    """Refuses a teacher that reads other tokens than the student writes.

    Raises:
        ModelError: the tokenizer or the end of a turn is another one, and the loss compares tokens.
    """
    settings, model, reader = data.settings, source.facts, data.context.reader
    _require_positions(data, source)
    if not source.same_tokens:
        if settings.loss in ("policy_gradient", "uld", "cross_entropy"):
            return
        raise ModelError(
            given=f"teacher.model: {source.settings.model}, whose tokenizer has other tokens than the student's",
            rule=f"loss: {settings.loss} compares the probabilities of the same tokens",
            remedy="set loss: policy_gradient (tokens that span the same bytes are compared) or loss: uld (sorted "
            "probabilities), or name a teacher with the student's tokenizer",
        )
    if settings.special_tokens == "mask":
        return
    if data.train.spoken:
        end, theirs = (
            end_of_turn(reader.tokenizer, reader.template),
            end_of_turn(model.tokenizer, template_of(data, model)),
        )
        differs = end is not None and theirs is not None and end != theirs
    else:
        end = reader.tokenizer.eos_token_id
        differs = end is not None and end not in stop_tokens_of(model.causal_lm.generation_config, model.tokenizer)
    if differs:
        name = reader.tokenizer.convert_ids_to_tokens(end)
        raise ModelError(
            given=f"teacher.model: {source.settings.model}, which does not end turns with {name}, as the student does",
            rule="student and teacher end their turns with the same token: otherwise the student learns never to end",
            remedy="set special_tokens: mask, which leaves special tokens out of the loss, or give both the same "
            "chat_template",
        )
