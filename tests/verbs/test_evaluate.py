"""`burnish eval` as a function: its loss is plain transformers', its figures add up, its settings are strict."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from transformers import GenerationConfig

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError, UserError
from burnish.model.load import load_tokenizer
from burnish.verbs import evaluate as module
from burnish.verbs.evaluate import ChatSettings, EvalSettings, evaluate, read_settings
from tests.adapters import write_adapter, write_base, write_rows_of
from tests.plain import plain_loss


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "test.jsonl"
    write_rows(path, generate(seed=2, count=24))
    return path


def settings(data: object, *overrides: str) -> EvalSettings:
    return read_settings(EvalSettings, {"data": str(data)}, overrides)


@pytest.mark.parametrize("kind", ["model", "adapter", "adapter with added tokens"])
def test_the_loss_is_plain_transformers(tmp_path, rows, kind):
    place = base = write_base(tmp_path / "base")
    if kind != "model":
        place = write_adapter(tmp_path / "adapter", base, tokens=["plus"] if "added" in kind else None)
    if kind == "adapter":
        load_tokenizer(str(base)).save_pretrained(place)
    found = evaluate(str(place), settings(rows, "match=null", "tokens_per_microbatch=100"))
    assert found.loss == pytest.approx(plain_loss(place, rows), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.accuracy is None
    assert (found.rows, found.left_out) == (24, 0)


def test_models_that_cannot_be_packed_have_the_same_loss(tmp_path, rows, monkeypatch):
    base = str(write_base(tmp_path / "base"))
    packed = evaluate(base, settings(rows, "match=null"))

    def refuse(_opened: object) -> None:
        raise ModelError(given="it has other attention", rule="", remedy="")

    monkeypatch.setattr(module, "policy_of", refuse)
    plain = evaluate(base, settings(rows, "match=null"))
    assert plain.loss == pytest.approx(packed.loss, rel=1e-6)
    assert (packed.notes, plain.notes) == ((), ("rows are computed one at a time: it has other attention",))


def test_the_loss_is_the_held_out_loss_of_a_run(tmp_path, rows):
    write_untrained(tmp_path / "model", hidden_size=32, layers=1)
    files = {"model": str(tmp_path / "model"), "data": str(rows), "eval_data": str(rows)}
    run = burnish.sft(**files, output=str(tmp_path / "run"), max_steps=2)
    last = [line for line in (run.folder / "metrics.jsonl").read_text().splitlines() if "eval/loss" in line][-1]
    found = evaluate(str(run.folder), settings(rows, "match=null"))
    assert f'"eval/loss": {found.loss}' in last


def test_a_model_that_knows_the_answer_is_right(tmp_path):
    """Trained on two rows until it knows them; asked these and one that it cannot know."""
    write_untrained(tmp_path / "model", hidden_size=64, layers=2)
    known = [{"question": "a?", "answer": "The 4."}, {"question": "b?", "answer": "It is 7."}]
    data = write_rows_of(tmp_path, *known)
    options = {"learning_rate": 1e-2, "epochs": 60, "sequences_per_step": 2, "schedule": "constant"}
    run = burnish.sft(model=str(tmp_path / "model"), data=str(data), output=str(tmp_path / "run"), **options)
    asked = write_rows_of(tmp_path, *known, {"question": "b?", "answer": "It is 8."}, {"question": "a?", "answer": "4"})
    for rule, right in (("exact", 2), ("contains", 3), ("number", 3)):
        found = evaluate(str(run.folder), settings(asked, f"match={rule}", "max_new_tokens=20"))
        assert found.accuracy is not None
        assert (found.accuracy.correct, found.accuracy.total) == (right, 4)
        figures = found.figures()
        assert (figures["accuracy"], figures["match"], figures["cut_answers"]) == (right / 4, rule, 0)
        assert [sample["correct"] for sample in found.samples()].count(True) == right


def test_a_part_of_the_rows(tmp_path, rows):
    base = str(write_base(tmp_path / "base"))
    counted = evaluate(base, settings(rows, "count=5", "seed=3", "match=null"))
    assert counted.rows == 5
    assert evaluate(base, settings(f"{rows}#5", "seed=3", "match=null")).loss == counted.loss
    assert evaluate(base, settings(rows, "count=5", "seed=4", "match=null")).loss != counted.loss


def test_rows_that_are_left_out_are_counted_and_not_asked(tmp_path):
    base = str(write_base(tmp_path / "base"))
    data = write_rows_of(
        tmp_path, {"question": "a", "answer": "b"}, {"question": "c" * 90, "answer": "d"}, {"answer": "e"}
    )
    found = evaluate(
        base, settings(data, "max_length=60", "overlong=drop", "max_invalid_fraction=0.5", "max_new_tokens=2")
    )
    assert (found.rows, found.left_out) == (3, 2)
    assert found.accuracy is not None
    assert found.accuracy.total == 1


def test_documents_have_a_loss_and_ask_nothing(tmp_path):
    base = str(write_base(tmp_path / "base"))
    found = evaluate(base, settings(write_rows_of(tmp_path, {"text": "hello there"})))
    assert found.accuracy is None
    assert found.trained_tokens == len("hello there")  # a token a byte: all but the first, and the end token
    assert found.figures()["accuracy"] is None


def test_a_loss_beyond_all_numbers(tmp_path):
    base = str(write_base(tmp_path / "base"))
    data = settings(write_rows_of(tmp_path, {"question": "a", "answer": "b"}), "match=null")
    found = evaluate(base, data)
    object.__setattr__(found, "loss", 1e4)
    assert found.perplexity == math.inf
    assert found.figures()["perplexity"] is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["mach=exact"], "did you mean match"),
        (["match=fuzzy"], "match"),
        (["temperature=-1"], "temperature"),
        (["top_p=0"], "top_p"),
        (["count=0"], "count"),
        (["max_length=9999"], "512 positions"),
        (["match=number"], "no answer of the data has a number"),
    ],
)
def test_mistakes(tmp_path, overrides, words):
    base = str(write_base(tmp_path / "base"))
    data = write_rows_of(tmp_path, {"question": "a", "answer": "b"})
    with pytest.raises(UserError, match=words):
        evaluate(base, settings(data, *overrides))


def test_chat_begins_with_the_models_own_settings_and_obeys_the_users():
    own = GenerationConfig(do_sample=True, temperature=0.6, top_k=20)
    assert read_settings(ChatSettings, {}, []).params_over(GenerationConfig()).temperature == 0
    found = read_settings(ChatSettings, {}, ["top_k=5", "seed=9"]).params_over(own)
    assert (found.temperature, found.top_p, found.top_k, found.seed) == (0.6, 1.0, 5, 9)
    assert read_settings(ChatSettings, {}, ["temperature=0"]).params_over(own).temperature == 0
