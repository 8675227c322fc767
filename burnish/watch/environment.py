"""Where a run runs: versions, device, threads, command. Kept as environment.json in the run folder.

Neither the machine's name nor its user's is asked for, so that a report can be given away; paths in the command are as
they were typed.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("burnish", "torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "bitsandbytes")


def environment(device: torch.device) -> dict[str, Any]:
    """What the figures of a run on this device may depend on, as JSON."""
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": _command(sys.argv),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def write_environment(folder: Path, device: torch.device) -> None:
    """Writes environment.json, anew whenever the run is started or resumed."""
    text = json.dumps(environment(device), indent=1, ensure_ascii=False)
    partial = folder / ".environment.json.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, folder / "environment.json")


def _command(arguments: list[str]) -> str:
    """As one would type it: the program by its name alone."""
    program = Path(arguments[0])
    names = ["python", "-m", program.parent.name] if program.name == "__main__.py" else [program.name]
    return shlex.join([*names, *arguments[1:]])


def _processor() -> str:
    """Linux tells the processor's name in a file, others through Python."""
    told = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(told) if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
