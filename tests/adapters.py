"""Tiny models and peft adapters in folders, as other tools would leave them there."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.watch.quiet import quiet_transformers


def write_base(folder: Path, dtype: torch.dtype = torch.float32, *, tied: bool = True) -> Path:
    """A model of random weights, large enough that every part of it matters to its log-probabilities."""
    model = make_model(3, hidden_size=32, layers=2)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.15, generator=generator)
    with quiet_transformers():
        model.to(dtype).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def write_adapter(
    folder: Path, base: Path, *, scale: float = 0.1, tokens: list[str] | None = None, **lora: object
) -> Path:
    """An adapter with random weights on a model; with `tokens`, the vocabulary grows and their rows are trained."""
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    options: dict[str, object] = {"target_modules": "all-linear", **lora}
    if tokens:
        before = len(tokenizer)
        tokenizer.add_tokens(tokens)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        options["trainable_token_indices"] = list(range(before, len(tokenizer)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted: PeftModel = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **options))
        generator = torch.Generator().manual_seed(7)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data.add_(torch.randn(parameter.shape, generator=generator) * scale)
        with quiet_transformers():
            adapted.save_pretrained(folder)
    if tokens:
        tokenizer.save_pretrained(folder)
    return folder


def write_rows_of(folder: Path, *rows: dict[str, object]) -> Path:
    """The rows as a .jsonl file with a name of its own."""
    path = folder / f"rows-{len(list(folder.iterdir()))}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def be_offline(patch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the hub. (The environment variable is read only once, on import.)"""
    patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()


def change_json(path: Path, **values: object) -> None:
    """Changes keys of a JSON file; None deletes one."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    changed = {key: value for key, value in {**found, **values}.items() if value is not None}
    path.write_text(json.dumps(changed), encoding="utf-8")
