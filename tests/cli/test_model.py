"""chat, generate, eval, merge, export and serve as commands: what they print and leave behind, and how mistakes end."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

import burnish
from burnish.builtin.tiny import write_untrained
from tests.adapters import change_json, write_adapter, write_base, write_rows_of
from tests.faults.conftest import fork_server  # noqa: F401 (a fixture)

ASKED = {"question": "a?", "answer": "The 4."}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, adapter/, rows.jsonl and a run that knows its row by heart."""
    folder = tmp_path_factory.mktemp("verbs")
    write_base(folder / "base")
    write_adapter(folder / "adapter", folder / "base")
    rows = write_rows_of(folder, ASKED)
    rows.rename(folder / "rows.jsonl")
    write_untrained(folder / "untrained", hidden_size=64, layers=2)
    options = {
        "learning_rate": 1e-2,
        "epochs": 60,
        "sequences_per_step": 1,
        "schedule": "constant",
        "eval_data": str(folder / "rows.jsonl"),
    }
    files = {"model": str(folder / "untrained"), "data": str(folder / "rows.jsonl"), "output": str(folder / "run")}
    burnish.sft(**files, **options)
    return folder


def done(fork_server, *arguments: object) -> str:  # noqa: F811
    result = fork_server(*arguments)
    assert result["status"] == 0, result["output"]
    return str(result["output"])


def refused(fork_server, words: list[str], *arguments: object) -> None:  # noqa: F811
    result = fork_server(*arguments)
    told = result["output"]
    assert result["status"] == 2, told
    assert "Traceback" not in told
    assert all(word in told for word in words), told


def test_eval_prints_a_table_and_writes_files(fork_server, place, tmp_path):  # noqa: F811
    files = ["--output", tmp_path / "figures.json", "--samples", tmp_path / "samples.jsonl"]
    told = done(fork_server, "eval", place / "run", "--data", place / "rows.jsonl", "max_new_tokens=20", *files)
    assert "accuracy (exact)  100.0% (1 of 1)" in told
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["accuracy"], figures["rows"]) == (1.0, 1)
    assert f"{figures['loss']:.4f} nats per token" in told
    sample = json.loads((tmp_path / "samples.jsonl").read_text())
    assert (sample["response"], sample["correct"]) == ("The 4.", True)


def test_eval_prints_json(fork_server, place):  # noqa: F811
    told = done(fork_server, "eval", place / "adapter", "--data", place / "rows.jsonl", "match=null", "--json")
    assert json.loads(told)["accuracy"] is None


def test_generate_writes_a_line_for_each_prompt(fork_server, place, tmp_path):  # noqa: F811
    files = ["--data", place / "rows.jsonl", "--output", tmp_path / "answers.jsonl"]
    told = done(fork_server, "generate", "--model", place / "run", *files, "temperature=0", "max_new_tokens=20")
    assert f"{tmp_path}/answers.jsonl: 1 prompts with 1 responses" in told
    line = json.loads((tmp_path / "answers.jsonl").read_text())
    assert (line["responses"], line["finish"], line["reference"]) == (["The 4."], ["end"], "The 4.")
    refused(fork_server, ["never overwrite"], "generate", "--model", place / "run", *files)


@pytest.mark.parametrize("verb", ["merge", "export"])
def test_an_adapter_becomes_a_model(fork_server, place, tmp_path, verb):  # noqa: F811
    told = done(fork_server, verb, place / "adapter", "--output", tmp_path / "out")
    assert f"{tmp_path}/out: float32 weights in safetensors" in told
    assert "verified on 5 prompts" in told
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "README.md").exists()


def test_a_run_is_exported_with_its_recipe(fork_server, place, tmp_path):  # noqa: F811
    done(fork_server, "export", place / "run", "--output", tmp_path / "out")
    assert "learning_rate: 0.01  # command line" in (tmp_path / "out" / "README.md").read_text()


MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "eval without data": (["eval", "base"], ["--data"]),
    "eval with a misspelt setting": (["eval", "base", "--data", "rows.jsonl", "mach=exact"], ["did you mean match"]),
    "eval of nothing": (["eval", "nothing/at/all", "--data", "rows.jsonl"], ["existing folder"]),
    "eval into a folder that is not there": (
        ["eval", "base", "--data", "rows.jsonl", "--output", "no/a.json"],
        ["there is no folder no"],
    ),
    "chat with a misspelt setting": (["chat", "base", "temprature=1"], ["did you mean temperature"]),
    "chat with an unknown template": (["chat", "base", "--chat-template", "chatmil"], ["did you mean chatml"]),
    "generate without an output": (["generate", "--model", "base", "--data", "rows.jsonl"], ["--output"]),
    "generate with a misspelt setting": (
        ["generate", "--model", "base", "--data", "rows.jsonl", "--output", "out", "respones=2"],
        ["did you mean responses"],
    ),
    "generate from nothing": (
        ["generate", "--model", "base", "--data", "nothing.jsonl", "--output", "out"],
        ["nothing.jsonl"],
    ),
    "merge of a full model": (["merge", "base", "--output", "out"], ["full model", "export"]),
    "merge into a folder that is not empty": (["merge", "adapter", "--output", "base"], ["not empty"]),
    "export as gguf": (["export", "run", "--output", "out", "--form", "gguf"], ["convert_hf_to_gguf.py"]),
    "export in an unknown form": (["export", "run", "--output", "out", "--form", "onnx"], ["onnx"]),
    "export to a name that is none": (["export", "run", "--output", "out", "--push", "mine"], ["owner/name"]),
    "serve without an engine": (["serve", "run", "--engine", "vllm"], ["pip install vllm"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(fork_server, place, case):  # noqa: F811
    arguments, words = MISTAKES[case]
    known = {"base", "adapter", "run", "rows.jsonl"}
    refused(fork_server, words, *(place / word if word in known else word for word in arguments))
    assert not Path("out").exists()


def test_wrong_end_tokens_are_refused_by_every_writer(fork_server, tmp_path):  # noqa: F811
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    change_json(base / "generation_config.json", eos_token_id=7)
    for verb, model in (("merge", adapter), ("export", base)):
        refused(fork_server, ["continues with the next turns"], verb, model, "--output", tmp_path / "out")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "burnish", *map(str, arguments)]


def test_chat_through_a_pipe(place):
    """Answers on the standard output, and nothing else."""
    lines = "a?\n\n/reset\na?\n"
    arguments = command("chat", place / "run", "max_new_tokens=20")
    ended = subprocess.run(arguments, input=lines, capture_output=True, text=True, check=True)
    assert ended.stdout == "The 4.\nThe 4.\n"
    assert "template: the model's own" in ended.stderr
    assert "the conversation is cleared" in ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="os.login_tty is tried on Linux")
def test_chat_in_a_terminal(place):
    """A prompt, an answer to a line, help by a command, and the end by Ctrl+D."""
    leader, follower = pty.openpty()
    # What a shell starts in the background ignores Ctrl+C, and so does all that it starts; here somebody types.
    heeds = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    as_terminal = heeds + "os.login_tty(os.dup(0)); os.execv(sys.argv[1], sys.argv[1:])"
    arguments = [sys.executable, "-c", as_terminal, *command("chat", place / "run", "max_new_tokens=20")]
    process = subprocess.Popen(arguments, stdin=follower)
    os.close(follower)

    def until(last: bytes = b"\n> ") -> str:
        """All that is shown until this, or the next prompt; the end of the process is an OSError."""
        shown = b""
        while not shown.endswith(last):
            assert select.select([leader], [], [], 120)[0], f"nothing more was said after {shown.decode()!r}"
            shown += os.read(leader, 1000)
        return shown.decode()

    try:
        assert "/help shows this" in until()
        os.write(leader, b"a?\n")
        assert "The 4." in until()
        # readline overlooks a Ctrl+C that comes between its prompt and its waiting for keys: it is pressed until heard.
        for _ in range(60):
            os.write(leader, b"\x03")
            if select.select([leader], [], [], 2)[0]:
                break
        assert "Ctrl+D or /exit ends" in until()
        os.write(leader, b"\x04")
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
