from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.formats.known import FORMATS
from burnish.data.read import read_rows
from burnish.data.rendering import render
from burnish.data.template import Template, choose_template
from burnish.data.tokenize import to_response, tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.types import Group

Write = Callable[..., str]


def rows(*lengths: int) -> list[dict[str, str]]:
    """Question-answer rows whose answers have this many tokens of one letter."""
    return [{"question": "x", "answer": "z" * length} for length in lengths]


def ready(path: str, tokenizer: PreTrainedTokenizerBase, max_length: int = 1000, **options: str) -> TokenizedDataset:
    return DatasetSpec.of(
        read_rows(path), tokenizer, choose_template(tokenizer), max_length=max_length, **options
    ).whole()


def test_gsm8k(gsm8k: str, stories: PreTrainedTokenizerBase) -> None:
    data_rows = read_rows(gsm8k)
    few = data_rows.pick(range(300))
    prepared = DatasetSpec.of(few, stories, choose_template(stories), max_length=2048).whole()
    report = prepared.report
    assert (report.format, report.rows, report.groups, report.dropped) == ("question_answer", 300, 300, ())
    assert report.end_tokens == {stories.eos_token_id}
    assert (report.unended_turns, report.straddling_turns) == (0, 0)
    for group, row in zip(prepared, few, strict=True):
        response_text = stories.decode(group.responses[0].tokens)
        assert response_text == f"{row['answer']}</s>"
    assert report.example[-1] == (f"{few[0]['answer']}</s>", True)
    assert str(few[0]["question"]) in report.example[0][0]


def test_the_store_returns_the_groups(write: Write, tokenizer: PreTrainedTokenizerBase) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b 😀"}]
    path = write({"messages": talk}, {"messages": talk * 3}, {"messages": [*talk, *talk]})
    prepared = ready(path, tokenizer)
    chat, template = FORMATS["chat"], choose_template(tokenizer)
    for index, row in enumerate(read_rows(path)):
        (sample,) = tokenize(render(chat.convert(row), Writer(tokenizer, template)), tokenizer)
        after = slice(sample.prompt_length, None)
        response = to_response(sample.tokens[after], sample.trainable[after])
        prompt = torch.from_numpy(sample.tokens[: sample.prompt_length].astype(np.int64))
        direct = Group(prompt=prompt, responses=(response,), metadata={"source": path, "row": index})
        stored = prepared[index]
        assert torch.equal(stored.prompt, direct.prompt)
        assert torch.equal(stored.responses[0].tokens, direct.responses[0].tokens)
        assert torch.equal(stored.responses[0].trainable, direct.responses[0].trainable)
        assert stored.metadata == direct.metadata
    assert prepared.lengths.tolist() == [group.num_tokens for group in prepared]
    assert prepared.report.tokens == prepared.lengths.sum()
    assert prepared.report.trained_tokens == sum(int(group.responses[0].trainable.sum()) for group in prepared)
    assert torch.equal(prepared[-1].prompt, prepared[2].prompt)
    assert [group.metadata["row"] for group in prepared[1:]] == [1, 2]
    with pytest.raises(IndexError):
        prepared[3]


def test_groups_do_not_share_memory_with_the_store(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    prepared = ready(write(*rows(3)), byte_level)
    before = prepared.fingerprint
    prepared[0].responses[0].trainable.zero_()
    prepared[0].prompt.zero_()
    assert prepared.fingerprint == before


def test_rows_of_several_renderings(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    forgetful = "{% for m in messages %}{{ m.content if loop.last or m.role == 'user' }}!{% endfor %}"
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data_rows = read_rows(write({"messages": talk * 2}, {"messages": talk}))
    prepared = DatasetSpec.of(data_rows, byte_level, Template(forgetful), max_length=99).whole()
    assert [(group.metadata["row"], len(group.responses)) for group in prepared] == [(0, 2), (1, 1)]
    assert prepared.report.unended_turns == 3


def test_the_fingerprint_covers_the_groups(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    def fingerprint(*lengths: int, **options: int | str) -> str:
        return ready(write(*rows(*lengths)), byte_level, **options).fingerprint

    assert fingerprint(3, 5) == fingerprint(3, 5)
    others = [fingerprint(3, 5), fingerprint(5, 3), fingerprint(3, 5, 1), fingerprint(3), fingerprint(3, 6)]
    assert len(set(others)) == len(others)


def test_the_fingerprint_is_the_same_in_another_process(write: Write, stories: PreTrainedTokenizerBase) -> None:
    path = write(*rows(3, 5))
    program = (
        "import sys\nfrom transformers import AutoTokenizer\n"
        "from burnish.data.dataset import DatasetSpec\n"
        "from burnish.data.read import read_rows\n"
        "from burnish.data.template import choose_template\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "template = choose_template(tokenizer)\n"
        "print(DatasetSpec.of(read_rows(sys.argv[2]), tokenizer, template, max_length=99).whole().fingerprint)"
    )
    command = [sys.executable, "-c", program, stories.name_or_path, path]
    other = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert (other.stdout.strip(), other.stderr) == (ready(path, stories).fingerprint, "")


def test_overlong_error(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(*rows(3, 50, 3, 80))
    longest = ready(path, byte_level).report.longest
    assert len(ready(path, byte_level, longest)) == 4
    with pytest.raises(DataError) as caught:
        ready(path, byte_level, longest - 20 - 20)
    limit = f"{longest - 40} tokens (max_length)"
    assert f"2 of 4 samples of {path} are longer than {limit}; the longest has {longest}" in str(caught.value)
    assert f"({path} line 2, {path} line 4)" in str(caught.value)
    assert f"raise max_length to {longest}" in caught.value.remedy


def test_overlong_drop(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(*rows(3, 50, 3, 80))
    longest = ready(path, byte_level).report.longest
    prepared = ready(path, byte_level, longest - 1, overlong="drop")
    (dropped,) = prepared.report.dropped
    assert (dropped.reason, dropped.count, dropped.where) == (
        f"longer than {longest - 1} tokens",
        1,
        (f"{path} line 4",),
    )
    assert prepared.picked.rows.tolist() == [0, 1, 2]
    assert prepared.report.longest == longest - 30
    with pytest.raises(DataError, match=r"no sample .* is left \(4 longer than 3 tokens\)"):
        ready(path, byte_level, 3, overlong="drop")


def test_overlong_truncate(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(*rows(3, 50, 80))
    whole = ready(path, byte_level)
    limit = whole.report.longest - 40
    cut = ready(path, byte_level, limit, overlong="truncate")
    assert (cut.report.cut, cut.report.longest, len(cut)) == (2, limit, 3)
    for short, long in zip(cut, whole, strict=True):
        size = len(short.responses[0].tokens)
        assert torch.equal(short.prompt, long.prompt)
        assert torch.equal(short.responses[0].tokens, long.responses[0].tokens[:size])
        assert short.responses[0].trainable.any()
    prompt = len(whole[1].prompt)
    assert ready(path, byte_level, prompt + 1, overlong="truncate").lengths.tolist() == [prompt + 1] * 3
    with pytest.raises(DataError, match=re.escape(f"{path} line 1: the prompt alone fills {prompt}")):
        ready(path, byte_level, prompt, overlong="truncate")


def test_a_cut_ends_at_a_learned_token(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = write({"messages": talk * 2})
    (group,) = ready(path, byte_level)
    first = len(group.prompt) + 2
    (cut,) = ready(path, byte_level, first + 3, overlong="truncate")
    assert cut.num_tokens == first
    assert cut.responses[0].trainable.all()


def test_all_unusable_rows_are_counted(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    bad = [{"question": "x", "answer": None}] * 7
    path = write(*rows(1), *bad, {"question": "x"}, *rows(1))
    with pytest.raises(DataError) as caught:
        ready(path, byte_level)
    message = str(caught.value)
    assert f"{path} line 2: answer is missing" in message
    assert message.count("answer is missing") == 5
    assert "8 of 10 rows cannot be used" in message
    assert "give the row a text as answer" in message


def test_errors_of_the_template_name_the_line(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = write({"messages": talk}, {"messages": [{"role": "tool", "content": "t"}, *talk]})
    with pytest.raises(DataError, match=re.escape(f"{path} line 2: the chat template cannot write")):
        ready(path, byte_level)


def test_nothing_to_learn_names_the_line(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    data_rows = read_rows(write({"question": "a", "answer": "b"}, {"question": "a", "answer": ""}))
    bare = "{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="line 2: no token is left to learn in 'a'"):
        DatasetSpec.of(data_rows, byte_level, Template(bare), max_length=99).whole()


def test_unknown_columns(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write({"question": "a", "anwser": "b"})
    with pytest.raises(DataError, match="rename anwser -> answer"):
        ready(path, byte_level)


def test_a_named_format_wins(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write({"question": "a", "answer": "b", "prompt": "c", "completion": "d"})
    with pytest.raises(DataError, match="fit several formats"):
        ready(path, byte_level)
    prepared = ready(path, byte_level, format="prompt_completion")
    assert prepared.report.unused_columns == ("question", "answer")
    (group,) = prepared
    assert byte_level.decode(torch.cat([group.prompt, group.responses[0].tokens])) == "cd<|endoftext|>"


def test_types_are_compact(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    prepared = ready(write(*rows(3)), byte_level)
    assert (prepared.samples.tokens.dtype, prepared.samples.trainable.dtype) == (np.int32, np.bool_)
