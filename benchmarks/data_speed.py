"""Rows per second from a file to tokens and masks, beside TRL's SFTTrainer, in one run with one tokenizer.

``python benchmarks/data_speed.py [rows]`` writes chat rows of one to four exchanges, trains a byte-level tokenizer of
16 000 pieces on some of them, and times, from the file on:

- burnish: `read_rows` and `Preparation` into an empty cache, and once more from the cache;
- TRL, with its defaults (it learns everything, and makes no mask): `load_dataset` and the making of an SFTTrainer;
- TRL with assistant_only_loss, which learns what burnish learns.

TRL prepares with as many processes as burnish uses. Imports are outside of all times.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import datasets
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from burnish.data import Preparation, Template, read_rows

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_rows(path: Path, count: int) -> None:
    draw = random.Random("data speed")
    letters = "eeeeetttaaoooiinnsshhrrdlucmfwygpb"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(20_000)]
    weights = [1 / (rank + 5) for rank in range(len(words))]

    def say(low: int, high: int) -> str:
        return " ".join(draw.choices(words, weights, k=draw.randint(low, high))).capitalize() + "."

    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            turns = [
                message
                for _ in range(draw.randint(1, 4))
                for message in (
                    {"role": "user", "content": say(5, 40)},
                    {"role": "assistant", "content": say(20, 120)},
                )
            ]
            file.write(json.dumps({"messages": turns}) + "\n")


def make_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=16_000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    with path.open(encoding="utf-8") as file:
        core.train_from_iterator((line for line, _ in zip(file, range(5000), strict=False)), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def with_trl(path: Path, tokenizer: PreTrainedTokenizerBase, folder: Path, *, masked: bool, processes: int) -> int:
    found = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "datasets"))
    config = LlamaConfig(vocab_size=16_384, hidden_size=32, intermediate_size=16, num_hidden_layers=1)
    arguments = SFTConfig(
        output_dir=str(folder / "out"),
        max_length=4096,
        assistant_only_loss=masked,
        dataset_num_proc=processes if processes > 1 else None,
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = SFTTrainer(LlamaForCausalLM(config), arguments, train_dataset=found, processing_class=tokenizer)
    return len(trainer.train_dataset)


def timed(name: str, count: int, work: Callable[[], int]) -> float:
    start = time.perf_counter()
    done = work()
    seconds = time.perf_counter() - start
    assert done == count, f"{name} made {done} of {count}"
    print(f"{name:42} {seconds:8.2f} s {count / seconds:10,.0f} rows/s", flush=True)
    return seconds


def main(count: int) -> None:
    warnings.filterwarnings("ignore")
    datasets.disable_progress_bars()
    processes = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["BURNISH_CACHE"] = str(folder / "cache")
        path = folder / "rows.jsonl"
        write_rows(path, count)
        tokenizer = make_tokenizer(path)

        def ours() -> int:
            return len(Preparation.of(read_rows(str(path)), tokenizer, Template(TEMPLATE), max_length=4096).whole())

        first = timed("burnish, empty cache", count, ours)
        timed("burnish, again", count, ours)
        for masked in (True, False):
            for used in sorted({1, processes}):
                name = f"TRL, {'assistant_only_loss' if masked else 'defaults'}, {used} processes"
                place_of_trl = folder / name.replace(" ", "")

                def theirs(place: Path = place_of_trl, masked: bool = masked, used: int = used) -> int:
                    return with_trl(path, tokenizer, place, masked=masked, processes=used)

                seconds = timed(name, count, theirs)
                print(f"{'':42} burnish is {seconds / first:.1f} times as fast", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
