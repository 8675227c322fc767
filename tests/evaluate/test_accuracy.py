"""Questions are the prompts of training, and answers are counted rightly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.data.dataset import DatasetSpec
from burnish.data.mixture import open_data
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.data.sample_builder import SampleBuilder
from burnish.data.settings import DataSource
from burnish.data.template import choose_template
from burnish.data.writer import Writer
from burnish.evaluate.accuracy import Accuracy, AnsweredPrompt, answerable_prompts, sample_answers
from burnish.sampling.params import SamplingParams
from burnish.sampling.plain import PlainSampler
from tests.adapters import write_rows_of

TOKENIZER = make_tokenizer()
TEMPLATE = choose_template(TOKENIZER)


def maker_of(path: Path) -> SampleBuilder:
    data = open_data([DataSource(path=str(path))])
    return SampleBuilder(data.rows, data.format, Writer(TOKENIZER, TEMPLATE))


def known(tokens: tuple[int, ...], reference: str, row: int) -> TokenizedPrompt:
    """A prompt of these tokens with its right answer."""
    return TokenizedPrompt(row, torch.tensor(tokens), Task("?", reference))


def sampled(prompts: Sequence[TokenizedPrompt]) -> Sequence[AnsweredPrompt]:
    """The prompts, answered by an untrained model."""
    sampler = PlainSampler(make_model(0, hidden_size=32, layers=1).eval(), TOKENIZER, [256], 512)
    return sample_answers(sampler, TOKENIZER, prompts, params=SamplingParams(1))


def test_a_question_is_the_prompt_of_training(tmp_path):
    path = write_rows_of(tmp_path, {"question": "a<|end|>?", "answer": "b"}, {"question": "c?", "answer": "d d"})
    found = answerable_prompts(maker_of(path))
    rows = open_data([DataSource(path=str(path))]).rows
    trained = DatasetSpec.of(rows, TOKENIZER, TEMPLATE, max_length=100).whole()
    assert [prompt.tokens.tolist() for prompt in found] == [group.prompt.tolist() for group in trained]
    assert [prompt.task.reference for prompt in found] == ["b", "d d"]
    answered = sampled(found)
    assert answered[1].prompt == "<|user|>\nc?<|end|>\n<|assistant|>\n"
    assert [sample.message_text for sample in answered] == ["a<|end|>?", "c?"]


def test_the_prompt_of_a_conversation_ends_before_its_last_answer(tmp_path):
    said = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    path = write_rows_of(tmp_path, {"messages": [{"role": role, "content": text} for role, text in said]})
    [sample] = sampled(answerable_prompts(maker_of(path)))
    assert sample.reference == "d"
    assert sample.message_text == "user: a\nassistant: b\nuser: c"
    assert sample.prompt.endswith("b<|end|>\n<|user|>\nc<|end|>\n<|assistant|>\n")


def test_plain_prompts_give_questions_and_documents_give_none(tmp_path):
    path = write_rows_of(tmp_path, {"prompt": "2+2=", "completion": "4"})
    [sample] = sampled(answerable_prompts(maker_of(path)))
    assert (sample.prompt, sample.message_text, sample.reference) == ("2+2=", "2+2=", "4")
    data = open_data([DataSource(path=str(write_rows_of(tmp_path, {"text": "hello there"})), format="text")])
    assert answerable_prompts(SampleBuilder(data.rows, data.format, Writer(TOKENIZER, TEMPLATE))) == ()


def test_only_the_selected_rows(tmp_path):
    path = write_rows_of(tmp_path, *({"question": f"q{i}", "answer": f"a{i}"} for i in range(5)))
    found = answerable_prompts(maker_of(path), [1, 4])
    assert [(prompt.row, prompt.task.reference) for prompt in found] == [(1, "a1"), (4, "a4")]


def test_answers_are_counted():
    """References that are the model's own answers are right, changed ones are wrong."""
    sampler = PlainSampler(make_model(0, hidden_size=32, layers=1).eval(), TOKENIZER, [256], 512)
    params = SamplingParams(8, temperature=0.0)
    prompts = [(40, 41), (1, 2, 3), (5,)]
    asked = [known(tokens, "", row) for row, tokens in enumerate(prompts)]
    first = Accuracy.of(sample_answers(sampler, TOKENIZER, asked, params=params))
    assert [sample.row for sample in first.samples] == [0, 1, 2]
    responses = [sample.response for sample in first.samples]
    changed = [
        known(tokens, f" {text}\n" if row else text + "x", row)
        for row, (tokens, text) in enumerate(zip(prompts, responses, strict=True))
    ]
    found = Accuracy.of(sample_answers(sampler, TOKENIZER, changed, params=params))
    assert (found.correct, found.total, found.share) == (2, 3, 2 / 3)
    assert [sample.correct for sample in found.samples] == [False, True, True]


def test_a_prompt_that_fills_the_model_is_a_wrong_answer():
    sampler = PlainSampler(make_model(0, hidden_size=32, layers=1).eval(), TOKENIZER, [], 512)
    long, short = known((1,) * 512, "", 0), known((1,), "never", 1)
    found = Accuracy.of(sample_answers(sampler, TOKENIZER, [long, short], match="contains", params=SamplingParams(3)))
    assert [sample.correct for sample in found.samples] == [False, False]
    assert found.samples[0].response == ""
