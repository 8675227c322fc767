"""Role of a model in a stage: policy, critic, reference, teacher."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.model.settings import ValueHeadConfig

POLICY = "policy"
"""Role of the model that a stage trains and saves."""
CRITIC = "critic"
"""Role of the model that predicts the rewards of the policy's responses."""
REFERENCE = "reference"
"""Role of the model to which a policy is compared."""
TEACHER = "teacher"
"""Role of the model from which a policy is distilled; of several, numbered from the second on."""


@dataclass(frozen=True, slots=True)
class Role:
    """A model of a stage, described without loading it. Example: ``Role("policy", temperature=0.7)``."""

    name: str
    trained: bool = True
    """Whether its weights change during the stage."""
    model: str | None = None
    """Its model, with the tokenizer of the policy; None: the model that the stage starts from."""
    value_head: ValueHeadConfig | None = None
    """Value head in place of the output head: a reward model. None: a language model."""
    is_critic: bool = False
    """Whether it has a value head of one output, which gives V(s_t): beside the output head, of zeros at first, or that
    of the reward model as which it begins."""
    temperature: float = 1.0
    """Divisor of its logits: the sampling temperature of reinforcement learning."""
    shares_base: bool = False
    """Whether it is a further adapter on the base of the policy, with the settings of the policy's. It begins as the
    policy's adapter, or as that of its model."""
    has_own_tokens: bool = False
    """Whether it may have another tokenizer than the policy."""
    is_copy: bool = False
    """Whether it is a copy of the policy's trained weights, which is made and not loaded: a reference."""
