"""What a reward model says of an answer: a learned judge, beside the verifiers.

Each worker loads the model once, and judges an answer as it was judged in training: in the reward model's own template,
at the token that ends it, text of control tokens as the characters that it consists of. What needs torch stands in
`learned_judge`, which only workers that judge so import: the others start soon.
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
    """The number that a reward model gives, or of several numbers one, or their weighted sum."""

    name: Literal["reward_model"] = "reward_model"
    model: str
    """A reward model of answers: a run, a folder, or a hub name."""
    output: str | None = None
    """Of several scores, the one that counts; null: the only one, or as weights say."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Of several scores, what each counts in the sum; those that are not named count nothing."""
    timeout: Seconds = 60.0
    """Seconds for one answer, after which its process is killed."""
    _judge: RewardModelScorer | None = PrivateAttr(None)
    _content: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_way(self) -> RewardModelReward:
        if self.output is not None and self.weights:
            raise ValueError("output names one score and weights several; give one of them")
        return self

    @property
    def truth(self) -> bool:
        return False

    @property
    def bounded(self) -> bool:
        return False

    @property
    def identity(self) -> str:
        """What the model is called, and the content of its files where it is a folder."""
        if self._content is None:
            self._content = _digest(Path(self.model).expanduser())
        return super().identity + self._content

    def prepare(self) -> None:
        """Loads the model.

        Raises:
            UserError: there is none, or it has no such scores.
        """
        from burnish.tasks.reward_model_scorer import (
            RewardModelScorer,
        )  # torch takes seconds, and other rewards need none

        self._judge = RewardModelScorer.open(self.model, self.output, self.weights)

    def score(self, answer: ResponseView) -> float:
        assert self._judge is not None, "a reward is prepared before its first answer"
        return self._judge(answer)


def _digest(folder: Path) -> str:
    """sha256 of what a folder's weights and settings are; "" if there is no folder."""
    digest = hashlib.sha256()
    place = folder / "model" if (folder / "model").is_dir() else folder
    files = sorted(path for path in place.glob("*") if path.suffix in (".safetensors", ".json", ".jinja"))
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if files else ""
