"""Whole runs on the built-in world: what they leave behind, and that it is worth something elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import burnish
import burnish.data.streaming
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import DataError, RecipeError, RunError
from burnish.model.load import default_device
from burnish.sources.epoch_order import epoch_order
from burnish.stages.reader import TOKENS_PER_MICROBATCH
from tests.plain import plain_loss

STEPS = 30


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=64, layers=2)
    write_rows(folder / "train.jsonl", generate(seed=1, count=200))
    write_rows(folder / "test.jsonl", generate(seed=2, count=20))
    return folder


def train(world: Path, output: Path, **settings: object) -> burnish.RunResult:
    defaults = {
        "eval_data": str(world / "test.jsonl"),
        "max_steps": STEPS,
        "sequences_per_step": 16,
        "learning_rate": 1e-2,
        "log_every": 7,
    }
    files = {"model": str(world / "model"), "data": str(world / "train.jsonl"), "output": str(output)}
    return burnish.sft(**{**files, **defaults, **settings})


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> burnish.RunResult:
    return train(world, tmp_path_factory.mktemp("runs") / "full")


def metrics(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def held_out(folder: Path) -> list[float]:
    return [line["eval/loss"] for line in metrics(folder) if "eval/loss" in line]


def test_the_loss_falls_and_every_step_has_its_line(finished):
    steps = [line["step"] for line in metrics(finished.folder) if "train/loss" in line]
    assert steps == list(range(1, STEPS + 1))
    before, after = held_out(finished.folder)
    assert after < before / 2
    trained = {"train/loss", "train/grad_norm", "train/learning_rate"}
    clocked = {"tokens_per_second", "seconds_per_step", "mfu", "memory_gib", "wall_time_s"}
    counted = {"epoch", "samples_seen", "tokens_seen"}
    assert {"stage", "step"} | trained | clocked | counted == set(metrics(finished.folder)[1])
    assert 0 < metrics(finished.folder)[-2]["mfu"] < 1


def test_the_report_tells_of_the_whole_run(finished):
    page = (finished.folder / "report.html").read_text()
    before, after = held_out(finished.folder)
    for told in (">finished<", f"{before:.4g}", f"{after:.4g}", "train.jsonl", "test.jsonl", "sequences_per_step: 16"):
        assert told in page
    [stage] = json.loads((finished.folder / "data.json").read_text())["stages"]
    assert [(kept["role"], kept["rows"]) for kept in stage["sets"]] == [("training", 200), ("held out", 20)]
    assert json.loads((finished.folder / "environment.json").read_text())["threads"] == torch.get_num_threads()
    assert "alert at step" not in (finished.folder / "log.txt").read_text(), "nothing is wrong with this run"


def test_trackers_may_come_and_go_when_a_run_goes_on(world, finished, monkeypatch):
    """They are no part of a run's identity; one that is not installed is told before anything is loaded."""
    assert train(world, finished.folder, run_name="another", project="another").again
    monkeypatch.setattr("burnish.watch.tracking.importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"burnish\[wandb\]"):
        train(world / "nowhere", finished.folder, trackers=["wandb"])


def test_plain_transformers_gives_the_same_loss(world, finished):
    expected = held_out(finished.folder)[-1]
    assert plain_loss(finished.folder / "model", world / "test.jsonl") == pytest.approx(expected, rel=1e-5)


def test_an_adapter_gives_the_same_loss_in_peft(world, tmp_path):
    lora = {"kind": "lora", "rank": 8}
    run = train(world, tmp_path / "lora", adapter=lora, learning_rate=2e-2)
    before, after = held_out(run.folder)
    assert after < before - 0.2, "little, since embedding and head of the base are random and frozen"
    assert (run.folder / "model" / "adapter_model.safetensors").exists()
    assert plain_loss(run.folder / "model", world / "test.jsonl") == pytest.approx(after, rel=1e-5)


def test_bfloat16_learns_through_masters_and_saves_its_own_type(world, tmp_path):
    run = train(world, tmp_path / "narrow", dtype="bfloat16")
    before, after = held_out(run.folder)
    assert after < before / 2
    assert AutoModelForCausalLM.from_pretrained(run.folder / "model", dtype="auto").dtype == torch.bfloat16


@pytest.mark.parametrize("optimizer", ["muon", "adamw_8bit"])
def test_other_optimizers(world, tmp_path, optimizer):
    before, after = held_out(train(world, tmp_path / optimizer, optimizer=optimizer).folder)
    assert after < before / 2


def test_generation_stops_where_it_was_taught_to(finished):
    """The end token of training is in the generation settings, the template is with the tokenizer."""
    folder = finished.folder / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert end in GenerationConfig.from_pretrained(folder).eos_token_id
    model = AutoModelForCausalLM.from_pretrained(folder)
    turns = [{"role": "user", "content": "What colour is Emil's door?"}]
    inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = inputs["input_ids"].shape[1]
    # The model is too small to end by itself: it is made to, at its fourth token.
    steered = {"prefix_allowed_tokens_fn": lambda _, ids: [end] if len(ids) == written + 3 else [65]}
    output = model.generate(**inputs, max_new_tokens=60, do_sample=False, **steered)
    assert output[0, written:].tolist() == [65, 65, 65, end]


def test_a_base_model_without_template_gets_the_plain_one(world, tmp_path):
    """Also the template itself is saved: serving writes what training wrote."""
    bare = tmp_path / "bare"
    write_untrained(bare, hidden_size=32, layers=1)
    (bare / "chat_template.jinja").unlink()
    run = burnish.sft(model=str(bare), data=str(world / "train.jsonl"), output=str(tmp_path / "run"), max_steps=2)
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "model")
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert text.startswith("### User:\nHello")


def test_the_same_command_again_says_so_and_changes_nothing(world, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    again = train(world, finished.folder)
    assert again.again
    assert again.summary == finished.summary
    after = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {".lock", "log.txt"}


def test_another_recipe_is_refused_with_the_difference(world, finished):
    with pytest.raises(RunError, match=r"learning_rate: 0\.01 before, 0\.5 now"):
        train(world, finished.folder, learning_rate=0.5)


def test_the_recipe_in_the_folder_says_where_values_come_from(finished):
    text = (finished.folder / "recipe.yaml").read_text()
    assert "learning_rate: 0.01  # command line" in text
    assert "kind: cosine  # default" in text
    derived = TOKENS_PER_MICROBATCH[default_device().type]
    assert f"tokens_per_microbatch: {derived}  # default of this device" in text
    assert yaml.safe_load(text)["stages"][0]["sft"]["sequences_per_step"] == 16


def test_microbatches_do_not_change_the_result(world, tmp_path):
    """A real training: the same curve to the rounding of float64, which training amplifies. (In float32 the last bit of
    a sum becomes thousandths of the loss within twenty steps, for any two packings.)"""
    large = train(world, tmp_path / "large", dtype="float64")
    small = train(world, tmp_path / "small", dtype="float64", tokens_per_microbatch=150, gradient_checkpointing=True)
    curve, other = (
        [line["train/loss"] for line in metrics(f) if "train/loss" in line] for f in (large.folder, small.folder)
    )
    assert other == pytest.approx(curve, rel=1e-6)


def test_a_recipe_file_runs_like_the_flags(world, tmp_path, finished):
    text = f"""
model: {world}/model
stages:
  - sft:
      data: {world}/train.jsonl
      eval_data: {world}/test.jsonl
      max_steps: {STEPS}
      sequences_per_step: 16
      learning_rate: 1e-2
      log_every: 7
"""
    (tmp_path / "recipe.yaml").write_text(text)
    run = burnish.run(tmp_path / "recipe.yaml", f"output={tmp_path / 'run'}")
    assert held_out(run.folder) == held_out(finished.folder)


def test_the_flat_twin_has_the_same_curve(world, tmp_path):
    """examples/sft_flat.py needs only torch and transformers, and computes one row at a time. The learning rate is one
    at which rounding does not grow: at ten times this rate the curves of two processors differ by 4e-3."""
    script = Path(__file__).parents[1] / "examples" / "sft_flat.py"
    arguments = [str(world / "model"), str(world / "train.jsonl"), "--steps", str(STEPS), "--rows-per-step", "16"]
    output = subprocess.run(
        [sys.executable, str(script), *arguments, "--learning-rate", "1e-3"], check=True, capture_output=True, text=True
    ).stdout
    flat = [json.loads(line)["loss"] for line in output.splitlines()]
    run = train(world, tmp_path / "run", learning_rate=1e-3)
    curve = [line["train/loss"] for line in metrics(run.folder) if "train/loss" in line]
    assert flat[:5] == pytest.approx(curve[:5], rel=1e-5)
    assert flat == pytest.approx(curve, rel=1e-4)
    assert flat[-1] < flat[0] - 1


def test_the_flat_twin_needs_nothing_of_ours():
    text = (Path(__file__).parents[1] / "examples" / "sft_flat.py").read_text()
    assert "import burnish" not in text
    assert "from burnish" not in text


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [{"kind": "full"}, {"kind": "lora", "rank": 16}], ids=["full", "lora"])
def test_a_real_model_on_real_rows(shared_folder, tmp_path, adapter):
    """stories260K on GSM8K: the loss on the test file falls, and plain transformers gives that loss."""
    data = shared_folder / "data" / "gsm8k"
    small = tmp_path / "test.jsonl"
    small.write_text("\n".join((data / "test.jsonl").read_text().splitlines()[:200]))
    run = burnish.sft(
        model=str(shared_folder / "models" / "stories260K"),
        data=str(data / "train.jsonl"),
        eval_data=str(small),
        output=str(tmp_path / "run"),
        max_steps=30,
        max_length=400,
        overlong="drop",
        learning_rate=2e-3 if adapter["kind"] == "full" else 1e-2,
        adapter=adapter,
    )
    before, after = held_out(run.folder)
    assert after < before - 2
    assert plain_loss(run.folder / "model", small, max_length=400) == pytest.approx(after, rel=1e-5)


def test_a_run_that_begins_before_its_rows_are_ready_learns_the_same(world, tmp_path, monkeypatch):
    settings = {"max_steps": None, "eval_data": None, "overlong": "error"}
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "early"))
    monkeypatch.setattr(burnish.data.streaming, "AT_ONCE", 10)
    early = train(world, tmp_path / "early-run", **settings)
    monkeypatch.setattr(burnish.data.streaming, "AT_ONCE", 1000)
    late = train(world, tmp_path / "late-run", **settings)
    assert late.summary == early.summary
    assert late.summary["steps"] == -(-200 // 16)
    weights = [(run.folder / "model" / "model.safetensors").read_bytes() for run in (early, late)]
    assert weights[0] == weights[1]
    assert "tokenized in the background" in (early.folder / "log.txt").read_text()


def test_a_finished_run_needs_its_data_no_more(world, tmp_path):
    data = tmp_path / "train.jsonl"
    data.write_text((world / "train.jsonl").read_text())
    train(world, tmp_path / "run", data=str(data), max_steps=1, eval_data=None)
    data.unlink()
    again = train(world, tmp_path / "run", data=str(data), max_steps=1, eval_data=None)
    assert (again.again, again.summary["steps"]) == (True, 1)
    assert "train.jsonl" in again.unread


@pytest.mark.parametrize("kind", ["data", "eval_data"])
def test_a_finished_run_with_other_data_is_not_finished(world, tmp_path, kind):
    """The settings are the same, the file is not."""
    data = tmp_path / "changing.jsonl"
    data.write_text((world / "test.jsonl").read_text())
    settings = {"max_steps": 1, kind: str(data)}
    train(world, tmp_path / "run", **settings)
    assert train(world, tmp_path / "run", **settings).unread == ""
    data.write_text("\n".join(data.read_text().splitlines()[1:]))
    with pytest.raises(RunError, match=r"is finished, and the (held-out )?data of its stage sft have changed"):
        train(world, tmp_path / "run", **settings)


def test_a_run_within_its_first_epoch_reads_only_what_it_draws(world, tmp_path):
    """And learns from the same rows as a longer run's first steps: a row that is never drawn may be unusable."""
    lines = (world / "train.jsonl").read_text().splitlines()
    order = epoch_order(0, 0, len(lines))
    lines[int(order[50])] = json.dumps({"question": "why?", "answer": None})
    (tmp_path / "some.jsonl").write_text("\n".join(lines))
    constant = {"kind": "constant", "warmup_ratio": 0.0}
    settings = {"eval_data": None, "max_steps": 3, "schedule": constant, "overlong": "error"}
    short = train(world, tmp_path / "short", data=str(tmp_path / "some.jsonl"), **settings)
    long = train(world, tmp_path / "long", **{**settings, "max_steps": 14})
    assert len(lines) < 14 * 16
    losses = [[line["train/loss"] for line in metrics(run.folder)][:3] for run in (short, long)]
    assert losses[0] == losses[1]
    log = (short.folder / "log.txt").read_text()
    assert f"it reads 48 of {len(lines)} rows" in log
    assert "an epoch is 200 rows, 13 steps" in log
    with pytest.raises(DataError, match=f"line {int(order[50]) + 1}:"):
        train(world, tmp_path / "longer", data=str(tmp_path / "some.jsonl"), **{**settings, "max_steps": 4})
