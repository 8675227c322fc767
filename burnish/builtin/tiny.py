"""Untrained tiny Llama of any size with a byte tokenizer, for tests. (`base` has the trained built-in model.)"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from burnish.watch.quiet import quiet_transformers

END = "<|end|>"
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Tokenizer with a token for every byte, every role and the end of a turn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, *ROLES])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.chat_template = TEMPLATE
    return fast


def make_model(seed: int, *, hidden_size: int = 128, layers: int = 3) -> LlamaForCausalLM:
    """Model with random weights from a seed; the global generator is not changed."""
    config = LlamaConfig(
        vocab_size=len(make_tokenizer()),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=max(1, hidden_size // 64),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=make_tokenizer().eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def write_untrained(folder: Path, seed: int = 0, *, hidden_size: int = 128, layers: int = 3) -> None:
    """Saves model and tokenizer by `save_pretrained`."""
    with quiet_transformers():
        make_model(seed, hidden_size=hidden_size, layers=layers).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
