"""A thought that the template opens, in everything that reads responses: training, held-out prompts, pass@k, accuracy,
`burnish generate`. What is written is scripted; all else is that of the verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import burnish
from burnish.builtin.tiny import END, TEMPLATE, make_tokenizer
from burnish.stages.on_policy import build as rl_build
from burnish.types import Group, Response
from burnish.verbs import evaluate as evaluation
from burnish.verbs import evaluate_rewards as pass_evaluation
from burnish.verbs import generate as generation
from burnish.verbs.evaluate import EvalSettings, evaluate, read_settings
from burnish.verbs.evaluate_rewards import RewardEvalSettings, evaluate_rewards
from burnish.verbs.generate import GenerateSettings, generate
from tests.adapters import write_base, write_rows_of

CUT = "2+3: the answer is 5. Hmm, let me think again and"
RIGHT = "Is it 4? No.</think>\nThe answer is 5"
OPENED = "<think>\n"
CASES = [
    pytest.param(True, "", CUT, 0.0, id="opened, cut"),
    pytest.param(True, "", RIGHT, 1.0, id="opened, closed"),
    pytest.param(False, "", OPENED + CUT, 0.0, id="written, cut"),
    pytest.param(False, "", OPENED + RIGHT, 1.0, id="written, closed"),
    pytest.param(False, "<think>Well", CUT, 0.0, id="begun, cut"),
    pytest.param(False, "<think>Well", RIGHT, 1.0, id="begun, closed"),
]


class Scripted:
    """A sampler that always writes the same."""

    max_positions, max_staleness, deterministic = 512, 0, True

    def __init__(self, text: str) -> None:
        tokenizer = make_tokenizer()
        tokens = torch.tensor(tokenizer.encode(text + END))
        self.end_tokens = (tokenizer.eos_token_id,)
        zeros = torch.zeros(len(tokens))
        self.response = Response(
            tokens=tokens, trainable=tokens >= 0, sampler_logprobs=zeros, policy_version=zeros.long(), finish="end"
        )

    def publish(self, policy: Any, version: int) -> int:
        self.response = replace(self.response, policy_version=torch.full_like(self.response.tokens, version))
        return version

    def sample(self, prompts: Any, n: int, params: Any, *, step: int = 0, listener: Any = None) -> list[Group]:
        groups = [Group(prompt=prompt.tokens, responses=(self.response,) * n) for prompt in prompts]
        for place, group in enumerate(groups if listener else ()):
            listener.group(place, group)
        return groups


@pytest.fixture
def model(tmp_path: Path) -> Callable[[bool], str]:
    def written(opens: bool) -> str:
        folder = write_base(tmp_path / "base")
        tokenizer = make_tokenizer()
        header = "<|assistant|>\n"
        tokenizer.chat_template = TEMPLATE.replace(f"%}}{header}{{%", f"%}}{header}{OPENED if opens else ''}{{%")
        tokenizer.save_pretrained(folder)
        return str(folder)

    return written


def data(folder: Path, begun: str) -> str:
    turns = [{"role": "user", "content": "2+3?"}, *([{"role": "assistant", "content": begun}] if begun else [])]
    return str(write_rows_of(folder, {"prompt": turns, "reference": "5"}))


@pytest.mark.parametrize(("opens", "begun", "text", "reward"), CASES)
def test_training_and_held_out_prompts(model, tmp_path, monkeypatch, opens, begun, text, reward):
    monkeypatch.setattr(rl_build, "sampler_of", lambda *_: Scripted(text))
    rows = data(tmp_path, begun)
    sizes = {"responses_per_prompt": 2, "groups_per_step": 1, "max_steps": 1, "max_new_tokens": 64, "reward_workers": 1}
    rest = {"max_resamples": 1, "log_samples_every": 1, "reward": "number", "log_every": 1}
    done = burnish.rl(model=model(opens), data=rows, eval_data=rows, output=str(tmp_path / "run"), **sizes, **rest)
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["rollout/reward"] for line in lines if "rollout/reward" in line} == {reward}
    assert {line["eval/accuracy"] for line in lines if "eval/accuracy" in line} == {reward}
    samples = [json.loads(line) for line in (done.folder / "samples.jsonl").read_text().splitlines()]
    assert samples
    assert {sample["response"] for sample in samples} == {(OPENED if opens else begun) + text}
    assert {sample["prompt"] for sample in samples} == {"2+3?"}


@pytest.mark.parametrize(("opens", "begun", "text", "reward"), CASES)
def test_pass_at_k_and_generate(model, tmp_path, monkeypatch, opens, begun, text, reward):
    for module in (pass_evaluation, generation):
        monkeypatch.setattr(module, "open_sampler", lambda *_: (Scripted(text), ()))
    rows, place = data(tmp_path, begun), model(opens)
    found = evaluate_rewards(
        place, read_settings(RewardEvalSettings, {"data": rows, "verifier": "number"}, ["responses_per_prompt=2"])
    )
    assert found.passes[1].value == reward
    whole = (OPENED if opens else begun) + text
    assert {sample["response"] for sample in found.samples()} == {whole}
    [line] = generate(place, read_settings(GenerateSettings, {"data": rows}, [])).answers
    assert line["responses"] == [whole]
    assert [message["role"] for message in line["prompt"]] == ["user"]


@pytest.mark.parametrize("match", ["exact", "contains", "number"])
@pytest.mark.parametrize(("opens", "begun", "text", "reward"), [case for case in CASES if not case.values[1]])
def test_accuracy(model, tmp_path, monkeypatch, match, opens, begun, text, reward):
    monkeypatch.setattr(evaluation, "sampler_of", lambda *_: Scripted(text))
    answer = "<think>\nHm, 4.\n</think>\n\nThe answer is 5"  # of the row: its thought is no part of its answer
    turns = [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": answer}]
    rows = str(write_rows_of(tmp_path, {"messages": turns}))
    found = evaluate(model(opens), read_settings(EvalSettings, {"data": rows}, [f"match={match}"]))
    assert found.accuracy.share == reward
    [sample] = found.accuracy.samples
    assert sample.response == (OPENED if opens else "") + text


def test_a_prefix_that_the_user_asked_for(model, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "open_sampler", lambda *_: (Scripted(RIGHT), ()))
    found = generate(model(True), read_settings(GenerateSettings, {"data": data(tmp_path, "")}, ['prefix="Well. "']))
    assert found.answers[0]["responses"] == [f"{OPENED}Well. {RIGHT}"]
