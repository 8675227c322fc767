"""A reward model, opened by a worker: answers in, numbers out. Imported by `learned` where it judges.

The text of an answer is made as the training made it (`data.rendering`), so that both judge the same tokens.
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
    """A reward model with what each of its numbers counts."""

    opened: LoadedModel
    counts: torch.Tensor
    """[K] float64"""

    @classmethod
    def open(cls, model: str, output: str | None, weights: Mapping[str, float]) -> Self:
        """Loads it, onto the CPU and for one thread: there are several workers.

        Raises:
            ModelError: it is no reward model of answers.
            RecipeError: it has no such scores, or several and none is named.
        """
        torch.set_num_threads(1)
        named = find_model(model)
        judging = value_head_of_model(named)
        if judging is None or judging.judged != "answer":
            raise ModelError(
                given=f"reward_model: {model}, which is {'a judge of steps' if judging else 'a language model'}",
                rule="a reward is what a reward model says of whole answers",
                remedy="name a run of burnish reward, or another model for sequence classification",
            )
        counts = torch.tensor(_counts(model, judging, output, weights), dtype=torch.float64)
        return cls(open_ref(named, device=torch.device("cpu"), may_judge=True), counts)

    @torch.no_grad()
    def __call__(self, answer: ResponseView) -> float:
        """The number for one answer.

        Raises:
            UnusableRow: the model's template cannot write the conversation.
        """
        try:
            [sample] = tokenize([self._rendered(answer)], self.opened.tokenizer)
        except DataError as error:
            raise UnusableRow(error.given) from error
        if isinstance(sample, DataError):
            raise UnusableRow(sample.given)
        logits = self.opened.model(input_ids=torch.tensor(sample.tokens, dtype=torch.int64)[None]).logits[0]
        return float(logits.double() @ self.counts)

    def _rendered(self, answer: ResponseView) -> Rendering:
        tokenizer = self.opened.tokenizer
        if isinstance(answer.prompt, str):
            return complete(Completion(answer.prompt, answer.text), tokenizer, SpecialTokenText.of(tokenizer, None))
        said = [_message(dict(each)) for each in answer.prompt]
        conversation = Conversation((*said, Message("assistant", answer.text, trained=True)))
        template = self.opened.template or choose_template(tokenizer)
        [rendering] = render(
            conversation, Writer(tokenizer, template), "last", SpecialTokenText.of(tokenizer, template)
        )
        return rendering


def _message(said: dict[str, object]) -> Message:
    role, content = str(said.pop("role")), said.pop("content", None)
    return Message(role, None if content is None else str(content), said)


def _counts(model: str, judging: ValueHeadConfig, output: str | None, weights: Mapping[str, float]) -> list[float]:
    """What each number counts."""
    if judging.outputs == 1 and output is None and not weights:
        return [1.0]
    asked = {output: 1.0} if output is not None else dict(weights)
    has = ", ".join(judging.names) or "none with a name"
    if not asked:
        raise RecipeError(
            given=f"reward_model: {model}, which gives {judging.outputs} numbers",
            rule="a reward is one number",
            remedy=f"name one of its scores ({has}) by output, or give weights",
        )
    unknown = [name for name in asked if name not in judging.names]
    if unknown:
        raise RecipeError(
            given=f"the score {unknown[0]} of reward_model: {model}",
            rule=f"its scores are: {has}",
            remedy="correct the name"
            if judging.names
            else "remove output and weights, or name the numbers in id2label",
        )
    return [asked.get(name, 0.0) for name in judging.names]
