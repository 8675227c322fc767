"""Recipes: layers, origins, and every kind of mistake with its message."""

from __future__ import annotations

import pytest

from burnish.config.text import parse_yaml
from burnish.errors import RecipeError
from burnish.recipe.read import read_recipe, stage_recipe

RECIPE = """
model: some/model
adapter: {kind: lora, rank: 8}
stages:
  - sft: {data: rows.jsonl, learning_rate: 1e-4}
"""


def write(tmp_path, text: str = RECIPE):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_layers_and_origins(tmp_path):
    origins = read_recipe(write(tmp_path), ["learning_rate=3e-4", "sft.clip=0.5", "adapter.alpha=16"])
    settings = origins.recipe.stages[0].sft
    assert (settings.learning_rate, settings.clip) == (3e-4, 0.5)
    assert (origins.recipe.adapter.rank, origins.recipe.adapter.alpha) == (8, 16)
    assert origins.recipe.output == "runs/mine"
    lines = {line.strip() for line in origins.text({"stages.0.sft.max_length": 77}).splitlines()}
    assert "rank: 8  # mine.yaml" in lines
    assert "alpha: 16.0  # command line" in lines
    assert "learning_rate: 0.0003  # command line" in lines
    assert "epochs: null  # default" in lines
    assert "max_length: 77  # derived from model and data" in lines


def test_the_resolved_recipe_is_a_recipe(tmp_path):
    """What is written into the run folder can be run again, and resolves to itself."""
    first = read_recipe(write(tmp_path), ["betas=[0.8, 0.9]"])
    again = read_recipe(write(tmp_path, first.text({})))
    assert again.recipe == first.recipe
    assert parse_yaml(again.text({}), "") == parse_yaml(first.text({}), "")


def test_flags_and_files_make_the_same_recipe(tmp_path):
    file = read_recipe(write(tmp_path), ["output=here"])
    flags = stage_recipe(
        "sft",
        {"model": "some/model", "data": "rows.jsonl"},
        ["adapter.kind=lora", "adapter.rank=8", "learning_rate=1e-4"],
        "here",
    )
    assert flags.recipe == file.recipe


def test_none_is_a_value():
    """`clip=None` turns clipping off; it is not the same as not saying anything."""
    files = {"model": "m", "data": "d"}
    assert stage_recipe("sft", {**files, "clip": None}).recipe.stages[0].sft.clip is None
    assert stage_recipe("sft", files).recipe.stages[0].sft.clip == 1.0


def test_the_tokens_that_a_stage_adds():
    def tokens(*overrides: str) -> tuple[str, ...]:
        return stage_recipe("sft", {"model": "m", "data": "d"}, overrides).recipe.stages[0].sft.tokens_to_add

    assert tokens() == tokens("template=chatml") == ()
    assert tokens("template=chatml", "add_tokens=template") == ("<|im_start|>", "<|im_end|>")
    assert tokens("add_tokens=['<|turn|>', '<|/turn|>']") == ("<|turn|>", "<|/turn|>")


def test_identity_has_what_changes_the_result_and_nothing_else(tmp_path):
    base = read_recipe(write(tmp_path)).identity()
    for override in ("log_every=3", "rehearse=true", "keep_checkpoints=9", "output=elsewhere", "trackers=[wandb]"):
        assert read_recipe(write(tmp_path), [override]).identity() == base
    for override in ("seed=3", "learning_rate=1", "adapter.rank=2", "tokens_per_microbatch=100", "data=other"):
        assert read_recipe(write(tmp_path), [override]).identity() != base


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learning_rat=1", ["unknown key", "learning_rate"]),
        ("epoch=1", ["unknown key", "epochs"]),
        ("adaptor.rank=1", ["unknown key", "adapter"]),
        ("adapter.rnk=1", ["unknown key adapter.rnk", "rank"]),
        ("zzz=1", ["unknown key zzz", "choose from", "learning_rate"]),
        ("num_train_epochs=1", ["here it is epochs"]),
        ("report_to=wandb", ["here it is trackers"]),
        ("trackers=[mlflow]", ["trackers", "tensorboard", "mlflow"]),
        ("per_device_train_batch_size=1", ["sequences_per_step"]),
        ("gradient_accumulation_steps=4", ["sequences_per_step"]),
        ("lora_r=8", ["adapter.rank"]),
        ("max_seq_length=8", ["max_length"]),
        ("sft.lr=1", ["here it is learning_rate"]),
        ("packing=true", ["always on"]),
        ("epochs=many", ["epochs: 'many'", "valid number"]),
        ("epochs=0", ["greater than 0"]),
        ("seed=1.5", ["seed: 1.5", "valid integer"]),
        ("seed=-1", ["greater than or equal to 0"]),
        ("optimizer=sdg", ["'sdg'", "adamw_8bit"]),
        ("optimizer=paged_adamw_8bit", ["here it is adamw_8bit_paged"]),
        ("schedule=cosine_with_min_lr", ["here it is cosine, with final_rate"]),
        ("momentum=0.9", ["momentum has no effect with optimizer: adamw", "betas, eps"]),
        ("power=2.0", ["power has no effect with schedule: cosine", "polynomial"]),
        ("neftune_noise_alpha=5", ["here it is neftune"]),
        ("load_best_model_at_end=true", ["here it is keep_best"]),
        ("keep_best=true", ["keep_best needs eval_data"]),
        ("stop_after.evaluations=2", ["stop_after needs eval_every"]),
        ("no_weight_decay=[embed]", ["no effect without weight_decay"]),
        ("learning_rates={'(': 0.1}", ["no regular expression"]),
        ("schedule=stairs", ["'stairs'", "cosine"]),
        ("overlong=shrug", ["'shrug'", "drop"]),
        ("deterministic=maybe", ["'maybe'", "boolean"]),
        ("betas=[0.9]", ["betas"]),
        ("betas=[0.9, 1.5]", ["betas", "less than 1"]),
        ("warmup=30", ["warmup", "less than or equal to 1"]),
        ("max_length=12.5", ["max_length", "integer"]),
        ("adapter.kind=qlorra", ["'qlora'", "'lora'"]),
        ("adapter.targets=some(", ["no regular expression"]),
        ("adapter.targets=[]", ["adapter.targets"]),
        ("adapter=lora", ["adapter: 'lora'"]),
        ("decay=0.3", ["decay has no effect with schedule: cosine"]),
        ("eval_every=3", ["eval_every needs eval_data"]),
        ("learning_rate.x=1", ["learning_rate is 0.0001"]),
        ("stages.0.sft.data=[1]", ["stages.0.sft.data", "string"]),
        ("stages=[]", ["stages", "at least 1"]),
        ("model=", ["model", "string"]),
        ("label_smoothing=1", ["label_smoothing", "less than 1"]),
        ("dtype=float8", ["'float8'", "bfloat16"]),
        ("adapter.dropout=1", ["adapter.dropout", "less than 1"]),
        ("betas=[1.0, 0.9]", ["betas", "less than 1"]),
        ("epochs=.inf", ["epochs", "finite"]),
        ("learning_rate=.nan", ["learning_rate", "finite"]),
        ("seed=99999999999999999999", ["seed"]),
        ("stages.5.sft.epochs=2", ["no entry 5"]),
        ("stages.x.sft.epochs=2", ["no entry x"]),
        ("device=tpu", ["'tpu'", "cuda"]),
        ("add_tokens=templte", ["add_tokens", "'template'"]),
        ("add_tokens=[]", ["add_tokens"]),
        ("add_tokens=template", ["template is None", "chatml, llama3, gemma"]),
        ("add_tokens=['<a>', '<b>', '<a>']", ["names a token twice"]),
        ("add_tokens=['<a>', ' <b>']", ["white space"]),
        ("add_tokens=['']", ["empty"]),
        ("resize_vocab=true", ["add_tokens"]),
    ],
)
def test_mistakes_in_overrides(tmp_path, override, words):
    with pytest.raises(RecipeError) as error:
        read_recipe(write(tmp_path), [override])
    text = str(error.value)
    assert all(word in text for word in words), text
    assert "rule: " in text
    assert "to do: " in text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["epochs=2", "max_steps=3"], ["epochs and max_steps"]),
        (["schedule=wsd", "warmup=0.5", "decay=0.6"], ["at most 1"]),
        (["max_length=100", "tokens_per_microbatch=50"], ["cannot be split"]),
        (["add_tokens=template", "template=plain"], ["template is plain", "list the tokens"]),
        (["adapter.kind=full"], ["adapter.rank has no effect with kind: full"]),
    ],
)
def test_combinations_that_cannot_work(tmp_path, overrides, words):
    with pytest.raises(RecipeError) as error:
        read_recipe(write(tmp_path), overrides)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages:\n  - sft: {data: a}\n", ["model is missing"]),
        ("model: x\n", ["stages is missing"]),
        ("model: x\nstages:\n  - sft: {}\n", ["stages.0.sft.data is missing"]),
        ("model: x\nstages:\n  - dpo: {data: a}\n", ["unknown key stages.0.dpo", "sft"]),
        ("model: x\nstages: {sft: {data: a}}\n", ["stages"]),
        ("model: x\nbase_model: y\nstages:\n  - sft: {data: a}\n", ["base_model", "model"]),
        ("model: x\nstages:\n  - sft\n", ["stages.0: 'sft'"]),
    ],
)
def test_mistakes_in_files(tmp_path, text, words):
    with pytest.raises(RecipeError) as error:
        read_recipe(write(tmp_path, text))
    assert all(word in str(error.value) for word in words), str(error.value)
