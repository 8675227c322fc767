"""Stages of reward models: what may be written, what runs and resumes, and what is measured of the judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import _status
from burnish.errors import Interrupted, ModelError, RecipeError
from burnish.export.serve import servable
from burnish.export.write import write_model
from burnish.model.open import open_model
from burnish.recipe.read import stage_recipe
from burnish.verbs.evaluate import EvalSettings, evaluate, read_settings
from burnish.verbs.evaluate_preferences import PreferenceEvalReport, evaluate_preferences
from tests.interrupting import interrupted_at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = "<|system|>"  # that of the tiny model ends turns
    tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=60))
    write_rows(folder / "test.jsonl", builtin_rows("preferences", "test", count=12))
    ranked = [{"question": f"q{i}", "responses": ["good", f"fair {i}", "bad"], "scores": [3, 2, 1]} for i in range(40)]
    write_rows(folder / "ranked.jsonl", ranked[:30])
    write_rows(folder / "ranked-test.jsonl", ranked[30:])
    (folder / "own.py").write_text(OWN)
    return folder


OWN = """
from burnish.types import Denominator, LossOutput, LossTerm, Score

def judge(scores, microbatch):
    return LossOutput({"own": LossTerm((scores.value ** 2).sum(), Denominator.SEQUENCES)})

judge.needs = [Score.VALUE]

def critic(scores, microbatch):
    errors = (scores.state_value - scores.bootstrap_value[microbatch.sequence]) ** 2
    return LossOutput({"own": LossTerm(errors.sum(), Denominator.SEQUENCES)})

critic.needs = [Score.STATE_VALUE]

def writer(scores, microbatch):
    return LossOutput({"own": LossTerm(-scores.logprob.sum(), Denominator.SEQUENCES)})
"""


def run(world: Path, output: Path, data: str = "pairs.jsonl", **settings: object) -> burnish.RunResult:
    given = {"max_steps": 6, "sequences_per_step": 8, "learning_rate": 1e-2, "log_every": 1, **settings}
    return burnish.reward(model=str(world / "model"), data=str(world / data), output=str(output), **given)


def lines(done: burnish.RunResult, key: str) -> list[float]:
    text = (done.folder / "metrics.jsonl").read_text().splitlines()
    return [line[key] for line in map(json.loads, text) if key in line]


def weights(done: burnish.RunResult) -> dict[str, torch.Tensor]:
    [path] = (done.folder / "model").glob("*.safetensors")
    return load_file(path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss=bradly"], ["loss: bradly", "bradley_terry"]),
        (
            ["loss=regression", "loss_options.margin=1"],
            ["loss_options.margin has no effect", "regression does not use it"],
        ),
        (["loss=plackett_luce", "center_coef=0"], ["center_coef has no effect"]),
        (["loss_options.margin=-1"], ["loss_options.margin", "greater than or equal to 0"]),
        (["loss_options={a: 1}"], ["unknown key loss_options.a"]),
        (["loss=mine.py:loss", "center_coef=1"], ["center_coef has no effect"]),
        (["train_on=everything"], ["at its last token"]),
        (["eval_data=x", "evaluation.generations=3"], ["generates no responses"]),
        (["center_rewards_coefficient=0.1"], ["here it is center_coef"]),
        (["num_labels=2"], ["scores"]),
        (["scores=[a]"], ["scores has no effect", "loss=regression"]),
        (["loss=regression", "scores=[]"], ["scores"]),
        (["loss=regression", "scores=[a, a]"], ["names a column twice"]),
        (["loss=regression", "scores=[a]", "format=ranking"], ["format: ranking"]),
        (["loss=step_cross_entropy", "loss_options.margin=1"], ["loss_options.margin has no effect"]),
        (["beta=1"], ["beta"]),
        (["adapter.kind=qlora"], ["value head on quantized weights"]),
    ],
)
def test_mistakes(overrides: list[str], words: list[str]):
    with pytest.raises(RecipeError) as error:
        stage_recipe("reward", {"model": "m", "data": "d"}, overrides)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_reward_model_comes_last(tmp_path: Path):
    stages = [{"reward": {"data": "d"}}, {"sft": {"data": "d"}}]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"model": "m", "stages": stages}))
    with pytest.raises(RecipeError, match="as the last stage"):
        burnish.run(tmp_path / "r.yaml")


def test_what_a_loss_of_ones_own_has_to_need(world: Path, tmp_path: Path):
    done = run(world, tmp_path / "run", loss=f"{world}/own.py:judge", max_steps=2)
    assert len(lines(done, "train/loss")) == 2
    done = run(world, tmp_path / "critic", loss=f"{world}/own.py:critic", max_steps=2)
    assert len(lines(done, "train/loss")) == 2
    with pytest.raises(RecipeError, match=r"needs = \[Score.VALUE\]"):
        run(world, tmp_path / "other", loss=f"{world}/own.py:writer")
    for method in (burnish.prefer, burnish.sft):
        for name in ("judge", "critic"):
            with pytest.raises(RecipeError, match="a language model has none"):
                method(model="m", data="d", output=str(tmp_path / "x"), loss=f"{world}/own.py:{name}")


def test_the_resolved_recipe_has_what_the_loss_uses(world: Path, tmp_path: Path):
    done = run(world, tmp_path / "run", loss_options={"margin": 0.5}, max_steps=1)
    [stage] = yaml.safe_load((done.folder / "recipe.yaml").read_text())["stages"]
    assert (stage["reward"]["loss_options"], stage["reward"]["center_coef"]) == ({"margin": 0.5}, 0.0)


def test_learning_and_its_figures(world: Path, tmp_path: Path):
    done = run(world, tmp_path / "run", eval_data=str(world / "test.jsonl"), max_steps=20, center_coef=0.01)
    assert lines(done, "train/loss")[-1] < 0.3 < lines(done, "train/loss")[0]
    for name in ("reward_chosen", "reward_rejected", "reward_margin", "pair_accuracy", "center", "preference"):
        assert len(lines(done, f"train/{name}")) == 20
    before, after = lines(done, "eval/pair_accuracy")
    assert after > max(0.8, before)
    assert lines(done, "eval/pair_accuracy_low")[-1] <= after <= lines(done, "eval/pair_accuracy_high")[-1]
    first, last = lines(done, "eval/calibration_error")
    assert 0 <= last <= 0.5
    assert first != last
    assert [key for key in json.loads((done.folder / "metrics.jsonl").read_text().splitlines()[-1]) if "_if_" in key]
    assert "Preference filters, training" in (done.folder / "report.html").read_text()


def evaluated(model: Path, world: Path, *settings: str) -> PreferenceEvalReport:
    return evaluate_preferences(str(model), read_settings(EvalSettings, {"data": str(world / "test.jsonl")}, settings))


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_what_is_saved_judges_as_in_training(world: Path, tmp_path: Path, kind: str):
    """`burnish eval` gives the figures of the run's end; transformers gives the same margins, from text."""
    adapter = {"adapter.kind": "lora", "adapter.rank": 4} if kind == "lora" else {}
    done = run(world, tmp_path / "run", eval_data=str(world / "test.jsonl"), max_steps=10, **adapter)
    found = evaluated(done.folder, world)
    figures = found.figures()
    for name in ("pair_accuracy", "pair_accuracy_low", "calibration_error"):
        assert figures[name] == pytest.approx(lines(done, f"eval/{name}")[-1], abs=1e-6)
    assert [row for row in found.table() if row[0] == "calibration error"]
    folder, is_adapter = done.folder / "model", kind == "lora"
    model_class = AutoPeftModelForSequenceClassification if is_adapter else AutoModelForSequenceClassification
    model = model_class.from_pretrained(folder, **({"num_labels": 1} if is_adapter else {})).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (model.get_base_model() if is_adapter else model).config.pad_token_id = tokenizer.pad_token_id
    assert margins_of_text(model, tokenizer, world / "test.jsonl") == pytest.approx(
        [sample["margin"] for sample in found.samples()], abs=1e-5
    )
    with pytest.raises(ModelError, match="scores answers, and generates none"):
        open_model(str(done.folder / "model"))
    with pytest.raises(ModelError, match="scores answers, and generates none"):
        evaluate(str(done.folder), read_settings(EvalSettings, {"data": str(world / "test.jsonl")}, []))
    for setting in ("reward=sum", f"reference={world / 'model'}"):
        with pytest.raises(RecipeError, match="a reward model has values"):
            evaluated(done.folder, world, setting)


def test_a_merged_reward_model_judges_as_the_adapter(world: Path, tmp_path: Path):
    """`burnish merge`, whose card says how it is asked; nobody serves a chat with it."""
    done = run(world, tmp_path / "run", max_steps=4, **{"adapter.kind": "lora", "adapter.rank": 4})
    written = write_model(str(done.folder / "model"), tmp_path / "merged")
    assert "difference of a value" in written.replayed.line(is_reward_model=True)
    wanted, found = (evaluated(each, world).judged.margins for each in (done.folder, written.folder))
    assert found == pytest.approx(wanted, abs=1e-5)
    model = AutoModelForSequenceClassification.from_pretrained(written.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(written.folder)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert margins_of_text(model, tokenizer, world / "test.jsonl") == pytest.approx(wanted.tolist(), abs=1e-5)
    card = (written.folder / "README.md").read_text()
    assert "A reward model made from" in card
    assert "text-classification" in card
    for name in (done.folder / "model", written.folder):
        with pytest.raises(ModelError, match="scores answers, and generates none"), servable(str(name)):
            pass


def margins_of_text(model: torch.nn.Module, tokenizer: object, rows: Path) -> list[float]:
    """As somebody would who has never heard of Burnish: a padded batch of rendered conversations."""
    found = []
    for row in map(json.loads, rows.read_text().splitlines()):
        turns = [
            [*prompt_of(row["prompt"]), {"role": "assistant", "content": content_of(row[name])}]
            for name in ("chosen", "rejected")
        ]
        # The template writes a line break after the end of a turn, which nobody judges.
        texts = [tokenizer.apply_chat_template(each, tokenize=False).rstrip("\n") for each in turns]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            chosen, rejected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
        found.append(float(chosen - rejected))
    return found


def prompt_of(prompt: object) -> list[dict[str, str]]:
    return prompt if isinstance(prompt, list) else [{"role": "user", "content": str(prompt)}]


def content_of(answer: object) -> str:
    return answer if isinstance(answer, str) else answer[0]["content"]


KINDS = {"full": {}, "lora": {"adapter.kind": "lora", "adapter.rank": 4}}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_bit_for_bit(world: Path, tmp_path: Path, kind: str):
    settings = {"eval_data": str(world / "test.jsonl"), "eval_every": 2, **KINDS[kind]}
    whole = run(world, tmp_path / "whole", **settings)
    with interrupted_at(4), pytest.raises(Interrupted, match="after step 4"):
        run(world, tmp_path / "cut", **settings)
    resumed = run(world, tmp_path / "cut", **settings)
    one, other = weights(whole), weights(resumed)
    assert one.keys() == other.keys()
    assert any("score" in name for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)
    for key in ("train/loss", "eval/loss", "eval/pair_accuracy", "eval/calibration_error"):
        assert lines(whole, key) == lines(resumed, key)


@pytest.mark.parametrize("loss", ["plackett_luce", "regression"])
def test_rankings_and_scores(world: Path, tmp_path: Path, loss: str):
    held_out = str(world / "ranked-test.jsonl")
    done = run(world, tmp_path / "run", "ranked.jsonl", loss=loss, max_steps=30, eval_data=held_out)
    assert lines(done, "eval/pair_accuracy")[-1] == 1.0
    if loss == "regression":
        assert lines(done, "train/absolute_error")[-1] < 0.6 < lines(done, "train/absolute_error")[0]


def test_the_verb_and_the_checks(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    flags = ["--model", str(world / "model"), "--data", str(world / "pairs.jsonl"), "--max-steps", "1"]
    assert _status(["reward", *flags, "--output", str(tmp_path / "run"), "loss_options.margin=1"]) == 0
    assert _status(["check", str(tmp_path / "run" / "recipe.yaml")]) == 0
    assert "this stage trains a reward model" in capsys.readouterr().out
