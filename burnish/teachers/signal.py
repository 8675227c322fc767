"""What is computed of a teacher's distributions for a student's tokens, as streams of the responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from burnish.model.policy import Model
from burnish.model.top_k import top_tokens
from burnish.types import Microbatch, Score

Form = Literal["logprobs", "top_k", "states"]


@dataclass(frozen=True, slots=True)
class Signal:
    """Example: ``Signal("top_k", k=32)``."""

    form: Form
    """logprobs: of the tokens themselves. top_k: the most probable tokens with the mass of the others. states: the
    hidden states, from which the output head gives the whole distribution."""
    k: int = 0
    """Number of tokens of top_k."""
    temperature: float = 1.0
    """Divisor of the logits of logprobs and top_k."""
    vocabulary: int | None = None
    """Size of the student's vocabulary, whose tokens top_k are, if the teacher's has further rows of padding."""

    def of(self, model: Model, microbatch: Microbatch) -> dict[str, Tensor]:
        """Stream → [S, …] of the scored tokens of a microbatch."""
        if self.form == "logprobs":
            return {"teacher_logprobs": model.score(microbatch, [Score.LOGPROB]).of(Score.LOGPROB)}
        states = model.hidden(microbatch)[microbatch.predictor_positions]
        if self.form == "states":
            return {"teacher_states": states}
        top = top_tokens(states, model.head, self.k, temperature=self.temperature, vocabulary=self.vocabulary)
        return {
            "teacher_topk_tokens": top.tokens,
            "teacher_topk_logprobs": top.logprobs,
            "teacher_tail_logprobs": top.tail,
        }
