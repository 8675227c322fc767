"""The built-in base model: what is shipped is what the card says, and it knows its world but no chat."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from burnish.builtin.base import CONTROL, END, PAD, POSITIONS, make_untrained_base, train_tokenizer
from burnish.builtin.places import MODELS, tiny_folder
from burnish.builtin.world import draw_world
from burnish.data.template import choose_template


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_folder())


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(tiny_folder()).eval()


def test_the_weights_are_those_of_the_card_and_small():
    file = tiny_folder() / "model.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == MODELS["tiny"]
    assert MODELS["tiny"] in (tiny_folder() / "README.md").read_text(encoding="utf-8")
    assert file.stat().st_size <= 8_000_000


def test_it_is_of_a_stock_architecture_and_of_the_shape_that_is_made(model, tokenizer):
    assert type(model).__module__.startswith("transformers.")
    assert model.dtype == torch.float32
    shapes = {name: tensor.shape for name, tensor in make_untrained_base(tokenizer, 0).state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes
    assert load_file(tiny_folder() / "model.safetensors").keys() == shapes.keys() - {"lm_head.weight"}, "tied"


def test_the_tokenizer_is_made_again_from_the_corpus(tokenizer):
    made = json.loads(train_tokenizer().backend_tokenizer.to_str())["model"]
    shipped = json.loads((tiny_folder() / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert made["vocab"] == shipped["vocab"]
    assert made["merges"] == shipped["merges"]


def test_the_tokenizer_loses_nothing_and_takes_digits_singly(tokenizer):
    text = "Ada's kite — 漢字 🪁\n\ttab 4711 + 89"
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    pieces = tokenizer.convert_ids_to_tokens(tokens)
    assert "".join(piece for piece in pieces if piece.isdigit()) == "471189"
    assert all(len(piece) == 1 for piece in pieces if piece.isdigit())


def test_it_has_tokens_of_chat_but_no_template(tokenizer):
    """A true base; the stage that makes an assistant of it chooses the template."""
    assert tokenizer.chat_template is None
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)
    assert all(len(tokenizer.encode(token)) == 1 for token in CONTROL)
    assert "<|im_start|>" in choose_template(tokenizer, "chatml").source
    assert tokenizer.model_max_length == POSITIONS


def test_it_knows_its_world(model, tokenizer):
    """Of every fact and three false ones of the same topic, it finds the true one likeliest."""
    draw = random.Random(0)
    facts = draw_world(0).facts
    right = []
    for fact in draw.sample(facts, 60):
        others = sorted({other.value for other in facts if other.topic is fact.topic} - {fact.value})
        wording = fact.topic.answer
        said = [
            f"{text[0].upper()}{text[1:]}."
            for value in [fact.value, *draw.sample(others, 3)]
            for text in [wording.format(who=fact.subject, whose=f"{fact.subject}'s", value=value)]
        ]
        right.append(max(range(4), key=lambda index: loglikelihood(model, tokenizer, said[index])) == 0)
    assert sum(right) > 54


def loglikelihood(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].log_softmax(-1)
    return float(logprobs.gather(1, ids[0, 1:, None]).sum())
