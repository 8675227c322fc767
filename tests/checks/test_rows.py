"""Each check of rows sees the fault that it is there for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tokenizers import processors

from burnish.builtin.tiny import END, TEMPLATE, make_tokenizer
from burnish.checks.rows import answers_are_trained, begins_once, rows_are_usable, turn_ends_are_trained
from burnish.checks.saving import generation_stops
from tests.checks.conftest import write_model


def template(folder: Path, source: str) -> str:
    """The setting that names a template file with this source."""
    (folder / "mine.jinja").write_text(source)
    return f"chat_template={folder / 'mine.jinja'}"


def test_most_rows_too_long(make_subject):
    subject = make_subject("max_length=53", "overlong=drop")
    dropped = sum(each.count for each in subject.rows.report.dropped)
    assert dropped > subject.rows.report.groups
    verdict = rows_are_usable(subject)
    assert verdict.passed is False
    assert f"{dropped} dropped" in verdict.measured
    assert "max_length" in verdict.remedy


def test_held_out_rows_are_checked(make_subject, world):
    verdict = rows_are_usable(make_subject(f"eval_data={world}/test.jsonl"))
    assert verdict.passed
    assert "held out: 10 rows" in verdict.measured
    shared = make_subject("eval_share=0.3")
    trained, held = shared.train.data.rows, shared.held_out
    assert len(trained) + held.report.rows == 60
    assert f"{len(trained)} rows checked" in (measured := rows_are_usable(shared).measured)
    assert f"held out: {held.report.rows} rows checked" in measured


def test_the_row_is_shown_with_its_trained_tokens(make_subject):
    subject = make_subject()
    verdict = answers_are_trained(subject)
    answer = subject.rows.origin[0]["answer"]
    assert f"⟦{answer}{END}⟧" in verdict.shown


def test_a_template_that_changes_the_answer(make_subject, tmp_path):
    verdict = answers_are_trained(make_subject(template(tmp_path, TEMPLATE.replace(".content", ".content[2:]"))))
    assert verdict.passed is False
    assert "is not trained" in verdict.measured
    assert "template" in verdict.remedy


@pytest.fixture
def tokenize(tmp_path, monkeypatch) -> ModuleType:
    """The module that makes masks, to be broken: what it makes is kept in no other test's cache."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return sys.modules["burnish.data.tokenize"]


def test_a_mask_that_begins_too_late(make_subject, tokenize, monkeypatch):
    true_span = tokenize.tokens_of_span
    monkeypatch.setattr(tokenize, "tokens_of_span", lambda starts, stops, span: true_span(starts, stops, span)[3:])
    verdict = answers_are_trained(make_subject())
    assert verdict.passed is False
    assert "is not trained" in verdict.measured


def test_a_mask_that_has_the_question(make_subject, tokenize, monkeypatch):
    true_learned = tokenize._learned

    def everything(trainable):
        trainable[:] = True
        return true_learned(trainable)

    monkeypatch.setattr(tokenize, "_learned", everything)
    verdict = answers_are_trained(make_subject())
    assert verdict.passed is False
    assert "is not context" in verdict.measured


def test_a_truncated_row_is_shown_without_a_result(make_subject, tmp_path):
    (tmp_path / "long.jsonl").write_text(json.dumps({"question": "why?", "answer": "because " * 20}))
    settings = (f"data={tmp_path / 'long.jsonl'}", "max_length=90", "overlong=truncate")
    verdict = answers_are_trained(make_subject(*settings))
    assert verdict.passed is None
    assert "⟦because because" in verdict.shown


def test_documents_are_trained_but_for_the_first_token_of_each_piece(make_subject, tokenize, monkeypatch, tmp_path):
    (tmp_path / "long.txt").write_text("The quick brown fox jumps over the lazy dog. " * 30)
    settings = (f"data={tmp_path / 'long.txt'}", "max_length=100")
    verdict = answers_are_trained(make_subject(*settings))
    assert verdict.passed
    assert "14 pieces" in verdict.measured
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "another"))
    true_learned = tokenize._learned

    def without_the_third(trainable):
        trainable[2] = False
        return true_learned(trainable)

    monkeypatch.setattr(tokenize, "_learned", without_the_third)
    assert answers_are_trained(make_subject(*settings)).passed is False


def test_a_template_without_end_token(make_subject, tmp_path):
    source = TEMPLATE.replace(END, "")
    subject = make_subject(template(tmp_path, source))
    verdict = turn_ends_are_trained(subject)
    assert verdict.passed is False
    assert "60 trained turns have no end token" in verdict.measured
    assert "chat_template=" in verdict.remedy
    assert generation_stops(subject).passed is False


@pytest.fixture
def begin_model(tmp_path) -> Path:
    """A model whose tokenizer begins every text with <|system|>."""
    folder = tmp_path / "model"
    write_model(folder)
    tokenizer = make_tokenizer()
    tokenizer.bos_token = "<|system|>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("written", "passed"), [(0, False), (1, True), (2, False)])
def test_begin_tokens_of_the_template(make_subject, begin_model, tmp_path, written, passed):
    subject = make_subject(template(tmp_path, "{{ bos_token }}" * written + TEMPLATE), model=begin_model)
    verdict = begins_once(subject)
    assert verdict.passed is passed
    assert "60 samples" in verdict.measured
    if not passed:
        assert ("add {{ bos_token }}" if written == 0 else "remove it") in verdict.remedy


def test_begin_tokens_of_rows(make_subject, begin_model, tmp_path):
    """Text of a begin token in a row is one too many if it becomes the token."""
    with_begin = template(tmp_path, "{{ bos_token }}" + TEMPLATE.replace(".content", ".content + bos_token"))
    assert begins_once(make_subject(with_begin, model=begin_model)).passed is False
