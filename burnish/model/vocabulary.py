"""Adds special tokens to a tokenizer, and rows for them to a model's embedding and head.

Runs between loading and adapters. A new row starts as the mean of the rows in use (Hewitt 2021, "Initializing new
word embeddings for pretrained language models", nlp.stanford.edu/~johnhew/vocab-expansion.html): before a soft-cap, the
logit of a new token is then the mean of the others, so log Z grows by at most log(1 + new / used) (Jensen).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from peft import PeftConfig
from tokenizers import AddedToken
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.data.template import is_one_token
from burnish.errors import ModelError
from burnish.model.integrity import adapter_rows
from burnish.model.value_head import is_reward_model
from burnish.watch.quiet import quiet_transformers

_BLOCK = 4096
"""Rows summed at once in float64; limits the memory."""


def extend(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]
) -> tuple[list[int], list[str]]:
    """Adds tokens to tokenizer and model.

    Returns:
        The new rows of embedding and head, and log lines.

    Raises:
        ModelError: see `add_tokens` and `make_room`.
    """
    added = add_tokens(tokenizer, tokens)
    size = _num_rows(model)
    rows = make_room(model, tokenizer, added.values())
    return rows, [*_notes(tokens, added, size, _num_rows(model))]


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> dict[str, int]:
    """Adds texts as special tokens, in place; a text that already is one token is left unchanged.

    Returns:
        The added tokens with their ids. The same call on an equal tokenizer gives the same ids.

    Raises:
        ModelError: the tokenizer gives a new token an id that is in use.
    """
    before = tokenizer.get_vocab()
    lacking = [AddedToken(text, special=True, normalized=False) for text in tokens if not is_one_token(text, tokenizer)]
    if not lacking:
        return {}
    tokenizer.add_special_tokens({"extra_special_tokens": lacking}, replace_extra_special_tokens=False)
    after = tokenizer.get_vocab()
    added = {token.content: after[token.content] for token in lacking if token.content not in before}
    if taken := set(added.values()) & set(before.values()):
        raise ModelError(
            given=f"the tokenizer's ids have gaps, and it would give a new token the id {min(taken)}, which is in use",
            rule="every token has an id of its own",
            remedy="use chat_template=plain, which needs no added tokens",
        )
    return added


@torch.no_grad()
def make_room(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, added: Collection[int]) -> list[int]:
    """Gives new tokens rows that are the mean of the rows in use, which do not change.

    Spare rows (many checkpoints are padded to a multiple of 64) are used first. If there are too few, the model grows
    to exactly the tokenizer's length: padding rows would add meaningless logits to every softmax, and peft grows a
    model to the tokenizer's length when it loads an adapter. Means are computed in float64, on the model's device.

    Args:
        model: without an adapter.
        tokenizer: with the new tokens.
        added: ids of the new tokens.

    Returns:
        The new rows, ascending: those of the new tokens, and of earlier tokens for which the model had no row.

    Raises:
        ModelError: the model must grow, and the tokenizer's ids have gaps.
    """
    if not added:
        return []
    size, needed = _num_rows(model), max(added) + 1
    if needed > size:
        if needed != len(tokenizer):
            raise ModelError(
                given=f"the tokenizer has {len(tokenizer)} tokens and ids up to {needed - 1}",
                rule="a model grows to as many rows as its tokenizer has tokens, here and wherever it is loaded",
                remedy="use chat_template=plain, which needs no added tokens",
            )
        with quiet_transformers():
            model.resize_token_embeddings(needed, mean_resizing=False)
    new = sorted({*added, *range(size, needed)})
    used = sorted(set(tokenizer.get_vocab().values()).difference(new))
    for tensor in _vocabulary_tensors(model):
        tensor[new] = _mean(tensor, used)
    return new


def make_room_for_adapter(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, stored: PeftConfig
) -> None:
    """Grows embedding and head to the rows of an adapter with added tokens, before peft loads it."""
    if _num_rows(model) < (needed := adapter_rows(folder, stored, tokenizer)):
        make_room(model, tokenizer, [needed - 1])


def _num_rows(model: PreTrainedModel) -> int:
    rows: int = model.get_input_embeddings().weight.shape[0]
    return rows


def _vocabulary_tensors(model: PreTrainedModel) -> Iterator[Tensor]:
    """Tensors with one row per token: the embedding, and the head's weight (unless tied) and bias."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    yield embedding.weight
    if is_reward_model(model):
        return
    if head.weight is not embedding.weight:
        yield head.weight
    if head.bias is not None:
        yield head.bias


def _mean(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """Mean of these rows, in the tensor's type."""
    total = torch.zeros(tensor.shape[1:], dtype=torch.float64, device=tensor.device)
    for block in torch.tensor(rows, device=tensor.device).split(_BLOCK):
        total += tensor[block].sum(dim=0, dtype=torch.float64)
    return (total / len(rows)).to(tensor.dtype)


def _notes(tokens: Sequence[str], added: Collection[str], before: int, after: int) -> Iterator[str]:
    if present := [text for text in tokens if text not in added]:
        yield f"add_tokens: the model already has {', '.join(present)}, whose rows do not change"
    if added:
        growth = f"embedding and head grow from {before} to {after} rows" if after > before else "spare rows are used"
        yield f"add_tokens: {', '.join(added)} are new and start as the mean of all other tokens; {growth}"
