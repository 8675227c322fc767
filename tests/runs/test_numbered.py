"""Run folders that nobody named: numbered, found again, never mixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.recipe.read import ResolvedRecipe, read_recipe, stage_recipe
from burnish.runs.folder import RunFolder
from burnish.runs.numbered import in_own_folder, shorter_run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def recipe(seed: int = 0, **settings: object) -> ResolvedRecipe:
    return stage_recipe("sft", {"model": "m", "data": "d", "seed": seed, **settings})


def folder_of(one: ResolvedRecipe, *, fresh: bool = False) -> str:
    return str(in_own_folder(one, fresh=fresh).recipe.output)


def started(one: ResolvedRecipe, *, has_checkpoint: bool = True, fresh: bool = False) -> str:
    """Starts a run as far as its identity, perhaps with a checkpoint; returns its folder."""
    place = Path(folder_of(one, fresh=fresh))
    RunFolder.open(place, "", one.identity()).close()
    if has_checkpoint:
        (place / "checkpoints" / "step-1").mkdir(parents=True)
    return str(place)


def test_the_first_run_has_no_number_and_finds_itself():
    assert started(recipe()) == "runs/sft"
    assert folder_of(recipe()) == "runs/sft"


def test_other_settings_get_the_next_number():
    assert [started(recipe(seed)) for seed in range(4)] == ["runs/sft", "runs/sft-2", "runs/sft-3", "runs/sft-4"]
    assert [folder_of(recipe(seed)) for seed in range(4)] == ["runs/sft", "runs/sft-2", "runs/sft-3", "runs/sft-4"]


def test_settings_that_do_not_change_the_weights_find_the_run():
    started(recipe())
    started(recipe(1))
    assert folder_of(recipe(log_every=3)) == "runs/sft"


def test_fresh_is_a_new_folder_and_the_newest_one_is_resumed():
    started(recipe())
    assert started(recipe(), fresh=True) == "runs/sft-2"
    started(recipe(1))
    assert folder_of(recipe()) == "runs/sft-2"
    assert folder_of(recipe(), fresh=True) == "runs/sft-4"


def test_a_folder_without_progress_is_used_again():
    started(recipe(), has_checkpoint=False)
    assert folder_of(recipe(1)) == "runs/sft"
    assert folder_of(recipe(1), fresh=True) == "runs/sft-2"


def test_a_run_that_is_working_keeps_its_folder():
    with RunFolder.open(Path("runs/sft"), "", recipe().identity()):
        assert folder_of(recipe(1)) == "runs/sft-2"
        assert folder_of(recipe()) == "runs/sft"


def test_foreign_files_are_left_alone():
    Path("runs/sft").mkdir(parents=True)
    Path("runs/sft/notes.txt").write_text("mine")
    assert folder_of(recipe()) == "runs/sft-2"
    Path("runs/sft-final").mkdir()
    Path("runs/sft-07").mkdir()
    assert folder_of(recipe()) == "runs/sft-2"


def test_a_named_folder_is_kept():
    named = recipe(output="runs/mine")
    assert started(named) == "runs/mine"
    assert folder_of(recipe(1, output="runs/mine")) == "runs/mine", "the run folder itself refuses other settings"
    assert folder_of(named, fresh=True) == "runs/mine-2"


def test_a_shorter_run_is_found_by_its_settings():
    """To extend it, its folder is named; a longer run and one with other settings are not meant."""
    short = started(recipe(max_steps=3))
    started(recipe(1, max_steps=3))
    assert folder_of(recipe(max_steps=5)) == "runs/sft-3"
    assert str(shorter_run(recipe(max_steps=5))) == short
    assert shorter_run(recipe(max_steps=2)) is None
    assert shorter_run(recipe(2, max_steps=5)) is None


def test_a_number_in_the_name_of_a_recipe_is_no_number_of_a_run(tmp_path):
    (tmp_path / "gpt-2.yaml").write_text("model: m\nstages: [{sft: {data: d, max_steps: 3}}]\n")
    assert started(read_recipe(tmp_path / "gpt-2.yaml")) == "runs/gpt-2"
    longer = read_recipe(tmp_path / "gpt-2.yaml", ["max_steps=5"])
    assert folder_of(longer) == "runs/gpt-2-2"
    assert str(shorter_run(longer)) == "runs/gpt-2"


def test_a_folder_that_the_command_names_is_kept(tmp_path):
    """`--output` of `burnish sft` and of `burnish run`, and an override."""
    rows = {"model": "m", "data": "d"}
    (tmp_path / "r.yaml").write_text("model: m\nstages: [{sft: {data: d}}]\n")
    Path("runs/mine").mkdir(parents=True)
    named = [
        stage_recipe("sft", rows, output="runs/mine"),
        stage_recipe("sft", rows, ["output=runs/mine"]),
        read_recipe(tmp_path / "r.yaml", ["output=runs/mine"]),
    ]
    assert [folder_of(one) for one in named] == ["runs/mine"] * 3
    assert folder_of(read_recipe(tmp_path / "r.yaml")) == "runs/r"
