"""Corpus, tokenizer and configuration of the built-in base model.

Used by ``scripts/make_tiny.py``, which trains it, and by tests, which train the tokenizer again; never at run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from burnish.builtin.documents import dialogues, documents
from burnish.builtin.draw import Draw
from burnish.builtin.world import draw_world

END = "<|endoftext|>"
PAD = "<|pad|>"
CONTROL = (END, PAD, "<|im_start|>", "<|im_end|>", *(f"<|reserved_{number}|>" for number in range(4)))
"""Control tokens; the base model was not trained on those of chats, and has no chat template."""
PIECES = 1280
POSITIONS = 512
DOCUMENTS = 70_000
"""Number of texts in the first part of the corpus."""
SECOND_PART = 16_000
"""Number of texts in its second part."""
DOCUMENTS_OF_TOKENIZER = 20_000
"""Number of texts from which the tokenizer is trained."""
CORPUS_SHA256 = "6a9f03999af34ccf3efbe6729547794b6020c2e36de49c0510869ba3ee88ed39"
"""sha256 of both parts of the corpus in sequence, as the JSON lines that ``scripts/make_tiny.py`` writes."""


def corpus() -> Iterator[str]:
    """Training corpus of the built-in model: documents, then documents mixed with question-answer dialogues."""
    world = draw_world(0)
    yield from islice(documents(world, "train", 0), DOCUMENTS)
    draw, texts, answered = Draw("mixture"), documents(world, "train", 1), dialogues(world, 0)
    for _ in range(SECOND_PART):
        yield next(answered) if draw.chance(0.6) else next(texts)


def train_tokenizer(texts: Iterable[str] | None = None) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer, in which every digit is a token.

    Args:
        texts: training texts; None: the beginning of the corpus.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(corpus(), DOCUMENTS_OF_TOKENIZER) if texts is None else texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=POSITIONS)


def make_untrained_base(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Model with random weights from a seed: 1.9 million parameters; the global generator is not changed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=480,
        num_hidden_layers=5,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
