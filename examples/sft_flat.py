"""Supervised fine-tuning in one flat file: the computation of `burnish sft`, without Burnish.

Needs only torch, numpy and transformers. One row at a time, plain forwards, full logits: slow, and easy to check. A
test holds its loss curve equal to the library's on the same rows.

    python examples/sft_flat.py MODEL_FOLDER ROWS.jsonl --steps 20 --learning-rate 1e-3

Every line of ROWS.jsonl has a question and an answer; the tokenizer has a chat template that ends an assistant's turn
with its end token.
"""

import argparse
import json
import math

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser(description="Supervised fine-tuning in one flat file.")
parser.add_argument("model")
parser.add_argument("rows")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--rows-per-step", type=int, default=32)
parser.add_argument("--learning-rate", type=float, default=2e-5)
parser.add_argument("--warmup", type=float, default=0.03, help="share of the steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

model = AutoModelForCausalLM.from_pretrained(arguments.model).train()
tokenizer = AutoTokenizer.from_pretrained(arguments.model)


def tokenize(row: dict) -> tuple[list[int], list[bool]]:
    """Tokens of the conversation, and a mask of those that the assistant wrote (its end token included)."""
    turns = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
    before = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
    last = len(tokens) - 1 - tokens[::-1].index(tokenizer.eos_token_id)
    return tokens[: last + 1], [start >= len(before) for start, _ in offsets[: last + 1]]


with open(arguments.rows, encoding="utf-8") as file:
    rows = [tokenize(json.loads(line)) for line in file]

matrices = [p for p in model.parameters() if p.ndim >= 2]
vectors = [p for p in model.parameters() if p.ndim < 2]
optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors}], weight_decay=0.0)
warmup = round(arguments.warmup * arguments.steps)


def learning_rate(step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return arguments.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, arguments.steps - warmup)
    return arguments.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


per_step = min(arguments.rows_per_step, len(rows))
order: list[int] = []
"""Row numbers: shuffled epochs one after the other; in a step where two epochs meet, no row is there twice."""
for epoch in range(math.ceil(arguments.steps * per_step / len(rows))):
    shuffled = np.random.default_rng([arguments.seed, epoch]).permutation(len(rows)).tolist()
    step_rows = order[len(order) // per_step * per_step :]
    new_rows = [row for row in shuffled if row not in step_rows][: per_step - len(step_rows)]
    order += new_rows + [row for row in shuffled if row not in new_rows]

for step in range(arguments.steps):
    batch = [rows[row] for row in order[step * per_step : (step + 1) * per_step]]
    trained = sum(sum(mask) for _, mask in batch)
    loss = 0.0
    for tokens, mask in batch:
        ids = torch.tensor(tokens)
        logits = model(ids[None], use_cache=False).logits[0].float()
        logprobs = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        share = -(logprobs * torch.tensor(mask[1:])).sum() / trained
        share.backward()
        loss += share.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step)
    optimizer.step()
    optimizer.zero_grad()
    print(json.dumps({"step": step + 1, "loss": loss}), flush=True)
