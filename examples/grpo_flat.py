"""Reinforcement learning (GRPO) in one flat file: the computation of `burnish rl` with one update, without Burnish.

Needs only torch, numpy and transformers. The responses to a prompt together, a plain forward of the whole sequence for
every token, full logits: slow, and easy to check. A test holds its curve equal to the library's: the same prompts, the
same random numbers, so the same responses, rewards and losses.

    python examples/grpo_flat.py MODEL_FOLDER QUESTIONS.jsonl --steps 20 --learning-rate 1e-4

Every line of QUESTIONS.jsonl has a question and an answer, whose last number is the right one. The tokenizer has a
chat template that ends an assistant's turn with its end token.
"""

import argparse
import json
import re

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser(description="GRPO in one flat file.")
parser.add_argument("model")
parser.add_argument("questions")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--prompts-per-step", type=int, default=8)
parser.add_argument("--responses-per-prompt", type=int, default=8)
parser.add_argument("--max-new-tokens", type=int, default=24)
parser.add_argument("--learning-rate", type=float, default=1e-6)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

model = AutoModelForCausalLM.from_pretrained(arguments.model).train()
tokenizer = AutoTokenizer.from_pretrained(arguments.model)
optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=0.0)
WORD = 2**64


def mixed(state: int) -> int:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014)."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def uniform(*coordinates: int) -> float:
    """Random number in [0, 1), a function of seed, step, prompt, response and token position."""
    state = mixed(arguments.seed % WORD)
    for coordinate in coordinates:
        state = mixed((state + 0x9E3779B97F4A7C15 + coordinate) % WORD)
    return (state >> 11) * 2.0**-53


def row_at(position: int) -> dict:
    """Row at a position of the draws: every epoch has each row once, in another order."""
    epoch, place = divmod(position, len(rows))
    return rows[np.random.default_rng([arguments.seed, epoch]).permutation(len(rows))[place]]


def prompt_of(question: str) -> list[int]:
    turns = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def reward_of(response: str, answer: str) -> float:
    """1 for the right last number, a tenth for another number, 0 for none."""
    numbers = re.findall(r"\d+", response)
    return 0.0 if not numbers else 1.0 if numbers[-1] == re.findall(r"\d+", answer)[-1] else 0.1


@torch.no_grad()
def generate(prompt: list[int], step: int, key: int) -> list[list[int]]:
    """Responses to a prompt, each up to its end token or `max_new_tokens`, by inverse transform sampling."""
    responses: list[list[int]] = [[] for _ in range(arguments.responses_per_prompt)]
    tokens = torch.tensor([prompt] * arguments.responses_per_prompt)
    for place in range(arguments.max_new_tokens):
        cumulative = model(tokens, use_cache=False).logits[:, -1].float().softmax(-1).cumsum(-1)
        numbers = torch.tensor([[uniform(step, key, index, place)] for index in range(arguments.responses_per_prompt)])
        chosen = (cumulative <= numbers * cumulative[:, -1:]).sum(-1, keepdim=True)
        for response, token in zip(responses, chosen[:, 0].tolist(), strict=True):
            if not response or response[-1] != tokenizer.eos_token_id:
                response.append(token)
        tokens = torch.cat([tokens, chosen], dim=1)
    return responses


def logprobs(prompt: list[int], response: list[int]) -> torch.Tensor:
    """[R] log-probabilities of the response's tokens, nats."""
    tokens = torch.tensor(prompt + response)
    scores = model(tokens[None], use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return scores.gather(1, torch.tensor(response)[:, None])[:, 0]


def advantages_of(rewards: torch.Tensor) -> torch.Tensor:
    """[n] (R − mean) / deviation of the group."""
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


with open(arguments.questions, encoding="utf-8") as file:
    rows = [json.loads(line) for line in file]
position = 0

for step in range(arguments.steps):
    graded, kept = [], []  # groups whose rewards are all equal have no signal, and are replaced
    while len(kept) < arguments.prompts_per_step and len(graded) < 4 * arguments.prompts_per_step:
        missing = arguments.prompts_per_step - len(kept)
        for key in range(position, position + missing):
            prompt = prompt_of(row_at(key)["question"])
            responses = generate(prompt, step, key)
            texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
            rewards = torch.tensor([reward_of(text, row_at(key)["answer"]) for text in texts])
            graded.append((prompt, responses, rewards))
            if rewards.min() < rewards.max():
                kept.append(graded[-1])
        position += missing

    loss, groups = 0.0, kept or graded[: arguments.prompts_per_step]
    for prompt, responses, rewards in groups:
        for response, advantage in zip(responses, advantages_of(rewards), strict=True):
            logprob = logprobs(prompt, response)
            ratio = torch.exp(logprob - logprob.detach())  # 1 with one update, with the gradient of logprob
            share = -(ratio * advantage).mean() / (len(groups) * arguments.responses_per_prompt)
            share.backward()
            loss += share.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
    optimizer.step()
    optimizer.zero_grad()
    reward = torch.cat([rewards for _, _, rewards in graded]).mean().item()
    print(json.dumps({"step": step + 1, "loss": loss, "reward": reward, "grad_norm": norm}), flush=True)
