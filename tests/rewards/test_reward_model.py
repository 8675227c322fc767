"""A reward model as a judge of responses: its scores in a run are those of `burnish eval` and transformers."""

from __future__ import annotations

import gc
import json
import random
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError, RecipeError
from burnish.grading.reward_runner import RewardRunner
from burnish.grading.self_test import self_test
from burnish.grading.verdict_cache import VerdictCache
from burnish.model.open import open_model
from burnish.model.policy import Model
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward_model_scorer import RewardModelScorer
from burnish.rewards.verdict import Failure, FailureKind, Outcome
from burnish.runs.named_model import resolve_model
from burnish.types import Microbatch, Score, TokenScores
from burnish.verbs.evaluate import EvalSettings, read_settings
from burnish.verbs.evaluate_preferences import evaluate_preferences
from burnish.verbs.evaluate_reward_model import evaluate_reward_model, value_head_to_evaluate
from burnish.verbs.evaluate_rewards import RewardEvalSettings, evaluate_rewards

ROWS = [
    {"question": f"q {i}?", "response": "so it is <|end|>" if i % 2 else f"no {i}", "kind": i % 3, "size": i % 2}
    for i in range(12)
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reward models: of pairs, and of two scores."""
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = "<|system|>"  # that of the tiny model ends turns
    tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=8))
    write_rows(folder / "scores.jsonl", ROWS)
    given = {"model": str(folder / "model"), "max_steps": 1, "sequences_per_step": 4}
    burnish.reward(data=str(folder / "pairs.jsonl"), output=str(folder / "one"), **given)
    several = {"loss": "regression", "scores": ["kind", "size"]}
    burnish.reward(data=str(folder / "scores.jsonl"), output=str(folder / "two"), **given, **several)
    burnish.reward(
        data=str(folder / "scores.jsonl"),
        output=str(folder / "adapter"),
        **given,
        **several,
        **{"adapter.kind": "lora", "adapter.rank": 2},
    )
    return folder


def judged(settings: Mapping[str, object], answers: list[ResponseView]) -> list[float]:
    with RewardRunner(read_rewards({"name": "reward_model", **settings}), workers=1, device="cpu") as judge:
        [verdicts] = judge([answers])
    found = [verdict.reward for verdict in verdicts]
    assert all(isinstance(each, float) for each in found), found
    return found


def opened(world: Path, name: str, output: str | None = None, *, budget: int = 8192, **weights: float) -> Scorer:
    """The scores of a reward model for the answers to one prompt."""
    scorer = RewardModelScorer.open(str(world / name / "model"), output, weights, budget=budget, device="cpu")
    return lambda answers: scorer([answers])[0]


Scorer = Callable[[list[ResponseView]], list[Outcome]]
ASKED = ({"role": "user", "content": "2+2?"},)
ANSWERS = [
    *(ResponseView(ASKED, text) for text in ("It is 4.", "It is 5.", "It is 4.", "", "no <|end|> here", "4 " * 20)),
    ResponseView("2+2=", " 4"),
    ResponseView("What is 2+2?", " 4"),
    ResponseView(({"role": "system", "content": "Be short."}, *ASKED), "4"),
]
"""Answers to several prompts, in one group: some texts begin alike, and some do not."""


def test_a_run_says_what_burnish_eval_says(world: Path):
    rows = [json.loads(line) for line in (world / "pairs.jsonl").read_text().splitlines()]
    answers = [
        ResponseView(tuple(row["prompt"]), row[name][0]["content"]) for row in rows for name in ("chosen", "rejected")
    ]
    found = judged({"model": str(world / "one" / "model")}, answers)
    asked = read_settings(EvalSettings, {"data": str(world / "pairs.jsonl")}, [])
    wanted = [sample["margin"] for sample in evaluate_preferences(str(world / "one"), asked).samples()]
    assert [one - other for one, other in zip(found[::2], found[1::2], strict=True)] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ["two", "adapter"])
def test_one_of_several_scores_or_their_sum(world: Path, name: str):
    """Text of control tokens in an answer stays text there, as it was in training."""
    asked, head_config = (
        read_settings(EvalSettings, {"data": str(world / "scores.jsonl")}, []),
        value_head_to_evaluate(str(world / name)),
    )
    assert head_config is not None
    samples = [each["values"] for each in evaluate_reward_model(str(world / name), asked, head_config).samples()]
    answers = [ResponseView(({"role": "user", "content": str(row["question"])},), str(row["response"])) for row in ROWS]
    assert opened(world, name, "size")(answers) == pytest.approx([each["size"] for each in samples], abs=1e-5)
    wanted = [2 * each["kind"] - each["size"] for each in samples]
    assert opened(world, name, kind=2.0, size=-1.0)(answers) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("name", "output"), [("one", None), ("two", "size"), ("adapter", "kind")])
def test_a_score_is_that_of_a_plain_forward_of_the_answer_alone(world: Path, name: str, output: str | None):
    plain = open_model(str(world / name / "model"), device=torch.device("cpu"), allow_reward_model=True)
    renderer = RewardModelScorer.open(str(world / name / "model"), output, {}, budget=8192, device="cpu").renderer
    column = 0 if output is None else ["kind", "size"].index(output)
    wanted = []
    for sample in renderer.samples(ANSWERS):
        tokens = torch.tensor(sample.tokens, dtype=torch.int64)[None]
        with torch.no_grad():
            wanted.append(float(plain.model(input_ids=tokens).logits[0, column]))
    assert opened(world, name, output)(ANSWERS) == pytest.approx(wanted, abs=1e-5)
    assert len(set(wanted)) == len(ANSWERS) - 1, "two answers are equal"


@pytest.mark.parametrize("budget", [1, 40, 8192])
def test_a_score_depends_neither_on_the_batch_nor_on_the_order(world: Path, budget: int):
    judge = opened(world, "one", budget=budget)
    alone = [judge([answer])[0] for answer in ANSWERS]
    assert judge(ANSWERS) == pytest.approx(alone, abs=1e-6)
    assert judge(ANSWERS[::-1]) == pytest.approx(alone[::-1], abs=1e-6)
    assert judge([ANSWERS[0]] * 2) == pytest.approx([alone[0]] * 2, abs=1e-6)
    assert judge([]) == []


def test_nothing_is_padded_and_a_prompt_is_computed_once(world: Path, monkeypatch: pytest.MonkeyPatch):
    scorer, sizes = RewardModelScorer.open(str(world / "one" / "model"), None, {}, budget=80, device="cpu"), []
    lengths = [len(sample.tokens) for sample in scorer.renderer.samples(ANSWERS[:4])]
    shared = [list(sample.tokens) for sample in scorer.renderer.samples(ANSWERS[:4])]
    prefix = next(i for i, column in enumerate(zip(*shared, strict=False)) if len(set(column)) > 1)
    real = Model.score

    def counted(model: Model, microbatch: Microbatch, needs: list[Score]) -> TokenScores:
        sizes.append(len(microbatch.tokens))
        return real(model, microbatch, needs)

    monkeypatch.setattr(Model, "score", counted)
    scorer([ANSWERS[:4]])
    assert prefix > 5
    assert sizes == [sum(lengths) - 3 * prefix]
    sizes.clear()
    scorer([[answer] for answer in ANSWERS * 3])
    assert len(sizes) > 1
    assert max(sizes) <= 80


def test_an_unusable_answer_has_a_failure_of_its_own(world: Path):
    judge = opened(world, "one")
    bad = [ResponseView("", ""), ResponseView(ASKED, "a b " * 5000)]
    first, *others, last = judge([bad[0], *ANSWERS, bad[1]])
    assert others == pytest.approx(judge(ANSWERS), abs=1e-6)
    for failure, words in ((first, "no token is left to learn"), (last, "and the reward model takes")):
        assert isinstance(failure, Failure)
        assert failure.kind is FailureKind.UNUSABLE_ROW
        assert words in failure.detail


def test_loading_and_scoring_leave_generators_and_threads_as_they_were(world: Path):
    def state() -> list[object]:
        return [torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state()), torch.get_num_threads()]

    for name in ("one", "adapter"):
        before = state()
        opened(world, name, None if name == "one" else "size")(ANSWERS)
        assert state() == before


def test_the_model_is_loaded_once_when_it_first_judges_and_freed_at_the_end(world: Path, monkeypatch):
    models, real = [], RewardModelScorer.open

    def counted(*arguments: object, **options: object) -> RewardModelScorer:
        models.append(weakref.ref((scorer := real(*arguments, **options)).model.model))
        return scorer

    monkeypatch.setattr(RewardModelScorer, "open", counted)
    rewards = read_rewards(["exact", {"name": "reward_model", "model": str(world / "one" / "model")}])
    with RewardRunner(rewards, workers=1, device="cpu") as judge:
        assert models == []
        rows = [ResponseView(ASKED, "4", reference="4"), ResponseView(ASKED, "5", reference="4")]
        first = judge([rows])
        assert judge([rows]) == first
        [model] = models
        assert model() is not None
    gc.collect()
    assert model() is None
    [verdicts] = first
    assert [verdict.parts["exact"] for verdict in verdicts] == [1.0, 0.0]


def test_workers_neither_load_it_nor_lose_their_memory_limit(world: Path):
    nursery = f"{Path(__file__).parents[1] / 'nursery.py'}:has_torch"
    model = {"name": "reward_model", "model": str(world / "one" / "model"), "weight": 0}
    with RewardRunner(read_rewards([model, nursery]), workers=1, device="cpu") as judge:
        [[verdict]] = judge([[ANSWERS[0]]])
        assert verdict.parts["has_torch"] == 0.0
        assert isinstance(verdict.parts["reward_model"], float)
    assert RewardRunner(read_rewards(["exact", model]))._pool.work.memory is not None


LENGTH = {"name": "length", "target": 1, "tolerance": 9, "unit": "characters"}


def test_conditions_and_columns_hold_for_it_too(world: Path):
    model = {"name": "reward_model", "model": str(world / "one" / "model")}
    rows = [ResponseView(ASKED, text, reference="4", extra={"source": s}) for text, s in (("4", "a"), ("5", "a"))]
    rows += [ResponseView(ASKED, "4", reference="4", extra={"source": "b"})]
    rewards = read_rewards(
        [
            "exact",
            {**model, "when": {"metric": "exact", "min": 1}, "where": {"source": "a"}},
            {
                "name": "length",
                "target": 1,
                "tolerance": 9,
                "unit": "characters",
                "when": {"metric": "reward_model", "min": -1e9},
            },
        ]
    )
    with RewardRunner(rewards, workers=1, device="cpu") as judge:
        [right], [wrong], [other] = judge([[row] for row in rows])
    [alone] = judged({"model": str(world / "one" / "model")}, rows[:1])
    assert right.parts["reward_model"] == pytest.approx(alone, abs=1e-6)
    assert [verdict.parts["reward_model"] for verdict in (wrong, other)] == [0.0, None]
    assert [verdict.parts["length"] for verdict in (right, wrong, other)] == [1.0, 1.0, None]


def test_bits_do_not_depend_on_what_is_cached(world: Path, tmp_path: Path):
    rewards = read_rewards({"name": "reward_model", "model": str(world / "one" / "model"), "cache": True})
    path = tmp_path / "verdicts.jsonl"
    with VerdictCache.open(path) as cache, RewardRunner(rewards, 1, cache, device="cpu") as judge:
        whole = judge([ANSWERS])
        assert len(cache) == len(ANSWERS) - 1, "two answers are equal"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))
    with VerdictCache.open(path) as cache, RewardRunner(rewards, 1, cache, device="cpu") as judge:
        assert judge([ANSWERS]) == whole
    assert path.read_text() == "".join(lines)


def test_an_error_of_the_model_is_an_error_of_the_run(world: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    with RewardRunner(
        read_rewards({"name": "reward_model", "model": str(world / "one" / "model")}), device="cpu"
    ) as judge:
        judge([ANSWERS])
        monkeypatch.setattr(Model, "score", fail)
        with pytest.raises(torch.OutOfMemoryError):
            judge([ANSWERS])


def test_plain_text_is_judged_as_plain_text(world: Path):
    one, other = opened(world, "one")([ResponseView("2+2=", " 4"), ResponseView("2+2=", " 5")])
    assert one != other


def test_what_stood_in_the_prompt_is_judged_too(world: Path):
    judge = opened(world, "one")
    for prompt in ("2+2=", ASKED):
        whole = ResponseView(prompt, "It is 4.")
        begun = ResponseView(prompt, "It is 4.", generation_prefix="It is")
        found, same, other = judge([whole, begun, ResponseView(prompt, " 4.")])
        assert found == pytest.approx(same, abs=1e-6)
        assert found != pytest.approx(other, abs=1e-4)


def test_what_is_no_reward(world: Path):
    for settings, words in (
        ({"model": str(world / "model")}, "a language model"),
        ({"model": str(world / "two" / "model")}, r"select one of its scores \(kind, size\)"),
        ({"model": str(world / "two" / "model"), "output": "taste"}, "its scores are: kind, size"),
        ({"model": str(world / "one" / "model"), "weights": {"size": 1.0}}, "none with a name"),
    ):
        with pytest.raises((ModelError, RecipeError), match=words):
            judged(settings, ANSWERS)
    with pytest.raises(RecipeError, match="output selects one score and weights several"):
        read_rewards({"name": "reward_model", "model": "m", "output": "a", "weights": {"a": 1.0}})
    with pytest.raises(RecipeError, match="timeout has no effect on a reward model"):
        read_rewards({"name": "reward_model", "model": "m", "timeout": 60})


def test_burnish_eval_and_burnish_check_take_it(world: Path):
    write_rows(world / "tasks.jsonl", [{"question": f"{n}+2?", "answer": str(n + 2)} for n in range(3)])
    verifier = {"name": "reward_model", "model": str(world / "one" / "model")}
    given = {"data": str(world / "tasks.jsonl"), "verifier": verifier, "max_new_tokens": 4, "responses_per_prompt": 2}
    report = evaluate_rewards(str(world / "model"), read_settings(RewardEvalSettings, given, []))
    for answers, verdicts in zip(report.answers, report.verdicts, strict=True):
        alone = judged({"model": str(world / "one" / "model")}, answers)
        assert [verdict.reward for verdict in verdicts] == pytest.approx(alone, abs=1e-6)
    with RewardRunner(read_rewards(["exact", verifier]), workers=1) as runner:
        result = self_test(runner, [ResponseView(ASKED, "", reference="4"), ResponseView(ASKED, "", reference="5")])
    assert result.passed
    assert result.untried == ("reward_model",)


def test_burnish_eval_refuses_a_reward_model_of_another_template(world: Path):
    """As training does: it would score other text than the model wrote, which rerender allows."""
    write_rows(world / "tasks.jsonl", [{"question": f"{n}+2?", "answer": str(n + 2)} for n in range(3)])
    verifier = {"name": "reward_model", "model": str(world / "one" / "model")}
    (world / "own.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    given = {"data": str(world / "tasks.jsonl"), "max_new_tokens": 4, "chat_template": str(world / "own.jinja")}
    with pytest.raises(ModelError, match="whose chat template is not the policy's"):
        evaluate_rewards(str(world / "model"), read_settings(RewardEvalSettings, {**given, "verifier": verifier}, []))
    allowed = read_settings(RewardEvalSettings, {**given, "verifier": {**verifier, "rerender": True}}, [])
    assert evaluate_rewards(str(world / "model"), allowed).ungraded == 0


def test_a_stage_is_named_in_a_recipe_alone(world: Path):
    with pytest.raises(ModelError, match="an earlier stage of the same recipe"):
        resolve_model("stage:reward")


def test_its_identity_is_that_of_its_weights(world: Path):
    def identity(name: str) -> str:
        [reward] = read_rewards({"name": "reward_model", "model": str(world / name)})
        return reward.identity

    assert identity("one") == identity("one") != identity("two")
