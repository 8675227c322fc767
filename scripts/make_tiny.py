"""Makes the built-in base model: documents of the little world, a tokenizer from them, and a model trained on them.

    python scripts/make_tiny.py --output made

writes made/corpus-1.jsonl, made/corpus-2.jsonl and made/model, and prints the hash of the weights. Corpus and tokenizer
come out the same on every machine; weights do not, so the package holds one training of them. `burnish` itself is the
trainer. The same command goes on where it was stopped.
"""

import argparse
import hashlib
import shutil
from itertools import islice
from pathlib import Path

import burnish
from burnish.builtin.base import DOCUMENTS, corpus, make_untrained_base, train_tokenizer
from burnish.builtin.sets import write_rows

SETTINGS = {
    "epochs": 1,
    "sequences_per_step": 32,
    "optimizer": "muon",
    "betas": [0.9, 0.98],
    "weight_decay": 0.05,
    "schedule": "wsd",
    "log_every": 50,
}
PARTS = ({"learning_rate": 6e-3, "decay": 0.3}, {"learning_rate": 3e-3, "decay": 0.6})


def main() -> None:
    """Makes what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the documents")
    arguments = parser.parse_args()
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    texts = corpus()
    write_rows(output / "corpus-1.jsonl", [{"text": text} for text in islice(texts, DOCUMENTS)])
    write_rows(output / "corpus-2.jsonl", [{"text": text} for text in texts])
    tokenizer = train_tokenizer()
    make_untrained_base(tokenizer, arguments.seed).save_pretrained(output / "untrained")
    tokenizer.save_pretrained(output / "untrained")
    model = output / "untrained"
    for number, settings in enumerate(PARTS, start=1):
        run = burnish.sft(
            model=str(model),
            data=str(output / f"corpus-{number}.jsonl"),
            output=str(output / f"run-{number}"),
            seed=arguments.seed,
            **SETTINGS,
            **settings,
        )
        model = run.folder / "model"
    # Of what a run exports only the weights are taken: its tokenizer has the template of the run, and a base has none.
    shutil.copytree(output / "untrained", output / "model", dirs_exist_ok=True)
    shutil.copy(model / "model.safetensors", output / "model" / "model.safetensors")
    print("sha256", hashlib.sha256((output / "model" / "model.safetensors").read_bytes()).hexdigest())


main()
