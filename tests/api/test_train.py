"""The Python functions: functions, rows and models in memory; resume; what cannot be resumed; recipes as mappings."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError, RecipeError, RunError
from burnish.types import Denominator, LossOutput, LossTerm


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "train.jsonl", generate(seed=1, count=40))
    (folder / "math.jsonl").write_text("".join(f'{{"question": "{n}+1?", "answer": "{n + 1}"}}\n' for n in range(8)))
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


def settings(world: Path, **more: object) -> dict[str, object]:
    common = {"max_length": 200, "sequences_per_step": 8, "max_steps": 2}
    return {"model": str(world / "model"), "data": str(world / "train.jsonl"), **common, **more}


def doubled(scores, microbatch):
    surprise = -2 * (microbatch.weights * scores.logprob).sum()
    return LossOutput({"surprise": LossTerm(surprise, Denominator.WEIGHT)})


def number_of_letters(answer):
    return float(len(answer.text))


def same_weights(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def metric(result: burnish.RunResult, name: str) -> list[float]:
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def test_a_loss_is_a_function(world):
    plain = burnish.sft(**settings(world, output="plain"))
    own = burnish.sft(**settings(world, output="own", loss=doubled))
    assert metric(own, "train/loss")[0] == pytest.approx(2 * metric(plain, "train/loss")[0], rel=1e-5)
    assert burnish.sft(**settings(world, output="own", loss=doubled)).again


def test_folders_are_numbered_and_found_again(world):
    first = burnish.sft(**settings(world))
    second = burnish.sft(**settings(world, learning_rate=1e-3))
    assert [first.folder.name, second.folder.name] == ["sft", "sft-2"]
    assert burnish.sft(**settings(world)).folder == first.folder
    assert burnish.sft(**settings(world), fresh=True).folder.name == "sft-3"


def test_rewards_are_functions_beside_names(world):
    def long_enough(answer):
        return 1.0 if len(answer.text) > 3 else 0.0

    given = {"model": str(world / "model"), "data": str(world / "math.jsonl")}
    shape = {"responses_per_prompt": 2, "groups_per_step": 2, "max_new_tokens": 4, "max_steps": 1}
    rewards = [long_enough, {"name": number_of_letters, "weight": 0.1}, "number"]
    result = burnish.rl(**given, **shape, reward=rewards, max_resamples=1, output="rl")
    assert len(metric(result, "rollout/reward")) == 1
    assert {"rollout/reward/long_enough", "rollout/reward/number_of_letters"} <= {
        name for line in (result.folder / "metrics.jsonl").read_text().splitlines() for name in json.loads(line)
    }


def test_a_function_that_captures_is_told_and_not_resumed(world):
    def loss_of(factor):
        def scaled(scores, microbatch):
            total = -factor * (microbatch.weights * scores.logprob).sum()
            return LossOutput({"scaled": LossTerm(total, Denominator.WEIGHT)})

        return scaled

    result = burnish.sft(**settings(world, output="run", loss=loss_of(3)))
    assert "scaled captures variables" in (result.folder / "log.txt").read_text()
    with pytest.raises(RunError, match="started with other functions"):
        burnish.sft(**settings(world, output="run", loss=loss_of(3)))


def test_a_model_in_memory_is_the_model_of_the_folder(world):
    model = AutoModelForCausalLM.from_pretrained(world / "model")
    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    memory = burnish.sft(**settings(world, model=model, tokenizer=tokenizer, output="memory"))
    folder = burnish.sft(**settings(world, output="folder"))
    same_weights(memory.folder / "model", folder.folder / "model")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert burnish.sft(**settings(world, model=(model, tokenizer), output="memory")).again
    assert len(list(Path("cache/models").iterdir())) == 1


@pytest.mark.parametrize(
    ("model", "words"), [(3, "object of the class int"), (torch.nn.Linear(2, 2), "object of the class Linear")]
)
def test_what_is_no_model_is_refused(world, model, words):
    with pytest.raises(ModelError, match=words):
        burnish.sft(**settings(world, model=model))


def test_a_model_without_its_tokenizer_is_refused(world):
    with pytest.raises(ModelError, match="tokenizer=tokenizer"):
        burnish.sft(**settings(world, model=AutoModelForCausalLM.from_pretrained(world / "model")))


def test_a_recipe_is_a_mapping(world):
    stage = {key: value for key, value in settings(world, loss=doubled).items() if key != "model"}
    recipe = {"model": str(world / "model"), "stages": [{"sft": stage}, {"sft": {**stage, "max_steps": 1}}]}
    result = burnish.run(recipe, "sft.learning_rate=1e-3", output="two")
    assert result.steps == 3
    assert burnish.run(recipe, "sft.learning_rate=1e-3", output="two").again
    assert recipe["stages"][0]["sft"] == stage, "the mapping of the caller is unchanged"


def test_a_result_is_the_model_of_the_next_stage(world):
    first = burnish.sft(**settings(world))
    second = burnish.sft(**settings(world, model=first, output="next"))
    assert f"model: {first.folder}" in (second.folder / "recipe.yaml").read_text()


def test_a_mistyped_setting_is_answered(world):
    with pytest.raises(RecipeError, match="did you mean learning_rate"):
        burnish.sft(**settings(world, learning_rat=1))


def test_a_script_with_its_own_reward_and_loss(world, tmp_path):
    """Without `if __name__ == "__main__"`: workers do not run the script. From the command line its recipe is refused
    with the reason, and with that line it is repeated."""
    script = tmp_path / "mine.py"
    text = textwrap.dedent(f"""
        import burnish

        def length(answer):
            return float(len(answer.text))

        BELOW
            burnish.rl(
                model="{world}/model", data="{world}/math.jsonl", reward=length,
                responses_per_prompt=2, groups_per_step=2, max_new_tokens=4, max_steps=1, output="run",
            )
    """)
    script.write_text(text.replace("BELOW", "if True:"))
    subprocess.run([sys.executable, script], check=True, cwd=tmp_path)
    command = [sys.executable, "-m", "burnish", "run", "run/recipe.yaml", "--output"]
    refused = subprocess.run([*command, "again"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert '`if __name__ == "__main__":`' in refused.stderr
    script.write_text(text.replace("BELOW", 'if __name__ == "__main__":'))
    subprocess.run([*command, "again"], check=True, cwd=tmp_path, capture_output=True)
    same_weights(tmp_path / "run" / "model", tmp_path / "again" / "model")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: burnish.sft(model="m", train_dataset=[]), "here it is data"),
        (lambda: burnish.rl(model="m", data="d", reward_funcs=[len]), "here it is reward"),
        (lambda: burnish.run({"model": "m", "stages": []}, learning_rate=1.0), "as an argument after the recipe"),
        (lambda: burnish.sft(model="m", data="d", on_step=3), "on_step is a function of one argument"),
        (lambda: burnish.sft(model="m", data="d", args=None), "keyword arguments here"),
    ],
)
def test_calls_as_in_other_tools_are_answered(call, words):
    with pytest.raises(RecipeError, match=words):
        call()


def test_a_configuration_of_peft_is_translated():
    from peft import LoraConfig

    with pytest.raises(RecipeError, match="'kind': 'lora', 'rank': 4, 'alpha': 8"):
        burnish.sft(model="m", data="d", adapter=LoraConfig(r=4, lora_alpha=8))


def test_changed_rows_in_memory_are_another_run(world):
    rows = [json.loads(line) for line in (world / "train.jsonl").read_text().splitlines()]
    first = burnish.sft(**settings(world, data=rows))
    assert burnish.sft(**settings(world, data=rows)).again
    assert burnish.sft(**settings(world, data=rows[1:])).folder != first.folder


def test_numbers_of_numpy_and_types_of_torch_are_settings(world):
    import numpy as np

    result = burnish.sft(**settings(world, max_steps=np.int64(1), learning_rate=np.float64(1e-3), dtype=torch.float32))
    assert result.steps == 1
