"""Rows per second from a file to tokens and masks, compared with TRL's SFTTrainer in one run with one tokenizer.

``python benchmarks/data_speed.py [rows [rounds]]`` writes chat rows of one to four exchanges, trains a byte-level
tokenizer of 16 000 pieces on some of them, and times, from the file on:

- burnish: `read_rows` and `DatasetSpec` into an empty cache, in this process alone and with one more for each other
  core;
- TRL, with assistant_only_loss, which trains the same tokens as burnish, and with its defaults, which make no mask:
  `load_dataset` and the making of an SFTTrainer, with one process and with one for each core.

All of them run in turn for several rounds, and medians are printed. Processor seconds, those of child processes
included, hardly depend on other work of the machine. Imports are not in the times, except those of burnish's worker
processes.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import datasets
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from burnish.data.dataset import DatasetSpec
from burnish.data.read import read_rows
from burnish.data.template import Template

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
    weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(words))))

    def sentence(low: int, high: int) -> str:
        return " ".join(draw.choices(words, cum_weights=weights, k=draw.randint(low, high))).capitalize() + "."

    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            turns = [
                message
                for _ in range(draw.randint(1, 4))
                for message in (
                    {"role": "user", "content": sentence(5, 40)},
                    {"role": "assistant", "content": sentence(20, 120)},
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
    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "datasets"))
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
    trainer = SFTTrainer(LlamaForCausalLM(config), arguments, train_dataset=rows, processing_class=tokenizer)
    return len(trainer.train_dataset)


def with_burnish(path: Path, tokenizer: PreTrainedTokenizerBase, folder: Path, *, processes: int) -> int:
    os.environ["BURNISH_CACHE"] = str(folder)
    preparation = DatasetSpec.of(read_rows(str(path)), tokenizer, Template(TEMPLATE), max_length=4096)
    return len(preparation.whole(workers=processes - 1))


@dataclass(frozen=True)
class Times:
    """Times of one preparation."""

    wall: float
    """Wall time, seconds."""
    processors: float
    """Processor time of this process and of finished child processes, seconds."""


def timed(work: Callable[[], int], count: int) -> Times:
    start, used = time.perf_counter(), processor_seconds()
    num_rows = work()
    times = Times(time.perf_counter() - start, processor_seconds() - used)
    assert num_rows == count, f"made {num_rows} of {count}"
    return times


def processor_seconds() -> float:
    kinds = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in kinds)


def ways(path: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Callable[[Path], int]]:
    """Name → preparation: takes an empty folder, and returns the number of rows that it prepared."""
    counts = sorted({1, os.cpu_count() or 1})
    ours = {f"burnish, processes: {n}": partial(with_burnish, path, tokenizer, processes=n) for n in counts}
    theirs = {
        f"TRL, {name}, processes: {n}": partial(with_trl, path, tokenizer, masked=name != "defaults", processes=n)
        for name in ("assistant_only_loss", "defaults")
        for n in counts
    }
    return {**ours, **theirs}


def main(count: int, rounds: int) -> None:
    warnings.filterwarnings("ignore")
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "rows.jsonl"
        write_rows(path, count)
        compared = ways(path, make_tokenizer(path))
        times_of: dict[str, list[Times]] = {name: [] for name in compared}
        for number, (name, work) in product(range(rounds), compared.items()):
            with tempfile.TemporaryDirectory(dir=place) as folder:
                times_of[name].append(timed(partial(work, Path(folder)), count))
            last = times_of[name][-1]
            print(f"{number + 1}  {name:42} {last.wall:8.2f} s {last.processors:8.2f} s of processors", flush=True)
    medians = {
        name: Times(median(one.wall for one in times), median(one.processors for one in times))
        for name, times in times_of.items()
    }
    print(f"\n{'medians':42} {'s':>8} {'rows/s':>8} {'ms of processors a row':>24}")
    for name, times in medians.items():
        print(f"{name:42} {times.wall:8.2f} {count / times.wall:8,.0f} {1000 * times.processors / count:24.3f}")
    for kind, measure in (("time", "wall"), ("processors", "processors")):
        ours, theirs = (
            min(getattr(times, measure) for name, times in medians.items() if name.startswith(who))
            for who in ("burnish", "TRL")
        )
        print(f"the best of burnish takes 1/{theirs / ours:.1f} of the {kind} of the best of TRL")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    main(*(numbers + [100_000, 1][len(numbers) :]))
