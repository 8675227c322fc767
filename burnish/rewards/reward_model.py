"""Reward given by a reward model.

The run loads the model once, onto its device, and scores all answers of a batch together, each as in the model's
training: in the reward model's own template, at the token that ends it, with the text of control tokens as ordinary
characters. The code that needs torch is in `reward_model_scorer`, so that a recipe is read without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from burnish.rewards.reward import Reward
from burnish.run_files import MODEL

if TYPE_CHECKING:
    from burnish.rewards.reward_model_scorer import RewardModelScorer


class RewardModelReward(Reward):
    """Score of a reward model; of several scores one, or their weighted sum."""

    name: Literal["reward_model"] = "reward_model"
    model: str
    """Reward model of whole answers: a run, a folder, or a hub name."""
    output: str | None = None
    """Name of the score that counts, if there are several; null: the only one, or the sum by weights."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Factors of several scores in the sum; scores that are not named count 0."""
    tokens_per_microbatch: Annotated[int, Field(ge=1)] = 8192
    """Maximum number of tokens that are scored at once; smaller needs less memory, with the same scores."""
    _content: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_way(self) -> RewardModelReward:
        if self.output is not None and self.weights:
            raise ValueError("output selects one score and weights several; give one of the two")
        if "timeout" in self.model_fields_set:
            raise ValueError(
                "timeout has no effect on a reward model: it scores in the process of the run, which is not killed; "
                "remove it"
            )
        return self

    @property
    def grades_correctness(self) -> bool:
        return False

    @property
    def in_process(self) -> bool:
        return True

    @property
    def identity(self) -> str:
        """Identity with the model's name, and the content of its files if it is a folder."""
        if self._content is None:
            self._content = model_digest(Path(self.model).expanduser())
        return super().identity + self._content

    def load(self, device: str | None, resolve_model: Callable[[str], str]) -> RewardModelScorer:
        """Loads the model.

        Raises:
            UserError: there is no such model, or it has no such scores.
        """
        from burnish.rewards.reward_model_scorer import (
            RewardModelScorer,
        )  # torch takes seconds, and a recipe is read without it

        name, budget = resolve_model(self.model), self.tokens_per_microbatch
        return RewardModelScorer.open(name, self.output, self.weights, budget=budget, device=device)


def model_digest(folder: Path) -> str:
    """sha256 of the files of weights and settings in a folder; "" if there is no folder."""
    digest = hashlib.sha256()
    model = folder / MODEL if (folder / MODEL).is_dir() else folder
    files = sorted(path for path in model.glob("*") if path.suffix in (".safetensors", ".json", ".jinja"))
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if files else ""
