"""Writing a trained model so that transformers (or peft) loads it anywhere, and stops where it was taught to.

Stands at the end of a run. What is written: weights or adapter, tokenizer, chat template, generation settings.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from transformers import PreTrainedModel

from burnish.model.policy import Policy
from burnish.watch import quiet_transformers


def export(policy: Policy, folder: Path, *, template: str | dict[str, str] | None, end_tokens: Collection[int]) -> None:
    """Writes the policy.

    Args:
        policy: the trained model.
        folder: an existing, empty folder.
        template: the chat template of training, saved with the tokenizer so that serving uses the same; None: the
            data was plain text, the tokenizer's own template (if any) stays. Several: by their names.
        end_tokens: ids with which trained responses ended; generation stops at them and at those known before.
    """
    model = policy.causal_lm
    set_end_tokens(model, end_tokens)
    if template is not None:
        policy.tokenizer.chat_template = template
    with quiet_transformers():
        policy.model.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)


def set_end_tokens(model: PreTrainedModel, end_tokens: Collection[int]) -> None:
    """Adds the end tokens to the generation settings."""
    settings = model.generation_config
    known = settings.eos_token_id
    before = {known} if isinstance(known, int) else set(known or ())
    every = sorted(before | set(end_tokens))
    if every:
        settings.eos_token_id = every
