"""Stop rules of responses: an end token, a text, the limit of tokens, or the model's last position."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from burnish.types import Finish


@dataclass(frozen=True, eq=False, slots=True)
class StopRules:
    """Stop rules for the responses of one call."""

    ids: frozenset[int]
    """Tokens that end a response, and are kept in it."""
    texts: tuple[str, ...]
    """Texts that end a response, and are kept in it up to the end of the token that completes them."""
    max_tokens: int
    tokenizer: PreTrainedTokenizerBase | None
    """Needed for texts; None: there are none."""

    @classmethod
    def of(
        cls,
        end_tokens: Collection[int],
        stop_ids: Collection[int],
        texts: tuple[str, ...],
        max_tokens: int,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> StopRules:
        """Rules from the model's end tokens and the caller's stop ids and texts."""
        assert tokenizer is not None or not texts, "texts are searched in decoded tokens"
        assert all(texts), "an empty text would match everywhere"
        return cls(frozenset(end_tokens) | frozenset(stop_ids), texts, max_tokens, tokenizer)

    def finish(self, tokens: Sequence[int], max_tokens: int) -> Finish | None:
        """Why the response ends with its newest token; None: it continues.

        Args:
            tokens: its tokens so far, at least one.
            max_tokens: limit by the model's positions, which may be lower than that of the rules.
        """
        if tokens[-1] in self.ids or self._has_text(tokens):
            return "end"
        return "length" if len(tokens) >= min(self.max_tokens, max_tokens) else None

    def _has_text(self, tokens: Sequence[int]) -> bool:
        """Whether the decoded tokens have one of the texts; only as many last tokens as a text may take are decoded."""
        if not self.texts or self.tokenizer is None:
            return False
        # A character may take several tokens of bytes, four at most; one token more keeps spaces that decoding drops.
        longest = 4 * max(len(text.encode()) for text in self.texts) + 1
        decoded = str(self.tokenizer.decode(list(tokens[-longest:]), skip_special_tokens=False))
        return any(text in decoded for text in self.texts)
