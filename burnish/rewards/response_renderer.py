"""Renders and tokenizes responses for the models that value them, in such a model's own template.

A response becomes the tokens that it had in the model's training (`data.rendering`, `data.tokenize`), with the text of
control tokens as ordinary characters. Used by `reward_model_scorer` and `process_reward_scorer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from burnish.data.records import Completion, Conversation, Message
from burnish.data.rendering import Rendering, complete, render, with_step_labels
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.template import choose_template
from burnish.data.tokenize import Encoder, Sample
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.model.open import LoadedModel
from burnish.model.positions import exact_positions
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Failure, FailureKind

StepEnds = Callable[[str], tuple[int, ...]]
"""Text of a response → index of the last character of each step."""


@dataclass(frozen=True, eq=False, slots=True)
class ResponseRenderer:
    """Renders and tokenizes responses in a reward model's own template."""

    encoder: Encoder
    plain: SpecialTokenText
    """Text of control tokens, in responses to plain text."""
    control: SpecialTokenText
    """Text of control tokens, in conversations."""
    writer: Writer
    limit: int
    """Maximum number of tokens of a response with its prompt."""
    step_ends: StepEnds | None = None
    """Where steps end; their last tokens get the label 0 in `Sample.step_labels`. None: steps do not count."""

    @classmethod
    def of(cls, opened: LoadedModel, step_ends: StepEnds | None = None) -> Self:
        tokenizer, template = opened.tokenizer, opened.template or choose_template(opened.tokenizer)
        return cls(
            Encoder(tokenizer),
            SpecialTokenText.of(tokenizer, None),
            SpecialTokenText.of(tokenizer, template),
            Writer(tokenizer, template),
            exact_positions(opened.causal_lm.config),
            step_ends,
        )

    def samples(self, answers: Sequence[ResponseView]) -> list[Sample | Failure]:
        """The tokens of each response with its prompt, up to the token that ends it; a failure where there are none."""
        rendered = [self._rendered(answer) for answer in answers]
        tokenized = iter(self.encoder.samples([each for each in rendered if isinstance(each, Rendering)]))
        return [each if isinstance(each, Failure) else self._checked(next(tokenized)) for each in rendered]

    def _rendered(self, answer: ResponseView) -> Rendering | Failure:
        try:
            rendering = self._plainly_rendered(answer)
            if self.step_ends is None:
                return rendering
            return with_step_labels(rendering, answer.text, [(end, 0.0) for end in self.step_ends(answer.text)])
        except DataError as error:
            return unusable(error.given)

    def _plainly_rendered(self, answer: ResponseView) -> Rendering:
        if isinstance(answer.prompt, str):
            return complete(Completion(answer.prompt, answer.text), self.writer.tokenizer, self.plain)
        if any(isinstance(message.get("content"), list) for message in answer.prompt):
            raise DataError(
                given="a prompt with images",
                rule="a reward model grades responses to text alone",
                remedy="grade by rules (exact, number, code, a function), or leave such rows out",
            )
        messages = [_message(dict(message)) for message in answer.prompt]
        conversation = Conversation((*messages, Message("assistant", answer.text, trained=True)))
        [rendering] = render(conversation, self.writer, "last", self.control)
        return rendering

    def _checked(self, sample: Sample | DataError) -> Sample | Failure:
        if isinstance(sample, DataError):
            return unusable(sample.given)
        if (size := len(sample.tokens)) > self.limit:
            return unusable(f"prompt and response have {size:,} tokens, and the reward model takes {self.limit:,}")
        return sample


def unusable(reason: str) -> Failure:
    """Failure of a response that cannot be scored."""
    return Failure(FailureKind.UNUSABLE_ROW, reason)


def _message(fields: dict[str, object]) -> Message:
    role, content = str(fields.pop("role")), fields.pop("content", None)
    return Message(role, None if content is None else str(content), fields)
