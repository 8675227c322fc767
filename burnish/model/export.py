"""Writing a trained model so that transformers (or peft) loads it anywhere, and stops where it was taught to.

Stands at the end of a run. What is written: weights or adapter, tokenizer, chat template, generation settings.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.adapters.initial import ADAPTER, has_beginning, write_doubled
from burnish.model.policy import Model
from burnish.model.quantization import quantization_of, write_base
from burnish.model.value_head import finalize_padding, value_head_config, write_beside
from burnish.watch.quiet import quiet_transformers


def export(policy: Model, folder: Path, *, template: str | dict[str, str] | None, end_tokens: Collection[int]) -> None:
    """Writes the policy.

    Args:
        policy: the trained model.
        folder: an existing, empty folder.
        template: the chat template of training, saved with the tokenizer so that serving uses the same; None: the
            data was plain text, the tokenizer's own template (if any) stays. Several: by their names.
        end_tokens: ids with which trained responses ended; generation stops at them and at those known before. Of a
            reward model, which generates nothing, they are not what its batches are padded with.
    """
    model = policy.causal_lm
    if policy.is_reward_model:
        finalize_padding(model, policy.tokenizer, end_tokens)
    else:
        set_end_tokens(model, end_tokens)
    if template is not None:
        policy.tokenizer.chat_template = template
    with quiet_transformers():
        if isinstance(policy.model, PeftModel):
            # Rows of added tokens are in the adapter; peft would write all rows beside them, since there are more now.
            policy.model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=[ADAPTER])
            if has_beginning(policy.model):
                write_doubled(policy.model, folder)
            if (quantisation := quantization_of(model)) is not None:
                write_base(folder, quantisation)
            if policy.is_reward_model:
                write_beside(folder, value_head_config(model))
        else:
            policy.model.save_pretrained(folder)
        if not policy.is_reward_model:
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


def finalize_generation_config(model: PreTrainedModel) -> list[str]:
    """Makes the model's generation settings ones that can be saved, before hours of training rather than after.

    Returns:
        Lines for people: what was changed.

    Raises:
        ModelError: the settings contradict themselves in another way.
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
