"""End tokens: template, generation settings and vocabulary have to agree."""

from __future__ import annotations

import pytest
from transformers import GenerationConfig

from burnish.builtin.tiny import END, make_tokenizer
from burnish.data.template import Template, choose_template
from burnish.errors import ModelError
from burnish.model.stop_tokens import check_stop_tokens, end_of_turn

TOKENIZER = make_tokenizer()
OWN = choose_template(TOKENIZER)
SIZE = len(TOKENIZER)
USER = TOKENIZER.convert_tokens_to_ids("<|user|>")


def check(ends: int | list[int] | None, template: Template | None = OWN) -> None:
    check_stop_tokens(GenerationConfig(eos_token_id=ends), SIZE, TOKENIZER, template)


def test_the_template_tells_its_end():
    assert end_of_turn(TOKENIZER, OWN) == TOKENIZER.convert_tokens_to_ids(END)
    assert end_of_turn(TOKENIZER, Template("{% for m in messages %}{{ m.content }}\n{% endfor %}")) is None


@pytest.mark.parametrize("ends", [TOKENIZER.eos_token_id, [USER, TOKENIZER.eos_token_id]])
def test_agreement(ends):
    check(ends)


@pytest.mark.parametrize("ends", [None, USER, [USER, 5]])
def test_an_end_of_turn_that_generation_runs_past(ends):
    with pytest.raises(ModelError, match="continues with the next turns") as error:
        check(ends)
    assert str(TOKENIZER.eos_token_id) in error.value.remedy
    check(ends, template=None)


@pytest.mark.parametrize("ends", [SIZE, [TOKENIZER.eos_token_id, SIZE + 7], -1])
def test_tokens_that_do_not_exist(ends):
    with pytest.raises(ModelError, match="vocabulary"):
        check(ends)


def test_the_tokenizers_own_end_outside_the_model():
    with pytest.raises(ModelError, match="the tokenizer"):
        check_stop_tokens(GenerationConfig(eos_token_id=5), TOKENIZER.eos_token_id, TOKENIZER, None)
