"""Rewards that a model gives: where the model is, that it is the run's identity, and what it may read.

The run loads the model once, onto its device, and scores all responses of a batch together. `reward_model` and
`process_reward` derive from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from burnish.model.settings import ModelKind, NamedModel
from burnish.rewards.reward import Reward
from burnish.run_files import MODEL


class ModelReward(Reward):
    """Base class of rewards that a model gives, in the process of the run."""

    kind: ClassVar[ModelKind]
    """What the model has to be."""
    model: str
    """Reward model: a run, a folder, a hub name, or stage:NAME, an earlier stage of the recipe."""
    rerender: bool = False
    """Whether the reward model may have another tokenizer or chat template than the policy: it then scores the text of
    a response rendered anew in its own, in which special tokens and thoughts may stand otherwise or not at all. false:
    such a model is refused."""
    tokens_per_microbatch: Annotated[int, Field(ge=1)] = 8192
    """Maximum number of tokens that are scored at once; smaller needs less memory, with the same scores."""
    _content: str | None = PrivateAttr(None)
    _place: str | None = PrivateAttr(None)
    """The model that its name means, see `with_models`; None: the name itself."""

    @model_validator(mode="after")
    def _runs_here(self) -> Self:
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
    def named_models(self) -> Sequence[NamedModel]:
        reads: Literal["any_text", "same_text"] = "any_text" if self.rerender else "same_text"
        return (NamedModel(f"reward {self.key}: model", self.model, (self.kind,), reads),)

    def with_models(self, resolve_model: Callable[[str], str]) -> Self:
        placed = self.model_copy()
        placed._place, placed._content = resolve_model(self.model), None
        return placed

    @property
    def identity(self) -> str:
        """Identity with the model's name, and the content of its files if it is a folder."""
        if self._content is None:
            self._content = _digest(Path(self._place or self.model).expanduser())
        return super().identity + self._content


def _digest(folder: Path) -> str:
    """sha256 of the files of weights and settings in a folder; "" if there is no folder."""
    digest = hashlib.sha256()
    model = folder / MODEL if (folder / MODEL).is_dir() else folder
    files = sorted(path for path in model.glob("*") if path.suffix in (".safetensors", ".json", ".jinja"))
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest() if files else ""
