"""Added tokens: their ids and rows, what they leave alone, and that rows under LoRA learn as in peft's own forward."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.errors import ModelError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install, plain_attention
from burnish.model.policy import Model
from burnish.model.vocabulary import add_tokens, extend, make_room
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators, pack
from burnish.train.step import Trainer
from burnish.types import Group, Score
from tests.conftest import SIZES, VOCABULARY, make_groups

CHATML = ("<|im_start|>", "<|im_end|>")
COUNTS = {"spare": VOCABULARY - 5, "one spare": VOCABULARY - 1, "full": VOCABULARY}
"""Tokens of a tokenizer whose model has VOCABULARY rows."""

both_heads = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
any_count = pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)


def make_words(words: dict[str, int]) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel(words, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core)


def words(count: int) -> PreTrainedTokenizerFast:
    """A tokenizer of so many words: w0, w1, ..."""
    return make_words({f"w{index}": index for index in range(count)})


def llama(*, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))


def test_a_text_becomes_one_special_token():
    tokenizer = make_tokenizer()
    assert len(tokenizer("<|im_end|>")["input_ids"]) > 1
    assert add_tokens(tokenizer, CHATML) == {"<|im_start|>": 260, "<|im_end|>": 261}
    ids = tokenizer("a<|im_end|>\n<|im_start|>b")["input_ids"]
    assert [ids[1], ids[3]] == [261, 260]
    assert tokenizer.decode(ids) == "a<|im_end|>\n<|im_start|>b"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a\nb"


def test_other_tokens_and_the_end_token_stay():
    tokenizer, before = make_tokenizer(), make_tokenizer()
    add_tokens(tokenizer, CHATML)
    assert {text: id for text, id in tokenizer.get_vocab().items() if text not in CHATML} == before.get_vocab()
    assert tokenizer.special_tokens_map == before.special_tokens_map


def test_equal_tokenizers_stay_equal_and_twice_is_once():
    one, other = make_tokenizer(), make_tokenizer()
    assert add_tokens(one, CHATML) == add_tokens(other, CHATML)
    assert add_tokens(one, CHATML) == {}
    assert one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()
    assert one.extra_special_tokens == other.extra_special_tokens


def test_what_is_a_token_already_keeps_its_id():
    assert add_tokens(make_tokenizer(), ("<|end|>", "<|x|>", "a")) == {"<|x|>": 260}


def test_an_ordinary_piece_that_text_never_becomes_keeps_its_id():
    """It has a row, which is not new; but now text becomes it."""
    tokenizer = make_words({"w0": 0, "<|x|>": 1, "<|": 2})
    assert tokenizer("<|x|>")["input_ids"] != [1]
    assert add_tokens(tokenizer, ("<|x|>",)) == {}
    assert tokenizer("<|x|>")["input_ids"] == [1]


def test_an_id_is_never_given_twice():
    """With gaps in its ids, the library counts tokens and meets an id that is in use."""
    with pytest.raises(ModelError, match="the id 2, which is in use"):
        add_tokens(make_words({"w0": 0, "w2": 2}), ("<|x|>",))


@both_heads
@any_count
def test_new_rows_are_the_mean_and_used_rows_stay(tied, count):
    model, tokenizer = llama(tied=tied), words(count)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows, _ = extend(model, tokenizer, CHATML)
    assert rows == [count, count + 1] == tokenizer.convert_tokens_to_ids(list(CHATML))
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (head is embedding) == tied
    assert model.config.vocab_size == len(embedding) == len(head) == max(VOCABULARY, count + 2)
    others = [row for row in range(VOCABULARY) if row not in rows]
    for name, weight in (("model.embed_tokens.weight", embedding), ("lm_head.weight", head)):
        assert torch.equal(weight[others], before[name][others])
        mean = before[name][:count].double().mean(dim=0).float()
        assert torch.allclose(weight[rows], mean.expand(2, -1), rtol=0, atol=1e-9)


@both_heads
@any_count
def test_the_same_bits_every_time(tied, count):
    first, second = llama(tied=tied), llama(tied=tied)
    extend(first, words(count), CHATML)
    torch.rand(3)
    extend(second, words(count), CHATML)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@both_heads
@any_count
@torch.no_grad()
def test_the_distribution_over_earlier_tokens_stays(tied, count):
    """A new token's logit is the mean of the others, so all their log-probabilities fall alike, and by little."""
    model, tokens = llama(tied=tied).double(), torch.arange(20)[None]
    before = model(tokens).logits[0, :, :count]
    rows, _ = extend(model, words(count), CHATML)
    after = model(tokens).logits[0, :, : count + 2]
    assert torch.allclose(after[:, rows], before.mean(dim=1, keepdim=True).expand(-1, 2), rtol=0, atol=1e-12)
    growth = after.logsumexp(dim=1) - before.logsumexp(dim=1)
    fall = before.log_softmax(dim=1) - after.log_softmax(dim=1)[:, :count]
    assert torch.allclose(fall, growth[:, None].expand(-1, count), rtol=0, atol=1e-12)
    assert (growth > 0).all()
    assert (growth <= torch.tensor(1 + 2 / count).double().log() + 1e-12).all()


def test_a_mean_by_hand():
    """Rows 0, 1, 2 are in use, row 3 is spare and junk."""
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": 4}, tie_word_embeddings=True))
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight.copy_(torch.tensor([[1.0], [2.0], [6.0], [1000.0]]).expand(weight.shape))
    assert make_room(model, words(4), [3]) == [3]
    assert weight[:, 0].tolist() == [1, 2, 6, 3]


def test_lines_for_people():
    tokenizer, model = make_tokenizer(), make_model(0, hidden_size=32, layers=1)
    _, [known, new] = extend(model, tokenizer, ("<|end|>", "<|x|>"))
    assert "already has <|end|>" in known
    assert "<|x|>" not in known
    assert "<|x|> " in new
    assert "grow from 260 to 261 rows" in new


def test_tokens_that_are_there_change_nothing():
    tokenizer, model = make_tokenizer(), make_model(0, hidden_size=32, layers=1)
    before = [p.clone() for p in model.parameters()]
    rows, [line] = extend(model, tokenizer, ("<|end|>",))
    assert (rows, len(tokenizer)) == ([], 260)
    assert "already has <|end|>" in line
    assert extend(model, tokenizer, ()) == ([], [])
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_a_bias_of_the_head_gets_its_mean_too():
    model = PhiForCausalLM(PhiConfig(**SIZES, tie_word_embeddings=False))
    with torch.no_grad():
        model.lm_head.bias.copy_(torch.arange(VOCABULARY))
    rows, _ = extend(model, words(VOCABULARY), CHATML)
    assert model.lm_head.bias[rows].tolist() == [(VOCABULARY - 1) / 2] * 2


def test_an_earlier_token_without_a_row_gets_one():
    """The tokenizer is longer than its model."""
    model = llama(tied=True)
    rows, _ = extend(model, words(VOCABULARY + 1), CHATML)
    assert rows == [VOCABULARY, VOCABULARY + 1, VOCABULARY + 2]
    weight = model.get_input_embeddings().weight
    assert torch.allclose(weight[rows], weight[:VOCABULARY].mean(dim=0).expand(3, -1), rtol=0, atol=1e-7)


def test_gaps_in_the_ids_are_refused_where_rows_are_needed():
    tokenizer = make_words({f"w{index}": index for index in (*range(VOCABULARY - 2), VOCABULARY)})
    with pytest.raises(ModelError, match="ids up to 61"):
        make_room(llama(tied=True), tokenizer, [VOCABULARY])


def test_the_type_of_the_weights_stays():
    model = llama(tied=False).bfloat16()
    extend(model, words(VOCABULARY), CHATML)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model.lm_head.weight[-1], model.lm_head.weight[:VOCABULARY].double().mean(dim=0).bfloat16())


def groups_with(rows: list[int]) -> list[Group]:
    """Groups in whose prompts and responses a third of the tokens are new ones."""

    def changed(tokens: Tensor) -> Tensor:
        return torch.where(tokens % 3 == 0, torch.tensor(rows)[tokens % len(rows)], tokens)

    return [
        replace(
            group,
            prompt=changed(group.prompt),
            responses=tuple(replace(each, tokens=changed(each.tokens)) for each in group.responses),
        )
        for group in make_groups([(9, [5, 3]), (4, [7]), (11, [2, 6, 1])], holes=True)
    ]


def lora(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[Model, list[int]]:
    """A policy with an adapter whose matrices and rows are not what they were at the beginning, and its new rows."""
    rows, _ = extend(model, tokenizer, CHATML)
    install(model)
    wrapped = add_adapter(model, AdapterSettings(rank=3), rows)
    generator = torch.Generator().manual_seed(4)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name or "trainable_tokens" in name:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return Model(wrapped.train(), tokenizer, chunk_bytes=4096), rows


def plain_gradients(policy: Model, groups: list[Group]) -> dict[str, Tensor]:
    """Of the mean negative log-likelihood, by autograd through peft's own forward and all its logits."""
    total, denominator = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    with plain_attention(policy.causal_lm):
        for group in groups:
            for response in group.responses:
                tokens, start = torch.cat([group.prompt, response.tokens]), len(group.prompt) - 1
                logits = policy.model(input_ids=tokens[None], use_cache=False).logits[0]
                picked = logits.log_softmax(-1)[:-1].gather(1, tokens[1:, None])[start:, 0]
                weights = response.weights.double() * response.trainable
                total, denominator = total - (weights * picked).sum(), denominator + weights.sum()
    named = dict(policy.trained_parameters())
    return dict(zip(named, torch.autograd.grad(total / denominator, list(named.values())), strict=True))


def packed_gradients(policy: Model, groups: list[Group], budget: int, loss: CrossEntropy) -> dict[str, Tensor]:
    policy.model.zero_grad()
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    denominators = count_denominators(groups)
    for microbatch in policy.pack(groups, budget):
        trainer.forward_backward(microbatch, loss, denominators)
    return {name: p.grad.clone() for name, p in policy.trained_parameters()}


@any_count
@pytest.mark.parametrize("family", ["llama", "llama-tied", "qwen3"])
def test_packed_gradients_are_those_of_peft(float64_model, family, count):
    policy, rows = lora(float64_model(family), words(count))
    policy.model.double()
    groups = groups_with(rows)
    wanted = plain_gradients(policy, groups)
    apart = [name for name in wanted if "trainable_tokens" in name]
    assert len(apart) == (2 if family == "llama" else 1), "one for embedding and head where they are tied"
    for budget in (10**6, 21):
        for name, value in packed_gradients(policy, groups, budget, CrossEntropy()).items():
            assert float(wanted[name].abs().max()) > 0, name
            assert torch.allclose(value, wanted[name], rtol=1e-10, atol=1e-12), (budget, name)


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
def test_the_split_does_not_matter_with_other_scores(float64_model, family):
    policy, rows = lora(float64_model(family), words(VOCABULARY))
    policy.model.double()
    groups, loss = groups_with(rows), CrossEntropy(label_smoothing=0.1, z_loss=0.3)
    whole, split = (packed_gradients(policy, groups, budget, loss) for budget in (10**6, 21))
    for name, value in whole.items():
        assert torch.allclose(split[name], value, rtol=1e-10, atol=1e-12), name


@both_heads
@any_count
def test_only_the_new_rows_learn(tied, count):
    policy, rows = lora(llama(tied=tied), words(count))
    frozen = {name: p.clone() for name, p in policy.model.named_parameters() if not p.requires_grad}
    layers = [policy.causal_lm.get_input_embeddings(), policy.causal_lm.get_output_embeddings()]
    before = [layer.weight.detach().clone() for layer in layers]
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-2)))
    for _ in range(2):
        trainer.step(groups_with(rows), CrossEntropy(), 10**6, 1.0)
    parameters = dict(policy.model.named_parameters())
    assert all(torch.equal(parameters[name], value) for name, value in frozen.items())
    for layer, old in zip(layers, before, strict=True):
        assert (layer.weight != old).any(dim=1).nonzero()[:, 0].tolist() == rows


def test_rows_of_narrow_models_learn_in_float32_and_are_scored_as_peft_computes_them():
    policy, rows = lora(llama(tied=False).bfloat16(), words(VOCABULARY))
    apart = policy.head.new_rows
    assert (apart.values.dtype, policy.head.weight.dtype) == (torch.float32, torch.bfloat16)
    before = apart.values.detach().clone()
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1e-6)))
    trainer.step(groups_with(rows), CrossEntropy(), 10**6, 1.0)
    assert (apart.values != before).any(dim=1).all(), "updates far below bfloat16's steps are kept"
    [microbatch] = pack(groups_with(rows), 10**6)
    with torch.no_grad():
        mine = policy.score(microbatch, [Score.LOG_PARTITION]).log_partition
        hidden = policy.hidden(microbatch)[microbatch.predictor_positions]
        effective = policy.causal_lm.get_output_embeddings().weight
    assert effective.dtype == torch.bfloat16
    assert torch.allclose(mine, (hidden.float() @ effective.float().T).logsumexp(-1), rtol=0, atol=1e-5)


def test_without_new_tokens_an_adapter_is_what_it_was():
    plain = add_adapter(llama(tied=True), AdapterSettings())
    assert plain.peft_config["default"].trainable_token_indices is None
    assert Model(plain, tokenizer=None).head.new_rows is None


@pytest.mark.parametrize(
    ("model", "targets", "said"),
    [
        (lambda: PhiForCausalLM(PhiConfig(**SIZES, tie_word_embeddings=False)), ("q_proj",), "has a bias"),
        (lambda: llama(tied=True), ("q_proj", "embed_tokens"), "targets names embed_tokens"),
    ],
    ids=["bias", "embedding"],
)
def test_what_cannot_train_apart_is_refused(model, targets, said):
    base = model()
    rows, _ = extend(base, words(VOCABULARY), CHATML)
    with pytest.raises(ModelError, match=said):
        add_adapter(base, AdapterSettings(targets=targets), rows)
