"""Stop tokens of a model, and the check that generation stops where the template ends an answer.

Used before a model is written or served. Three places have end tokens that may disagree: the template (which writes one
after an answer), the generation settings (which stop at theirs), and the vocabulary (which has them or not).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from transformers import GenerationConfig, PreTrainedTokenizerBase

from burnish.data.records import Conversation, Message
from burnish.data.rendering import render
from burnish.data.template import Template
from burnish.data.tokenize import Sample, tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError

_EXAMPLE = Conversation((Message("user", "What is 1 plus 1?"), Message("assistant", "It is 2.", trained=True)))


def end_of_turn(tokenizer: PreTrainedTokenizerBase, template: Template) -> int | None:
    """The token that the template writes after an answer; None: none, or it refuses so short a conversation."""
    try:
        (sample,) = tokenize(render(_EXAMPLE, Writer(tokenizer, template)), tokenizer)
    except DataError:
        return None
    return sample.ends[-1] if isinstance(sample, Sample) and sample.ends else None


def stop_tokens_of(
    settings: GenerationConfig,
    tokenizer: PreTrainedTokenizerBase,
    template: Template | None = None,
    learned: Collection[int] = (),
) -> tuple[int, ...]:
    """Ids of the tokens that end an answer.

    Args:
        settings: the model's generation settings; if they have no end token, the tokenizer's is used.
        tokenizer: its tokenizer.
        template: the chat template, whose end of turn is a stop token; None: there is none.
        learned: tokens that end turns in training.
    """
    own = _listed(tokenizer.eos_token_id if settings.eos_token_id is None else settings.eos_token_id)
    end = None if template is None else end_of_turn(tokenizer, template)
    return tuple(sorted({*own, *learned, *_listed(end)}))


def check_stop_tokens(
    settings: GenerationConfig, vocabulary: int, tokenizer: PreTrainedTokenizerBase, template: Template | None
) -> None:
    """Refuses a model whose generation would not stop, or that has a stop token outside its vocabulary.

    Args:
        settings: the model's generation settings.
        vocabulary: rows of its embedding.
        tokenizer: its tokenizer.
        template: the chat template; None: there is none, and only the vocabulary is checked.

    Raises:
        ModelError: an end token is outside the vocabulary, or the template's end of turn is no end token.
    """
    ends = _listed(settings.eos_token_id)
    ids_by_place = {"generation_config.json": ends, "the tokenizer": _listed(tokenizer.eos_token_id)}
    for place, ids in ids_by_place.items():
        if outside := [token for token in ids if not 0 <= token < vocabulary]:
            raise ModelError(
                given=f"the end token {outside[0]} of {place}, in a vocabulary of {vocabulary:,} tokens",
                rule="an end token is a token of the model, which can generate no other",
                remedy=f"correct eos_token in {place}, or give the tokenizer that belongs to the model",
            )
    end = None if template is None else end_of_turn(tokenizer, template)
    if end is not None and end not in ends:
        stops = ", ".join(f"{token} ({tokenizer.convert_ids_to_tokens(token)})" for token in ends) or "no token"
        raise ModelError(
            given=f"the template ends an answer with {end} ({tokenizer.convert_ids_to_tokens(end)}), and generation "
            f"stops at {stops}",
            rule="the token that ends an answer in the template is among the end tokens of the generation settings; "
            "otherwise the model continues with the next turns",
            remedy=f"set eos_token_id to {[*ends, end]} in generation_config.json, or name the template that belongs "
            "to the model",
        )


def _listed(ids: int | Sequence[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
