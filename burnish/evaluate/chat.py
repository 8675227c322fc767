"""A conversation with a model, in a terminal or through a pipe. Stands over the sampler; the verb is in `cli_model`.

The plain sampler writes: of one response at a time there is nothing to share, and it needs no probe before the first.

The context is kept as messages and written anew for every answer by the template of training. A base model without a
template has no messages: it continues one growing text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from burnish.data.generation_prompt import continued_prompt, prompt_messages
from burnish.data.records import Conversation, Message
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError
from burnish.evaluate.detokenize import stream_text
from burnish.model.open import LoadedModel
from burnish.model.stop_tokens import stop_tokens_of
from burnish.sampling.open import plain_sampler
from burnish.sampling.params import SamplingParams

HELP = (
    "/reset forgets what was said, /system TEXT sets the system prompt (and forgets), /exit ends, /help shows this; "
    "a space before / makes it a message"
)

Told = Callable[[str], None]


@dataclass(eq=False)
class Chat:
    """What was said so far, and with whom."""

    opened: LoadedModel
    params: SamplingParams
    system: str | None = None
    """The system prompt; None: none but what the template may say by itself."""
    messages: list[Message] = field(default_factory=list)
    """Turns so far, without the system prompt. Unused without a template."""
    text: str = ""
    """What a model without a template continues."""
    turns: int = 0
    """Answers so far: each is drawn by a seed of its own."""

    def __post_init__(self) -> None:
        if self.system is not None:
            self.set_system(self.system)
        ends = stop_tokens_of(self.opened.causal_lm.generation_config, self.opened.tokenizer, self.opened.template)
        self._sampler = plain_sampler(self.opened, ends)
        self._positions = self._sampler.most_positions

    def set_system(self, text: str) -> None:
        """Begins anew under a system prompt.

        Raises:
            ModelError: without a template there is no place for it.
        """
        if self.opened.template is None:
            raise ModelError(
                given="a system prompt for a model without a chat template",
                rule="the template says where a system prompt stands",
                remedy="name a template with --chat-template, such as plain or chatml",
            )
        self.reset()
        self.system = text

    def reset(self) -> None:
        """Forgets all turns; the system prompt stays."""
        self.messages.clear()
        self.text = ""

    def answer(self, said: str, told: Told, noted: Told) -> str:
        """The model's answer, told in pieces; what is worth knowing about it is noted. Ctrl+C ends it early.

        Raises:
            DataError: the template cannot write it.
            ModelError: it is longer than the model's positions.
        """
        prompt = self._plain_prompt(said, noted) if self.opened.template is None else self._prompt(said, noted)
        pieces: list[str] = []

        def tell(piece: str) -> None:
            pieces.append(piece)
            told(piece)

        chosen = replace(self.params, seed=self.params.seed + self.turns)
        self.turns += 1
        try:
            written = stream_text(self._sampler, self.opened.tokenizer, prompt, chosen, tell)
            if written.finish == "length" and self.opened.template is not None:
                noted(f"cut after {len(written.tokens)} tokens; max_new_tokens={2 * len(written.tokens)} allows more")
        except KeyboardInterrupt:
            noted("stopped; what was said so far is kept")
        self._keep(said, "".join(pieces))
        return "".join(pieces)

    def _keep(self, said: str, answered: str) -> None:
        if self.opened.template is None:
            self.text += said + answered
        else:
            self.messages += [Message("user", said), Message("assistant", answered)]

    def _prompt(self, said: str, noted: Told) -> tuple[int, ...]:
        """The conversation so far; where it leaves no room for an answer, the earliest turns are forgotten."""
        template = self.opened.template
        assert template is not None, "messages are written by a template"
        writer = Writer(self.opened.tokenizer, template)
        system = () if self.system is None else (Message("system", self.system),)
        forgotten = 0
        while True:
            prompt = prompt_messages(Conversation((*system, *self.messages, Message("user", said))), writer)
            if len(prompt) <= self._longest_prompt or not self.messages:
                break
            del self.messages[:2]
            forgotten += 1
        if forgotten:
            noted(f"the model's {self._positions:,} positions are full: the first {forgotten} turns are forgotten")
        return prompt

    def _plain_prompt(self, said: str, noted: Told) -> tuple[int, ...]:
        tokens = continued_prompt(self.text + said, self.opened.tokenizer)
        if len(tokens) > self._longest_prompt:
            noted(
                f"the model's {self._positions:,} positions are full: it sees the last {self._longest_prompt:,} of them"
            )
        return tokens[-self._longest_prompt :]

    @property
    def _longest_prompt(self) -> int:
        """Tokens that leave room for a whole answer, or at least half of the positions where answers may be longer."""
        return self._positions - min(self.params.max_new_tokens, self._positions // 2)


def converse(chat: Chat, lines: Iterable[str], told: Told, noted: Told) -> None:
    """Answers line by line until the lines end or one says /exit.

    Args:
        chat: the conversation.
        lines: what is said, a line each.
        told: is given the answers in pieces, and a newline after each.
        noted: is given what is not the model's, a line each.
    """
    for line in lines:
        if not line.strip():
            continue
        if line.startswith("/"):
            if _command(chat, line.strip(), noted):
                return
            continue
        try:
            chat.answer(line.removeprefix(" ") if line.startswith(" /") else line, told, noted)
        except (DataError, ModelError) as error:
            noted(str(error))
            continue
        told("\n")


def _command(chat: Chat, line: str, noted: Told) -> bool:
    """Obeys a command; True: the conversation is over."""
    command, _, rest = line.partition(" ")
    if command == "/exit":
        return True
    if command == "/reset":
        chat.reset()
        noted("forgotten")
    elif command == "/system" and rest.strip():
        try:
            chat.set_system(rest.strip())
            noted("the system prompt is set, what was said is forgotten")
        except ModelError as error:
            noted(str(error))
    elif command == "/help":
        noted(HELP)
    else:
        noted(f"there is no command {line!r}; {HELP}")
    return False
