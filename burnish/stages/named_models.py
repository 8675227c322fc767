"""Models that keys of a stage name: where they are, and whether they are what the stage needs.

Checked when the data of a stage are opened, by configurations and tokenizers alone, before any model is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from burnish.data.template import Template, choose_template
from burnish.errors import ModelError
from burnish.model.load import load_tokenizer
from burnish.model.open import find_model, tokenizer_of, value_head_of_model
from burnish.model.settings import MODEL_KINDS, STAGE_PREFIX, ModelKind, NamedModel
from burnish.rewards.reward import Reward
from burnish.runs.named_model import resolve_model
from burnish.stages.context import StageContext
from burnish.stages.reader import Reader


def placed_rewards(context: StageContext[Any]) -> tuple[Reward, ...]:
    """The rewards of a stage, with the files of their models."""
    return tuple(reward.with_models(context.resolve_model) for reward in context.settings.rewards)


def require_named_models(context: StageContext[Any]) -> None:
    """Refuses models that keys of the stage name and that are not what it needs; loads none.

    Raises:
        ModelError: there is no such model, it is of another kind, or its tokenizer or chat template is not the policy's
            although it has to be.
    """
    for model in context.settings.named_models:
        if model.stage is None:
            require_named_model(model, context.reader)
        elif model.reads != "any_text":  # its kind is that of the stage, which reading the recipe has compared
            _require_same_text(model, context.reader, *_text_of_stage(context, model.stage))


def require_named_model(model: NamedModel, policy: Reader) -> None:
    """As `require_named_models`, for one model that is no stage's."""
    reference = find_model(resolve_model(model.name))
    head = value_head_of_model(reference)
    kind: ModelKind = "language_model"
    if head is not None:
        kind = "process_reward_model" if head.judged == "step" else "reward_model"
    if kind not in model.kinds:
        raise ModelError(
            given=f"{model.key}: {model.name}, which is {MODEL_KINDS[kind]}",
            rule=f"{model.key} is {' or '.join(MODEL_KINDS[each] for each in model.kinds)}",
            remedy="name a run of burnish sft, prefer or rl, or another language model"
            if "language_model" in model.kinds
            else "name a run of burnish reward, or another model for sequence classification",
        )
    if model.reads != "any_text":
        tokenizer = tokenizer_of(reference)
        _require_same_text(model, policy, tokenizer, choose_template(tokenizer))


def _text_of_stage(context: StageContext[Any], stage: str) -> tuple[PreTrainedTokenizerBase, Template]:
    """Tokenizer and chat template of the model of an earlier stage, which need not be trained yet."""
    recipe = context.recipe
    if Path(folder := context.resolve_model(STAGE_PREFIX + stage)).is_dir():
        tokenizer = load_tokenizer(folder)
        return tokenizer, choose_template(tokenizer)
    reader = StageContext[Any].of(recipe, list(recipe.named_stages).index(stage)).reader
    return reader.tokenizer, reader.template


def _require_same_text(
    model: NamedModel, policy: Reader, tokenizer: PreTrainedTokenizerBase, template: Template
) -> None:
    """Refuses a model that reads a response as other text than the policy wrote. It may have further tokens.

    Raises:
        ModelError: a token of the policy's is another one or none there, or the chat template differs.
    """
    tokens = tokenizer.get_vocab()
    other = [token for token, index in policy.tokenizer.get_vocab().items() if tokens.get(token) != index]
    if other:
        difference = f"whose tokenizer has other tokens than that of the policy, such as {min(other)!r}"
    elif model.reads == "same_text" and template != policy.template:
        difference = "whose chat template is not the policy's"
    else:
        return
    raise ModelError(
        given=f"{model.key}: {model.name}, {difference}",
        rule="it scores what the policy wrote: in other tokens, or in another template, that is another text",
        remedy=f"name a model with the same tokenizer, or remove {model.key}"
        if model.reads == "tokens"
        else "name a model that was trained with the tokenizer and the chat_template of the policy; or set rerender: "
        "true, to score the text of responses in its own",
    )
