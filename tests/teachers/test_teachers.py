"""Teachers that compute in this process: their streams are those of plain forwards, whoever reads what."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.builtin.tiny import TEMPLATE, make_tokenizer, write_untrained
from burnish.data.records import Message, Task
from burnish.data.template import choose_template
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.model.attention import plain_attention
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.roles.filler import with_task
from burnish.teachers.local import LocalTeacher
from burnish.teachers.prompts import PrivilegedContext, PromptRenderer, differs_by_row
from burnish.teachers.routed import Route, RoutedTeachers
from burnish.teachers.signal import Signal
from burnish.teachers.special_tokens import MaskSpecialTokens
from burnish.types import Group, Response

BUDGET = 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """A teacher, and a wider one with the same tokens."""
    folder = tmp_path_factory.mktemp("teachers")
    write_untrained(folder / "one", seed=1, hidden_size=32, layers=2)
    write_untrained(folder / "two", seed=2, hidden_size=64, layers=1)
    return [load_policy(str(folder / name), dtype="float64") for name in ("one", "two")]


def task(text: str, **extra: object) -> Task:
    return Task((Message("user", text),), "4", extra)


def group(text: str, responses: Sequence[Sequence[int]], **extra: object) -> Group:
    """The student's prompt of a task, with responses of which every other token is trained."""
    tokenizer = make_tokenizer()
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
    tokens = rendered if isinstance(rendered, list) else rendered["input_ids"]
    made = []
    for response in responses:
        ids = torch.tensor(response)
        made.append(
            Response(tokens=ids, trainable=torch.arange(len(ids)) % 2 == 0, sampler_logprobs=torch.zeros(len(ids)))
        )
    return with_task(Group(prompt=torch.tensor(tokens), responses=tuple(made)), task(text, **extra))


@pytest.fixture
def groups() -> list[Group]:
    return [
        group("2+2?", [[5, 6, 7], [9, 9]], kind="sum"),
        group("red?", [[40, 41, 42, 43]], kind="color"),
        group("3+1?", [[8], [7, 6, 5]], kind="sum"),
    ]


def plain(model: Model, prompt: Tensor, response: Response, temperature: float = 1.0) -> Tensor:
    """[trained tokens, V] log-probabilities by transformers' own forward of one sequence."""
    with torch.no_grad(), plain_attention(model.causal_lm):
        logits = model.causal_lm(input_ids=torch.cat([prompt, response.tokens])[None], use_cache=False).logits[0]
    return torch.log_softmax(logits[len(prompt) - 1 : -1][response.trainable] / temperature, dim=1)


def teacher(model: Model, signal: Signal, renderer: PromptRenderer | None = None) -> LocalTeacher:
    return LocalTeacher(lambda: nullcontext(model), signal, BUDGET, renderer)


def each(filled: Sequence[Group], given: Sequence[Group]):
    """(prompt, response without streams, response with them), of all responses."""
    for made, group in zip(filled, given, strict=True):
        for response, before in zip(made.responses, group.responses, strict=True):
            yield group.prompt, before, response


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_logprobs_are_those_of_the_tokens(models, groups, temperature):
    filled = teacher(models[0], Signal("logprobs", temperature=temperature))(groups)
    for prompt, before, response in each(filled, groups):
        rows = plain(models[0], prompt, before, temperature)
        wanted = rows.gather(1, before.tokens[before.trainable][:, None])[:, 0]
        assert torch.allclose(response.teacher_logprobs[before.trainable], wanted, atol=1e-10)
        assert bool((response.teacher_logprobs[~before.trainable] == 0).all())


@pytest.mark.parametrize("vocabulary", [None, 200])
def test_the_top_k_with_its_tail(models, groups, vocabulary):
    filled = teacher(models[0], Signal("top_k", 5, 0.7, vocabulary))(groups)
    for prompt, before, response in each(filled, groups):
        rows = plain(models[0], prompt, before, 0.7)[:, :vocabulary]
        rows = torch.log_softmax(rows, dim=1).sort(dim=1, descending=True)
        assert torch.equal(response.teacher_topk_tokens[before.trainable], rows.indices[:, :5])
        assert torch.allclose(response.teacher_topk_logprobs[before.trainable], rows.values[:, :5], atol=1e-10)
        tail = torch.logsumexp(rows.values[:, 5:], dim=1)
        assert torch.allclose(response.teacher_tail_logprobs[before.trainable], tail, atol=1e-10)


def test_states_give_the_whole_distribution(models, groups):
    filled = teacher(models[0], Signal("states"))(groups)
    for prompt, before, response in each(filled, groups):
        logits = response.teacher_states[before.trainable] @ models[0].head.weight.T
        assert torch.allclose(torch.log_softmax(logits, dim=1), plain(models[0], prompt, before), atol=1e-10)


def test_nothing_is_changed_but_streams(models, groups):
    filled = teacher(models[0], Signal("logprobs"))(groups)
    for made, group in zip(filled, groups, strict=True):
        assert torch.equal(made.prompt, group.prompt)
        for response, before in zip(made.responses, group.responses, strict=True):
            assert torch.equal(response.tokens, before.tokens)
            assert torch.equal(response.trainable, before.trainable)
    assert teacher(models[0], Signal("logprobs"))([]) == []


def test_two_teachers_by_task(models, groups):
    """Each row has the first teacher whose condition it meets; order and prompts are kept."""
    signal = Signal("logprobs")
    routes = [Route({"kind": "color"}, teacher(models[1], signal)), Route({}, teacher(models[0], signal))]
    filled = RoutedTeachers(routes)(groups)
    for place, (made, group) in enumerate(zip(filled, groups, strict=True)):
        own = models[1] if place == 1 else models[0]
        for response, before in zip(made.responses, group.responses, strict=True):
            wanted = plain(own, group.prompt, before).gather(1, before.tokens[before.trainable][:, None])[:, 0]
            assert torch.allclose(response.teacher_logprobs[before.trainable], wanted, atol=1e-10)
            assert bool((response.teacher_index == (0 if place == 1 else 1)).all())


def test_states_of_two_teachers_have_one_width(models, groups):
    routes = [
        Route({"kind": "sum"}, teacher(models[0], Signal("states"))),
        Route({}, teacher(models[1], Signal("states"))),
    ]
    filled = RoutedTeachers(routes)(groups)
    assert {response.teacher_states.shape[1] for made in filled for response in made.responses} == {64}
    assert bool((filled[0].responses[0].teacher_states[:, 32:] == 0).all())


def test_a_row_without_a_teacher_is_told(models, groups):
    routed = RoutedTeachers([Route({"kind": "sum"}, teacher(models[0], Signal("logprobs")))])
    with pytest.raises(DataError, match="kind: 'color'"):
        routed(groups)


def writer(template: str | None = None) -> Writer:
    tokenizer = make_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    return Writer(tokenizer, choose_template(tokenizer))


def test_a_teacher_reads_its_own_template(models, groups):
    """The prompt is rendered in the teacher's template, the response is the student's tokens."""
    other = TEMPLATE.replace("<|{{ message.role }}|>", "[{{ message.role }}]").replace("<|assistant|>", "[assistant]")
    renderer = PromptRenderer(writer(other))
    filled = teacher(models[0], Signal("logprobs"), renderer)(groups)
    tokenizer = make_tokenizer()
    for made, given in zip(filled, groups, strict=True):
        prompt = renderer.seen(given).prompt
        assert "[user]" in tokenizer.decode(prompt.tolist())
        assert torch.equal(made.prompt, given.prompt)
        for response, before in zip(made.responses, given.responses, strict=True):
            wanted = plain(models[0], prompt, before).gather(1, before.tokens[before.trainable][:, None])[:, 0]
            assert torch.allclose(response.teacher_logprobs[before.trainable], wanted, atol=1e-10)


def test_the_same_template_gives_the_students_prompt(groups):
    renderer = PromptRenderer(writer())
    for given in groups:
        assert torch.equal(renderer.seen(given).prompt, given.prompt)


def test_privileged_context_stands_before_the_prompt():
    tokenizer, renderer = make_tokenizer(), PromptRenderer(writer(), PrivilegedContext("Be kind.", "hint"))
    text = tokenizer.decode(renderer.prompt(task("2+2?", hint="It is even.")).tolist())
    assert text.index("Be kind.\n\nIt is even.") < text.index("2+2?")
    own = Task((Message("system", "You count."), Message("user", "2+2?")), None, {"hint": "x"})
    told = tokenizer.decode(renderer.prompt(own).tolist())
    assert "You count.\n\nBe kind.\n\nx" in told
    assert "Be kind.\n\nx\n\nplain" in tokenizer.decode(renderer.prompt(Task("plain", None, {"hint": "x"})).tolist())


@pytest.mark.parametrize("value", [None, "", "  ", True, ["a"]])
def test_a_row_without_context_is_told(value):
    with pytest.raises(DataError, match="column hint"):
        PrivilegedContext(column="hint").of(task("2+2?", hint=value))


def test_context_that_differs_by_row():
    rows = [task("a", hint="x"), task("b", hint="y")]
    assert differs_by_row(PrivilegedContext(column="hint"), rows)
    assert not differs_by_row(PrivilegedContext("same"), rows)
    assert not differs_by_row(PrivilegedContext(column="reference"), rows)  # the answer of both is 4


def test_a_prompt_that_leaves_no_room_is_told(models, groups):
    renderer = PromptRenderer(writer(), PrivilegedContext("a " * 50), limit=60)
    with pytest.raises(DataError, match="positions of the teacher"):
        renderer.seen(groups[0])


def test_special_tokens_are_not_trained(groups):
    [first, *_] = MaskSpecialTokens([6, 9])(groups)
    assert [response.trainable.tolist() for response in first.responses] == [[True, False, True], [False, False]]
    whole = replace(
        groups[0],
        responses=tuple(
            replace(response, trainable=torch.ones_like(response.trainable)) for response in groups[0].responses
        ),
    )
    [first] = MaskSpecialTokens([6, 9])([whole])
    assert [response.trainable.tolist() for response in first.responses] == [[True, False, True], [False, False]]
    assert torch.equal(first.responses[1].tokens, whole.responses[1].tokens)
