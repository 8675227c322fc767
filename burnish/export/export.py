"""Export of a trained model for transformers (or peft), with the end tokens of training.

Runs at the end of a run. Writes weights or adapter, tokenizer, chat template and generation settings.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from peft import PeftModel

from burnish.export.base_form import keep_model_form, keep_tokenizer_form
from burnish.model.adapters.initial import ADAPTER, has_beginning, write_doubled
from burnish.model.generation_settings import set_end_tokens
from burnish.model.policy import Model
from burnish.model.quantization import quantization_of, write_base
from burnish.model.value_head import finalize_padding, value_head_config, write_value_head_file
from burnish.watch.quiet import quiet_transformers


def export(
    policy: Model, folder: str | Path, *, template: str | dict[str, str] | None, end_tokens: Collection[int]
) -> None:
    """Writes a trained model.

    Args:
        policy: the trained model.
        folder: an existing, empty folder.
        template: the chat template of training, saved with the tokenizer so that serving uses the same; None: the
            data was plain text, and the tokenizer keeps its own template, if any. Several: by their names.
        end_tokens: ids that ended trained responses; generation stops at them and at the model's earlier end tokens.
            For a reward model, which generates nothing, none of them becomes the padding token.
    """
    model, folder = policy.causal_lm, Path(folder)
    if policy.is_reward_model:
        finalize_padding(model, policy.tokenizer, end_tokens)
    else:
        set_end_tokens(model, end_tokens)
    if template is not None:
        policy.tokenizer.chat_template = template
    with quiet_transformers():
        if isinstance(policy.model, PeftModel):
            # The adapter has the rows of added tokens; without the option, peft would write all other rows too.
            policy.model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=[ADAPTER])
            # peft's card has only places to fill in, and the base's path on this machine; `write` makes one of the run.
            (folder / "README.md").unlink(missing_ok=True)
            if has_beginning(policy.model):
                write_doubled(policy.model, folder)
            if (quantization := quantization_of(model)) is not None:
                write_base(folder, quantization)
            if policy.is_reward_model:
                write_value_head_file(folder, value_head_config(model))
        else:
            policy.model.save_pretrained(folder)
        if not policy.is_reward_model:
            model.generation_config.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        if policy.vision is not None:
            policy.vision.processing.save(folder)
    keep_model_form(folder, model)
    keep_tokenizer_form(folder, policy.tokenizer)
