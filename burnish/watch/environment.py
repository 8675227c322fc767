"""Environment of a run (versions, device, threads, command), written to environment.json in the run folder.

It has neither the name of the machine nor of the user, so that a report can be shared; paths in the command are as
typed.
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

from burnish.run_files import ENVIRONMENT

PACKAGES = ("burnish", "torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "bitsandbytes")


def environment(device: torch.device) -> dict[str, Any]:
    """Environment of a run on this device, as a JSON object."""
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": _command(sys.argv),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "versions": {name: number for name in PACKAGES if (number := _version(name))},
    }


def write_environment(folder: Path, device: torch.device) -> None:
    """Writes environment.json; called whenever the run is started or resumed."""
    text = json.dumps(environment(device), indent=1, ensure_ascii=False)
    partial = folder / f".{ENVIRONMENT}.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, folder / ENVIRONMENT)


def _command(arguments: list[str]) -> str:
    """Command line as typed, with the program by its name alone."""
    program = Path(arguments[0])
    names = ["python", "-m", program.parent.name] if program.name == "__main__.py" else [program.name]
    return shlex.join([*names, *arguments[1:]])


def _processor() -> str:
    """Name of the processor: on Linux from a file, elsewhere from Python."""
    table = Path("/proc/cpuinfo")
    text = table.read_text(encoding="utf-8", errors="replace") if table.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
