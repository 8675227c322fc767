"""Conversation with a model in a terminal or through a pipe. The command `burnish chat` is in `cli/model.py`.

The plain sampler is used: a single response shares no prompt, and it needs no probe before the first answer. Images
need the local sampler.

The context is kept as messages and rendered for every answer by the template of training. A base model without a
template has no messages and continues one growing text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from burnish.data.generation_prompt import continued_prompt, prompt_sample
from burnish.data.records import Conversation, ImagePart, Message, TextPart
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError
from burnish.evaluate.detokenize import stream_text
from burnish.model.open import LoadedModel
from burnish.model.stop_tokens import stop_tokens_of
from burnish.sampling.base import Sampler
from burnish.sampling.open import open_sampler, plain_sampler
from burnish.sampling.params import SamplingParams
from burnish.types import MediaRef

HELP = (
    "/reset clears the conversation, /system TEXT sets the system prompt and clears it, /image PATH shows an image "
    "with the next message, /exit ends, /help shows this; a message that begins with / needs a space before it"
)

TextCallback = Callable[[str], None]


def _ignored(_: str) -> None: ...


@dataclass(eq=False)
class Chat:
    """Conversation so far, with its model and settings."""

    opened: LoadedModel
    params: SamplingParams
    system: str | None = None
    """The system prompt; None: only that of the template, if it has one."""
    sampler: Sampler | None = None
    """None: the plain sampler of the model."""
    messages: list[Message] = field(default_factory=list)
    """Turns so far, without the system prompt. Unused without a template."""
    text: str = ""
    """Text that a model without a template continues."""
    images: list[str] = field(default_factory=list)
    """Paths of the images that the next message is about."""
    turns: int = 0
    """Number of answers so far; each is sampled with a seed of its own."""

    def __post_init__(self) -> None:
        if self.system is not None:
            self.set_system(self.system)
        ends = stop_tokens_of(self.opened.causal_lm.generation_config, self.opened.tokenizer, self.opened.template)
        takes_images = self.opened.images is not None
        self._sampler = self.sampler or (
            open_sampler(self.opened, ends)[0] if takes_images else plain_sampler(self.opened, ends)
        )
        self._positions = self._sampler.max_positions

    def set_system(self, text: str) -> None:
        """Sets the system prompt and clears the conversation.

        Raises:
            ModelError: the model has no chat template.
        """
        if self.opened.template is None:
            raise ModelError(
                given="a system prompt for a model without a chat template",
                rule="a system prompt is rendered by a chat template",
                remedy="name a template with --chat-template, such as plain or chatml",
            )
        self.reset()
        self.system = text

    def reset(self) -> None:
        """Clears all turns; the system prompt stays."""
        self.messages.clear()
        self.images.clear()
        self.text = ""

    def answer(self, message: str, on_text: TextCallback = _ignored, on_note: TextCallback = _ignored) -> str:
        """Streams the model's answer to `on_text`, and notes about it to `on_note`; returns it. Ctrl+C ends it early.

        Raises:
            DataError: the template cannot render the conversation.
            ModelError: the message is longer than the model's positions.
        """
        has_template = self.opened.template is not None
        asked = self._asked(message)
        prompt, media = self._prompt(asked, on_note) if has_template else (self._plain_prompt(message, on_note), ())
        pieces: list[str] = []

        def collect(piece: str) -> None:
            pieces.append(piece)
            on_text(piece)

        params = replace(self.params, seed=self.params.seed + self.turns)
        self.turns += 1
        try:
            response = stream_text(self._sampler, self.opened.tokenizer, prompt, params, collect, media)
            if response.finish == "length" and has_template:
                length = len(response.tokens)
                on_note(f"truncated after {length} tokens; max_new_tokens={2 * length} allows more")
        except KeyboardInterrupt:
            on_note("stopped; the text so far stays in the conversation")
        self._append(asked, message, "".join(pieces))
        self.images.clear()
        return "".join(pieces)

    def show(self, path: str) -> None:
        """Shows an image with the next message.

        Raises:
            ModelError: the model takes text alone, or has no chat template.
            DataError: there is no such image, or it cannot be used.
        """
        if self.opened.images is None or self.opened.template is None:
            raise ModelError(
                given="an image for a model that takes text alone, or that has no chat template",
                rule="images are in messages to vision-language models",
                remedy="chat with such a model (docs/vision.md), with --chat-template if it has none of its own",
            )
        self.opened.images.file_of(path)
        self.images.append(path)

    def _asked(self, message: str) -> Message:
        """The user's message, with the images that it is about before its text."""
        if not self.images:
            return Message("user", message)
        return Message("user", (*map(ImagePart, self.images), TextPart(message)))

    def _append(self, asked: Message, message: str, answer: str) -> None:
        if self.opened.template is None:
            self.text += message + answer
        else:
            self.messages += [asked, Message("assistant", answer)]

    def _prompt(self, asked: Message, on_note: TextCallback) -> tuple[tuple[int, ...], tuple[MediaRef, ...]]:
        """Tokens and images of the conversation; the earliest turns are dropped if they leave no room for an answer."""
        template = self.opened.template
        assert template is not None, "messages are rendered by a template"
        writer = Writer(self.opened.tokenizer, template, images=self.opened.images)
        system = () if self.system is None else (Message("system", self.system),)
        dropped = 0
        while True:
            prompt = prompt_sample(Conversation((*system, *self.messages, asked)), writer)
            if len(prompt.tokens) <= self._max_prompt_length or not self.messages:
                break
            del self.messages[:2]
            dropped += 1
        if dropped:
            on_note(f"the model's {self._positions:,} positions are full: the first {dropped} turns are dropped")
        return tuple(prompt.tokens.tolist()), prompt.media

    def _plain_prompt(self, message: str, on_note: TextCallback) -> tuple[int, ...]:
        tokens = continued_prompt(self.text + message, self.opened.tokenizer)
        limit = self._max_prompt_length
        if len(tokens) > limit:
            on_note(f"the model's {self._positions:,} positions are full: it gets the last {limit:,} tokens")
        return tokens[-limit:]

    @property
    def _max_prompt_length(self) -> int:
        """Tokens that leave room for a whole answer, or half of the positions if answers may be longer than that."""
        return self._positions - min(self.params.max_new_tokens, self._positions // 2)


def converse(chat: Chat, lines: Iterable[str], on_text: TextCallback, on_note: TextCallback) -> None:
    """Answers line by line until the lines end or one is /exit.

    Args:
        chat: the conversation.
        lines: messages of the user, a line each.
        on_text: gets the answers in pieces, and a newline after each.
        on_note: gets messages of the program, a line each.
    """
    for line in lines:
        if not line.strip():
            continue
        if line.startswith("/"):
            if _command(chat, line.strip(), on_note):
                return
            continue
        try:
            chat.answer(line.removeprefix(" ") if line.startswith(" /") else line, on_text, on_note)
        except (DataError, ModelError) as error:
            on_note(str(error))
            continue
        on_text("\n")


def _command(chat: Chat, line: str, on_note: TextCallback) -> bool:
    """Executes a command; True: the conversation ends."""
    command, _, rest = line.partition(" ")
    if command in ("/exit", "/quit", "/q"):
        return True
    if command == "/reset":
        chat.reset()
        on_note("the conversation is cleared")
    elif command == "/system" and rest.strip():
        try:
            chat.set_system(rest.strip())
            on_note("the system prompt is set, the conversation is cleared")
        except ModelError as error:
            on_note(str(error))
    elif command == "/image" and rest.strip():
        try:
            chat.show(rest.strip())
            on_note("the next message is about this image")
        except (DataError, ModelError) as error:
            on_note(str(error))
    elif command == "/help":
        on_note(HELP)
    else:
        on_note(f"unknown command {line!r}; {HELP}")
    return False
