"""Teachers with another tokenizer: equal tokenizers give the standard form, and totals are those of the texts."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.builtin.tiny import TEMPLATE, write_untrained
from burnish.credit.teacher import teacher_log_ratios
from burnish.data.records import Message, Task
from burnish.data.template import choose_template
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.losses.distillation.divergence import TeacherDivergence
from burnish.model.divergence import OtherVocabulary
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.model.sorted_l1 import sorted_l1
from burnish.packing import count_denominators, pack
from burnish.roles.filler import with_task
from burnish.teachers.local import LocalTeacher
from burnish.teachers.other_tokenizer import OtherTokenizer, TwoTokenizers
from burnish.teachers.prompts import PromptRenderer
from burnish.teachers.signal import Signal
from burnish.types import Group, Response, Score

TASK = Task((Message("user", "What is 2 plus 2?"),))
TEXTS = ["It is 4.", "  two lines\n\nof text ", "grüße, 世界 🙂!", "x"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("bytes")
    write_untrained(folder, seed=3, hidden_size=32, layers=1)
    return load_policy(str(folder), dtype="float64")


@pytest.fixture(scope="module")
def tiny() -> Model:
    """The built-in model, whose tokens are pieces of words."""
    return load_policy("builtin:tiny", dtype="float64")


def renderer(model: Model, limit: int | None = None) -> PromptRenderer:
    tokenizer = model.tokenizer
    if tokenizer.chat_template is None:
        tokenizer.chat_template = TEMPLATE
    return PromptRenderer(Writer(tokenizer, choose_template(tokenizer)), limit=limit)


def two(student: Model, teacher: Model) -> TwoTokenizers:
    ends = [student.tokenizer.eos_token_id]
    return TwoTokenizers(student.tokenizer, teacher.tokenizer, ends, teacher.tokenizer.eos_token_id)


def other(student: Model, teacher: Model, form: str = "logprobs", limit: int | None = None) -> OtherTokenizer:
    local = LocalTeacher(lambda: nullcontext(teacher), Signal(form), 128)  # type: ignore[arg-type]
    return OtherTokenizer(local, renderer(teacher, limit), two(student, teacher))


def written(model: Model, text: str, *, ended: bool = True) -> Response:
    """A response of a student, with log-probabilities as a sampler reports them."""
    tokens = model.tokenizer.encode(text, add_special_tokens=False) + [model.tokenizer.eos_token_id] * ended
    ids = torch.tensor(tokens)
    logprobs = -torch.arange(1.0, len(ids) + 1, dtype=torch.float64)
    return Response(tokens=ids, trainable=torch.ones(len(ids), dtype=torch.bool), sampler_logprobs=logprobs)


def asked(model: Model, *responses: Response) -> Group:
    return with_task(Group(prompt=renderer(model).prompt(TASK), responses=responses), TASK)


def total(model: Model, tokens: list[int]) -> Tensor:
    """Log-probability of a whole response after the model's own prompt."""
    local = LocalTeacher(lambda: nullcontext(model), Signal("logprobs"), 128)
    response = Response(tokens=torch.tensor(tokens), trainable=torch.ones(len(tokens), dtype=torch.bool))
    [[streams]] = local.streams([Group(prompt=renderer(model).prompt(TASK), responses=(response,))])
    return streams["teacher_logprobs"].sum()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("ended", [True, False])
def test_equal_tokenizers_are_the_standard_form(small, text, ended):
    """Every token is a run of its own: log-probabilities, advantages and order are those of the plain teacher."""
    group = asked(small, written(small, text, ended=ended), written(small, "another", ended=True))
    plain = LocalTeacher(lambda: nullcontext(small), Signal("logprobs"), 128)
    [standard], [runs] = plain([group]), other(small, small)([group])
    for one, same in zip(standard.responses, runs.responses, strict=True):
        assert same.byte_groups.tolist() == list(range(1, len(one.tokens) + 1))
        assert torch.allclose(one.teacher_logprobs, same.teacher_logprobs, atol=1e-12)
        assert torch.allclose(teacher_log_ratios(one), teacher_log_ratios(same), atol=1e-12)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("swapped", [False, True])
def test_totals_are_those_of_the_text(small, tiny, text, swapped):
    """Σ over runs of the teacher's log-probabilities is that of its own tokens; so is the student's."""
    student, teacher = (tiny, small) if swapped else (small, tiny)
    [group] = other(student, teacher)([asked(student, written(student, text))])
    [response] = group.responses
    assert int(response.byte_groups.min()) >= 1
    own = [*teacher.tokenizer.encode(text, add_special_tokens=False), teacher.tokenizer.eos_token_id]
    assert torch.allclose(response.teacher_logprobs.sum(), total(teacher, own), atol=1e-9)
    last = torch.cat([response.byte_groups[:-1] != response.byte_groups[1:], torch.tensor([True])])
    ratios = teacher_log_ratios(response)[last].sum()
    assert torch.allclose(ratios, response.sampler_logprobs.sum() - response.teacher_logprobs.sum(), atol=1e-9)


def test_an_unfinished_response_has_no_end(small, tiny):
    """The teacher's end token is compared with the student's, and with nothing if there is none."""
    whole, cut = written(small, "It is 4."), written(small, "It is 4.", ended=False)
    [group] = other(small, tiny)([asked(small, whole, cut)])
    ended, unfinished = group.responses
    assert int(ended.byte_groups.max()) == int(unfinished.byte_groups.max()) + 1
    assert torch.allclose(ended.teacher_logprobs[:-1], unfinished.teacher_logprobs, atol=1e-12)


def test_a_broken_character_at_the_end_is_in_no_run(small, tiny):
    tokens = small.tokenizer.encode("ok 🙂", add_special_tokens=False)[:-1]  # the last byte of the character is missing
    response = Response(
        tokens=torch.tensor(tokens),
        trainable=torch.ones(len(tokens), dtype=torch.bool),
        sampler_logprobs=torch.full((len(tokens),), -1.0, dtype=torch.float64),
    )
    [group] = other(small, tiny)([asked(small, response)])
    [filled] = group.responses
    assert filled.byte_groups[:2].min() >= 1
    assert filled.byte_groups[-3:].tolist() == [0, 0, 0]
    assert teacher_log_ratios(filled)[-3:].tolist() == [0.0, 0.0, 0.0]


def test_an_empty_response(small, tiny):
    [group] = other(small, tiny)([asked(small, written(small, ""))])
    [response] = group.responses
    assert response.byte_groups.tolist() == [1]
    assert torch.allclose(response.teacher_logprobs[0], total(tiny, [tiny.tokenizer.eos_token_id]), atol=1e-12)


def test_a_response_that_leaves_no_room_is_told(small, tiny):
    with pytest.raises(DataError, match="positions of the teacher"):
        other(small, tiny, limit=10)([asked(small, written(small, "It is 4."))])


@settings(max_examples=40)
@given(text=st.text(max_size=30), ended=st.booleans())
def test_any_text(text, ended):
    """Nothing fails, tokens and prompts are kept, and every stream has the length of the response."""
    student, teacher = _MODELS.get()
    response = written(student, text, ended=ended or not text)
    group = asked(student, response)
    [filled] = other(student, teacher)([group])
    assert torch.equal(filled.prompt, group.prompt)
    assert torch.equal(filled.responses[0].tokens, response.tokens)
    assert bool(filled.responses[0].teacher_logprobs.isfinite().all())


class _Models:
    """Two models for tests that hypothesis calls, loaded once."""

    def __init__(self) -> None:
        self._loaded: tuple[Model, Model] | None = None

    def get(self) -> tuple[Model, Model]:
        assert self._loaded is not None
        return self._loaded

    def put(self, one: Model, other: Model) -> None:
        self._loaded = (one, other)


_MODELS = _Models()


@pytest.fixture(autouse=True)
def loaded(small: Model, tiny: Model) -> None:
    _MODELS.put(small, tiny)


def probabilities(model: Model, group: Group) -> Tensor:
    """[trained tokens, V] of the model's own distributions."""
    [microbatch] = pack([group], 1000)
    states = model.hidden(microbatch)[microbatch.predictor_positions]
    return torch.softmax(states @ model.head.weight.T, dim=1)


@pytest.mark.parametrize("swapped", [False, True])
def test_sorted_probabilities_are_compared_where_runs_begin(small, tiny, swapped):
    """ULD: one distance for each run, at its first token; the other tokens are not trained."""
    student, teacher = (tiny, small) if swapped else (small, tiny)
    text = "It is 4, not 17."
    [group] = other(student, teacher, "states")([asked(student, written(student, text))])
    [response] = group.responses
    own = [*teacher.tokenizer.encode(text, add_special_tokens=False), teacher.tokenizer.eos_token_id]
    ids = torch.tensor(own)
    seen = Group(
        prompt=renderer(teacher).prompt(TASK),
        responses=(Response(tokens=ids, trainable=torch.ones(len(ids), dtype=torch.bool)),),
    )
    starts = two(student, teacher).read(written(student, text))[1]
    first = [starts.teacher.index(run) for run in range(starts.count)]
    assert int(response.trainable.sum()) == starts.count
    with torch.no_grad():
        wanted = sorted_l1(probabilities(student, group), probabilities(teacher, seen)[first])[0]
        model = Model(student.model, student.tokenizer, student.route, comparison=OtherVocabulary(lambda: teacher.head))
        [microbatch] = pack([group], 1000)
        scores = model.score(microbatch, [Score.DIVERGENCE])
    assert torch.allclose(scores.divergence, wanted, atol=1e-10)
    output = TeacherDivergence()(scores, microbatch)
    [term] = output.terms.values()
    assert torch.allclose(term.total / count_denominators([group])[term.denominator], wanted.mean(), atol=1e-10)


def test_sorted_probabilities_of_equal_tokenizers(small):
    """With one vocabulary every token is compared, and the teacher itself is at 0."""
    [group] = other(small, small, "states")([asked(small, written(small, "It is 4."))])
    assert bool(group.responses[0].trainable.all())
    model = Model(small.model, small.tokenizer, small.route, comparison=OtherVocabulary(lambda: small.head))
    [microbatch] = pack([group], 1000)
    with torch.no_grad():
        divergence = model.score(microbatch, [Score.DIVERGENCE]).divergence
    assert divergence.abs().max() < 1e-9
