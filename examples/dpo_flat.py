"""Direct preference optimization (DPO) in one flat file: the computation of `losses/preference`, without Burnish.

Needs only torch and transformers. One response at a time, plain forwards, full logits: slow, and easy to check. A test
holds its losses equal to the library's on the same rows.

    python examples/dpo_flat.py MODEL_FOLDER PAIRS.jsonl --steps 20 --learning-rate 1e-5

Every line of PAIRS.jsonl has a question, a chosen and a rejected response; the tokenizer has a chat template that ends
an assistant's turn with its end token. The reference model is a copy of the
initial model.
"""

import argparse
import copy
import json

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser(description="Direct preference optimization in one flat file.")
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
    """Tokens of the conversation, and a mask of those that the assistant wrote (its end token included)."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    before = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
    last = len(tokens) - 1 - tokens[::-1].index(tokenizer.eos_token_id)
    return tokens[: last + 1], [start >= len(before) for start, _ in offsets[: last + 1]]


def logprob(network: torch.nn.Module, tokens: list[int], mask: list[bool]) -> torch.Tensor:
    """Log-probability of the response: the sum over its tokens, nats."""
    ids = torch.tensor(tokens)
    logits = network(ids[None], use_cache=False).logits[0].float()
    picked = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    return (picked * torch.tensor(mask[1:])).sum()


def log_ratio(row: tuple[list[int], list[bool]]) -> torch.Tensor:
    """log π(y) − log π_ref(y) of a response, nats."""
    with torch.no_grad():
        reference_logprob = logprob(reference, *row)
    return logprob(model, *row) - reference_logprob


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
