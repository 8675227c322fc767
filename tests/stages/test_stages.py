"""Several stages: each begins where the one before it ended, and a run of them resumes like a run of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import DataError, Interrupted, ModelError, RecipeError
from burnish.recipe.read import read_recipe, stage_names
from burnish.stages.context import StageContext
from tests.interrupting import interrupted_at
from tests.plain import plain_loss


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "train.jsonl", generate(seed=1, count=60))
    write_rows(folder / "more.jsonl", generate(seed=3, count=60))
    write_rows(folder / "test.jsonl", generate(seed=2, count=10))
    return folder


def write_recipe(world: Path, path: Path, *stages: dict[str, object], **recipe: object) -> Path:
    shared = {"sequences_per_step": 8, "max_steps": 4, "learning_rate": 1e-2, "eval_data": str(world / "test.jsonl")}
    written = [{"sft": {"data": str(world / "train.jsonl"), **shared, **stage}} for stage in stages]
    path.write_text(yaml.safe_dump({"model": str(world / "model"), "stages": written, **recipe}))
    return path


def run(world: Path, folder: Path, *stages: dict[str, object], **recipe: object) -> burnish.RunResult:
    return burnish.run(write_recipe(world, folder / "recipe.yaml", *stages, **recipe), f"output={folder / 'run'}")


def metrics(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


ADAPTERS = {"full": {}, "lora": {"adapter": {"kind": "lora", "rank": 4}}}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_two_stages_are_two_runs_one_after_the_other(world: Path, tmp_path: Path, kind: str) -> None:
    adapter = ADAPTERS[kind]
    both = run(world, tmp_path, {}, {"data": str(world / "more.jsonl"), "learning_rate": 5e-3}, **adapter)
    (tmp_path / "apart").mkdir()
    first = run(world, tmp_path / "apart", {}, **adapter)
    settings = {"data": str(world / "more.jsonl"), "max_steps": 4, "sequences_per_step": 8, "learning_rate": 5e-3}
    second = burnish.sft(
        model=str(first.folder / "model"),
        eval_data=str(world / "test.jsonl"),
        output=str(tmp_path / "second"),
        **settings,
        **adapter,
    )
    name = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    weights = [load_file(place / name) for place in (both.folder / "model", second.folder / "model")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    between = [load_file(place / name) for place in (both.folder / "stages" / "sft" / "model", first.folder / "model")]
    assert all(torch.equal(between[0][key], between[1][key]) for key in between[0])
    held_out = [line["eval/loss"] for line in metrics(both.folder) if "eval/loss" in line]
    assert held_out[1] == held_out[2], "the second stage begins where the first one ended"
    assert plain_loss(both.folder / "model", world / "test.jsonl") == pytest.approx(held_out[-1], rel=1e-5)
    steps = [(line["stage"], line["step"]) for line in metrics(both.folder) if "train/loss" in line]
    assert steps == [(stage, step) for stage in ("sft", "sft-2") for step in range(1, 5)]
    assert (both.steps, sorted(both.summary["stages"])) == (8, ["sft", "sft-2"])


def test_the_same_command_again_says_so(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path, {}, {})
    again = run(world, tmp_path, {}, {})
    assert (again.again, again.steps) == (True, 8)


def test_an_interrupted_second_stage_goes_on(world: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = run(world, tmp_path / "whole", {}, {})
    with interrupted_at(6), pytest.raises(Interrupted, match="after step 2 of 4"):  # of the second stage
        run(world, tmp_path, {}, {})
    assert not (tmp_path / "run" / "model").exists()
    resumed = run(world, tmp_path, {}, {})
    weights = [load_file(each.folder / "model" / "model.safetensors") for each in (whole, resumed)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    figures = [
        [{key: line[key] for key in line if key in ("stage", "step") or "/" in key} for line in metrics(each.folder)]
        for each in (whole, resumed)
    ]
    assert figures[0] == figures[1]


def test_a_mistake_in_a_later_stage_shows_before_the_first_is_trained(world: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        run(world, tmp_path, {}, {"data": str(tmp_path / "missing.jsonl")})
    assert not (tmp_path / "run").exists()


def test_what_a_later_stage_cannot_do_shows_before_the_first_is_trained(world: Path, tmp_path: Path) -> None:
    chat = {"chat_template": "chatml", "add_tokens": "template"}
    with pytest.raises(RecipeError, match="add_tokens of the stage sft-2"):
        run(world, tmp_path, {}, chat, adapter={"kind": "lora", "rank": 4})
    with pytest.raises(RecipeError, match="does not exist"):
        run(world, tmp_path, {}, {"loss": str(tmp_path / "no.py:loss")})
    assert not (tmp_path / "run").exists()


def test_tokens_of_an_earlier_stage_are_there_in_a_later_one(world: Path, tmp_path: Path) -> None:
    chat = {"chat_template": "chatml", "add_tokens": "template", "max_steps": 2}
    both = run(world, tmp_path, chat, {"chat_template": "chatml", "max_steps": 2}, adapter={"kind": "lora", "rank": 4})
    held_out = [line["eval/loss"] for line in metrics(both.folder) if "eval/loss" in line]
    assert held_out[1] == held_out[2]
    loss = plain_loss(both.folder / "model", world / "test.jsonl", end_token="<|im_end|>")
    assert loss == pytest.approx(held_out[-1], rel=1e-5)


def test_a_template_of_an_earlier_stage_is_there_in_a_later_one(world: Path, tmp_path: Path) -> None:
    """The later stage is read beforehand as it will be: without a template of its own it has the earlier one's."""
    path = write_recipe(world, tmp_path / "r.yaml", {"chat_template": "chatml", "add_tokens": "template"}, {})
    recipe = read_recipe(path).recipe
    assert StageContext.of(recipe, 1).reader.template.source == StageContext.of(recipe, 0).reader.template.source
    assert (
        StageContext.of(recipe, 1, recipe.model).reader.template.source
        != StageContext.of(recipe, 0).reader.template.source
    )


def test_a_finished_stage_needs_its_data_no_more(world: Path, tmp_path: Path) -> None:
    """Nor does it read them when the run goes on in the second stage."""
    data = tmp_path / "first.jsonl"
    data.write_text((world / "train.jsonl").read_text())
    stages = {"data": str(data)}, {"data": str(world / "more.jsonl")}
    with interrupted_at(5), pytest.raises(Interrupted):  # the first step of the second stage
        run(world, tmp_path, *stages)
    data.unlink()
    done = run(world, tmp_path, *stages)
    assert done.steps == 8
    again = run(world, tmp_path, *stages)
    assert again.again
    assert "first.jsonl" in again.unread


def test_names(world: Path, tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(world, tmp_path / "r.yaml", {}, {}, {})).recipe
    assert stage_names(recipe) == ["sft", "sft-2", "sft-3"]


def test_overrides_say_which_stage_they_mean(world: Path, tmp_path: Path) -> None:
    path = write_recipe(world, tmp_path / "r.yaml", {}, {})
    stages = read_recipe(path, ["sft-2.optimizer.max_grad_norm=0.5"]).recipe.stages
    assert [stage.settings.optimizer.max_grad_norm for stage in stages] == [1.0, 0.5]
    assert [
        stage.settings.optimizer.max_grad_norm
        for stage in read_recipe(path, ["sft.optimizer.max_grad_norm=0.5"]).recipe.stages
    ] == [0.5, 1.0]
    with pytest.raises(RecipeError, match=r"write sft\.optimizer\.max_grad_norm, sft-2\.optimizer\.max_grad_norm"):
        read_recipe(path, ["optimizer.max_grad_norm=0.5"])


def test_an_adapter_goes_on_only_as_it_is(world: Path, tmp_path: Path) -> None:
    first = run(world, tmp_path, {"max_steps": 1}, adapter={"kind": "lora", "rank": 4, "alpha": 8.0})
    files = {"model": str(first.folder / "model"), "data": str(world / "train.jsonl"), "max_steps": 1}
    with pytest.raises(ModelError, match=r"adapter\.kind is full"):
        burnish.sft(**files, output=str(tmp_path / "a"))
    with pytest.raises(ModelError, match="rank 4, alpha 8") as caught:
        burnish.sft(**files, output=str(tmp_path / "b"), adapter={"kind": "lora"})
    assert caught.value.remedy == "set adapter.rank=4, adapter.alpha=8.0"
    adapter = {"kind": "lora", "rank": 4, "alpha": 8.0, "targets": ["q_proj"]}
    with pytest.raises(ModelError, match="continues it"):
        burnish.sft(**files, output=str(tmp_path / "c"), adapter=adapter)


def test_an_error_of_a_format_in_a_later_stage_is_in_the_log(tmp_path: Path) -> None:
    """The rows of the first stage are read before there is a run folder; those of later ones within the run."""
    write_untrained(tmp_path / "model", hidden_size=32, layers=1)
    write_rows(tmp_path / "rows.jsonl", generate(seed=1, count=8))
    (tmp_path / "own.py").write_text(
        "def convert(row):\n    return {'question': row['question'], 'answer': row['no']}\n"
    )
    (tmp_path / "recipe.yaml").write_text(
        f"model: {tmp_path}/model\nstages:\n"
        f"  - sft: {{data: {tmp_path}/rows.jsonl, max_steps: 1}}\n"
        f"  - sft: {{data: {tmp_path}/rows.jsonl, max_steps: 1, format: '{tmp_path}/own.py:convert'}}\n"
    )
    with pytest.raises(DataError, match=r"KeyError: 'no' .*own\.py line 2: return"):
        burnish.run(tmp_path / "recipe.yaml", f"output={tmp_path}/run")
    assert "own.py line 2: return {'question'" in (tmp_path / "run" / "log.txt").read_text()
