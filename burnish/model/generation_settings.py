"""Generation settings that are saved with a model: end tokens, and settings that transformers would refuse to save."""

from __future__ import annotations

from collections.abc import Collection

from transformers import PreTrainedModel

from burnish.errors import ModelError


def set_end_tokens(model: PreTrainedModel, end_tokens: Collection[int]) -> None:
    """Adds the end tokens to the generation settings."""
    settings = model.generation_config
    current = settings.eos_token_id
    before = {current} if isinstance(current, int) else set(current or ())
    merged = sorted(before | set(end_tokens))
    if merged:
        settings.eos_token_id = merged


def finalize_generation_config(model: PreTrainedModel) -> list[str]:
    """Makes the generation settings valid for saving, so that an error shows before training and not after it.

    Returns:
        Log lines about what was changed.

    Raises:
        ModelError: the settings are invalid in another way than sampling settings with do_sample off.
    """
    settings = model.generation_config
    try:
        settings.validate(strict=True)
    except ValueError:
        settings.do_sample = True
        try:
            settings.validate(strict=True)
        except ValueError as error:
            raise ModelError(
                given=f"generation_config.json of the model: {' '.join(str(error).split())[:300]}",
                rule="generation settings are saved with the model, and transformers saves only consistent ones",
                remedy="correct or delete generation_config.json in the model's folder",
            ) from error
        return ["generation_config.json has settings of sampling with do_sample off; what is saved has it on"]
    return []
