"""Rendering of examples to text, with the character ranges that are learned.

Stands between `writer` and `tokenize`. Learned ranges are derived by rendering, never by a search for marker strings:
for each learned turn, the text with the generation prompt (the prompt of serving) and the text with the turn. Where a
template writes earlier turns differently once later ones follow (it strips their reasoning, say), a conversation
becomes several renderings, so every turn is learned in the context of serving. Parts of a turn (its reasoning, its tool
calls) are located in the same way: by the characters that change when that part of the message changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from burnish.data.records import Completion, Conversation, Document, Message, Stepped
from burnish.data.settings import TrainOn
from burnish.data.special_token_text import SEAL, SpecialTokenText, ordinary_ranges
from burnish.data.template_parts import parts_of
from burnish.data.turn import CLOSE_REASONING, REASONING_KEYS, render_turn
from burnish.data.turn_text import common_prefix
from burnish.data.writer import Script, Writer
from burnish.errors import DataError, ModelError

Range = tuple[int, int]
"""Characters [start, end)."""


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """Image of a rendering, whose text holds its image tokens."""

    path: str
    """Absolute path of its file."""
    digest: str
    """sha256 of the file."""
    token: int
    """Id of the image tokens."""
    num_tokens: int
    num_patches: int
    """Patches that the vision tower computes."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """Text with its learned ranges. Example: ``Rendering("Q: 2+2\\nA: 4</s>", spans=((10, 15),))``."""

    text: str
    spans: tuple[Range, ...]
    """Learned turns, in order, not overlapping."""
    weights: tuple[float, ...] = ()
    """Weight of the tokens of each turn; (): 1. Learned text outside the turns has the weight 1."""
    skipped: tuple[Range, ...] = ()
    """Parts of the turns that are not learned. The token that ends a turn is always learned."""
    ordinary: tuple[Range, ...] = ()
    """Text of control tokens in the row, which is tokenized as ordinary characters."""
    everything: bool = False
    """True if the rest of the text is learned as well."""
    document: bool = False
    """True for a document, which may be cut into pieces."""
    max_tokens: int | None = None
    """Tokens above which the sample cannot be used, and is tokenized no further; None: it is tokenized whole."""
    step_labels: tuple[tuple[int, float], ...] = ()
    """(Index of the last character of a step, label of the step), in ascending order."""
    generation_prefix: str = ""
    """End of a prompt's text that belongs to the response: an opened reasoning block, a begun turn, a prefix."""
    images: tuple[RenderedImage, ...] = ()
    """Images of the text, in order."""


def render(
    conversation: Conversation, writer: Writer, train_on: TrainOn = "assistant", control: SpecialTokenText | None = None
) -> tuple[Rendering, ...]:
    """Renders a conversation so that every learned turn is in exactly one rendering, in the context of serving.

    Turn i is the text after the generation prompt: whole(i) without before(i). Turns whose whole text begins the text
    of a later one share a rendering; a template that rewrites earlier turns gives one rendering per turn.

    Args:
        control: texts of control tokens that must stay ordinary text; None: they become control tokens.

    Raises:
        DataError: the template cannot render the row, or drops a part of it, or the row has nothing to learn under
            `train_on`.
    """
    parts_of(writer).require_all(conversation, train_on)
    renderings = _render(conversation, writer, train_on)
    if control is None or (sealed := control.sealed(conversation)) is None:
        return renderings
    # Only for the positions of the seals: the learned ranges come from the renderings of the original text.
    sealed_renderings = _render(sealed, writer, train_on)
    if [rendering.text.replace(SEAL, "") for rendering in sealed_renderings] != [
        rendering.text for rendering in renderings
    ]:
        raise DataError(
            given="the row has text of control tokens, and the template decides by it what to write",
            rule="text of a row stays text: only the template writes control tokens",
            remedy="give the row the field that the template writes itself (reasoning_content, tool_calls), or let "
            "such text become tokens with special_tokens_in_text=tokens",
        )
    return tuple(
        replace(rendering, ordinary=ordinary_ranges(sealed_rendering.text, control))
        for rendering, sealed_rendering in zip(renderings, sealed_renderings, strict=True)
    )


def _render(conversation: Conversation, writer: Writer, train_on: TrainOn) -> tuple[Rendering, ...]:
    script = writer.script(conversation)
    turns = conversation.turns[-1:] if train_on == "last" else conversation.turns
    renderings: list[Rendering] = []
    for turn in reversed(turns):
        before, whole = render_turn(script, turn)
        if not whole.startswith(before):
            raise _generation_prompt_differs(turn, before, whole)
        span = len(before), len(whole)
        skipped = _skipped(script, turn, train_on, whole, span)
        if skipped != span:
            _add(renderings, whole, span, skipped, conversation.messages[turn].weight)
    if train_on == "everything":
        return (_render_everything(script, renderings),)
    if turns and not renderings:
        raise _nothing_to_learn(train_on)
    return tuple(reversed(renderings))


def _add(renderings: list[Rendering], whole: str, span: Range, skipped: Range | None, weight: float) -> None:
    for index, later in enumerate(renderings):
        # The end first: texts that differ mostly differ there; a comparison from the beginning costs their length.
        ends_alike = later.spans[0][0] >= span[1] and later.text.startswith(whole[span[0] :], span[0])
        if ends_alike and later.text.startswith(whole):
            both = (*((skipped,) if skipped else ()), *later.skipped)
            spans, weights = (span, *later.spans), (weight, *later.weights)
            renderings[index] = replace(later, spans=spans, weights=weights, skipped=both)
            return
    renderings.append(Rendering(whole, (span,), (weight,), (skipped,) if skipped else ()))


def _render_everything(script: Script, renderings: list[Rendering]) -> Rendering:
    """Renders the whole conversation, including the text after its last learned turn."""
    text = script.write(len(script.conversation.messages), add_generation_prompt=False)
    fitting = [rendering for rendering in renderings if text.startswith(rendering.text)]
    longest = max(fitting, key=lambda rendering: len(rendering.spans), default=Rendering(text, ()))
    return Rendering(text, longest.spans, longest.weights, everything=True)


def _skipped(script: Script, turn: int, train_on: TrainOn, whole: str, span: Range) -> Range | None:
    """Returns the part of a turn that is not learned; None: all is learned; the whole span: nothing is."""
    message = script.conversation.messages[turn]
    if train_on in ("answers", "reasoning"):
        if not _has_reasoning(message):
            return None if train_on == "answers" else span
        start = _answer_start(script, turn, whole, span)
        return (span[0], start) if train_on == "answers" else (start, span[1])
    if train_on == "tool_calls":
        if not message.extra.get("tool_calls"):
            return span
        return span[0], _calls_start(script, turn, whole, span)
    return None


def _has_reasoning(message: Message) -> bool:
    return any(message.extra.get(key) for key in REASONING_KEYS) or CLOSE_REASONING in (message.text or "")


def _answer_start(script: Script, turn: int, whole: str, span: Range) -> int:
    """Index of the first character of the answer: the first that changes with the answer, for the same reasoning. White
    space after the reasoning is no part of the answer: a token may write it together with the end of the tag."""
    message = script.conversation.messages[turn]
    reasoning, closing, answer = (message.text or "").rpartition(CLOSE_REASONING)
    space = answer[: len(answer) - len(answer.lstrip())] if closing else ""
    other = "b" if answer.strip().startswith("a") else "a"
    extra = {key: value for key, value in message.extra.items() if key != "tool_calls"}
    changed = replace(message, content=reasoning + closing + space + other, extra=extra)
    start = _first_difference(script, turn, whole, changed)
    return min(max(start, span[0]), span[1])


def _calls_start(script: Script, turn: int, whole: str, span: Range) -> int:
    """Index of the first character of the tool calls: the first that changes without them."""
    message = script.conversation.messages[turn]
    extra = {key: value for key, value in message.extra.items() if key != "tool_calls"}
    changed = replace(message, content=message.text or "", extra=extra)
    start = _first_difference(script, turn, whole, changed)
    if start >= len(whole):
        raise DataError(
            given=f"the template writes nothing of the tool_calls of messages[{turn}]",
            rule="train_on=tool_calls learns what the template writes of them",
            remedy="name a template that writes tool calls",
        )
    return min(max(start, span[0]), span[1])


def _first_difference(script: Script, turn: int, whole: str, changed: Message) -> int:
    _, other = render_turn(script.with_message(turn, changed), turn)
    if other == whole:
        return len(whole)
    return common_prefix(whole, other)


def _generation_prompt_differs(turn: int, before: str, whole: str) -> DataError:
    same = common_prefix(before, whole)
    return DataError(
        given=f"before messages[{turn}] the template's generation prompt writes {before[same:][:60]!r}, but the "
        f"rendered message has {whole[same:][:60]!r} there",
        rule="a turn is learned after exactly the text that is its prompt in serving",
        remedy="give the message what the generation prompt opens (often reasoning_content), set the template's own "
        "variable for it (such as chat_template_kwargs.enable_thinking=false), or name another template",
    )


def _nothing_to_learn(train_on: TrainOn) -> DataError:
    return DataError(
        given=f"no turn of the row has anything of train_on={train_on}",
        rule="a row has at least one token to learn",
        remedy="delete the row, allow such rows (max_invalid_fraction), or choose another train_on",
    )


def complete(completion: Completion, tokenizer: PreTrainedTokenizerBase, control: SpecialTokenText | None) -> Rendering:
    """Renders plain text: the begin token if the tokenizer adds one, the prompt, the completion, the end token.

    A begin token at the start of the prompt and an end token at the end of the completion are not repeated.
    """
    end = _end_token(tokenizer)
    prompt, answer = completion.prompt, completion.completion.removesuffix(end)
    begin = begin_token(tokenizer)
    if begin:
        prompt = prompt.removeprefix(begin)
    before = begin + prompt
    text = before + answer + end
    ordinary: tuple[Range, ...] = ()
    if control is not None:
        parts = ((len(begin), prompt), (len(before), answer))
        ordinary = tuple((at + a, at + b) for at, part in parts for a, b in control.places(part))
    return Rendering(text, ((len(before), len(text)),), ordinary=ordinary)


def document(text: Document, tokenizer: PreTrainedTokenizerBase, control: SpecialTokenText | None) -> Rendering:
    """Renders a document as `complete` does; all is learned but the first token, which nothing predicts."""
    rendering = complete(Completion("", text.text), tokenizer, control)
    return replace(rendering, everything=True, document=True)


def with_labels(rendering: Rendering, example: Stepped) -> Rendering:
    """Adds the label of each step, at the step's last character, to the rendering of a response in steps.

    Raises:
        DataError: the template changes the text of the response.
    """
    return with_step_labels(rendering, example.text, tuple(zip(example.ends, example.labels, strict=True)))


def with_step_labels(rendering: Rendering, text: str, labels: Sequence[tuple[int, float]]) -> Rendering:
    """Adds labels at characters of a response to its rendering.

    Args:
        rendering: its last learned turn is the response.
        text: the response.
        labels: (index of a character of the text, label), in ascending order.

    Raises:
        DataError: the template changes the text of the response.
    """
    stripped = text.strip()  # many templates write answers without the white space around them
    start = rendering.text.find(stripped, rendering.spans[-1][0]) - (len(text) - len(text.lstrip()))
    if not rendering.text.startswith(stripped, start + len(text) - len(text.lstrip())):
        raise DataError(
            given=f"the template does not write the steps as they stand in the row: {stripped[:60]!r}",
            rule="the label of a step belongs to its last character in the text",
            remedy="name another template, or write the steps as it does",
        )
    return replace(rendering, step_labels=tuple((start + end, label) for end, label in labels))


def _end_token(tokenizer: PreTrainedTokenizerBase) -> str:
    if tokenizer.eos_token is None:
        raise ModelError(
            given="the tokenizer has no end token (eos_token)",
            rule="a completion ends with it, otherwise the model would never stop",
            remedy="set eos_token in tokenizer_config.json",
        )
    return str(tokenizer.eos_token)


def begin_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns the text of the begin token if the tokenizer adds one to texts; otherwise the empty string."""
    adds = tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    return str(tokenizer.bos_token) if adds else ""
