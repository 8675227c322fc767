"""Mistakes in recipes and flags, as the command line answers them: a message with what to do, status 2, no traceback.

A table: what was typed → words of the answer. Beside it, `recipe/test_read.py` and `recipe/test_data.py` have the
mistakes that a recipe's text can hold; here they come through every verb, before anything is loaded.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from burnish.cli.main import main

RECIPE = """
model: nothing/there
stages:
  - sft: {data: rows.jsonl}
  - sft: {data: rows.jsonl, eval_data: rows.jsonl}
"""
SFT = "sft --model builtin:tiny --data rows.jsonl"

MISTAKES = {
    # verbs and flags
    "trane": ["No such command", "trane"],
    "sft --model builtin:tiny": ["Missing option", "--data"],
    "sft --data rows.jsonl": ["Missing option", "--model"],
    f"{SFT} --learning-rate 1e-4": ["No such option", "--learning-rate", "key=value"],
    f"{SFT} --max-steps many": ["--max-steps", "valid integer"],
    f"{SFT} --seed x": ["--seed", "valid int"],
    "run": ["Missing argument"],
    "run nothing.yaml": ["nothing.yaml", "No such file", "current folder"],
    "run .": ["readable YAML file"],
    "run empty.yaml": ["holds nothing", "model and stages"],
    "run list.yaml": ["holds list"],
    "run twice.yaml": ["line 2", "the key model occurs twice"],
    "run broken.yaml": ["broken.yaml line", "valid YAML"],
    "run latin.yaml": ["UTF-8"],
    "run two.yaml epochs=2": ["several stages", "sft.epochs, sft-2.epochs"],
    "run two.yaml sft-3.epochs=2": ["unknown key sft-3", "sft-2"],
    "quickstart sft.epoch=2": ["epochs"],
    "quickstart --browse": ["No such option", "--browse"],
    "report": ["Missing argument"],
    "report .": ["is no run folder", "identity.json"],
    "report nothing": ["is no run folder"],
    "schema sft": ["unexpected extra argument"],
    "check": ["give a recipe, or --model and --data"],
    "check --model builtin:tiny": ["give a recipe, or --model and --data"],
    "check learning_rate=1": ["give a recipe, or --model and --data"],
    "check two.yaml sft.epochs=0": ["greater than 0"],
    "data view rows.jsonl": ["Missing option", "--model"],
    "data view rows.jsonl --model builtin:tiny --longest 0": ["--longest", "greater than or equal to 1"],
    "data view rows.jsonl --model builtin:tiny --longest 1 --search a": ["one of --index, --search and --longest"],
    "data profile rows.jsonl --model builtin:tiny max_lenght=4": ["did you mean max_length"],
    "data convert rows.jsonl": ["Missing option", "--output"],
    "data convert rows.jsonl --output out.jsonl colums.a=b": ["unknown key colums"],
    "data look rows.jsonl": ["No such command", "look"],
    "eval runs/mine": ["Missing option", "--data"],
    "eval runs/mine --data rows.jsonl match=fuzzy": ["'fuzzy'", "'contains'"],
    "eval runs/mine --data rows.jsonl temperature=-1": ["greater than or equal to 0"],
    "eval runs/mine --data rows.jsonl --output no/f.json": ["there is no folder no"],
    "chat": ["Missing argument"],
    "chat builtin:tiny top_p=2": ["less than or equal to 1"],
    "chat builtin:tiny hello": ["argument 'hello'", "key=value"],
    "chat builtin:tiny --temperature 1": ["No such option"],
    "merge runs/mine": ["Missing option", "--output"],
    "export runs/mine --output out --form zip": ["--form", "zip"],
    "serve runs/mine --port 99999999": ["--port", "65535"],
    "serve runs/mine --engine tgi": ["--engine", "tgi"],
    # settings that a verb takes, through to the message
    f"{SFT} learning_rat=1e-4": ["unknown key learning_rat", "did you mean learning_rate?"],
    f"{SFT} lr=1e-4": ["here it is learning_rate"],
    f"{SFT} epochs": ["argument 'epochs'", "key=value"],
    f"{SFT} =3": ["argument '=3'", "key=value"],
    f"{SFT} epochs=1 epochs=2": ["epochs is given as 1 and as 2"],
    f"{SFT} optimizer.betas=[0.9": ["override 'optimizer.betas=[0.9'", "valid YAML"],
    f"{SFT} --max-steps 3 epochs=1": ["epochs and max_steps"],
    f"{SFT} --max-steps 0": ["max_steps", "greater than 0"],
    f"{SFT} evaluation.generations=8": ["evaluation.generations needs eval_data"],
    f"{SFT} evaluation.generations=-1 eval_data=rows.jsonl": ["evaluation.generations", "greater than or equal to 0"],
    f"{SFT} evaluation.match=number eval_data=rows.jsonl": ["evaluation.match needs evaluation.generations"],
    f"{SFT} evaluation.max_new_tokens=9": ["evaluation.max_new_tokens needs evaluation.generations"],
    f"{SFT} eval_data=rows.jsonl evaluation.prompts_data=rows.jsonl": [
        "evaluation.prompts_data needs evaluation.generations"
    ],
    f"{SFT} evaluation.generations=8 eval_data=rows.jsonl evaluation.match=close": [
        "evaluation.match: 'close'",
        "'contains'",
    ],
    f"{SFT} predict_with_generate=true": ["here it is evaluation.generations"],
    f"{SFT} val_set_size=0.1": ["here it is eval_share"],
    f"{SFT} max_new_tokens=9": ["did you mean evaluation.max_new_tokens?"],
    f"{SFT} loss=dpo": ["loss: dpo is unknown"],
    f"{SFT} loss_options.weight=1": ["unknown key loss_options.weight"],
    f"{SFT} clip=1": ["unknown key clip", "did you mean optimizer.max_grad_norm?"],
    f"{SFT} warmup_ratio=0.1": ["unknown key warmup_ratio", "did you mean schedule.warmup_ratio?"],
    f"{SFT} optimizer.learning_rate=1": ["did you mean learning_rate, not optimizer.learning_rate?"],
    f"{SFT} overlong=stop": ["here it is error"],
    f"{SFT} stages.1.sft.epochs=1": ["no entry 1"],
    f"{SFT} trackers=tensorbord": ["trackers", "'tensorbord'"],
    f"{SFT} special_tokens_in_text=html": ["special_tokens_in_text: 'html'", "'tokens'"],
    f"{SFT} train_on=user": ["train_on: 'user'", "'assistant'"],
    f"{SFT} max_invalid_fraction=2": ["max_invalid_fraction", "less than or equal to 1"],
    f"{SFT} chat_template=chatmil": ["did you mean chatml"],
    f"{SFT} data=nowhere.jsonl": ["rows.jsonl", "nowhere.jsonl", "given once"],
    f"{SFT} data=builtin:chatt": ["builtin:chatt", "builtin:chat"],
    f"{SFT} max_length=100000 chat_template=plain": ["100000", "positions", "max_length"],
}


def test_there_are_well_over_forty() -> None:
    assert len(MISTAKES) > 60


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {
        "rows.jsonl": '{"question": "a?", "answer": "b"}\n',
        "two.yaml": RECIPE,
        "empty.yaml": "",
        "list.yaml": "- model\n",
        "twice.yaml": "model: a\nmodel: b\n",
        "broken.yaml": "model: [a\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.yaml").write_bytes("model: Zoë".encode("latin-1"))
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(typed))
    told = capsys.readouterr().err
    assert ended.value.code == 2, told
    assert all(word in told for word in MISTAKES[typed]), told
    assert "to do: " in told
    assert "Traceback" not in told
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "nothing is left behind"
