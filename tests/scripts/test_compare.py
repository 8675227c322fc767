"""The comparison of two versions: recipes in older names, and two run folders bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from burnish.config.settings import parse
from burnish.recipe.json_schema import json_schema
from burnish.recipe.recipe import recipe_of
from burnish.stages.registry import BUILTIN
from scripts.compare.cases import CASES, Case
from scripts.compare.outcome import Comparison, Outcome, compare, depends_on_machine, read_outcome
from scripts.compare.renames import Renames, Schema, command_words, translated
from scripts.compare.rows import write_rows
from scripts.compare.sides import Side, SideError

TEXT = {"type": "string"}


def schema(root: dict[str, Any] | None = None, **kinds: dict[str, Any]) -> Schema:
    """Of a commit whose stages have these keys, with references and unions as pydantic writes them."""
    records = {kind: {"additionalProperties": False, "properties": keys} for kind, keys in kinds.items()}
    stage = {"properties": {kind: {"anyOf": [{"$ref": f"#/$defs/{kind}"}, {"type": "null"}]} for kind in kinds}}
    stages = {"type": "array", "items": {"$ref": "#/$defs/Stage"}}
    return Schema({"$defs": {**records, "Stage": stage}, "properties": {"stages": stages, **(root or {})}})


def stage_of(recipe: dict[str, Any]) -> dict[str, Any]:
    (settings,) = recipe["stages"][0].values()
    return settings


def test_a_dotted_key_is_put_where_the_older_commit_has_it() -> None:
    renames = Renames(keys={"stage": {"optimizer.max_grad_norm": "clip", "optimizer.name": "optimizer"}})
    older = schema(sft={"clip": {"type": "number"}, "optimizer": {"enum": ["adamw", "muon"]}})
    given = {"stages": [{"sft": {"data": "rows", "optimizer": {"max_grad_norm": 0.5, "name": "muon"}}}]}
    assert translated(given, renames, older) == {
        "stages": [{"sft": {"data": "rows", "clip": 0.5, "optimizer": "muon"}}]
    }
    assert stage_of(given)["optimizer"] == {"max_grad_norm": 0.5, "name": "muon"}, "the case itself is as it was"


def test_a_key_can_go_into_a_group_of_the_older_commit() -> None:
    group = {"type": "object", "properties": {"part": {}}}
    renames = Renames(keys={"recipe": {"flat": "group.part"}})
    assert translated({"flat": 1, "stages": []}, renames, schema({"group": group})) == {
        "group": {"part": 1},
        "stages": [],
    }


def test_a_key_of_one_kind_of_stage_leaves_others_alone() -> None:
    renames = Renames(keys={"rl": {"kl_coef": "beta"}})
    older = schema(rl={"beta": {}}, prefer={"beta": {}})
    given = {"stages": [{"prefer": {"beta": 0.2}}, {"rl": {"kl_coef": 0.1}}]}
    assert translated(given, renames, older)["stages"] == [{"prefer": {"beta": 0.2}}, {"rl": {"beta": 0.1}}]


def test_a_commit_that_knows_a_new_name_gets_it() -> None:
    renames = Renames(keys={"stage": {"max_grad_norm": "clip", "warmup_ratio": "warmup"}})
    given = {"stages": [{"sft": {"max_grad_norm": 1.0, "warmup_ratio": 0.1}}]}
    halfway = schema(sft={"max_grad_norm": {}, "warmup": {}})
    assert stage_of(translated(given, renames, halfway)) == {"max_grad_norm": 1.0, "warmup": 0.1}


def test_a_new_name_can_be_the_old_name_of_another_key() -> None:
    renames = Renames(keys={"rl": {"clip.low": "clip_low", "max_grad_norm": "clip"}})
    older = schema(rl={"clip_low": {}, "clip": {"type": "number"}})
    given = {"stages": [{"rl": {"max_grad_norm": 1.0, "clip": {"low": 0.2}}}]}
    assert stage_of(translated(given, renames, older)) == {"clip": 1.0, "clip_low": 0.2}


def test_values_go_by_what_the_older_commit_allows() -> None:
    renames = Renames(
        keys={"rl": {"old_logprobs": "old"}},
        values={"rl": {"old_logprobs": {"policy": "own", "recomputed": "computed"}}},
    )
    older = schema(rl={"old": {"anyOf": [{"enum": ["own", "recomputed"]}, {"type": "null"}]}})
    assert stage_of(translated({"stages": [{"rl": {"old_logprobs": "policy"}}]}, renames, older)) == {"old": "own"}
    both = translated({"stages": [{"rl": {"old_logprobs": "recomputed"}}]}, renames, older)
    assert stage_of(both) == {"old": "recomputed"}


def test_values_of_any_text_go_by_a_marker() -> None:
    given = {"stages": [{"prefer": {"loss": {"dpo": 1.0, "nll": 0.1}}}]}
    renames = Renames(values={"prefer": {"loss": {"nll": "sft"}}}, markers={"values": "stage.max_grad_norm"})
    loss = {"anyOf": [TEXT, {"type": "object", "additionalProperties": {"type": "number"}}]}
    older, newer = schema(prefer={"loss": loss}), schema(prefer={"loss": loss, "max_grad_norm": {}})
    assert stage_of(translated(given, renames, older)) == {"loss": {"dpo": 1.0, "sft": 0.1}}
    assert translated(given, renames, newer) == given
    with pytest.raises(ValueError, match=r"markers\.values"):
        translated(given, Renames(values=renames.values), older)


def test_several_settings_can_have_been_one() -> None:
    rule = {"new": {"kl_in": "reward", "kl_estimator": "k1"}, "old": {"kl": "k1_response"}}
    renames = Renames(combined={"rl": [rule]}, keys={"rl": {"kl_estimator": "kl"}})
    older = schema(rl={"kl": {}})
    given = {"stages": [{"rl": {"kl_in": "reward", "kl_estimator": "k1"}}]}
    assert stage_of(translated(given, renames, older)) == {"kl": "k1_response"}
    assert stage_of(translated({"stages": [{"rl": {"kl_estimator": "k2"}}]}, renames, older)) == {"kl": "k2"}


def test_rewards_in_older_words() -> None:
    renames = Renames(
        reward_options={"metric": "part", "min": "at_least", "length.tolerance": "slack"},
        reward_values={"name": {"normalized": "normalised"}},
        markers={"rewards": "rl.reward_workers"},
    )
    rewards = ["normalized", {"name": "length", "tolerance": 3, "when": {"metric": "normalized", "min": 1}}]
    given = {"stages": [{"rl": {"reward": rewards}}]}
    older = ["normalised", {"name": "length", "slack": 3, "when": {"part": "normalized", "at_least": 1}}]
    assert stage_of(translated(given, renames, schema(rl={"reward": {}}))) == {"reward": older}
    assert translated(given, renames, schema(rl={"reward": {}, "reward_workers": {}})) == given
    with pytest.raises(ValueError, match=r"markers\.rewards"):
        Renames(reward_options={"metric": "part"})


def test_the_words_of_the_command() -> None:
    renames = Renames(cli={"run": "train"}, markers={"cli": "recipe.dtype"})
    assert command_words(["run"], renames, schema()) == ["train"]
    assert command_words(["run"], renames, schema({"dtype": {}})) == ["run"]


def test_the_table_names_what_the_working_tree_has() -> None:
    table, ours = Renames.read(), Schema(json_schema())
    for rules in (table.keys, table.values):
        for section, names in rules.items():
            for key in names:
                assert ours.marked(f"{section}.{key}"), f"{key} of {section} is no key"
    for section, rules in table.combined.items():
        assert all(ours.marked(f"{section}.{key}") for rule in rules for key in rule["new"])
    assert all(ours.marked(marker) for marker in table.markers.values())


@pytest.mark.parametrize("kind", CASES)
def test_every_case_is_a_recipe_and_has_its_files(kind: str, tmp_path: Path) -> None:
    recipe = CASES[kind].recipe
    parse(recipe_of(BUILTIN), recipe, {})
    assert translated(recipe, Renames.read(), Schema(json_schema())) == recipe
    write_rows(tmp_path)
    (settings, *_) = recipe["stages"][0].values()
    if str(settings["data"]).endswith(".jsonl"):
        assert (tmp_path / settings["data"]).exists()


LINES = [
    {"stage": "sft", "step": 1, "train/loss": 2.5, "train/grad_norm": 1.0, "tokens_per_second": 100.0},
    {"stage": "sft", "step": 2, "train/loss": 2.25, "train/grad_norm": 0.5, "rollout/seconds_sampling": 3.0},
    {"stage": "sft", "step": 2, "alert": "distance", "message": "too far", "count": 1},
]


def run_folder(
    path: Path,
    lines: list[dict[str, Any]] = LINES,
    samples: tuple[dict[str, Any], ...] = (),
    *,
    flipped: bool = False,
) -> Path:
    """A finished run of two stages; with one bit of one weight flipped, or not."""
    weight = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    for folder, changed in (("model", flipped), ("stages/sft/model", False), ("checkpoints/step-1/model", not flipped)):
        (path / folder).mkdir(parents=True)
        last = weight.clone()
        last.view(torch.int16)[1, 2] ^= int(changed)
        save_file({"a": weight, "b": last, "scale": torch.tensor(1.0)}, path / folder / "model.safetensors")
    for name, rows in (("metrics", lines), ("samples", samples)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def compared(one: Path, other: Path, renames: Renames | None = None) -> Comparison:
    return compare(read_outcome(one, renames or Renames()), read_outcome(other))


def test_equal_runs_are_identical(tmp_path: Path) -> None:
    found = compared(run_folder(tmp_path / "one"), run_folder(tmp_path / "other"))
    assert found.identical
    assert found.line() == "6 tensors, 3 metrics, 0 samples"


def test_one_bit_of_one_tensor_is_reported(tmp_path: Path) -> None:
    found = compared(run_folder(tmp_path / "one"), run_folder(tmp_path / "other", flipped=True))
    assert [(each.name, each.size) for each in found.tensors] == [("model: b", 2.0**-5)]
    assert not found.identical
    assert found.line() == "1 of 6 tensors, at most 0.0312 (model: b)"


def test_tensors_of_another_type_shape_or_name_are_reported() -> None:
    empty = {"figures": {}, "samples": []}
    one = Outcome(tensors={"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2)}, **empty)
    other = Outcome(tensors={"a": torch.zeros(2).double(), "b": torch.zeros(1, 2), "d": torch.zeros(2)}, **empty)
    notes = {each.name: each.note for each in compare(one, other).tensors}
    assert notes["a"] == "(2,) float32 and (2,) float64"
    assert notes["b"] == "(2,) float32 and (1, 2) float32"
    assert (notes["c"], notes["d"]) == ("only in the commit", "only in the working tree")


def test_zeros_of_either_sign_differ_and_equal_nans_do_not() -> None:
    def outcome(*values: float) -> Outcome:
        return Outcome({"a": torch.tensor(values)}, {("sft", 1): {"x": [values[0]]}}, [])

    assert compare(outcome(0.0, float("nan")), outcome(0.0, float("nan"))).identical
    found = compare(outcome(0.0), outcome(-0.0))
    assert len(found.tensors) == len(found.figures) == 1


def test_the_first_step_and_the_largest_difference_are_reported(tmp_path: Path) -> None:
    changed = [LINES[0], LINES[1] | {"train/loss": 2.0, "train/grad_norm": 1.0}, LINES[2]]
    found = compared(run_folder(tmp_path / "one"), run_folder(tmp_path / "other", changed))
    assert found.line() == (
        "first at sft step 2: train/loss, train/grad_norm; 2 of 3 metrics, at most 0.5 (train/grad_norm)"
    )


def test_a_missing_metric_a_missing_line_and_a_line_that_is_there_twice_are_reported(tmp_path: Path) -> None:
    whole = run_folder(tmp_path / "whole")
    without = [{name: value for name, value in line.items() if name != "train/grad_norm"} for line in LINES]
    found = compared(whole, run_folder(tmp_path / "without", without))
    assert {(each.name, each.note) for each in found.figures} == {("train/grad_norm", "only in the commit")}
    assert "only in the commit: train/grad_norm" in found.line()
    assert not compared(whole, run_folder(tmp_path / "short", LINES[:1])).identical
    assert not compared(whole, run_folder(tmp_path / "twice", [*LINES, LINES[1]])).identical


def test_times_rates_and_memory_are_ignored(tmp_path: Path) -> None:
    clocked = ["tokens_per_second", "seconds_per_step", "mfu", "memory_gib", "rollout/seconds_sampling"]
    assert all(map(depends_on_machine, clocked))
    assert not any(map(depends_on_machine, ["train/loss", "eval/accuracy", "rollout/reward/number"]))
    slower = [line | dict.fromkeys(clocked, 7.0) for line in LINES[:2]]
    assert compared(run_folder(tmp_path / "one"), run_folder(tmp_path / "other", [*slower, LINES[2]])).identical


def test_alerts_count_by_name_whatever_they_say(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one")
    assert compared(one, run_folder(tmp_path / "words", [*LINES[:2], LINES[2] | {"message": "far"}])).identical
    assert not compared(one, run_folder(tmp_path / "other", [*LINES[:2], LINES[2] | {"alert": "kl_drift"}])).identical
    assert not compared(one, run_folder(tmp_path / "none", LINES[:2])).identical


def test_old_names_of_figures_alerts_and_samples(tmp_path: Path) -> None:
    renames = Renames(
        metrics={"train/nll": "train/loss"}, alerts={"kl_drift": "distance"}, samples={"finished": "ended"}
    )
    one = run_folder(tmp_path / "one", samples=({"step": 0, "ended": True},))
    new = [{name.replace("train/loss", "train/nll"): value for name, value in line.items()} for line in LINES[:2]]
    new.append(LINES[2] | {"alert": "kl_drift"})
    other = run_folder(tmp_path / "other", new, samples=({"step": 0, "finished": True},))
    assert compared(one, other, renames).identical
    assert not compared(one, one, renames).identical, "the working tree has to use the new names"


def test_a_figure_that_is_new_is_no_difference(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one")
    other = run_folder(tmp_path / "other", [LINES[0] | {"epoch": 0.5}, *LINES[1:]])
    assert not compared(one, other).identical
    assert compared(one, other, Renames(added=("epoch",))).identical
    assert not compared(other, one, Renames(added=("epoch",))).identical, "but not one that is gone"


def test_samples_that_differ_are_reported(tmp_path: Path) -> None:
    first, second = {"stage": "rl", "step": 0, "response": "a"}, {"stage": "rl", "step": 3, "response": "b"}
    one = run_folder(tmp_path / "one", samples=(first, second))
    other = run_folder(tmp_path / "other", samples=(first, second | {"response": "c"}))
    assert compared(one, other).line() == "1 of 2 samples, first line 2 (rl step 3): response"
    assert not compared(one, run_folder(tmp_path / "short", samples=(first,))).identical


def test_a_run_without_weights_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights"):
        read_outcome(tmp_path)


PROGRAM = """
import json, pathlib, signal, sys
import yaml
verb = sys.argv[1]
if verb == "schema":
    print(json.dumps({"properties": {"stages": {}, "kill": {}, "broken": {}}}))
else:
    recipe, run = yaml.safe_load(open(sys.argv[2])), pathlib.Path(sys.argv[4])
    if recipe.get("broken"):
        sys.exit("this cannot be")
    if recipe.get("kill") and not run.exists():
        (run / "stages/sft/checkpoints/step-2").mkdir(parents=True)
        signal.pause()
    run.mkdir(exist_ok=True)
    (run / "done").touch()
"""
"""A package that has the commands of Burnish and trains nothing; it waits to be killed after its step 2."""


@pytest.fixture
def side(tmp_path: Path) -> Side:
    package = tmp_path / "checkout" / "burnish"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PROGRAM)
    return Side.of("commit", tmp_path / "checkout", tmp_path / "runs")


def test_a_run_is_made_by_its_own_checkout(side: Side) -> None:
    run = side.run("plain", Case("", {"stages": []}))
    assert (run / "done").exists()
    assert (run.parent / "pairs.jsonl").exists()
    with pytest.raises(SideError, match="commit: no weights"):
        side.outcome("again", Case("", {"stages": []}))


def test_a_run_is_killed_after_its_checkpoint_and_resumed(side: Side) -> None:
    run = side.run("killed", Case("", {"stages": [], "kill": True}, killed_after=2))
    assert (run / "stages/sft/checkpoints/step-2").exists()
    assert (run / "done").exists()


def test_a_run_that_ends_before_it_can_be_killed_has_failed(side: Side) -> None:
    with pytest.raises(SideError, match="before it was killed after step 2"):
        side.run("early", Case("", {"stages": []}, killed_after=2))


def test_a_failed_run_shows_the_end_of_its_output(side: Side) -> None:
    with pytest.raises(SideError, match="ends with 1\nthis cannot be"):
        side.run("broken", Case("", {"stages": [], "broken": True}))


def test_a_checkout_whose_code_is_not_the_one_that_is_imported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SideError, match=r"and the checkout is|No module named"):
        Side.of("commit", tmp_path / "empty", tmp_path / "runs")
