"""A recipe whose stages use the models of other stages than the one before: sft, reward from it, rl from the sft model.

Its runs are those of its stages one after the other, resume in each of them, and are extended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

import burnish
from burnish.errors import Interrupted, ModelError, RecipeError, RunError
from burnish.recipe.read import mapped_recipe
from burnish.runs.facts import read_facts
from burnish.stages.context import StageContext
from tests.interrupting import interrupted_at
from tests.stages.small import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = "<|system|>"  # that of the tiny model ends turns
    tokenizer.save_pretrained(folder / "model")
    return folder


SHARED = {"max_steps": 2, "learning_rate": 1e-2, "schedule": "constant", "checkpoint_every": 1}
ADAPTERS: Mapping[str, dict[str, Any]] = {"full": {}, "lora": {"adapter": {"kind": "lora", "rank": 4}}}


def stages(world: Path) -> dict[str, dict[str, Any]]:
    """Settings of the three stages, by name."""
    rows, pairs = str(world / "train.jsonl"), str(world / "pairs.jsonl")
    reward = {"name": "reward_model", "model": "stage:reward"}
    rollouts = {"groups_per_step": 2, "responses_per_prompt": 4, "max_new_tokens": 4, "start_from": "sft"}
    return {
        "sft": {"data": rows, "sequences_per_step": 4, **SHARED},
        "reward": {"data": pairs, "sequences_per_step": 4, **SHARED},
        "rl": {"data": rows, "reward": reward, **rollouts, **SHARED},
    }


def run(world: Path, output: Path, *, rl: Mapping[str, Any] | None = None, **recipe: Any) -> Path:
    given = stages(world)
    given["rl"] |= rl or {}
    path = output.with_suffix(".yaml")
    listed = [{name: settings} for name, settings in given.items()]
    path.write_text(yaml.safe_dump({"model": str(world / "model"), "stages": listed, **recipe}))
    return burnish.run(path, f"output={output}").folder


def weights(model: Path) -> dict[str, Tensor]:
    [file] = model.glob("*.safetensors")
    return load_file(file)


def equal(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_stages_are_runs_one_after_the_other(world: Path, tmp_path: Path, kind: str) -> None:
    adapter = ADAPTERS[kind]
    whole, given = run(world, tmp_path / "whole", **adapter), stages(world)
    first = burnish.sft(model=str(world / "model"), output=str(tmp_path / "a"), **given["sft"], **adapter).folder
    scores = burnish.reward(model=str(first), output=str(tmp_path / "b"), **given["reward"], **adapter).folder
    graded = {**given["rl"], "reward": {"name": "reward_model", "model": str(scores)}, "start_from": None}
    last = burnish.rl(model=str(first), output=str(tmp_path / "c"), **graded, **adapter).folder
    assert equal(whole / "stages/sft/model", first / "model")
    assert equal(whole / "stages/reward/model", scores / "model")
    assert equal(whole / "model", last / "model")
    assert not equal(whole / "model", first / "model")
    facts = read_facts(str(whole))
    assert facts is not None
    assert facts.methods == ("sft", "rl"), "the reward model is no part of the policy"


@pytest.mark.parametrize("step", range(1, 6), ids=["sft", "end of sft", "reward", "end of reward", "rl"])
def test_an_interrupted_run_goes_on_in_any_stage(world: Path, tmp_path: Path, step: int) -> None:
    whole = run(world, tmp_path / "whole")
    with interrupted_at(step), pytest.raises(Interrupted):
        run(world, tmp_path / "run")
    resumed = run(world, tmp_path / "run")
    assert all(equal(whole / name, resumed / name) for name in ("stages/sft/model", "stages/reward/model", "model"))


def test_the_last_stage_is_extended(world: Path, tmp_path: Path) -> None:
    whole = run(world, tmp_path / "whole", rl={"max_steps": 3})
    run(world, tmp_path / "run")
    extended = run(world, tmp_path / "run", rl={"max_steps": 3})
    assert equal(whole / "model", extended / "model")


def test_the_reward_model_of_a_stage_is_part_of_the_identity_of_rewards(world: Path, tmp_path: Path) -> None:
    with interrupted_at(5), pytest.raises(Interrupted):
        run(world, tmp_path / "run")
    config = tmp_path / "run/stages/reward/model/config.json"
    config.write_text(config.read_text().replace("{", '{"changed": true,', 1))
    with pytest.raises(RunError, match="the rewards"):
        run(world, tmp_path / "run")


def test_a_moved_run_goes_on(world: Path, tmp_path: Path) -> None:
    with interrupted_at(5), pytest.raises(Interrupted):
        run(world, tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    run(world, tmp_path / "moved")


def test_tokens_and_templates_are_those_of_the_chain(world: Path) -> None:
    """The stage sft-2 adds tokens and names a template; sft-3 starts without them, and sft-4 with them."""
    data = {"data": str(world / "train.jsonl")}
    chat = {"chat_template": "chatml", "add_tokens": "template"}
    of_stages = [data, {**data, **chat}, {**data, "start_from": "sft"}, {**data, "start_from": "sft-2"}]
    given = {"model": str(world / "model"), "stages": [{"sft": settings} for settings in of_stages]}
    recipe = mapped_recipe(given).recipe
    plain, chatml, side, further = (StageContext[Any].of(recipe, number).reader for number in range(4))
    assert side.template == plain.template != chatml.template == further.template
    sizes = [len(reader.tokenizer) for reader in (plain, chatml, side, further)]
    assert sizes == [sizes[0], sizes[0] + 2, sizes[0], sizes[0] + 2]


CHATML = {"chat_template": "chatml", "add_tokens": "template"}


def test_tokens_are_added_where_an_adapter_begins(world: Path, tmp_path: Path) -> None:
    """An adapter that begins without them is not continued with them."""
    with pytest.raises(RecipeError, match="continues the adapter of the stage sft"):
        run(world, tmp_path / "run", rl=CHATML, **ADAPTERS["lora"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changed", [{"chat_template": "plain"}, {"add_tokens": ["<|more|>"]}], ids=["template", "token"]
)
def test_a_reward_model_reads_what_the_policy_writes(world: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    """Before any stage is trained, the tokens and the template of a stage's reward model are compared with those of the
    policy; a recipe may allow others."""
    with pytest.raises(ModelError, match="stage:reward, whose") as caught:
        run(world, tmp_path / "run", rl=changed)
    assert "rerender: true" in caught.value.remedy
    assert not (tmp_path / "run").exists()
    allowed = {"name": "reward_model", "model": "stage:reward", "rerender": True}
    run(world, tmp_path / "run", rl={**changed, "reward": allowed})


def test_a_reward_model_may_have_further_tokens(world: Path, tmp_path: Path) -> None:
    """Such as a padding token, which a language model needs not have."""
    given = stages(world)
    given["reward"]["add_tokens"] = ["<|pad|>"]
    listed = [{name: settings} for name, settings in given.items()]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"model": str(world / "model"), "stages": listed}))
    assert burnish.run(tmp_path / "r.yaml", f"output={tmp_path / 'run'}").steps == 6


def test_a_model_that_grades_nothing_is_refused_before_the_first_stage(world: Path, tmp_path: Path) -> None:
    for model, words in (("model", "which is a language model"), ("missing", "missing")):
        reward = {"name": "reward_model", "model": str(world / model)}
        with pytest.raises(ModelError, match=words):
            run(world, tmp_path / "run", rl={"reward": reward})
        assert not (tmp_path / "run").exists()


def test_a_stage_may_be_the_reference(world: Path, tmp_path: Path) -> None:
    """That of the stage that the policy starts from is the policy at the start, to the bit."""
    settings = {"data": str(world / "pairs.jsonl"), "sequences_per_step": 4, **SHARED}
    first = {"sft": stages(world)["sft"]}
    for name, reference in (("one", None), ("other", "stage:sft")):
        listed = [first, {"prefer": {**settings, "reference_model": reference}}]
        recipe = {"model": str(world / "model"), "stages": listed}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        burnish.run(tmp_path / f"{name}.yaml", f"output={tmp_path / name}")
    assert equal(tmp_path / "one/model", tmp_path / "other/model")
