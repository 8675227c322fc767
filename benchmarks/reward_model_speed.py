"""Seconds in which a reward model scores a batch of rollouts, as the reward of a run does on a CPU.

``python benchmarks/reward_model_speed.py [prompts [responses [repeats]]]`` makes a reward model of random weights (256
hidden, 6 layers, 5 million weights), and grades that many responses to each prompt by a `RewardRunner` with one worker:
with loading, then several times, of which the median is printed. Processor seconds, those of the worker included,
hardly depend on other work of the machine.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from burnish.builtin.tiny import make_tokenizer
from burnish.grading.reward_runner import RewardRunner
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.watch.quiet import quiet_transformers

WORDS = ("the", "horse", "dog", "cat", "eats", "sees", "hay", "fish", "bread", "and", "because", "big", "small", "four")
PROMPT_WORDS, RESPONSE_WORDS = 60, (10, 60)
"""Words of a prompt, and the least and most of a response."""


def write_reward_model(folder: Path) -> None:
    """A reward model of random weights with the built-in tokenizer."""
    tokenizer = make_tokenizer()
    tokenizer.pad_token = "<|system|>"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    with quiet_transformers():
        LlamaForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def rollouts(prompts: int, responses: int) -> list[list[ResponseView]]:
    """Responses of different lengths to each prompt, in words of the built-in set."""
    draw = random.Random("rollouts")

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    asked = [({"role": "user", "content": text(PROMPT_WORDS, PROMPT_WORDS)},) for _ in range(prompts)]
    return [[ResponseView(prompt, text(*RESPONSE_WORDS)) for _ in range(responses)] for prompt in asked]


def used() -> float:
    """Processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def graded(folder: str, groups: list[list[ResponseView]], calls: int) -> tuple[list[float], float, float]:
    """Seconds of each call, processor seconds of all with loading, and the mean score."""
    seconds, verdicts, before = [], [], used()
    with RewardRunner(read_rewards({"name": "reward_model", "model": folder}), workers=1) as grade:
        for _ in range(calls):
            start = time.perf_counter()
            verdicts = [verdict for group in grade(groups) for verdict in group]
            seconds.append(time.perf_counter() - start)
    return seconds, used() - before, sum(float(verdict.reward) for verdict in verdicts) / len(verdicts)


def main() -> None:
    prompts, responses, repeats = (*map(int, sys.argv[1:]), *(8, 8, 4)[len(sys.argv) - 1 :])
    groups = rollouts(prompts, responses)
    with tempfile.TemporaryDirectory() as folder:
        write_reward_model(Path(folder))
        _, alone, _ = graded(folder, groups, 1)
        (first, *later), total, mean = graded(folder, groups, 1 + repeats)
    print(f"{prompts * responses} answers, {torch.get_num_threads()} threads, mean score {mean:.5f}")
    print(f"wall: with loading {first:.2f} s, afterwards {median(later):.2f} s ({min(later):.2f} to {max(later):.2f})")
    print(f"processor: {(total - alone) / repeats:.2f} s, with loading {alone:.2f} s")


if __name__ == "__main__":
    main()
