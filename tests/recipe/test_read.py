"""Recipes: layers, origins, and every kind of mistake with its message."""

from __future__ import annotations

import pytest

from burnish.config.text import parse_yaml
from burnish.errors import RecipeError
from burnish.recipe.read import read_recipe, stage_recipe
from burnish.settings.resolved import Resolved

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
    origins = read_recipe(
        write(tmp_path), ["learning_rate=3e-4", "sft.optimizer.max_grad_norm=0.5", "adapter.alpha=16"]
    )
    settings = origins.recipe.stages[0].settings
    assert (settings.learning_rate, settings.optimizer.max_grad_norm) == (3e-4, 0.5)
    assert (origins.recipe.adapter.rank, origins.recipe.adapter.alpha) == (8, 16)
    assert origins.recipe.output == "runs/mine"
    lines = {
        line.strip()
        for line in origins.text({"stages.0.sft.max_length": Resolved(77, "positions of the model")}).splitlines()
    }
    assert "rank: 8  # mine.yaml" in lines
    assert "alpha: 16.0  # command line" in lines
    assert "learning_rate: 0.0003  # command line" in lines
    assert "epochs: null  # default" in lines
    assert "max_length: 77  # positions of the model" in lines


def test_the_resolved_recipe_is_a_recipe(tmp_path):
    """What is written into the run folder can be run again, and resolves to itself."""
    first = read_recipe(write(tmp_path), ["optimizer.betas=[0.8, 0.9]"])
    again = read_recipe(write(tmp_path, first.text({})))
    assert again.recipe == first.recipe
    assert parse_yaml(again.text({}), "") == parse_yaml(first.text({}), "")


def test_a_kind_alone_stands_for_its_group(tmp_path):
    """Further keys go beside it, whichever is written first, and what is written keeps its origin."""
    path = write(
        tmp_path, RECIPE.replace("learning_rate", "optimizer: lion, schedule: {warmup_ratio: 0.1}, learning_rate")
    )
    origins = read_recipe(path, ["optimizer.weight_decay=0.1", "schedule=linear"])
    settings = origins.recipe.stages[0].settings
    assert (settings.optimizer.kind, settings.optimizer.weight_decay) == ("lion", 0.1)
    assert (settings.schedule.kind, settings.schedule.warmup_ratio) == ("linear", 0.1)
    lines = {line.strip() for line in origins.text({}).splitlines()}
    assert {"kind: lion  # mine.yaml", "weight_decay: 0.1  # command line"} <= lines
    assert {"kind: linear  # command line", "warmup_ratio: 0.1  # mine.yaml"} <= lines
    given = {"model": "m", "data": "d", "optimizer": "lion", "optimizer.weight_decay": 0.1}
    assert stage_recipe("sft", given).recipe.stages[0].settings.optimizer == settings.optimizer


def test_options_are_those_of_the_loss(tmp_path):
    def options(*overrides: str) -> object:
        return stage_recipe("sft", {"model": "m", "data": "d"}, overrides).recipe.stages[0].settings.loss_options

    assert options("loss_options.z_loss=0.1").z_loss == 0.1
    assert options("loss=mine.py:Loss") == {}
    assert options("loss=mine.py:Loss", "loss_options={z_loss: much, share: 1}") == {"z_loss": "much", "share": 1}
    with pytest.raises(RecipeError, match=r"loss_options\.z_loss: 'much'"):
        options("loss_options.z_loss=much")
    own = stage_recipe("sft", {"model": "m", "data": "d", "loss": "mine.py:Loss"})
    assert read_recipe(write(tmp_path, own.text({}))).recipe == own.recipe


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
    """`optimizer.max_grad_norm=None` turns clipping off; it is not the same as not saying anything."""
    files = {"model": "m", "data": "d"}
    assert (
        stage_recipe("sft", {**files, "optimizer.max_grad_norm": None})
        .recipe.stages[0]
        .settings.optimizer.max_grad_norm
        is None
    )
    assert stage_recipe("sft", files).recipe.stages[0].settings.optimizer.max_grad_norm == 1.0


def test_the_tokens_that_a_stage_adds():
    def tokens(*overrides: str) -> tuple[str, ...]:
        return stage_recipe("sft", {"model": "m", "data": "d"}, overrides).recipe.stages[0].settings.tokens_to_add

    assert tokens() == tokens("chat_template=chatml") == ()
    assert tokens("chat_template=chatml", "add_tokens=template") == ("<|im_start|>", "<|im_end|>")
    assert tokens("add_tokens=['<|turn|>', '<|/turn|>']") == ("<|turn|>", "<|/turn|>")


def test_identity_has_what_changes_the_result_and_nothing_else(tmp_path):
    base = read_recipe(write(tmp_path)).identity()
    for override in ("log_every=3", "dry_run=true", "checkpoints.keep_last=9", "output=elsewhere", "trackers=[wandb]"):
        assert read_recipe(write(tmp_path), [override]).identity() == base
    loss = ["loss=mine.py:Loss", "loss_options.output=1"]  # no output of the recipe
    assert read_recipe(write(tmp_path), loss).identity() != read_recipe(write(tmp_path), loss[:1]).identity()
    for override in ("seed=3", "learning_rate=1", "adapter.rank=2", "tokens_per_microbatch=100", "data=other"):
        assert read_recipe(write(tmp_path), [override]).identity() != base


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learning_rat=1", ["unknown key", "did you mean learning_rate?"]),
        ("epoch=1", ["unknown key", "did you mean epochs?"]),
        ("adaptor.rank=1", ["unknown key", "adapter"]),
        ("adapter.rnk=1", ["unknown key adapter.rnk", "did you mean adapter.rank?"]),
        ("zzz=1", ["unknown key zzz", "burnish keys"]),
        ("num_train_epochs=1", ["here it is epochs"]),
        ("report_to=wandb", ["here it is trackers"]),
        ("trackers=[mlflow]", ["trackers", "tensorboard", "mlflow"]),
        ("per_device_train_batch_size=1", ["sequences_per_step"]),
        ("gradient_accumulation_steps=4", ["sequences_per_step"]),
        ("lora_r=8", ["adapter.rank"]),
        ("max_seq_length=8", ["max_length"]),
        ("sft.lr=1", ["here it is learning_rate"]),
        ("packing=true", ["always on"]),
        ("epochs=many", ["epochs: 'many'", "must be a number"]),
        ("epochs=0", ["greater than 0"]),
        ("seed=1.5", ["seed: 1.5", "must be an integer"]),
        ("seed=-1", ["greater than or equal to 0"]),
        ("optimizer=sdg", ["'sdg'", "adamw_8bit"]),
        ("optimizer=paged_adamw_8bit", ["here it is adamw_8bit_paged"]),
        ("schedule=cosine_with_min_lr", ["here it is cosine, with schedule.min_lr_ratio"]),
        ("optimizer.momentum=0.9", ["optimizer.momentum has no effect with optimizer.kind: adamw", "betas, eps"]),
        ("schedule.power=2.0", ["schedule.power has no effect with schedule.kind: cosine", "polynomial"]),
        ("neftune_noise_alpha=5", ["here it is neftune_alpha"]),
        ("load_best_model_at_end=true", ["here it is checkpoints.keep_best"]),
        ("checkpoints.keep_best=true", ["checkpoints.keep_best needs eval_data"]),
        ("early_stopping.patience=2", ["early_stopping needs eval_every"]),
        ("optimizer.no_weight_decay=[embed]", ["no effect without optimizer.weight_decay"]),
        ("optimizer.lr_multipliers={'(': 0.1}", ["not a regular expression"]),
        ("schedule=stairs", ["'stairs'", "cosine"]),
        ("overlong=shrug", ["'shrug'", "drop"]),
        ("deterministic=maybe", ["'maybe'", "boolean"]),
        ("optimizer.betas=[0.9]", ["betas"]),
        ("optimizer.betas=[0.9, 1.5]", ["betas", "less than 1"]),
        ("schedule.warmup_ratio=30", ["schedule.warmup_ratio", "less than or equal to 1"]),
        ("max_length=12.5", ["max_length", "integer"]),
        ("adapter.kind=qlorra", ["'qlora'", "'lora'"]),
        ("adapter.targets=some(", ["not a regular expression"]),
        ("adapter.targets=[]", ["adapter.targets"]),
        ("adapter=lorra", ["adapter.kind: 'lorra'"]),
        ("schedule.decay_ratio=0.3", ["schedule.decay_ratio has no effect with schedule.kind: cosine"]),
        ("eval_every=3", ["eval_every needs eval_data"]),
        ("learning_rate.x=1", ["learning_rate is 0.0001"]),
        ("stages.0.sft.data=[1]", ["stages.0.sft.data", "string"]),
        ("stages=[]", ["stages is empty", "at least one"]),
        ("model=", ["model", "string"]),
        ("loss_options.label_smoothing=1", ["label_smoothing", "less than 1"]),
        ("dtype=float8", ["'float8'", "bfloat16"]),
        ("adapter.dropout=1", ["adapter.dropout", "less than 1"]),
        ("optimizer.betas=[1.0, 0.9]", ["betas", "less than 1"]),
        ("epochs=.inf", ["epochs", "finite"]),
        ("learning_rate=.nan", ["learning_rate", "finite"]),
        ("seed=99999999999999999999", ["seed"]),
        ("stages.5.sft.epochs=2", ["no entry 5"]),
        ("stages.x.sft.epochs=2", ["no entry x"]),
        ("device=tpu", ["'tpu'", "cuda"]),
        ("add_tokens=templte", ["add_tokens", "'template'"]),
        ("add_tokens=[]", ["add_tokens"]),
        ("add_tokens=template", ["chat_template is None", "chatml, llama3, gemma"]),
        ("add_tokens=['<a>', '<b>', '<a>']", ["names a token twice"]),
        ("add_tokens=['<a>', ' <b>']", ["whitespace"]),
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
        (["schedule=wsd", "schedule.warmup_ratio=0.5", "schedule.decay_ratio=0.6"], ["at most 1"]),
        (["max_length=100", "tokens_per_microbatch=50"], ["cannot be split"]),
        (["add_tokens=template", "chat_template=plain"], ["chat_template is plain", "list the tokens"]),
        (["adapter.kind=full"], ["adapter.rank has no effect with adapter.kind: full"]),
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
        ("model: x\nstages:\n  - dpo: {data: a}\n", ["stage dpo", "stage prefer with loss: dpo"]),
        ("model: x\nstages: {sft: {data: a}}\n", ["stages"]),
        ("model: x\nbase_model: y\nstages:\n  - sft: {data: a}\n", ["base_model", "model"]),
        ("model: x\nstages:\n  - sft\n", ["stages.0: 'sft'"]),
    ],
)
def test_mistakes_in_files(tmp_path, text, words):
    with pytest.raises(RecipeError) as error:
        read_recipe(write(tmp_path, text))
    assert all(word in str(error.value) for word in words), str(error.value)
