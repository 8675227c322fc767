"""`burnish generate`: what it reads and writes, that it goes on where it was stopped, and how mistakes end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import burnish
from burnish.data.generation_prompt import prompt_messages
from burnish.data.records import Conversation, Message
from burnish.data.template import choose_template
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError, RecipeError, RunError, UserError
from burnish.evaluate.detokenize import response_decoder
from burnish.model.load import load_tokenizer
from burnish.model.open import open_model
from burnish.sampling.base import SampleRequest
from burnish.sampling.plain import PlainSampler
from burnish.verbs import generate as module
from burnish.verbs.evaluate import read_settings
from burnish.verbs.generate import GenerateResult, GenerateSettings, generate
from tests.adapters import write_adapter, write_base, write_rows_of

ROWS: list[dict[str, Any]] = [
    {"question": "What is 2 plus 3?", "reference": "5", "level": 2},
    {"question": "Where?", "reference": "Here", "level": 1},
    {"question": "Who wrote the long letter to nobody?", "reference": "I", "level": None},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("generation") / "base")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows_of(tmp_path_factory.mktemp("rows"), *ROWS)


def answers(base: Path, rows: Path, *overrides: str, output: Path | None = None) -> GenerateResult:
    given = ["max_new_tokens=6", *overrides]
    return generate(str(base), read_settings(GenerateSettings, {"data": str(rows)}, given), output=output)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prompt_ids(base: Path, *messages: Message) -> tuple[int, ...]:
    tokenizer = load_tokenizer(str(base))
    return prompt_messages(Conversation(messages), Writer(tokenizer, choose_template(tokenizer)))


def test_a_line_for_each_prompt(base, rows, tmp_path):
    found = answers(base, rows, "responses_per_prompt=3", "logprobs=true", output=tmp_path / "out" / "answers.jsonl")
    written = lines(tmp_path / "out" / "answers.jsonl")
    assert written == found.answers
    assert [line["row"] for line in written] == [0, 1, 2]
    assert [line["reference"] for line in written] == ["5", "Here", "I"]
    assert [line.get("extra") for line in written] == [{"level": 2}, {"level": 1}, None]
    assert written[0]["prompt"] == [{"role": "user", "content": "What is 2 plus 3?"}]
    decode = response_decoder(load_tokenizer(str(base)), [])
    for line in written:
        assert {len(line[name]) for name in ("responses", "finish", "token_ids", "logprobs")} == {3}
        for text, finish, tokens, logprobs in zip(
            line["responses"], line["finish"], line["token_ids"], line["logprobs"], strict=True
        ):
            assert len(tokens) == len(logprobs) <= 6
            assert finish == "end" or len(tokens) == 6
            assert text == decode(tokens if finish == "length" else tokens[:-1])
            assert max(logprobs) < 0
    assert tuple(written[1]["prompt_ids"]) == prompt_ids(base, Message("user", "Where?"))
    assert "3 prompts with 9 responses" in found.line()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["answers.jsonl"]


def test_what_is_written_can_be_asked_again(base, rows, tmp_path):
    """Rows of the file are prompts with references."""
    answers(base, rows, output=tmp_path / "first.jsonl")
    again = answers(base, tmp_path / "first.jsonl", "columns={prompt: prompt}")
    assert [line["prompt"] for line in again.answers] == [line["prompt"] for line in lines(tmp_path / "first.jsonl")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Once upon a"},
        {"prompt": [{"role": "user", "content": "Once?"}]},
        {"messages": [{"role": "user", "content": "Once?"}, {"role": "assistant", "content": "Twice."}]},
        {"prompt": "Once upon a", "completion": " time"},
        {"instruction": "Say once.", "output": "Once."},
    ],
    ids=["text", "messages", "chat", "prompt and completion", "alpaca"],
)
def test_every_kind_of_row_asks(base, tmp_path, row):
    [line] = answers(base, write_rows_of(tmp_path, row)).answers
    said = line["prompt"]
    assert said == "Once upon a" or [message["role"] for message in said] == ["user"]
    assert line.get("reference") in (None, "Twice.", " time", "Once.")


def test_messages_that_wait_for_an_answer_ask_if_they_are_named(base, tmp_path):
    data = write_rows_of(tmp_path, {"messages": [{"role": "user", "content": "Once?"}]})
    [line] = answers(base, data, "columns={prompt: messages}").answers
    assert line["prompt"] == [{"role": "user", "content": "Once?"}]


@pytest.mark.parametrize("written", [0, 1, 2])
@pytest.mark.parametrize("torn", [False, True], ids=["whole lines", "a torn line"])
def test_an_interrupted_file_goes_on_and_is_the_same(base, rows, tmp_path, monkeypatch, written, torn):
    expected = answers(base, rows, "responses_per_prompt=2").answers
    append = module.ResponseFile.append

    def interrupted(self: Any, line: Any) -> None:
        if len(self.lines) == written:
            raise KeyboardInterrupt
        append(self, line)

    monkeypatch.setattr(module.ResponseFile, "append", interrupted)
    output = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answers(base, rows, "responses_per_prompt=2", output=output)
    assert not output.exists()
    monkeypatch.undo()
    [part] = tmp_path.iterdir()
    if torn:
        part.write_bytes(part.read_bytes() + b'{"row": ')
    other = answers(base, rows, "responses_per_prompt=2", "seed=1", output=tmp_path / "other.jsonl")
    assert other.resumed == 0
    found = answers(base, rows, "responses_per_prompt=2", "tokens_per_microbatch=600", output=output)
    assert found.resumed == written
    assert lines(output) == expected
    assert not part.exists()


def test_other_settings_data_or_weights_do_not_go_on(base, rows, tmp_path, monkeypatch):
    output = tmp_path / "answers.jsonl"
    seen: set[str] = set()

    def noted(output: Path, identity: str) -> Any:
        seen.add(identity)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "response_file", noted)
    adapter = write_adapter(tmp_path / "adapter", base)
    load_tokenizer(str(base)).save_pretrained(adapter)
    fewer = write_rows_of(tmp_path, *ROWS[:2])
    for place, data, overrides in (
        (base, rows, []),
        (base, rows, ["temperature=0.5"]),
        (base, rows, ["system=Be brief."]),
        (base, fewer, []),
        (adapter, rows, []),
    ):
        with pytest.raises(KeyboardInterrupt):
            answers(place, data, *overrides, output=output)
    assert len(seen) == 5


def test_an_adapter_answers(base, rows, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base, scale=0.5)
    load_tokenizer(str(base)).save_pretrained(adapter)
    plain, adapted = answers(base, rows).answers, answers(adapter, rows).answers
    assert [line["responses"] for line in plain] != [line["responses"] for line in adapted]
    assert burnish.generate(model=str(adapter), data=str(rows), max_new_tokens=6, base=str(base)).answers == adapted


def test_it_is_what_the_plain_sampler_writes(base, rows):
    """The same tokens from the same model by another sampler, with all settings of sampling."""
    overrides = ["temperature=0.7", "top_p=0.9", "top_k=40", "min_p=0.01", "repetition_penalty=1.2", "seed=5"]
    found = answers(
        base, rows, *overrides, "responses_per_prompt=2", "stop=[e]", "stop_ids=[40]", "logprobs=true"
    ).answers
    opened = open_model(str(base))
    ends = [opened.tokenizer.eos_token_id, opened.tokenizer.convert_tokens_to_ids("<|end|>")]
    params = read_settings(
        GenerateSettings, {"data": ""}, [*overrides, "max_new_tokens=6", "stop=[e]", "stop_ids=[40]"]
    ).params
    prompts = [SampleRequest(torch.tensor(line["prompt_ids"]), line["row"]) for line in found]
    groups = PlainSampler(opened.model, opened.tokenizer, ends, 512).sample(prompts, 2, params)
    tokens = [[response.tokens.tolist() for response in group.responses] for group in groups]
    assert [line["token_ids"] for line in found] == tokens


def test_system_and_prefix(base, tmp_path):
    spoken = [{"role": "system", "content": "Own."}, {"role": "user", "content": "b"}]
    data = write_rows_of(tmp_path, {"prompt": [{"role": "user", "content": "a"}]}, {"prompt": spoken})
    found = answers(base, data, "system=Be brief.", "prefix=Well <|end|>", "logprobs=true").answers
    first = prompt_ids(base, Message("system", "Be brief."), Message("user", "a"))
    tokenizer = load_tokenizer(str(base))
    beginning = found[0]["prompt_ids"][len(first) :]
    assert tuple(found[0]["prompt_ids"][: len(first)]) == first
    assert tokenizer.decode(beginning) == "Well <|end|>"
    assert tokenizer.convert_tokens_to_ids("<|end|>") not in beginning, "text of control tokens stays text"
    assert [line["prompt"][0]["content"] for line in found] == ["Be brief.", "Own."]
    assert all(text.startswith("Well <|end|>") for line in found for text in line["responses"])
    [plain] = answers(base, write_rows_of(tmp_path, {"prompt": "Once"}), 'prefix=" upon"', "logprobs=true").answers
    assert tokenizer.decode(plain["prompt_ids"]).endswith("Once upon")


def test_greedy_is_the_same_for_every_seed(base, rows):
    one, other = (answers(base, rows, "temperature=0", f"seed={seed}").answers for seed in (0, 1))
    assert one == other
    assert answers(base, rows, "seed=1").answers != answers(base, rows, "seed=2").answers


def test_models_that_cannot_be_packed_answer_too(base, rows, monkeypatch):
    expected = answers(base, rows).answers

    def refuse(_opened: object) -> None:
        raise ModelError(given="it has other attention", rule="", remedy="")

    monkeypatch.setattr("burnish.sampling.open.policy_of", refuse)
    found = answers(base, rows)
    assert found.answers == expected
    assert "prompts are computed for every response: it has other attention" in found.notes


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["temprature=1"], "did you mean temperature"),
        (["num_return_sequences=4"], "here it is responses_per_prompt"),
        (["temperature=-1"], "temperature"),
        (["temperature=0", "responses_per_prompt=2"], "the same response 2 times"),
        (["top_p=0"], "top_p"),
        (["responses_per_prompt=0"], "responses_per_prompt"),
        (["stop_ids=[99999]"], "the model has"),
        (["stop=['']"], "stop"),
        (["overlong=truncate"], "would change the prompt"),
        (["max_length=9999"], "512 positions"),
        (["max_length=7"], "prompts are too long"),
        (["chat_template=chatmil"], "chatml"),
    ],
)
def test_mistakes(base, rows, tmp_path, overrides, words):
    with pytest.raises(UserError, match=words):
        answers(base, rows, *overrides, output=tmp_path / "answers.jsonl")
    assert not (tmp_path / "answers.jsonl").exists()


def test_a_file_that_is_there_is_not_touched(base, rows, tmp_path):
    output = tmp_path / "answers.jsonl"
    output.write_text("mine")
    with pytest.raises(RunError, match="never overwrite"):
        answers(base, rows, output=output)
    assert output.read_text() == "mine"
    with pytest.raises(RunError, match="cannot be written"):
        answers(base, rows, output=output / "under a file" / "answers.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"question": "a"\n', "line 1"),
        ('{"question": 4}\n', "question"),
        ('{"rejected": "a"}\n', "no known format"),
        ("", "rows|empty"),
        ('{"question": "a"}\n{"question": ""}\n{"question": null}\n', "line 3"),
    ],
    ids=["broken JSON", "a number", "other columns", "nothing", "a row without a prompt"],
)
def test_broken_input(base, tmp_path, text, words):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(DataError, match=words):
        answers(base, tmp_path / "rows.jsonl", output=tmp_path / "answers.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_system_prompt_is_for_conversations(base, tmp_path):
    with pytest.raises(DataError, match="plain text"):
        answers(base, write_rows_of(tmp_path, {"prompt": "Once"}), "system=Be brief.")


def test_rows_that_cannot_be_used_are_counted(base, tmp_path):
    data = write_rows_of(tmp_path, {"question": "a"}, {"question": "b" * 600}, {"question": None})
    found = answers(base, data, "overlong=drop", "max_invalid_fraction=0.5")
    assert (found.rows, found.left_out, [line["row"] for line in found.answers]) == (3, 2, [0])
    assert "(2 rows left out)" in found.line()


def test_unknown_keys_from_python(base, rows):
    with pytest.raises(RecipeError, match="did you mean temperature"):
        burnish.generate(model=str(base), data=str(rows), temprature=1.0)
