"""What a trained folder is worth to somebody who has never heard of Burnish: transformers (and peft) alone."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer


def plain_loss(model_folder: Path, rows: Path, max_length: int | None = None, *, end_token: str | None = None) -> float:
    """Mean negative log-likelihood of the answers' tokens (end token included), one unpadded forward a row.

    Rows longer than `max_length` are left out. The end token is the tokenizer's, unless another is given.
    """
    is_adapter = (model_folder / "adapter_config.json").exists()
    kind = AutoPeftModelForCausalLM if is_adapter else AutoModelForCausalLM
    model, tokenizer = kind.from_pretrained(model_folder).eval(), AutoTokenizer.from_pretrained(model_folder)
    end = tokenizer.eos_token_id if end_token is None else tokenizer.convert_tokens_to_ids(end_token)
    total, count = 0.0, 0
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        turns = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
        before = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        encoded = tokenizer(
            tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False, return_offsets_mapping=True
        )
        tokens = encoded["input_ids"]
        size = len(tokens) - tokens[::-1].index(end)
        if max_length is not None and size > max_length:
            continue
        learned = torch.tensor([end > len(before) for _, end in encoded["offset_mapping"][:size]])
        ids = torch.tensor(tokens[:size])
        with torch.no_grad():
            logprobs = model(input_ids=ids[None]).logits[0].float().log_softmax(-1)
        picked = logprobs[:-1].gather(1, ids[1:, None])[:, 0][learned[1:]]
        total, count = total - float(picked.sum(dtype=torch.float64)), count + len(picked)
    return total / count
