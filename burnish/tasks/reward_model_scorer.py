"""Reward model loaded by a worker, which scores answers. Imported by `reward_model` in the worker processes only.

An answer is rendered as in training (`data.rendering`), so that both score the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from burnish.data.records import Completion, Conversation, Message
from burnish.data.rendering import Rendering, complete, render
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.template import choose_template
from burnish.data.tokenize import tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError, RecipeError
from burnish.model.open import LoadedModel, find_model, open_ref, value_head_of_model
from burnish.model.settings import ValueHeadConfig
from burnish.tasks.response_view import ResponseView
from burnish.tasks.verdict import UnusableRow


@dataclass(frozen=True, eq=False, slots=True)
class RewardModelScorer:
    """Reward model with the factors of its scores."""

    opened: LoadedModel
    weights: torch.Tensor
    """[K] float64 factors of its scores."""

    @classmethod
    def open(cls, model: str, output: str | None, weights: Mapping[str, float]) -> Self:
        """Loads a reward model onto the CPU, for one thread since there are several workers.

        Raises:
            ModelError: it is not a reward model of whole answers.
            RecipeError: it has no such scores, or several and none is selected.
        """
        torch.set_num_threads(1)
        reference = find_model(model)
        head = value_head_of_model(reference)
        if head is None or head.judged != "answer":
            raise ModelError(
                given=f"reward_model: {model}, which is {'a reward model of steps' if head else 'a language model'}",
                rule="a reward is the score of a reward model of whole answers",
                remedy="name a run of burnish reward, or another model for sequence classification",
            )
        factors = torch.tensor(_factors(model, head, output, weights), dtype=torch.float64)
        return cls(open_ref(reference, device=torch.device("cpu"), allow_reward_model=True), factors)

    @torch.no_grad()
    def __call__(self, answer: ResponseView) -> float:
        """Score of one answer.

        Raises:
            UnusableRow: the model's template cannot render the conversation.
        """
        try:
            [sample] = tokenize([self._rendered(answer)], self.opened.tokenizer)
        except DataError as error:
            raise UnusableRow(error.given) from error
        if isinstance(sample, DataError):
            raise UnusableRow(sample.given)
        logits = self.opened.model(input_ids=torch.tensor(sample.tokens, dtype=torch.int64)[None]).logits[0]
        return float(logits.double() @ self.weights)

    def _rendered(self, answer: ResponseView) -> Rendering:
        tokenizer = self.opened.tokenizer
        if isinstance(answer.prompt, str):
            return complete(Completion(answer.prompt, answer.text), tokenizer, SpecialTokenText.of(tokenizer, None))
        messages = [_message(dict(message)) for message in answer.prompt]
        conversation = Conversation((*messages, Message("assistant", answer.text, trained=True)))
        template = self.opened.template or choose_template(tokenizer)
        [rendering] = render(
            conversation, Writer(tokenizer, template), "last", SpecialTokenText.of(tokenizer, template)
        )
        return rendering


def _message(fields: dict[str, object]) -> Message:
    role, content = str(fields.pop("role")), fields.pop("content", None)
    return Message(role, None if content is None else str(content), fields)


def _factors(model: str, head: ValueHeadConfig, output: str | None, weights: Mapping[str, float]) -> list[float]:
    """Factor of each score in the reward."""
    if head.outputs == 1 and output is None and not weights:
        return [1.0]
    factors = {output: 1.0} if output is not None else dict(weights)
    known = ", ".join(head.names) or "none with a name"
    if not factors:
        raise RecipeError(
            given=f"reward_model: {model}, which gives {head.outputs} scores",
            rule="a reward is one number",
            remedy=f"select one of its scores ({known}) with output, or give weights",
        )
    unknown = [name for name in factors if name not in head.names]
    if unknown:
        raise RecipeError(
            given=f"the score {unknown[0]} of reward_model: {model}",
            rule=f"its scores are: {known}",
            remedy="correct the name" if head.names else "remove output and weights, or name the scores in id2label",
        )
    return [factors.get(name, 0.0) for name in head.names]
