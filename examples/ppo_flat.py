"""Proximal policy optimization (PPO) with a critic in one flat file: the computation of `burnish ppo`, without Burnish.

Needs only torch, numpy and transformers. A plain forward of the whole sequence for every response, full logits: slow,
and easy to check. A test holds its curve equal to the library's: the same prompts and random numbers, so the same
responses, rewards, advantages and losses.

    python examples/ppo_flat.py MODEL_FOLDER QUESTIONS.jsonl --steps 16 --learning-rate 1e-4

Every line of QUESTIONS.jsonl has a question and an answer, whose last number is the right one. The tokenizer has a
chat template that ends an assistant's turn with its end token. A batch of rollouts is learned from in `--epochs` passes
of `--minibatches` steps. The critic begins as the model, with a linear head of zeros.
"""

import argparse
import copy
import json
import re

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser(description="PPO with a critic in one flat file.")
parser.add_argument("model")
parser.add_argument("questions")
parser.add_argument("--steps", type=int, default=16)
parser.add_argument("--prompts-per-step", type=int, default=8)
parser.add_argument("--responses-per-prompt", type=int, default=4)
parser.add_argument("--minibatches", type=int, default=2)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--max-new-tokens", type=int, default=24)
parser.add_argument("--learning-rate", type=float, default=1e-6)
parser.add_argument("--critic-learning-rate", type=float, default=1e-5)
parser.add_argument("--kl-coef", type=float, default=0.05)
parser.add_argument("--gae-lambda", type=float, default=0.95)
parser.add_argument("--critic-lambda", type=float, default=1.0)
parser.add_argument("--clip", type=float, default=0.2)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

model = AutoModelForCausalLM.from_pretrained(arguments.model).train()
reference = copy.deepcopy(model).requires_grad_(False)
critic = copy.deepcopy(model.model)
head = torch.nn.Linear(model.config.hidden_size, 1, bias=False)
torch.nn.init.zeros_(head.weight)
tokenizer = AutoTokenizer.from_pretrained(arguments.model)
optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=0.0)
valued = [*critic.parameters(), *head.parameters()]
critic_optimizer = torch.optim.AdamW(valued, lr=arguments.critic_learning_rate, weight_decay=0.0)
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


def logprobs(network: torch.nn.Module, prompt: list[int], response: list[int]) -> torch.Tensor:
    """[R] log-probabilities of the response's tokens, nats."""
    tokens = torch.tensor(prompt + response)
    scores = network(tokens[None], use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return scores.gather(1, torch.tensor(response)[:, None])[:, 0]


def values(prompt: list[int], response: list[int]) -> torch.Tensor:
    """[R] V of the state before each token of the response, where the token is predicted."""
    tokens = torch.tensor(prompt + response)
    hidden = critic(tokens[None], use_cache=False).last_hidden_state[0, len(prompt) - 1 : -1]
    return head(hidden.float())[:, 0]


def gae(rewards: torch.Tensor, value: torch.Tensor, lam: float) -> torch.Tensor:
    """[R] advantages without discount: the sum over k of lam^k (r_{t+k} + V_{t+k+1} − V_{t+k}), where V is 0 after the
    end."""
    deltas = rewards + torch.cat([value[1:], torch.zeros(1)]) - value
    advantages, following = [], 0.0
    for delta in reversed(deltas.double().tolist()):
        following = delta + lam * following
        advantages.append(following)
    return torch.tensor(advantages[::-1], dtype=torch.float64)


@torch.no_grad()
def credited(prompt: list[int], response: list[int], reward: float) -> dict:
    """A response with its old log-probabilities, advantages and returns."""
    old, value = logprobs(model, prompt, response), values(prompt, response)
    rewards = -arguments.kl_coef * (old - logprobs(reference, prompt, response))
    rewards[-1] += reward
    advantages = gae(rewards, value, arguments.gae_lambda)
    returns = value + gae(rewards, value, arguments.critic_lambda)
    return {"prompt": prompt, "response": response, "old": old, "advantages": advantages, "returns": returns}


def rollouts(step: int, first: int) -> tuple[list[list[dict]], list[float]]:
    """The responses to the prompts of a batch, whitened together, and their rewards."""
    groups, given = [], []
    for key in range(first, first + arguments.prompts_per_step * arguments.minibatches):
        prompt, row = prompt_of(row_at(key)["question"]), row_at(key)
        responses = generate(prompt, step, key)
        texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
        rewards = [reward_of(text, row["answer"]) for text in texts]
        groups.append([credited(prompt, *pair) for pair in zip(responses, rewards, strict=True)])
        given += rewards
    together = torch.cat([entry["advantages"] for group in groups for entry in group])
    for entry in (entry for group in groups for entry in group):
        entry["advantages"] = (entry["advantages"] - together.mean()) / (together.std() + 1e-8)
    return groups, given


def update(entries: list[dict]) -> dict[str, float]:
    """One step of policy and critic on a minibatch; means over all its tokens."""
    total = sum(len(entry["response"]) for entry in entries)
    loss = value_loss = 0.0
    for entry in entries:
        ratio = torch.exp(logprobs(model, entry["prompt"], entry["response"]) - entry["old"])
        clipped = ratio.clamp(1 - arguments.clip, 1 + arguments.clip)
        advantages = entry["advantages"].float()
        share = -torch.minimum(ratio * advantages, clipped * advantages).sum() / total
        error = values(entry["prompt"], entry["response"]) - entry["returns"].float()
        value_share = 0.5 * error.square().sum() / total
        share.backward()
        value_share.backward()
        loss += share.item()
        value_loss += value_share.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
    value_norm = torch.nn.utils.clip_grad_norm_(valued, 1.0).item()
    for each in (optimizer, critic_optimizer):
        each.step()
        each.zero_grad()
    return {"loss": loss, "grad_norm": norm, "value_loss": value_loss, "value_grad_norm": value_norm}


with open(arguments.questions, encoding="utf-8") as file:
    rows = [json.loads(line) for line in file]
step = position = 0

while step < arguments.steps:
    begun, (groups, rewards) = step, rollouts(step, position)
    position += len(groups)
    for epoch in range(arguments.epochs):
        order = np.random.default_rng([arguments.seed, 0xE90C, begun, epoch]).permutation(len(groups))
        for chosen in np.split(order, arguments.minibatches):
            figures = update([entry for number in chosen for entry in groups[number]])
            step += 1
            print(json.dumps({"step": step, "reward": float(np.mean(rewards)), **figures}), flush=True)
