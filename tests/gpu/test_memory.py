"""What needs memory on CUDA: no logits of all tokens, no mask of rows × rows; and what is written is told."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import burnish
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.train.step import Trainer
from burnish.types import Group, Response

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

VOCABULARY, WIDTH, ROWS = 64_000, 128, 16_384
LOGITS = ROWS * VOCABULARY * 4
"""Bytes of all logits at once: 4 GiB."""


def test_a_step_keeps_neither_all_logits_nor_all_scores(cuda, figures):
    """16 384 rows of a vocabulary of 64 000: all logits were 4 GiB, all scores of one layer 4 GiB, a mask 256 MiB."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=ROWS, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(cuda).train()
    install(model)
    policy = Model(model, tokenizer=None, chunk_bytes=2**25)
    tokens = torch.randint(VOCABULARY, (ROWS - 1,), generator=torch.Generator().manual_seed(0))
    response = Response(tokens=tokens, trainable=torch.ones(len(tokens), dtype=torch.bool))
    groups = [Group(prompt=tokens[:1], responses=(response,))]
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    trainer.step(groups, CrossEntropy(), ROWS, 1.0)
    torch.cuda.synchronize(cuda)
    torch.cuda.reset_peak_memory_stats(cuda)
    before = torch.cuda.memory_allocated(cuda)
    trainer.step(groups, CrossEntropy(), ROWS, 1.0)
    torch.cuda.synchronize(cuda)
    needed = torch.cuda.max_memory_allocated(cuda) - before
    figures["memory/step of 16384 rows, GiB"] = needed / 2**30
    assert needed < LOGITS / 4


def test_answers_are_generated(world, tmp_path, device):
    """`burnish generate` loads onto the device, writes and decodes."""
    output = tmp_path / "answers.jsonl"
    burnish.generate(
        model=str(world / "model"),
        data=str(world / "train.jsonl"),
        output=output,
        max_new_tokens=5,
        responses_per_prompt=2,
    )
    assert len(output.read_text().splitlines()) >= 60
