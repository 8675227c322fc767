"""Tokens that a model does not have yet: into its tokenizer, and rows for them into its embedding and head.

Stands between loading and adapters. A new row begins as the mean of the rows in use (Hewitt 2021, "Initializing new
word embeddings for pretrained language models", nlp.stanford.edu/~johnhew/vocab-expansion.html): before a soft-cap, the
logit of a new token is then the mean of the others, so log Z grows by at most log(1 + new / used) (Jensen).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from tokenizers import AddedToken
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.data.template import is_one_token
from burnish.errors import ModelError
from burnish.model.value_head import is_reward_model
from burnish.watch.quiet import quiet_transformers

_BLOCK = 4096
"""Rows summed at once in float64; bounds the memory."""


def extend(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]
) -> tuple[list[int], list[str]]:
    """Adds the tokens to both.

    Returns:
        The rows of embedding and head that are new, and lines for people.

    Raises:
        ModelError: see `add_tokens` and `make_room`.
    """
    added = add_tokens(tokenizer, tokens)
    size = _num_rows(model)
    rows = make_room(model, tokenizer, added.values())
    return rows, [*_lines(tokens, added, size, _num_rows(model))]


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> dict[str, int]:
    """Makes special tokens of these texts, in place. What is one token already stays as it is.

    Returns:
        The tokens that had no id before, with the ids that they have now. The same call on an equal tokenizer gives the
        same ids.

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
    """Gives new tokens rows that are the mean of the rows in use, and leaves those as they are.

    Spare rows (many checkpoints are padded to a multiple of 64) are taken first. If they are not enough, there will be
    exactly as many rows as tokens: padding would add logits of nothing to every softmax, and who loads an adapter grows
    the model to the tokenizer's length. Means are taken in float64, on the model's device.

    Args:
        model: without an adapter.
        tokenizer: which has the tokens.
        added: ids of the new tokens.

    Returns:
        The new rows, ascending: the tokens', and those of earlier tokens that the model had no row for.

    Raises:
        ModelError: rows are needed, and the tokenizer's ids have gaps.
    """
    if not added:
        return []
    size, needed = _num_rows(model), max(added) + 1
    if needed > size:
        if needed != len(tokenizer):
            raise ModelError(
                given=f"the tokenizer has {len(tokenizer)} tokens and ids up to {needed - 1}",
                rule="a model that grows gets as many rows as its tokenizer has tokens, here and wherever it is loaded",
                remedy="use chat_template=plain, which needs no added tokens",
            )
        with quiet_transformers():
            model.resize_token_embeddings(needed, mean_resizing=False)
    new = sorted({*added, *range(size, needed)})
    used = sorted(set(tokenizer.get_vocab().values()).difference(new))
    for tensor in _vocabulary_tensors(model):
        tensor[new] = _mean(tensor, used)
    return new


def make_room_for_all(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Grows embedding and head to the tokenizer's length, as peft does before it loads an adapter with new rows."""
    if _num_rows(model) < len(tokenizer):
        make_room(model, tokenizer, [len(tokenizer) - 1])


def _num_rows(model: PreTrainedModel) -> int:
    rows: int = model.get_input_embeddings().weight.shape[0]
    return rows


def _vocabulary_tensors(model: PreTrainedModel) -> Iterator[Tensor]:
    """What has one entry a token: the embedding, and the head's weight and bias where they are not the embedding's."""
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


def _lines(tokens: Sequence[str], added: Collection[str], before: int, after: int) -> Iterator[str]:
    if present := [text for text in tokens if text not in added]:
        yield f"add_tokens: the model has {', '.join(present)} already, with rows that stay as they are"
    if added:
        grown = f"embedding and head grow from {before} to {after} rows" if after > before else "spare rows are used"
        yield f"add_tokens: {', '.join(added)} are new and begin as the mean of all other tokens; {grown}"
