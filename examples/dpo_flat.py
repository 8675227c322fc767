"""Direct preference optimisation in one flat file: what `losses/preference` computes, without Burnish.

Needs torch and transformers alone. One response after another, plain forwards, full logits: slow, and easy to check. A
test holds its losses equal to the library's on the same rows.

    python examples/dpo_flat.py MODEL_FOLDER PAIRS.jsonl --steps 20 --learning-rate 1e-5

PAIRS.jsonl has a question, a chosen and a rejected answer in every line; the tokenizer has a chat template that ends an
assistant's turn with its end token. The reference is the model as it is at the beginning.
"""

import argparse
import copy
import json

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser(description="Direct preference optimisation in one flat file.")
parser.add_argument("model")
parser.add_argument("pairs")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--pairs-per-step", type=int, default=8)
parser.add_argument("--learning-rate", type=float, default=1e-6)
parser.add_argument("--beta", type=float, default=0.1)
arguments = parser.parse_args()

model = AutoModelForCausalLM.from_pretrained(arguments.model).train()
reference = copy.deepcopy(model).eval().requires_grad_(False)
tokenizer = AutoTokenizer.from_pretrained(arguments.model)


def tokenize(question: str, answer: str) -> tuple[list[int], list[bool]]:
    """The whole conversation as tokens, and which of them the assistant writes (its end token included)."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    before = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
    last = len(tokens) - 1 - tokens[::-1].index(tokenizer.eos_token_id)
    return tokens[: last + 1], [start >= len(before) for start, _ in offsets[: last + 1]]


def logprob(of: torch.nn.Module, tokens: list[int], mask: list[bool]) -> torch.Tensor:
    """Log-probability of the answer: a sum over its tokens, nats."""
    ids = torch.tensor(tokens)
    logits = of(ids[None], use_cache=False).logits[0].float()
    picked = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    return (picked * torch.tensor(mask[1:])).sum()


def log_ratio(row: tuple[list[int], list[bool]]) -> torch.Tensor:
    """How much likelier than under the reference, nats."""
    with torch.no_grad():
        expected = logprob(reference, *row)
    return logprob(model, *row) - expected


with open(arguments.pairs, encoding="utf-8") as file:
    lines = [json.loads(line) for line in file]
pairs = [(tokenize(row["question"], row["chosen"]), tokenize(row["question"], row["rejected"])) for row in lines]
optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=0.0)

for step in range(arguments.steps):
    batch = [pairs[(step * arguments.pairs_per_step + k) % len(pairs)] for k in range(arguments.pairs_per_step)]
    loss = margin = 0.0
    for chosen, rejected in batch:
        difference = arguments.beta * (log_ratio(chosen) - log_ratio(rejected))
        share = -logsigmoid(difference) / len(batch)
        share.backward()
        loss += share.item()
        margin += difference.item() / len(batch)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    print(json.dumps({"step": step + 1, "loss": loss, "reward_margin": margin}), flush=True)
