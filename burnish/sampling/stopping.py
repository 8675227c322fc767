"""When a response ends: an end token, a text, the limit of tokens, or the model's last position."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from burnish.types import Finish


@dataclass(frozen=True, eq=False, slots=True)
class StopRules:
    """What ends the responses of one call."""

    ids: frozenset[int]
    """Tokens that end a response, and stay in it."""
    texts: tuple[str, ...]
    """Texts that end a response, and stay in it, up to the end of the token that completes them."""
    most_tokens: int
    tokenizer: PreTrainedTokenizerBase | None
    """Needed for texts; None: there are none."""

    @classmethod
    def of(
        cls,
        end_tokens: Collection[int],
        stop_ids: Collection[int],
        texts: tuple[str, ...],
        most_tokens: int,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> StopRules:
        """Rules from what the model ends with and what the caller adds."""
        assert tokenizer is not None or not texts, "texts are looked for in decoded tokens"
        assert all(texts), "an empty text is everywhere"
        return cls(frozenset(end_tokens) | frozenset(stop_ids), texts, most_tokens, tokenizer)

    def finish(self, written: Sequence[int], most_tokens: int) -> Finish | None:
        """How the response ended with its newest token; None: it goes on.

        Args:
            written: its tokens so far, one at least.
            most_tokens: of this response, where the model's positions allow fewer than the rules.
        """
        if written[-1] in self.ids or self._says_a_text(written):
            return "end"
        return "length" if len(written) >= min(self.most_tokens, most_tokens) else None

    def _says_a_text(self, written: Sequence[int]) -> bool:
        """Whether the text so far has one of the texts. A token is never longer than its text, so the end suffices."""
        if not self.texts or self.tokenizer is None:
            return False
        # A character may take several tokens of bytes, four at most; one token more keeps spaces that decoding drops.
        longest = 4 * max(len(text.encode()) for text in self.texts) + 1
        said = str(self.tokenizer.decode(list(written[-longest:]), skip_special_tokens=False))
        return any(text in said for text in self.texts)
