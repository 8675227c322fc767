"""Material of PPO: policy, value model and reward model with random weights, and prompts, the same for all contenders.

Every token of the tokenizer is one character, so that the text of any response has the tokens of the response:
Burnish's reward model, which reads text, and TRL's, which reads tokens, score equally many.
"""

from __future__ import annotations

import json
import random
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer, decoders, models
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from burnish.model.settings import ValueHeadConfig
from burnish.model.value_head import with_value_head
from peers.cases import HEADS, SIZES, Case
from peers.material import save_llama
from peers.ppo_cases import LONGEST, SHORTEST

END = "<|end|>"
LETTERS = "".join(map(chr, chain(range(32, 127), range(0x4E00, 0x9FA6), range(0xAC00, 0xD7A4))))
"""Printable ASCII, Chinese characters and Hangul: more than the largest vocabulary."""


def save_models(folder: Path, size: str) -> None:
    """The models policy, value and reward, each with the tokenizer: one decoder, and two different value heads."""
    tokenizer = make_tokenizer(SIZES[size]["vocab_size"])
    save_llama(folder / "policy", SIZES[size], HEADS[size])
    for seed, name in enumerate(("value", "reward")):
        model = LlamaForCausalLM.from_pretrained(folder / "policy")
        with_value_head(model, ValueHeadConfig(seed=seed)).save_pretrained(folder / name)
    for name in ("policy", "value", "reward"):
        tokenizer.save_pretrained(folder / name)


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerBase:
    """A tokenizer with a token for each of so many characters, and the end token."""
    core = Tokenizer(models.BPE({letter: number for number, letter in enumerate(LETTERS[: vocabulary - 1])}, []))
    core.decoder = decoders.Fuse()
    core.add_special_tokens([END])
    assert core.get_vocab_size() == vocabulary, f"{core.get_vocab_size()} tokens, not {vocabulary}"
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=END)


def write_prompts(path: Path, case: Case, responses: int, batches: int) -> None:
    """Writes prompts of random characters for a number of batches, and a second file, with the suffix .tokens, with
    TRL's rows: each prompt as often as it gets responses. TRL's has one batch more, since TRL accumulates no gradient
    in the last batch of its data."""
    draw = random.Random("prompts")
    letters = LETTERS[: SIZES[case.size]["vocab_size"] - 1]
    count = case.rows_per_step // responses * (batches + 1)
    texts = ["".join(draw.choices(letters[95:], k=draw.randint(SHORTEST, LONGEST))) for _ in range(count)]
    path.write_text("".join(f"{json.dumps({'prompt': text})}\n" for text in texts), encoding="utf-8")
    rows = [[letters.index(letter) for letter in text] for text in texts for _ in range(responses)]
    lines = (json.dumps({"input_ids": row}) + "\n" for row in rows)
    path.with_suffix(".tokens").write_text("".join(lines), encoding="utf-8")
