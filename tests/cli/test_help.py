"""Help, `burnish keys`, shell completion and answers to what other tools call commands and flags."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from burnish.cli.help import GROUPS
from burnish.cli.main import app, main
from burnish.recipe.settings_list import usual_settings
from burnish.settings.other_names import COMMANDS, STAGES, command_remedy
from burnish.stages.registry import BUILTIN


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["sft"], ["data", "view"], ["eval"]])
def test_both_flags_give_help(capsys, flag, command):
    status, out, _ = typed(capsys, *command, flag)
    assert status == 0
    assert "Usage: " in out


def test_every_command_is_in_one_group_of_the_help(capsys):
    _, out, _ = typed(capsys)
    positions = [out.index(f"\n{heading}:") for heading in GROUPS.values()]
    assert positions == sorted(positions)
    listed = [line.split()[0] for line in out[positions[0] : out.index("Example:")].splitlines() if line[:2] == "  "]
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups if group.name}
    assert {name.rstrip("_") for name in names} <= set(listed)
    assert len(listed) == len(set(listed))


def test_the_example_of_the_help_is_a_command_that_is_accepted(capsys):
    from tests.cli.test_docs_commands import test_a_command_is_accepted

    _, out, _ = typed(capsys)
    for line in out[out.index("Example:") :].splitlines():
        if line.startswith("  burnish "):
            test_a_command_is_accepted("help", line.removeprefix("  burnish "))


@pytest.mark.parametrize("stage", BUILTIN)
def test_the_help_of_a_stage_has_its_usual_settings_on_a_line_each(capsys, stage, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = typed(capsys, stage, "-h")
    lines = out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    for setting in usual_settings(BUILTIN[stage]):
        [line] = [line for line in lines if line.startswith(f"  {setting.key} ")]
        assert setting.summary[:8] in line
    assert f"burnish keys {stage}" in out


def test_stages_have_different_help(capsys):
    assert len({typed(capsys, stage, "-h")[1].partition("Usual")[2] for stage in BUILTIN}) == len(BUILTIN)


def test_keys_of_one_stage(capsys):
    status, out, _ = typed(capsys, "keys", "rl", "warmup")
    assert status == 0
    assert "schedule.warmup_ratio" in out
    assert "learning_rate  (" not in out


def test_keys_are_listed_once(capsys):
    _, out, _ = typed(capsys, "keys")
    keys = [line for line in out.splitlines() if line.startswith("  schedule.warmup_ratio ")]
    assert len(keys) == 1
    assert "  policy_gradient.clip_low " in out


def test_keys_of_other_tools_are_found(capsys):
    _, out, _ = typed(capsys, "keys", "num_generations")
    assert "num_generations → responses_per_prompt" in out


def test_a_word_that_no_setting_has(capsys):
    status, _, err = typed(capsys, "keys", "xyzzy")
    assert status == 1
    assert "xyzzy" in err


@pytest.mark.parametrize("name", [*COMMANDS, *(name for name in STAGES if name not in BUILTIN)])
def test_a_command_of_another_tool_is_answered(capsys, name):
    status, _, err = typed(capsys, name, "--stage", "x")
    assert status == 2
    assert f"to do: {command_remedy(name)}" in err


@pytest.mark.parametrize(
    ("arguments", "words", "absent"),
    [
        (["train"], ["burnish sft", "burnish run"], []),
        (["dpo"], ["write burnish prefer … loss=dpo"], []),
        (["merge-lora"], ["write burnish merge"], []),
        (["evl"], ["did you mean burnish eval?"], []),
        (["qqqqqq"], ["see burnish --help"], ["did you mean"]),
        (["sft", "--learning-rate", "1e-4"], ["learning_rate=…"], ["Did you mean", "Possible"]),
        (["sft", "--lr", "1e-4"], ["here it is learning_rate"], []),
        (["sft", "--num_train_epochs=3"], ["here it is epochs"], []),
        (["sft", "--qqqqqq", "1"], ["burnish keys"], ["did you mean"]),
        (["chat", "--temprature", "1"], ["see burnish chat --help"], []),
        (["sft", "--model", "m"], ["--data", "see burnish sft --help"], []),
    ],
)
def test_one_answer_that_contradicts_no_other(capsys, arguments, words, absent):
    status, _, err = typed(capsys, *arguments)
    assert status == 2
    assert all(word in err for word in words), err
    assert not any(word in err for word in absent), err
    assert err.count("to do:") == 1


@pytest.mark.parametrize(
    ("words", "completion"),
    [
        ("burnish s", "sft"),
        ("burnish sft schedule.w", "schedule.warmup_ratio="),
        ("burnish sft adapter.ra", "adapter.rank="),
    ],
)
def test_the_shell_completes_commands_and_settings(words, completion):
    environment = {**os.environ, "_BURNISH_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    program = "import sys; sys.argv[0] = 'burnish'; from burnish.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert completion in done.stdout.split(), done.stderr
