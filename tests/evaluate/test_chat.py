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
    """In the place of `stream`: answers a1, a2, … and keeps what it was given."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.prompts: list[tuple[int, ...]] = []
        self.seeds: list[int] = []
        self.interrupted = interrupted

    def __call__(self, _sampler: object, _tokenizer: object, prompt, params, told) -> Response:
        self.prompts.append(tuple(prompt))
        self.seeds.append(params.seed)
        told(f"a{len(self.prompts)}")
        if self.interrupted:
            raise KeyboardInterrupt
        return Response(tokens=torch.tensor([1]), trainable=torch.tensor([True]), finish="end")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    found = Model()
    monkeypatch.setattr(module, "stream", found)
    return found


def talk(chat: Chat, *lines: str) -> tuple[str, list[str]]:
    told: list[str] = []
    noted: list[str] = []
    converse(chat, lines, told.append, noted.append)
    return "".join(told), noted


def prompt(opened: LoadedModel, *said: str, system: str | None = None) -> tuple[int, ...]:
    """What the model is given after these turns, the user's and the model's in turn."""
    assert opened.template is not None
    first = () if system is None else (Message("system", system),)
    turns = tuple(Message("assistant" if at % 2 else "user", text) for at, text in enumerate(said))
    return prompt_messages(Conversation((*first, *turns)), Writer(opened.tokenizer, opened.template))


def test_every_turn_sees_all_turns_before(opened, model):
    told, noted = talk(Chat(opened, SamplingParams(20)), "one", "", "two", "  ", "three")
    assert told == "a1\na2\na3\n"
    assert noted == []
    assert model.prompts == [
        prompt(opened, "one"),
        prompt(opened, "one", "a1", "two"),
        prompt(opened, "one", "a1", "two", "a2", "three"),
    ]
    assert len(set(model.seeds)) == 3


def test_commands(opened, model):
    chat = Chat(opened, SamplingParams(20), system="Be kind.")
    _, noted = talk(
        chat, "one", "/reset", "two", "/system Be brief.", "three", "/help", "/rest", " /four", "/exit", "no"
    )
    assert model.prompts == [
        prompt(opened, "one", system="Be kind."),
        prompt(opened, "two", system="Be kind."),
        prompt(opened, "three", system="Be brief."),
        prompt(opened, "three", "a3", "/four", system="Be brief."),
    ]
    assert noted[0] == "forgotten"
    assert any("'/rest'" in note for note in noted)


def test_the_earliest_turns_are_forgotten_when_the_positions_are_full(opened, model):
    chat = Chat(opened, SamplingParams(100), system="Be kind.")
    long = "x" * 150
    _, noted = talk(chat, long, long, long, "short")
    assert model.prompts[2] == prompt(opened, long, "a2", long, system="Be kind.")
    assert model.prompts[3] == prompt(opened, long, "a2", long, "a3", "short", system="Be kind.")
    assert noted == ["the model's 512 positions are full: the first 1 turns are forgotten"]
    assert all(len(given) <= 512 - 100 for given in model.prompts)


def test_a_message_that_is_too_long_by_itself_is_refused_and_not_kept(opened):
    chat = Chat(opened, SamplingParams(5))
    told, noted = talk(chat, "x" * 600, "hello")
    assert "512 positions" in noted[0]
    assert told.endswith("\n")
    assert next(message.content for message in chat.messages) == "hello"


def test_an_interrupted_answer_is_kept_as_far_as_it_came(opened, monkeypatch):
    model = Model(interrupted=True)
    monkeypatch.setattr(module, "stream", model)
    told, noted = talk(Chat(opened, SamplingParams(20)), "one", "two")
    assert told == "a1\na2\n"
    assert noted == ["stopped; what was said so far is kept"] * 2
    assert model.prompts[1] == prompt(opened, "one", "a1", "two")


def test_a_model_without_a_template_continues_one_text(bare, model):
    told, _ = talk(Chat(bare, SamplingParams(20)), "Once ", " upon")
    assert told == "a1\na2\n"
    assert [bare.tokenizer.decode(given) for given in model.prompts] == ["Once ", "Once a1 upon"]


def test_a_long_text_is_continued_from_its_end(bare, model):
    _, noted = talk(Chat(bare, SamplingParams(12)), "y" * 300, "z" * 300)
    assert bare.tokenizer.decode(model.prompts[1]) == ("y" * 300 + "a1" + "z" * 300)[-500:]
    assert len(noted) == 1


def test_a_system_prompt_needs_a_template(bare, model):
    with pytest.raises(ModelError, match="--chat-template"):
        Chat(bare, SamplingParams(20), system="Be kind.")
    assert any("--chat-template" in note for note in talk(Chat(bare, SamplingParams(20)), "/system Be kind.")[1])
    chatted = with_template(bare, "plain")
    talk(Chat(chatted, SamplingParams(20), system="Be kind."), "one")
    assert model.prompts == [prompt(chatted, "one", system="Be kind.")]


def test_answers_that_are_cut_say_so(opened):
    _, noted = talk(Chat(opened, SamplingParams(3)), "hello")
    assert noted == ["cut after 3 tokens; max_new_tokens=6 allows more"]


def test_the_templates_end_of_turn_ends_answers_of_a_base_model(opened):
    """Whatever the generation settings of the checkpoint say."""
    chat = Chat(opened, SamplingParams(3))
    assert opened.tokenizer.convert_tokens_to_ids("<|end|>") in chat._sampler.end_tokens
