"""Answers: the same alone and in a batch, drawn from the right distribution, and a borrowed policy left as it was."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.errors import ModelError
from burnish.evaluate import generate
from burnish.evaluate.generate import Sampling, answers, stream, text_of, write
from burnish.losses import CrossEntropy
from burnish.model.attention import NAME, install
from burnish.model.policy import Policy
from burnish.optim import Optimizer, OptimizerSettings
from burnish.runs import capture_random
from burnish.step import Trainer
from tests.conftest import VOCABULARY, make_groups

TOKENIZER = make_tokenizer()
PROMPTS = [[5, 9, 30], [7], [11, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [1, 2], [60, 3, 20, 20, 20]]


def by_hand(model: PreTrainedModel, prompt: list[int], count: int, end: set[int]) -> list[int]:
    """The likeliest token, again and again, without cache, batch or padding."""
    tokens = list(prompt)
    for _ in range(count):
        token = int(model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax())
        if token in end:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


@pytest.mark.parametrize("family", ["llama", "qwen3-windowed", "mistral-windowed"])
@pytest.mark.parametrize("installed", [False, True], ids=["plain", "in training"])
def test_a_batch_answers_as_each_prompt_alone(float64_model, family, installed):
    model = float64_model(family)
    end = set(range(0, VOCABULARY, 6))
    with torch.no_grad():
        expected = [by_hand(model.eval(), prompt, 9, end) for prompt in PROMPTS]
    if installed:
        install(model.train())
    found = write(model, PROMPTS, Sampling(max_new_tokens=9), end)
    assert [list(answer.tokens) for answer in found] == expected
    assert any(answer.ended for answer in found)
    assert [answer.ended for answer in found] == [len(answer.tokens) < 9 for answer in found]
    assert [list(write(model, [prompt], Sampling(9), end)[0].tokens) for prompt in PROMPTS] == expected


def test_draws_do_not_depend_on_neighbours(float64_model, monkeypatch):
    model = float64_model("llama")
    sampling = Sampling(max_new_tokens=8, temperature=1.3, top_p=0.95, top_k=40, seed=4)
    together = write(model, PROMPTS, sampling, ())
    monkeypatch.setattr(generate, "PROMPTS_AT_ONCE", 2)
    assert write(model, PROMPTS, sampling, ()) == together
    assert write(model, PROMPTS[:1], sampling, ()) == together[:1]
    other = Sampling(max_new_tokens=8, temperature=1.3, top_p=0.95, top_k=40, seed=5)
    assert write(model, PROMPTS, other, ()) != together


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({"temperature": 0.5}, None), ({"temperature": 1.0, "top_k": 2}, 2), ({"temperature": 1.0, "top_p": 0.5}, None)],
    ids=["temperature", "top_k", "top_p"],
)
def test_draws_have_the_frequencies_of_the_distribution(float64_model, settings, kept):
    """A thousand first tokens of one prompt against softmax(z / T), cut as asked for, within four standard errors."""
    model = float64_model("llama").eval()
    count = 1000
    written = write(model, [PROMPTS[0]] * count, Sampling(max_new_tokens=1, **settings), ())
    seen = Counter(answer.tokens[0] for answer in written)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1]
    probability = (logits / settings["temperature"]).softmax(-1)
    order = probability.argsort(descending=True)
    if kept is None and "top_p" in settings:
        before = probability[order].cumsum(0) - probability[order]
        kept = int((before < settings["top_p"]).sum())
    allowed = order[: kept or VOCABULARY]
    assert set(seen) <= set(allowed.tolist())
    expected = probability[allowed] / probability[allowed].sum()
    for token, share in zip(allowed.tolist(), expected.tolist(), strict=True):
        assert abs(seen[token] / count - share) <= 4 * (share * (1 - share) / count) ** 0.5 + 1e-9


def test_cold_draws_are_the_likeliest_tokens(float64_model):
    model = float64_model("qwen2")
    greedy = write(model, PROMPTS, Sampling(max_new_tokens=6), ())
    assert write(model, PROMPTS, Sampling(max_new_tokens=6, temperature=1e-6), ()) == greedy
    assert write(model, PROMPTS, Sampling(max_new_tokens=6, temperature=2.0, top_k=1), ()) == greedy


def adapted(model: PreTrainedModel) -> PeftModel:
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", lora_dropout=0.1))


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_policy_in_training_is_left_as_it_was(lora, temperature):
    """Two trainings, one of them looked at between its steps: every weight and generator is bit for bit the same."""

    def train(looks: bool) -> tuple[list[torch.Tensor], object]:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        model = make_model(0, hidden_size=32, layers=1)
        model.generation_config = GenerationConfig(temperature=0.3, do_sample=True, top_k=3, eos_token_id=9)
        install(model)
        policy = Policy((adapted(model) if lora else model).train(), TOKENIZER)
        policy.model.get_submodule("model" if not lora else "base_model.model.model").eval()  # also odd modes stay
        modes = [module.training for module in policy.model.modules()]
        settings, attention = model.generation_config, model.config._attn_implementation
        trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-2)))
        torch.use_deterministic_algorithms(True)
        try:
            for seed in range(3):
                trainer.step(make_groups([(3, [4]), (5, [6])], seed), CrossEntropy(), 100, 1.0)
                if looks:
                    answers(
                        policy.model,
                        TOKENIZER,
                        PROMPTS,
                        max_new_tokens=5,
                        temperature=temperature,
                        end_tokens=[256],
                    )
                    assert torch.are_deterministic_algorithms_enabled()
        finally:
            torch.use_deterministic_algorithms(False)
        assert [module.training for module in policy.model.modules()] == modes
        assert model.generation_config is settings
        assert model.config._attn_implementation == attention
        assert attention.startswith(NAME)
        assert all(p.grad is None or not lora for _, p in policy.trained_parameters()) or not looks
        tensors, values = capture_random()
        weights = [parameter.detach().clone() for parameter in policy.model.parameters()]
        return [*weights, *tensors.values()], values

    plain, looked = train(looks=False), train(looks=True)
    assert all(torch.equal(a, b) for a, b in zip(plain[0], looked[0], strict=True))
    assert plain[1] == looked[1]


def test_an_adapter_speaks(float64_model):
    """Not the base under it."""
    model = float64_model("llama")
    before = write(model, PROMPTS, Sampling(max_new_tokens=6), ())
    policy = adapted(model).double()
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0.0, 0.5)
    assert write(policy, PROMPTS, Sampling(max_new_tokens=6), ()) != before
    with policy.disable_adapter():
        assert write(policy, PROMPTS, Sampling(max_new_tokens=6), ()) == before


def test_the_checkpoints_own_sampling_settings_do_not_interfere(float64_model):
    model = float64_model("llama")
    expected = write(model, PROMPTS, Sampling(max_new_tokens=6), ())
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=3.0, repetition_penalty=9.0, eos_token_id=list(range(40)), min_p=0.3
    )
    assert write(model, PROMPTS, Sampling(max_new_tokens=6), ()) == expected


@pytest.mark.parametrize("sampling", [Sampling(40), Sampling(40, temperature=2.0, seed=3)], ids=["greedy", "drawn"])
def test_streamed_pieces_are_the_text(sampling):
    model = make_model(1, hidden_size=32, layers=1).eval()
    prompt = TOKENIZER.encode("こんにちは there")
    pieces: list[str] = []
    streamed = stream(model, TOKENIZER, prompt, sampling, [2], pieces.append)
    (alone,) = write(model, [prompt], sampling, [2])
    assert streamed == alone
    assert "".join(pieces) == text_of(TOKENIZER, alone)
    assert len(pieces) > 1


@pytest.mark.parametrize("name", ["bytes", "sentencepiece"])
def test_characters_are_told_when_they_are_whole(name, llama_style):
    """Also by tokenizers that drop the first space of what they decode."""
    tokenizer, end = (TOKENIZER, 256) if name == "bytes" else (llama_style, 2)
    pieces: list[str] = []
    told = generate._Pieces(tokenizer, pieces.append, [end])
    told.put(torch.tensor([[1, 2]]))
    for token in [*tokenizer.encode("aé日本🙂 z  the x", add_special_tokens=False), end]:
        told.put(torch.tensor([token]))
    told.end()
    assert "".join(pieces) == "aé日本🙂 z  the x"
    assert [piece for piece in pieces if piece.strip()][:5] == ["a", "é", "日", "本", "🙂"]


def test_what_never_becomes_a_character_is_told_in_the_end():
    pieces: list[str] = []
    told = generate._Pieces(TOKENIZER, pieces.append, [256])
    told.put(torch.tensor([[1]]))
    for token in TOKENIZER.encode("b日")[:-1]:
        told.put(torch.tensor([token]))
    assert pieces == ["b"]
    told.end()
    assert pieces == ["b", "\ufffd"]


def test_positions_are_an_end_too():
    """Learned positions: one more token and the model would fail."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=16, n_embd=16, n_layer=1, n_head=2)).eval()
    found = write(model, [[1] * 15, [1] * 4, [2] * 9], Sampling(max_new_tokens=8), ())
    assert [len(answer.tokens) for answer in found] == [1, 8, 7]
    assert found[1] == write(model, [[1] * 4], Sampling(max_new_tokens=8), ())[0]
    for prompt, words in ([1] * 16, "16 positions"), ([], "without a token"):
        with pytest.raises(ModelError, match=words):
            write(model, [prompt], Sampling(), ())


def test_ends_are_not_in_the_text():
    model = make_model(0, hidden_size=32, layers=1)
    (text,) = answers(model, TOKENIZER, [[40, 41]], max_new_tokens=9, end_tokens=range(61))
    assert text == "" or set(TOKENIZER.encode(text)).isdisjoint(range(61))
