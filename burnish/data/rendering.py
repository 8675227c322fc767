"""Which characters of a conversation's text the model is to learn.

Stands between `writer` and `tokenize`. What is learned is derived by rendering, never by searching for marker strings:
for each learned turn, the text with the generation prompt (what serving gives the model) and the text with the turn.
Where a template writes earlier turns differently once later ones follow (it strips their thinking, say), a conversation
becomes several renderings, so every turn is learned in the context that serving would give. Parts of a turn (its
reasoning, its tool calls) are found in the same way: by what changes in the text when that part of the message does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from burnish.data.records import Completion, Conversation, Document, Message, Stepped
from burnish.data.settings import TrainOn
from burnish.data.special_token_text import SEAL, SpecialTokenText, ordinary_ranges
from burnish.data.writer import Script, Writer
from burnish.errors import DataError, ModelError

Range = tuple[int, int]
"""Characters [start, end)."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """One text to learn from. Example: ``Rendering("Q: 2+2\\nA: 4</s>", spans=((10, 15),))``."""

    text: str
    spans: tuple[Range, ...]
    """Turns that the model is to write, in order, not overlapping."""
    weights: tuple[float, ...] = ()
    """How much the tokens of each turn count; (): 1. What is learned beside the turns counts 1."""
    skipped: tuple[Range, ...] = ()
    """Parts of them that are not learned. The token that ends a turn always is."""
    ordinary: tuple[Range, ...] = ()
    """Text of control tokens that a row brought along: read as the characters that it consists of."""
    everything: bool = False
    """Whether all the rest of the text is learned as well."""
    document: bool = False
    """Whether the text is a document, which may be cut into pieces."""
    labels: tuple[tuple[int, float], ...] = ()
    """The last characters of steps, rising, and how good each step is."""
    generation_prefix: str = ""
    """Of a prompt, the end of its text that belongs to the response: an opened thought, a begun turn, a prefix."""


def render(
    conversation: Conversation, writer: Writer, train_on: TrainOn = "assistant", control: SpecialTokenText | None = None
) -> tuple[Rendering, ...]:
    """Every learned turn in exactly one rendering, in the context that serving would give it.

    Turn i is the text after the generation prompt: whole(i) without before(i). Turns whose whole text begins the text
    of a later one share a rendering; a template that rewrites earlier turns gives one rendering per turn.

    Args:
        control: what must stay ordinary text; None: text of control tokens in the row becomes control tokens.

    Raises:
        DataError: the template cannot write the row, or there is nothing of the wanted kind to learn in it.
    """
    renderings = _render(conversation, writer, train_on)
    if control is None or (sealed := control.sealed(conversation)) is None:
        return renderings
    # Turns only: what is learned of them was decided above, on the true text.
    marked = _render(sealed, writer, train_on)
    if [each.text.replace(SEAL, "") for each in marked] != [each.text for each in renderings]:
        raise DataError(
            given="the row has text of control tokens, and the template decides by it what to write",
            rule="text of a row stays text: only the template writes control tokens",
            remedy="give the row the field that the template writes itself (reasoning_content, tool_calls), or let "
            "such text become tokens with special_tokens_in_text=tokens",
        )
    return tuple(
        replace(each, ordinary=ordinary_ranges(other.text, control))
        for each, other in zip(renderings, marked, strict=True)
    )


def _render(conversation: Conversation, writer: Writer, train_on: TrainOn) -> tuple[Rendering, ...]:
    script = writer.script(conversation)
    turns = conversation.turns[-1:] if train_on == "last" else conversation.turns
    renderings: list[Rendering] = []
    for turn in reversed(turns):
        before, whole = _turn(script, turn)
        if not whole.startswith(before):
            raise _forced_otherwise(turn, before, whole)
        span = len(before), len(whole)
        skipped = _skipped(script, turn, train_on, whole, span)
        if skipped != span:
            _add(renderings, whole, span, skipped, conversation.messages[turn].weight)
    if train_on == "everything":
        return (_all_of(script, renderings),)
    if turns and not renderings:
        raise _nothing_of(train_on)
    return tuple(reversed(renderings))


def _turn(script: Script, turn: int) -> tuple[str, str]:
    """What serving gives the model before a turn, and the text up to its end."""
    before = script.write(turn, to_be_answered=True)
    whole = script.write(turn + 1, to_be_answered=False)
    if not whole.startswith(before):
        whole = _after_opened_thought(script.conversation.messages[turn], before, whole)
    return before, whole


def _after_opened_thought(message: Message, before: str, whole: str) -> str:
    """What the model is to write after a generation prompt that opens a thought which the rendered message lacks.

    Some templates (DeepSeek R1's) open a thought for the model, and strip thoughts from all messages, also from the
    last. Then the turn is what the model itself would write: the rest of the thought, its end, the answer, and what the
    template puts after an answer. Of a message without a thought nobody knows what to learn: `whole` is returned.
    """
    same = common_prefix(before, whole)
    opened, rendered = before[same:], whole[same:]
    raw = whole_turn(message)
    answer = raw.rpartition(_CLOSING)[2]
    written = next((text for text in (answer, answer.strip()) if rendered.startswith(text)), None)
    if opened.strip() != _OPENING or not raw.startswith(_OPENING) or written is None:
        return whole
    rest = raw[len(opened) :] if raw.startswith(opened) else raw[len(_OPENING) :]
    return before + rest + rendered[len(written) :]


def whole_turn(message: Message) -> str:
    """The message as a model writes it, its thought in front."""
    said = message.content or ""
    thought = next((str(message.extra[key]) for key in _REASONING_KEYS if message.extra.get(key)), None)
    return said if thought is None else f"{_OPENING}\n{thought.strip()}\n{_CLOSING}\n\n{said.strip()}"


def _add(renderings: list[Rendering], whole: str, span: Range, skipped: Range | None, weight: float) -> None:
    for index, later in enumerate(renderings):
        if later.text.startswith(whole) and later.spans[0][0] >= span[1]:
            both = (*((skipped,) if skipped else ()), *later.skipped)
            spans, weights = (span, *later.spans), (weight, *later.weights)
            renderings[index] = replace(later, spans=spans, weights=weights, skipped=both)
            return
    renderings.append(Rendering(whole, (span,), (weight,), (skipped,) if skipped else ()))


def _all_of(script: Script, renderings: list[Rendering]) -> Rendering:
    """The whole conversation, also what follows its last learned turn."""
    text = script.write(len(script.messages), to_be_answered=False)
    fitting = [each for each in renderings if text.startswith(each.text)]
    most = max(fitting, key=lambda each: len(each.spans), default=Rendering(text, ()))
    return Rendering(text, most.spans, most.weights, everything=True)


def _skipped(script: Script, turn: int, train_on: TrainOn, whole: str, span: Range) -> Range | None:
    """The part of a turn that is not learned; None: all is; the whole span: nothing of the turn is wanted."""
    message = script.conversation.messages[turn]
    if train_on in ("answers", "reasoning"):
        if not _reasons(message):
            return None if train_on == "answers" else span
        start = _answer_start(script, turn, whole, span)
        return (span[0], start) if train_on == "answers" else (start, span[1])
    if train_on == "tool_calls":
        if not message.extra.get("tool_calls"):
            return span
        return span[0], _calls_start(script, turn, whole, span)
    return None


_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_OPENING, _CLOSING = "<think>", "</think>"


def _reasons(message: Message) -> bool:
    return any(message.extra.get(key) for key in _REASONING_KEYS) or _CLOSING in (message.content or "")


def _answer_start(script: Script, turn: int, whole: str, span: Range) -> int:
    """Where the answer begins: the first character that changes with it, the reasoning being the same."""
    message = script.conversation.messages[turn]
    thought, closing, answer = (message.content or "").rpartition(_CLOSING)
    other = "b" if answer.strip().startswith("a") else "a"
    extra = {key: value for key, value in message.extra.items() if key != "tool_calls"}
    changed = replace(message, content=thought + closing + other, extra=extra)
    start = _first_difference(script, turn, whole, changed)
    return min(max(start, span[0]), span[1])


def _calls_start(script: Script, turn: int, whole: str, span: Range) -> int:
    """Where the tool calls begin: the first character that changes without them."""
    message = script.conversation.messages[turn]
    extra = {key: value for key, value in message.extra.items() if key != "tool_calls"}
    changed = replace(message, content=message.content or "", extra=extra)
    start = _first_difference(script, turn, whole, changed)
    if start >= len(whole):
        raise DataError(
            given=f"the template writes nothing of the tool_calls of messages[{turn}]",
            rule="train_on=tool_calls learns what the template writes of them",
            remedy="name a template that writes tool calls",
        )
    return min(max(start, span[0]), span[1])


def _first_difference(script: Script, turn: int, whole: str, changed: Message) -> int:
    messages = (*script.conversation.messages[:turn], changed)
    _, other = _turn(script.writer.script(replace(script.conversation, messages=messages)), turn)
    if other == whole:
        return len(whole)
    return common_prefix(whole, other)


def common_prefix(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _forced_otherwise(turn: int, before: str, whole: str) -> DataError:
    same = common_prefix(before, whole)
    return DataError(
        given=f"before messages[{turn}] the template's generation prompt writes {before[same:][:60]!r}, but the "
        f"rendered message has {whole[same:][:60]!r} there",
        rule="a turn is learned after exactly the text that the model is given when serving",
        remedy="give the message what the generation prompt opens (often reasoning_content), set the template's own "
        "variable for it (such as chat_template_kwargs.enable_thinking=false), or name another template",
    )


def _nothing_of(train_on: TrainOn) -> DataError:
    return DataError(
        given=f"no turn of the row has anything of train_on={train_on}",
        rule="a row has at least one token to learn",
        remedy="delete the row, allow such rows (max_invalid_fraction), or choose another train_on",
    )


def complete(completion: Completion, tokenizer: PreTrainedTokenizerBase, control: SpecialTokenText | None) -> Rendering:
    """Plain text: the begin token if this tokenizer adds one by itself, the prompt, the completion, the end token.

    A begin token that the prompt starts with, and an end token that the completion ends with, are taken as those.
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
    """A document as `complete` writes it, all of which is learned but its first token, which nothing predicts."""
    rendering = complete(Completion("", text.text), tokenizer, control)
    return replace(rendering, everything=True, document=True)


def with_labels(rendering: Rendering, example: Stepped) -> Rendering:
    """The rendering of a response in steps, with the label of each at its last character.

    Raises:
        DataError: the template writes the response in another way than it stands in the row.
    """
    text = example.text
    written = text.strip()  # many templates write answers without the white space around them
    place = rendering.text.find(written, rendering.spans[-1][0]) - (len(text) - len(text.lstrip()))
    if not rendering.text.startswith(written, place + len(text) - len(text.lstrip())):
        raise DataError(
            given=f"the template does not write the steps as they stand in the row: {written[:60]!r}",
            rule="a step is judged where it ends in the text",
            remedy="name another template, or write the steps as it does",
        )
    marks = ((place + end, label) for end, label in zip(example.ends, example.labels, strict=True))
    return replace(rendering, labels=tuple(marks))


def _end_token(tokenizer: PreTrainedTokenizerBase) -> str:
    if tokenizer.eos_token is None:
        raise ModelError(
            given="the tokenizer has no end token (eos_token)",
            rule="a completion ends with it, otherwise the model would never stop",
            remedy="set eos_token in tokenizer_config.json",
        )
    return str(tokenizer.eos_token)


def begin_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The begin token's text, if this tokenizer puts one before a text by itself."""
    adds = tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    return str(tokenizer.bos_token) if adds else ""
