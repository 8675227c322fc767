"""A model folder is proved before anything else (kind G)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .models import LFS_POINTER, change_json
from .trial import Ended, Trial, case

ROWS = [{"question": f"{number}+1?", "answer": str(number + 1)} for number in range(4)]
TO_DO = "git lfs pull"


def commands(trial: Trial, model: str) -> list[Ended]:
    """The commands that begin with a model, on four rows."""
    data = trial.write("rows.jsonl", *ROWS)
    return [
        trial.burnish("sft", "--model", model, "--data", data, "--output", "run", "max_steps=1"),
        trial.burnish("eval", model, "--data", data, "match=null"),
        trial.burnish("generate", "--model", model, "--data", data, "--output", "out.jsonl", "max_new_tokens=2"),
    ]


def damaged(trial: Trial, name: str, damage: Callable[[Path], None]) -> str:
    """A copy of the model `chatml` of this case's own, with some damage."""
    target = trial.folder / name
    shutil.copytree(trial.model("chatml"), target)
    damage(target)
    return str(target)


@case("G-10-tokenizer-missing")
def a_tokenizer_without_vocabulary(trial: Trial) -> None:
    for ended in commands(trial, trial.model("no_tokenizer")):
        ended.refused("tokenizer", "does not give", "tokenizer.json")


@case("G-11-tokenizer-larger")
def a_tokenizer_with_more_tokens_than_rows(trial: Trial) -> None:
    for ended in commands(trial, trial.model("small_embedding")):
        ended.refused("258", "100 rows")


@case("G-23-nan-weight")
def a_weight_that_is_nan(trial: Trial) -> None:
    for ended in commands(trial, trial.model("nan_weight")):
        ended.refused("model.layers.0.mlp.up_proj.weight", "not finite")


@case("G-24-lfs-pointer")
def weights_and_data_that_are_pointers(trial: Trial) -> None:
    for ended in commands(trial, trial.model("lfs_pointer")):
        ended.refused("model.safetensors is a Git LFS pointer", TO_DO)
    for name in ("rows.parquet", "rows.arrow", "rows.csv", "rows.json", "rows.jsonl", "rows.txt"):
        data = trial.write(name, LFS_POINTER)
        trial.burnish("data", "view", data, "--model", trial.model("chatml")).refused(
            f"{name} is a Git LFS pointer", TO_DO
        )


@case("G-neighbor-other-pointers")
def other_files_of_a_model_that_are_pointers(trial: Trial) -> None:
    for name in ("tokenizer.json", "config.json", "tokenizer_config.json", "generation_config.json"):
        model = damaged(trial, name.replace(".", "_"), partial(_overwrite, name=name, text=LFS_POINTER))
        for ended in commands(trial, model):
            ended.refused(f"{name} is a Git LFS pointer", TO_DO)


@case("G-neighbor-hidden-pointers")
def pointers_behind_a_pattern_a_folder_and_compression(trial: Trial) -> None:
    model = trial.model("chatml")
    for number, name in enumerate(("rows.jsonl.gz", "rows.jsonl.zst", "train/rows.parquet")):
        path = trial.write(f"{number}/{name}", LFS_POINTER)
        data = str(Path(path).parent) if "/" in name else path
        trial.burnish("data", "view", data, "--model", model).refused("is a Git LFS pointer", TO_DO)


@case("G-neighbor-broken-files")
def a_model_folder_with_broken_files(trial: Trial) -> None:
    for name, damage, *parts in [
        ("no_config", partial(_delete, name="config.json"), "config.json"),
        ("broken_config", partial(_overwrite, name="config.json", text='{"model_type": "qwen2"'), "config.json"),
        ("list_config", partial(_overwrite, name="config.json", text="[]"), "config.json"),
        ("broken_tokenizer", partial(_overwrite, name="tokenizer.json", text='{"version": '), "tokenizer.json"),
        ("cut_weights", _cut_weights, "model.safetensors", "cut off"),
        ("lost_shard", _lost_shard, "model-00002-of-00002.safetensors"),
    ]:
        for ended in commands(trial, damaged(trial, name, damage)):
            ended.refused(*parts)


@case("G-neighbor-infinite-weight")
def weights_that_are_infinite_in_other_places(trial: Trial) -> None:
    for name in ("lm_head.weight", "model.norm.weight", "model.embed_tokens.weight"):
        model = damaged(trial, name.replace(".", "_"), partial(_spoil_weight, name=name))
        for ended in commands(trial, model):
            ended.refused(name, "not finite")


@case("G-neighbor-added-token-without-row")
def an_added_token_without_a_row(trial: Trial) -> None:
    for special in (False, True):
        model = damaged(trial, f"added_{special}", partial(_add_token, special=special))
        for ended in commands(trial, model):
            ended.refused("<|extra|>", "259", "259 rows")


@case("G-neighbor-end-token-outside")
def an_end_token_outside_the_vocabulary(trial: Trial) -> None:
    damage: Callable[[Path], None] = lambda folder: change_json(  # noqa: E731
        folder / "generation_config.json", eos_token_id=[258, 151_645]
    )
    for ended in commands(trial, damaged(trial, "model", damage)):
        ended.refused("151645", "generation_config.json")


@case("G-neighbor-adapters")
def adapters_that_are_damaged(trial: Trial) -> None:
    data = trial.write("rows.jsonl", *ROWS)
    trial.burnish(
        "sft", "--model", trial.model("chatml"), "--data", data, "--output", "first", "max_steps=1", "adapter.kind=lora"
    ).succeeded()
    for name, damage, *parts in [
        ("nan", _spoil_adapter, "adapter_model.safetensors", "not finite"),
        ("pointer", partial(_overwrite, name="adapter_model.safetensors", text=LFS_POINTER), "Git LFS pointer", TO_DO),
        ("config_pointer", partial(_overwrite, name="adapter_config.json", text=LFS_POINTER), "Git LFS pointer", TO_DO),
        ("broken", partial(_overwrite, name="adapter_config.json", text='{"r": 16'), "adapter_config.json"),
        ("other_base", partial(_other_base, base=trial.model("llama3")), "fit"),
    ]:
        target = trial.folder / name
        shutil.copytree(trial.folder / "first" / "model", target)
        damage(target)
        trial.burnish("eval", str(target), "--data", data, "match=null").refused(*parts)
        words = ("--data", data, "--output", f"{name}-run", "max_steps=1", "adapter.kind=lora")
        trial.burnish("sft", "--model", str(target), *words).refused(*parts)


@case("G-neighbor-computed-nan")
def what_was_computed_is_not_finite(trial: Trial) -> None:
    """All weights are finite, and their products are not."""
    model = damaged(trial, "model", _overflowing)
    data = trial.write("rows.jsonl", *ROWS)
    trial.burnish("eval", model, "--data", data, "match=null").refused("not finite")
    trial.burnish("generate", "--model", model, "--data", data, "--output", "out.jsonl", "max_new_tokens=2").refused(
        "not finite"
    )


def _overwrite(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def _delete(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _lost_shard(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="60KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    [*_, last] = sorted(folder.glob("model-*.safetensors"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    last.unlink()
    weights = {name: "model-00002-of-00002.safetensors" if file == last.name else file
               for name, file in index["weight_map"].items()}  # fmt: skip
    (folder / "model.safetensors.index.json").write_text(json.dumps(index | {"weight_map": weights}))


def _change_weights(path: Path, **changes: Callable[..., object]) -> None:
    """Changes tensors of a safetensors file, by the endings of their names."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    for ending, change in changes.items():
        for name in [name for name in tensors if name.endswith(ending.replace("__", "."))]:
            change(tensors[name])
    save_file(tensors, path, metadata={"format": "pt"})


def _spoil_weight(folder: Path, name: str) -> None:
    def spoil(tensor: object) -> None:
        tensor.view(-1)[7] = float("inf")  # type: ignore[attr-defined]

    _change_weights(folder / "model.safetensors", **{name: spoil})


def _spoil_adapter(folder: Path) -> None:
    def spoil(tensor: object) -> None:
        tensor.view(-1)[7] = float("nan")  # type: ignore[attr-defined]

    _change_weights(folder / "adapter_model.safetensors", **{"layers.1.self_attn.q_proj.lora_A.weight": spoil})


def _other_base(folder: Path, base: str) -> None:
    """Another base whose hidden size is not that of the adapter."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    other = folder.with_name(folder.name + "-base")
    settings = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=259, eos_token_id=258, bos_token_id=None, pad_token_id=256, **settings)
    AutoModelForCausalLM.from_config(config).save_pretrained(other)
    AutoTokenizer.from_pretrained(Path(base).with_name("chatml")).save_pretrained(other)
    change_json(folder / "adapter_config.json", base_model_name_or_path=str(other))


def _overflowing(folder: Path) -> None:
    def grow(tensor: object) -> None:
        tensor.fill_(1e38)  # type: ignore[attr-defined]

    _change_weights(folder / "model.safetensors", model__norm__weight=grow, lm_head__weight=grow)


def _add_token(folder: Path, special: bool) -> None:
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken("<|extra|>", special=special, normalized=False)], special_tokens=special)
    tokenizer.save_pretrained(folder)
