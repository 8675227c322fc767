"""Every mistake that a user can make: exit status 2, what was given, the rule, what to do, and never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.runs.checkpoint import latest_checkpoint

ROW = {"question": "What is 1 plus 1?", "answer": "2."}


def lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def bare_model(world: Path, folder: Path, *without: str) -> Path:
    """A copy of the model that lacks some files."""
    shutil.copytree(world / "model", folder)
    for pattern in without:
        for path in folder.glob(pattern):
            path.unlink()
    return folder


def broken_weights(world: Path, folder: Path) -> Path:
    copy = bare_model(world, folder)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return copy


DATA: dict[str, tuple[str | bytes | None, list[str]]] = {
    "missing file": (None, ["data.jsonl"]),
    "empty file": ("", ["data.jsonl", "empty"]),
    "broken line": (lines(ROW) + '{"question": "a", "answer": \n' + lines(ROW), ["data.jsonl line 2"]),
    "not UTF-8": (lines(ROW).encode() + b'{"question": "\xff", "answer": "x"}\n', ["data.jsonl line 2", "UTF-8"]),
    "a line that is no object": (lines(ROW, [1, 2]), ["data.jsonl line 2"]),
    "unknown columns": (lines({"frage": "a", "antwort": "b"}), ["frage", "question"]),
    "missing answer": (lines(ROW, {"question": "a"}), ["data.jsonl line 2", "answer"]),
    "answer of a wrong type": (lines(ROW, {"question": "a", "answer": 3}), ["data.jsonl line 2", "answer"]),
    "no turn of the assistant": (lines({"messages": [{"role": "user", "content": "a"}]}), ["data.jsonl line 1"]),
    "unknown role": (lines({"messages": [{"role": "ghost", "content": "a"}]}), ["data.jsonl line 1", "ghost"]),
    "messages that are no list": (lines({"messages": "hello"}), ["data.jsonl line 1", "messages"]),
    "too long a row": (
        lines(ROW, {"question": "a" * 300, "answer": "b"}),
        ["longer than 200", "line 2", "overlong=drop"],
    ),
    "nothing to learn": (lines({"prompt": "", "completion": ""}), ["data.jsonl line 1"]),
}


@pytest.mark.parametrize("case", DATA)
def test_data(fork_server, world, tmp_path, case):
    content, words = DATA[case]
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    check(
        fork_server, words, "--model", world / "model", "--data", path, "--output", tmp_path / "run", "max_length=200"
    )
    assert not (tmp_path / "run").exists(), "a mistake in the data leaves no run folder behind"


def test_a_prompt_longer_than_the_limit_cannot_be_cut(fork_server, world, tmp_path):
    (tmp_path / "data.jsonl").write_text(lines(ROW, {"question": "a" * 300, "answer": "b"}))
    options = ["--output", tmp_path / "run", "max_length=200", "overlong=truncate"]
    words = ["data.jsonl line 2", "prompt"]
    check(fork_server, words, "--model", world / "model", "--data", tmp_path / "data.jsonl", *options)


MODELS: dict[str, tuple[Callable[[Path, Path], Path], list[str]]] = {
    "no such folder": (lambda _world, folder: folder / "none", ["existing folder"]),
    "no weights": (lambda world, folder: bare_model(world, folder, "*.safetensors"), ["model", "safetensors"]),
    "no tokenizer": (lambda world, folder: bare_model(world, folder, "tokenizer*"), ["tokenizer"]),
    "no configuration": (lambda world, folder: bare_model(world, folder, "config.json"), ["config"]),
    "broken weights": (broken_weights, ["model"]),
    "an empty folder": (lambda world, folder: bare_model(world, folder, "*"), ["tokenizer"]),
}


@pytest.mark.parametrize("case", MODELS)
def test_models(fork_server, world, tmp_path, case):
    make, words = MODELS[case]
    model = make(world, tmp_path / "model")
    check(fork_server, words, "--model", model, "--data", world / "train.jsonl", "--output", tmp_path / "run")


SETTINGS: dict[str, tuple[list[str], list[str]]] = {
    "unknown key": (["learning_rat=1"], ["learning_rat", "learning_rate"]),
    "wrong type": (["epochs=many"], ["epochs", "'many'"]),
    "too many positions": (["max_length=100000"], ["100000", "512"]),
    "a row that fits no microbatch": (["tokens_per_microbatch=20", "max_length=30"], ["cannot be split"]),
    "a layer that does not exist": (["adapter.kind=lora", "adapter.targets=[nose]"], ["nose", "q_proj"]),
    "an adapter on the head": (["adapter.kind=lora", "adapter.targets=[lm_head]"], ["lm_head"]),
    "an unknown template": (["chat_template=fancy"], ["fancy", "plain"]),
    "no equals sign": (["epochs"], ["key=value"]),
    "an unknown flag": (["--epochs", "3"], ["--epochs", "key=value"]),
    "a format that does not fit": (["format=chat"], ["messages"]),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(fork_server, world, tmp_path, case):
    arguments, words = SETTINGS[case]
    files = ["--model", world / "model", "--data", world / "train.jsonl", "--output", tmp_path / "run"]
    check(fork_server, words, *files, *arguments)


def test_an_output_that_cannot_be_written(fork_server, world, tmp_path):
    (tmp_path / "file").write_text("")
    files = ["--model", world / "model", "--data", world / "train.jsonl"]
    check(fork_server, ["file"], *files, "--output", tmp_path / "file")
    check(fork_server, ["file"], *files, "--output", tmp_path / "file" / "below")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    check(fork_server, ["thesis.txt"], *files, "--output", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_full_disk_while_a_checkpoint_is_written(fork_server, world, tmp_path):
    """The run reports it, keeps its checkpoints, and resumes when there is space."""
    arguments = [*files(world, tmp_path), "max_steps=6", "checkpoint_every=2"]
    output = check(fork_server, ["checkpoint of step 2", "same command"], *arguments, limits={"RLIMIT_FSIZE": 30_000})
    assert "Traceback" not in output
    assert fork_server("sft", *arguments)["status"] == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_a_batch_that_does_not_fit_in_memory(fork_server, world, tmp_path):
    """A limit of address space stands for a machine with little memory."""
    rows = [{"question": "a" * 400, "answer": "b" * 90}] * 4000
    (tmp_path / "long.jsonl").write_text(lines(*rows))
    arguments = ["--model", world / "model", "--data", tmp_path / "long.jsonl", "--output", tmp_path / "run"]
    sizes = ["sequences_per_step=4000", "tokens_per_microbatch=3000000", "max_steps=1"]
    output = check(
        fork_server, ["memory ran out", "tokens_per_microbatch"], *arguments, *sizes, limits={"RLIMIT_AS": 6 * 2**30}
    )
    assert "Traceback" not in output


def test_ctrl_c_writes_a_checkpoint_and_the_same_command_resumes(fork_server, world, tmp_path):
    arguments = [*files(world, tmp_path), "max_steps=9", "checkpoint_every=100"]
    stopped = fork_server("sft", *arguments, signals={"Trainer.step": [4]})
    assert stopped["status"] == 130, stopped["output"]
    assert "same command" in stopped["output"]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-4"]
    resumed = fork_server("sft", *arguments)
    assert resumed["status"] == 0
    assert "resuming from step 4" in resumed["output"]


def test_ctrl_c_between_a_step_and_its_checkpoint_is_not_lost(fork_server, world, tmp_path):
    """It comes while metrics are written: this step stops, or the next one."""
    arguments = [*files(world, tmp_path), "max_steps=9", "checkpoint_every=100", "log_every=1"]
    stopped = fork_server("sft", *arguments, signals={"Meter.flush": [4]})
    assert stopped["status"] == 130, stopped["output"]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-4"]


def test_a_second_ctrl_c_ends_at_once(fork_server, world, tmp_path):
    arguments = [*files(world, tmp_path), "max_steps=9", "checkpoint_every=100"]
    stopped = fork_server("sft", *arguments, signals={"Trainer.step": [4], "Trainer.optim_step": [4]})
    assert stopped["status"] == 130, stopped["output"]
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("changed", ["train", "test"])
def test_data_that_changed_under_a_run_is_refused(fork_server, world, tmp_path, changed):
    for name in ("train.jsonl", "test.jsonl"):
        shutil.copy(world / name, tmp_path / name)
    data = ["--data", tmp_path / "train.jsonl", "--eval-data", tmp_path / "test.jsonl"]
    arguments = ["--model", world / "model", *data, "--output", tmp_path / "run", "max_steps=9"]
    assert fork_server("sft", *arguments, signals={"Trainer.step": [4]})["status"] == 130
    with (tmp_path / f"{changed}.jsonl").open("a") as file:
        file.write(lines(ROW))
    check(fork_server, ["the data" if changed == "train" else "the held-out data"], *arguments)


def test_invalid_generation_settings_are_corrected_at_load(fork_server, world, tmp_path):
    """Sampling settings with do_sample off: transformers would refuse to save them, after the training."""
    model = bare_model(world, tmp_path / "model")
    (model / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_p": 0.9, "eos_token_id": 1}))
    files = ["--model", model, "--data", world / "train.jsonl", "--output", tmp_path / "run"]
    result = fork_server("sft", *files, "max_steps=1")
    assert result["status"] == 0, result["output"]
    saved = json.loads((tmp_path / "run" / "model" / "generation_config.json").read_text())
    assert saved["do_sample"]
    assert 1 in saved["eos_token_id"]


ADAPTERS = {
    "of nothing": ({}, [], ["does not have the kind", "peft_type", "merge"]),
    "of another kind": ({"peft_type": "PROMPT_TUNING", "base_model_name_or_path": "x"}, [], ["kind PROMPT_TUNING"]),
    "without its model's name": ({"peft_type": "LORA"}, [], ["does not name the base model"]),
    "without weights": ({"peft_type": "LORA", "base_model_name_or_path": "x"}, [], ["adapter_model.safetensors"]),
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_adapters_that_cannot_be_continued(fork_server, world, tmp_path, case):
    config, settings, expected = ADAPTERS[case]
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    arguments = ["--model", adapter, "--data", world / "train.jsonl", "--output", tmp_path / "r", *settings]
    check(fork_server, expected, *arguments)


@pytest.mark.parametrize("steps", [1, 40])
def test_a_diverged_run_is_a_failure_and_keeps_no_checkpoint_of_it(fork_server, world, tmp_path, steps):
    """Also when only the last update diverges, whose loss nobody sees."""
    arguments = [
        *files(world, tmp_path),
        f"max_steps={steps}",
        "learning_rate=3e38",
        "optimizer.max_grad_norm=null",
        "schedule.warmup_ratio=0",
    ]
    result = fork_server("sft", *arguments, "schedule=constant", "checkpoint_every=1")
    assert result["status"] == 1
    assert "diverged" in result["output"]
    assert not (tmp_path / "run" / "finished.json").exists()
    assert latest_checkpoint(tmp_path / "run").path is None


def files(world: Path, tmp_path: Path) -> list[object]:
    return ["--model", world / "model", "--data", world / "train.jsonl", "--output", tmp_path / "run"]


def check(fork_server, words: list[str], *arguments: object, **options: object) -> str:
    """The command ends with status 2 and a message that has all the words."""
    result = fork_server("sft", *arguments, **options)
    output = result["output"]
    assert result["status"] == 2, output
    assert "Traceback" not in output
    assert all(word in output for word in words), output
    return output
