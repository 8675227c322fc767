"""`burnish eval` with the reward for programs, on rows of MBPP's and HumanEval's form as they are. What is written is
scripted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.builtin.tiny import END, make_tokenizer
from burnish.sampling.base import SampleRequest
from burnish.types import Group, Response
from burnish.verbs import evaluate_rewards as module
from burnish.verbs.evaluate_any import evaluate_any
from burnish.verbs.evaluate_rewards import RewardEvalReport
from tests.adapters import write_base, write_rows_of

HUMAN_EVAL = {
    "task_id": "Own/0",
    "prompt": 'from typing import List\n\ndef twice(xs: List[int]) -> List[int]:\n    """Doubles every number."""\n',
    "entry_point": "twice",
    "canonical_solution": "    return [2 * x for x in xs]\n",
    "test": "def check(candidate):\n    assert candidate([]) == []\n    assert candidate([1, 2]) == [2, 4]\n",
}
MBPP = {
    "text": "Double a number.",
    "code": "def double(x):\r\n    return 2 * x",
    "task_id": 1,
    "test_setup_code": "",
    "test_list": ["assert double(2) == 4", "assert double(0) == 0"],
    "challenge_test_list": [],
}
DOUBLE = "```python\ndef double(x):\n    return 2 * x\n```"


class Scripted:
    """A sampler that writes these texts to every prompt."""

    max_positions, max_staleness, deterministic = 512, 0, True

    def __init__(self, texts: list[str]) -> None:
        tokenizer = make_tokenizer()
        self.end_tokens = (tokenizer.eos_token_id,)
        self.responses = [self.response(torch.tensor(tokenizer.encode(text + END))) for text in texts]
        self.prompts: list[torch.Tensor] = []

    def response(self, tokens: torch.Tensor) -> Response:
        zeros = torch.zeros(len(tokens))
        return Response(tokens=tokens, trainable=tokens >= 0, sampler_logprobs=zeros, finish="end")

    def sample(self, prompts: list[SampleRequest], n: int, params: object) -> list[Group]:
        self.prompts += [prompt.tokens for prompt in prompts]
        return [Group(prompt=prompt.tokens, responses=tuple(self.responses)) for prompt in prompts]


def evaluated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, object], texts: list[str], *settings: str
) -> tuple[RewardEvalReport, Scripted]:
    sampler = Scripted(texts)
    monkeypatch.setattr(module, "open_sampler", lambda *_: (sampler, ()))
    model, data = write_base(folder / "base"), write_rows_of(folder, row)
    reward = {"name": "code", "isolation": "process"}
    given = {"data": str(data), "verifier": reward, "responses_per_prompt": len(texts), "k": [1, len(texts)]}
    report = evaluate_any(str(model), given, settings)
    assert isinstance(report, RewardEvalReport)
    return report, sampler


def test_humaneval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "    return [2 * x for x in xs]\n",
        "    return xs\n",
        "    return [x * 2 for x in xs]\n\nIt doubles.",
        "No.",
    ]
    report, _ = evaluated(tmp_path, monkeypatch, HUMAN_EVAL, texts)
    assert [sample["labels"] for sample in report.samples()] == [
        {"code": label} for label in ("passed", "wrong_answer", "passed", "no_code")
    ]
    figures = report.figures()
    assert (figures["pass_at_1"], figures["pass_at_4"], figures["ungraded"]) == (0.5, 1.0, 0)
    assert figures["labels"]["code/passed"] == 0.5
    assert ("code/wrong_answer", "25.0% of the responses") in report.table()


def test_mbpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [DOUBLE, DOUBLE.replace("2", "3")]
    template = 'prompt_template="{text}\\nIt must pass:\\n{test_list[0]}"'
    report, sampler = evaluated(tmp_path, monkeypatch, MBPP, texts, template)
    assert [sample["reward"] for sample in report.samples()] == [1, 0]
    [prompt] = sampler.prompts
    shown = make_tokenizer().decode(prompt.tolist())
    assert "It must pass:\nassert double(2) == 4" in shown
    assert "double(0)" not in shown


def test_the_prompt_has_no_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in (MBPP, HUMAN_EVAL):
        folder = tmp_path / str(row["task_id"]).replace("/", "-")
        folder.mkdir()
        _, sampler = evaluated(folder, monkeypatch, row, [DOUBLE])
        assert "assert" not in make_tokenizer().decode(sampler.prompts[0].tolist())


def test_responses_that_were_not_graded_are_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, _ = evaluated(tmp_path, monkeypatch, MBPP | {"test_list": []}, [DOUBLE, "No."])
    figures = report.figures()
    assert (figures["ungraded"], figures["failures"]) == (2, {"code/unusable_row": 2})
    assert dict(report.table())["code/unusable_row"].startswith("2 responses, such as: the row has no tests")
