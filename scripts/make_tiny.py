"""Makes the built-in base model: documents of the little world, a tokenizer from them, and a model trained on them.

    python scripts/make_tiny.py --output made

writes made/documents.jsonl and made/model, and prints the hash of the weights. Documents and tokenizer come out the
same on every machine; weights do not, so the package holds one training of them. `burnish` itself is the trainer. The
same command goes on where it was stopped.
"""

import argparse
import hashlib
import json
import shutil
from itertools import islice
from pathlib import Path

import burnish
from burnish.builtin.base import DOCUMENTS, corpus, make_untrained_base, train_tokenizer

SETTINGS = {
    "epochs": 1,
    "sequences_per_step": 32,
    "optimizer": "muon",
    "learning_rate": 6e-3,
    "betas": [0.9, 0.98],
    "weight_decay": 0.05,
    "schedule": "wsd",
    "decay": 0.3,
    "log_every": 50,
}


def main() -> None:
    """Makes what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the documents")
    parser.add_argument("settings", nargs="*", help="other settings of the training, such as learning_rate=1e-3")
    arguments = parser.parse_args()
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps({'text': text})}\n" for text in islice(corpus(), arguments.documents))
    (output / "documents.jsonl").write_text(lines, encoding="utf-8")
    tokenizer = train_tokenizer()
    untrained = make_untrained_base(tokenizer, arguments.seed)
    untrained.save_pretrained(output / "untrained")
    tokenizer.save_pretrained(output / "untrained")
    changed = dict(setting.split("=", 1) for setting in arguments.settings)
    run = burnish.sft(
        model=str(output / "untrained"),
        data=str(output / "documents.jsonl"),
        output=str(output / "run"),
        **{**SETTINGS, **{key: json.loads(value) for key, value in changed.items()}, "seed": arguments.seed},
    )
    shutil.copytree(output / "untrained", output / "model", dirs_exist_ok=True)
    shutil.copy(run.folder / "model" / "model.safetensors", output / "model" / "model.safetensors")
    print("sha256", hashlib.sha256((output / "model" / "model.safetensors").read_bytes()).hexdigest())


main()
