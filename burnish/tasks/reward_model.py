"""Reward given by a reward model.

Each worker loads the model once and scores an answer as in the model's training: in the reward model's own template,
at the token that ends it, with the text of control tokens as ordinary characters. The code that needs torch is in
`reward_model_scorer`, which only these workers import, so that the others start quickly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PrivateAttr, model_validator

from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward, Seconds

if TYPE_CHECKING:
    from burnish.tasks.reward_model_scorer import RewardModelScorer


class RewardModelReward(Reward):
    """Score of a reward model; of several scores one, or their weighted sum."""

    name: Literal["reward_model"] = "reward_model"
    model: str
    """Reward model of whole answers: a run, a folder, or a hub name."""
    output: str | None = None
    """Name of the score that counts, if there are several; null: the only one, or the sum by weights."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Factors of several scores in the sum; scores that are not named count 0."""
    timeout: Seconds = 60.0
    """Seconds for one response, after which the worker process is killed."""
    _scorer: RewardModelScorer | None = PrivateAttr(None)
    _content: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_way(self) -> RewardModelReward:
        if self.output is not None and self.weights:
            raise ValueError("output selects one score and weights several; give one of the two")
        return self

    @property
    def grades_correctness(self) -> bool:
        return False

    @property
    def bounded(self) -> bool:
        return False

    @property
    def identity(self) -> str:
        """Identity with the model's name, and the content of its files if it is a folder."""
        if self._content is None:
            self._content = _digest(Path(self.model).expanduser())
        return super().identity + self._content

    def prepare(self) -> None:
        """Loads the model.

        Raises:
            UserError: there is no such model, or it has no such scores.
        """
        from burnish.tasks.reward_model_scorer import (
            RewardModelScorer,
        )  # torch takes seconds, and other rewards need none

        self._scorer = RewardModelScorer.open(self.model, self.output, self.weights)

    def score(self, answer: ResponseView) -> float:
        assert self._scorer is not None, "a reward is prepared before its first answer"
        return self._scorer(answer)


def _digest(folder: Path) -> str:
    """sha256 of the files of weights and settings in a folder; "" if there is no folder."""
    digest = hashlib.sha256()
    model = folder / "model" if (folder / "model").is_dir() else folder
    files = sorted(path for path in model.glob("*") if path.suffix in (".safetensors", ".json", ".jinja"))
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if files else ""
