"""Tiny models with random weights and real chat templates, those of the installed trl."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<tool_response>", "</tool_response>")
LLAMA = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>")
PHI = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")


def write_model(folder: Path, name: str) -> Path:
    """Writes a model of `MODELS` into a folder of its name, unless it is there; returns that folder."""
    target = folder / name
    if not target.exists():
        MODELS[name](target)
    return target


def write(
    target: Path,
    *,
    template: str,
    special: tuple[str, ...],
    end: str,
    begin: str | None = None,
    marks: tuple[str, ...] = (),
    rows: int | None = None,
    llama: bool = False,
) -> None:
    """Writes a model with a token for every byte.

    Args:
        target: folder.
        template: chat template, or the name of one of trl's.
        special: special tokens.
        end: the one that ends a turn.
        begin: the one that begins a text; None: none.
        marks: added tokens that are not special.
        rows: rows of the embedding; None: as many as tokens.
        llama: Llama instead of Qwen 2.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(special))
    core.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    known = TEMPLATES / f"{template}.jinja"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=end, bos_token=begin, pad_token=special[0], model_max_length=1024
    )
    tokenizer.chat_template = template if "{" in template else known.read_text(encoding="utf-8")
    tokenizer.save_pretrained(target)
    settings = {
        "vocab_size": rows or core.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "eos_token_id": core.token_to_id(end),
        "bos_token_id": None if begin is None else core.token_to_id(begin),
        "pad_token_id": core.token_to_id(special[0]) if rows is None else None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**settings)) if llama else Qwen2ForCausalLM(Qwen2Config(**settings))
    model.save_pretrained(target)


def changed(target: Path, base: str, change: Callable[[Path], None]) -> None:
    """Writes a copy of another model with something changed in its folder."""
    shutil.copytree(write_model(target.parent, base), target)
    change(target)


def change_json(path: Path, *, without: tuple[str, ...] = (), **values: object) -> None:
    """Changes keys of a JSON file."""
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in without}
    path.write_text(json.dumps(kept | values, indent=1))


def _without_tokenizer(target: Path) -> None:
    (target / "tokenizer.json").unlink()


def _with_nan(target: Path) -> None:
    model = Qwen2ForCausalLM.from_pretrained(target)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 5] = float("nan")
    model.save_pretrained(target)


LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"


def _with_pointer(target: Path) -> None:
    (target / "model.safetensors").write_text(LFS_POINTER)


def _before_transformers_5(target: Path) -> None:
    """Configuration and tokenizer in the form that hubs have had before transformers 5."""
    change_json(
        target / "config.json", without=("rope_parameters", "dtype"), rope_theta=1_000_000.0, torch_dtype="float32"
    )
    change_json(target / "tokenizer_config.json", without=("backend",), tokenizer_class="Qwen2Tokenizer")


_qwen = partial(write, special=IM, end=IM[2], marks=MARKS)
MODELS: Mapping[str, Callable[[Path], None]] = {
    "chatml": partial(write, template=CHATML, special=IM, end=IM[2]),
    "qwen25": partial(_qwen, template="qwen2_5"),
    "qwen3": partial(_qwen, template="qwen3"),
    "llama3": partial(write, template="llama3", special=LLAMA, end=LLAMA[4], begin=LLAMA[0], llama=True),
    "phi35": partial(write, template="phi3_5", special=PHI, end=PHI[0], begin=PHI[0], llama=True),
    "deepseek": partial(write, template="deepseekv3", special=DEEPSEEK, end=DEEPSEEK[1], begin=DEEPSEEK[0], llama=True),
    "small_embedding": partial(write, template=CHATML, special=IM, end=IM[2], rows=100),
    "no_tokenizer": partial(changed, base="chatml", change=_without_tokenizer),
    "nan_weight": partial(changed, base="chatml", change=_with_nan),
    "lfs_pointer": partial(changed, base="chatml", change=_with_pointer),
    "rope_old": partial(changed, base="chatml", change=_before_transformers_5),
}
"""Name → function that writes the model into a folder."""
