"""Burnish: post-training for language models.

    import burnish

    result = burnish.sft(model="Qwen/Qwen3-0.6B-Base", data="demos.jsonl", epochs=2.0)
    result = burnish.prefer(model=result, data=pairs, loss="dpo", beta=0.1)      # pairs: a list of mappings
    result = burnish.rl(model=result, data="gsm8k.jsonl", reward=my_function)
    burnish.chat(result).answer("What is 2 + 2?")

`sft`, `prefer`, `reward`, `rl`, `ppo`, `distill` and `train_stage` run one stage, `run` a recipe; `eval`, `chat`,
`generate`, `check`, `merge`, `view` and `profile` are the commands of the same names. docs/python.md describes them,
and a training loop of one's own from the components.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing torch takes seconds, and the command line's help must not
    from burnish.api.train import distill, ppo, prefer, reward, rl, run, sft, train_stage
    from burnish.api.verbs import chat, check, eval, generate, merge, profile, view
    from burnish.stages.result import RunResult

__version__ = "0.1.0"

_PLACES = {
    **dict.fromkeys(("distill", "ppo", "prefer", "reward", "rl", "run", "sft", "train_stage"), "burnish.api.train"),
    **dict.fromkeys(("chat", "check", "eval", "generate", "merge", "profile", "view"), "burnish.api.verbs"),
    "RunResult": "burnish.stages.result",
}
"""Exported name → module, imported when the name is first used."""

__all__ = [
    "RunResult",
    "__version__",
    "chat",
    "check",
    "distill",
    "eval",
    "generate",
    "merge",
    "ppo",
    "prefer",
    "profile",
    "reward",
    "rl",
    "run",
    "sft",
    "train_stage",
    "view",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'burnish' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
