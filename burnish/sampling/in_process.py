"""Base of samplers in the trainer's process, which read the trained tensors: publishing copies nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from peft import PeftModel
from transformers import PreTrainedModel

from burnish.model.policy import Model


class InProcessSampler(ABC):
    """Sampler with the weights of a model in this process, as they are at any time."""

    deterministic: ClassVar[bool] = True
    max_staleness: ClassVar[int] = 0
    version: int = 0
    """Version of the weights, see `base.Sampler.publish`."""

    @property
    @abstractmethod
    def generator(self) -> PreTrainedModel | PeftModel:
        """The model that generates."""

    def publish(self, policy: Model, version: int) -> int:
        """Takes notice of the version; see `base.Sampler`."""
        assert policy.model is self.generator, "a sampler in this process generates with the policy's own weights"
        self.version = version
        return version
