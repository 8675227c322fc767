"""A conversation: what the model is given turn by turn, commands, and what happens when the positions are full."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.data.generation_prompt import prompt_messages
from burnish.data.records import Conversation, Message
from burnish.data.writer import Writer
from burnish.errors import ModelError
from burnish.evaluate import chat as module
from burnish.evaluate.chat import Chat, converse
from burnish.model.open import LoadedModel, open_model, with_template
from burnish.sampling.params import SamplingParams
from burnish.types import Response
from tests.adapters import write_base


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return open_model(str(write_base(tmp_path_factory.mktemp("chat") / "base")))


@pytest.fixture
def bare(tmp_path: Path) -> LoadedModel:
    base = write_base(tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    return open_model(str(base))


class Model:
    """Replaces `stream_text`: answers a1, a2, … and records prompts and seeds."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.prompts: list[tuple[int, ...]] = []
        self.seeds: list[int] = []
        self.interrupted = interrupted

    def __call__(self, _sampler: object, _tokenizer: object, prompt, params, on_text, media) -> Response:
        self.prompts.append(tuple(prompt))
        self.seeds.append(params.seed)
        on_text(f"a{len(self.prompts)}")
        if self.interrupted:
            raise KeyboardInterrupt
        return Response(tokens=torch.tensor([1]), trainable=torch.tensor([True]), finish="end")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    fake = Model()
    monkeypatch.setattr(module, "stream_text", fake)
    return fake


def talk(chat: Chat, *lines: str) -> tuple[str, list[str]]:
    text: list[str] = []
    notes: list[str] = []
    converse(chat, lines, text.append, notes.append)
    return "".join(text), notes


def prompt(opened: LoadedModel, *texts: str, system: str | None = None) -> tuple[int, ...]:
    """Prompt tokens after these turns, of user and model alternately."""
    assert opened.template is not None
    first = () if system is None else (Message("system", system),)
    turns = tuple(Message("assistant" if at % 2 else "user", text) for at, text in enumerate(texts))
    return prompt_messages(Conversation((*first, *turns)), Writer(opened.tokenizer, opened.template))


def test_every_turn_sees_all_turns_before(opened, model):
    text, notes = talk(Chat(opened, SamplingParams(20)), "one", "", "two", "  ", "three")
    assert text == "a1\na2\na3\n"
    assert notes == []
    assert model.prompts == [
        prompt(opened, "one"),
        prompt(opened, "one", "a1", "two"),
        prompt(opened, "one", "a1", "two", "a2", "three"),
    ]
    assert len(set(model.seeds)) == 3


def test_commands(opened, model):
    chat = Chat(opened, SamplingParams(20), system="Be kind.")
    _, notes = talk(
        chat, "one", "/reset", "two", "/system Be brief.", "three", "/help", "/rest", " /four", "/exit", "no"
    )
    assert model.prompts == [
        prompt(opened, "one", system="Be kind."),
        prompt(opened, "two", system="Be kind."),
        prompt(opened, "three", system="Be brief."),
        prompt(opened, "three", "a3", "/four", system="Be brief."),
    ]
    assert notes[0] == "the conversation is cleared"
    assert any("'/rest'" in note for note in notes)


def test_the_earliest_turns_are_dropped_when_the_positions_are_full(opened, model):
    chat = Chat(opened, SamplingParams(100), system="Be kind.")
    long = "x" * 150
    _, notes = talk(chat, long, long, long, "short")
    assert model.prompts[2] == prompt(opened, long, "a2", long, system="Be kind.")
    assert model.prompts[3] == prompt(opened, long, "a2", long, "a3", "short", system="Be kind.")
    assert notes == ["the model's 512 positions are full: the first 1 turns are dropped"]
    assert all(len(given) <= 512 - 100 for given in model.prompts)


def test_a_message_that_is_too_long_by_itself_is_refused_and_not_kept(opened):
    chat = Chat(opened, SamplingParams(5))
    text, notes = talk(chat, "x" * 600, "hello")
    assert "512 positions" in notes[0]
    assert text.endswith("\n")
    assert next(message.content for message in chat.messages) == "hello"


def test_the_text_of_an_interrupted_answer_stays(opened, monkeypatch):
    model = Model(interrupted=True)
    monkeypatch.setattr(module, "stream_text", model)
    text, notes = talk(Chat(opened, SamplingParams(20)), "one", "two")
    assert text == "a1\na2\n"
    assert notes == ["stopped; the text so far stays in the conversation"] * 2
    assert model.prompts[1] == prompt(opened, "one", "a1", "two")


def test_a_model_without_a_template_continues_one_text(bare, model):
    text, _ = talk(Chat(bare, SamplingParams(20)), "Once ", " upon")
    assert text == "a1\na2\n"
    assert [bare.tokenizer.decode(given) for given in model.prompts] == ["Once ", "Once a1 upon"]


def test_a_long_text_is_continued_from_its_end(bare, model):
    _, notes = talk(Chat(bare, SamplingParams(12)), "y" * 300, "z" * 300)
    assert bare.tokenizer.decode(model.prompts[1]) == ("y" * 300 + "a1" + "z" * 300)[-500:]
    assert len(notes) == 1


def test_a_system_prompt_needs_a_template(bare, model):
    with pytest.raises(ModelError, match="--chat-template"):
        Chat(bare, SamplingParams(20), system="Be kind.")
    assert any("--chat-template" in note for note in talk(Chat(bare, SamplingParams(20)), "/system Be kind.")[1])
    chatted = with_template(bare, "plain")
    talk(Chat(chatted, SamplingParams(20), system="Be kind."), "one")
    assert model.prompts == [prompt(chatted, "one", system="Be kind.")]


def test_answers_that_are_cut_say_so(opened):
    _, notes = talk(Chat(opened, SamplingParams(3)), "hello")
    assert notes == ["truncated after 3 tokens; max_new_tokens=6 allows more"]


def test_the_templates_end_of_turn_ends_answers_of_a_base_model(opened):
    """Whatever the generation settings of the checkpoint say."""
    chat = Chat(opened, SamplingParams(3))
    assert opened.tokenizer.convert_tokens_to_ids("<|end|>") in chat._sampler.end_tokens
