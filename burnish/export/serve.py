"""Serving of a model by vLLM or transformers' own server. Burnish has no server of its own.

Implements `burnish serve`. The engine gets one plain folder with the right template and end tokens: an adapter is
merged into a temporary folder and verified as by `write`; a model with another template gets a temporary folder too.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

from huggingface_hub import snapshot_download
from transformers import GenerationConfig
from transformers.utils.import_utils import is_serve_available

from burnish.data.template import Template, choose_template
from burnish.errors import ModelError
from burnish.export.base_form import keep_tokenizer_form
from burnish.export.write import write_model
from burnish.model.load import check_tokens, load_config, load_tokenizer, reward_model_error
from burnish.model.open import ModelRef, find_model
from burnish.model.stop_tokens import check_stop_tokens
from burnish.model.value_head import holds_reward_model
from burnish.watch.quiet import quiet_transformers

Engine = Literal["vllm", "transformers"]

_MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def choose_engine(requested: Engine | None) -> Engine:
    """The requested engine; without a request vLLM if it is installed, else transformers' server.

    Raises:
        ModelError: no engine is installed, or not the requested one.
    """
    available: dict[Engine, bool] = {
        "vllm": importlib.util.find_spec("vllm") is not None,
        "transformers": bool(is_serve_available()),
    }
    for engine, installed in available.items():
        if installed and requested in (None, engine):
            return engine
    remedies: dict[Engine | None, str] = {
        "vllm": "pip install vllm",
        "transformers": "pip install 'transformers[serving]'",
        None: "pip install 'transformers[serving]' (any machine), or pip install vllm (GPUs)",
    }
    raise ModelError(
        given=f"{requested or 'no engine'} is {'not ' if requested else ''}installed here",
        rule="a model is served by vLLM or by transformers' own server; Burnish has none",
        remedy=remedies[requested],
    )


def engine_command(engine: Engine, place: str, host: str, port: int, template: Path | None) -> list[str]:
    """The command that serves a model.

    Args:
        engine: the engine.
        place: folder of the model.
        host: address to listen on.
        port: port to listen on.
        template: file with the chat template, for vLLM; None: the model has none.
    """
    address = ["--host", host, "--port", str(port)]
    if engine == "transformers":  # the template and the end tokens are in the folder
        return [sys.executable, "-m", "transformers.cli.transformers", "serve", place, *address]
    script = Path(sys.executable).with_name("vllm")
    chat = [] if template is None else ["--chat-template", str(template)]
    return [str(script if script.exists() else "vllm"), "serve", place, *address, "--generation-config", place, *chat]


def example(place: str, host: str, port: int) -> str:
    """A curl command with an example request."""
    body = json.dumps({"model": place, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64})
    return f"curl http://{_reachable(host)}:{port}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"


@contextmanager
def servable(name: str, base: str | None = None, template: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Context manager that gives a folder that an engine can serve, and log lines.

    Raises:
        ModelError: there is no such model, or generation would not stop where its template ends an answer.
    """
    named = find_model(name, base)
    with tempfile.TemporaryDirectory(prefix="burnish-serve-") as temporary:
        if named.kind == "adapter":
            place = Path(temporary) / "merged"
            written = write_model(name, place, base=base, template=template, allow_reward_model=False)
            yield str(place), ["the adapter is merged into its base in a temporary folder", written.replayed.line()]
            return
        place = Path(named.place) if Path(named.place).is_dir() else _downloaded(named)
        chosen = _checked_template(str(place), template)
        if template is not None or "@" in str(place):  # a server reads @ as the mark of a revision
            place = _linked(place, Path(temporary) / "model", chosen)
        yield str(place), []


def run_engine(command: Sequence[str]) -> None:
    """Runs the engine until it ends; Ctrl+C and SIGTERM stop it.

    Raises:
        ModelError: the engine failed.
    """
    process = subprocess.Popen(command)
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        process.terminate()

    previous_handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = process.wait()
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
    if status and not stopped:
        raise ModelError(
            given=f"the engine ended with status {status}",
            rule="it runs until it is stopped",
            remedy="its last lines above say why; the command was: " + " ".join(command),
        )


def check_address(host: str, port: int) -> list[str]:
    """Checks that the server can listen at the address; returns log lines.

    Raises:
        ModelError: the address is no address of this machine, or is in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except (OSError, OverflowError) as error:
        raise ModelError(
            given=f"--host {host} --port {port}: {error}",
            rule="the server listens at an address of this machine that is free",
            remedy="give another --port, or --host 127.0.0.1",
        ) from error
    if _is_loopback(host):
        return []
    return [f"{host} can be reached from other machines, and anyone who reaches it can use the model"]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host


def _checked_template(place: str, template: str | None) -> Template | None:
    """The template of a whole model, after a check that its end of turn is an end token."""
    tokenizer, config = load_tokenizer(place), load_config(place)
    check_tokens(place, tokenizer)
    if holds_reward_model(config):
        raise reward_model_error(place)
    chosen = choose_template(tokenizer, template) if template or tokenizer.chat_template else None
    with quiet_transformers():
        has_settings = (Path(place) / "generation_config.json").is_file()
        settings = (
            GenerationConfig.from_pretrained(place) if has_settings else GenerationConfig.from_model_config(config)
        )
    check_stop_tokens(settings, config.get_text_config(decoder=True).vocab_size, tokenizer, chosen)
    return chosen


def _downloaded(named: ModelRef) -> Path:
    try:
        return Path(snapshot_download(named.place, allow_patterns=_MODEL_FILES))
    except (OSError, ValueError) as error:
        raise ModelError(
            given=f"{named.given} could not be fetched: {' '.join(str(error).split())[:300]}",
            rule="a model is a hub name that can be reached, or a folder on this machine",
            remedy="check the spelling and the network, or download the model and give its folder",
        ) from error


def _linked(model: Path, place: Path, template: Template | None) -> Path:
    """A folder with links to the model's files, and its tokenizer with the template."""
    place.mkdir()
    for path in model.iterdir():
        (place / path.name).symlink_to(path.resolve())
    if template is not None:
        tokenizer = load_tokenizer(str(model))
        tokenizer.chat_template = template.saved
        with tempfile.TemporaryDirectory(dir=place.parent) as folder, quiet_transformers():
            tokenizer.save_pretrained(folder)
            keep_tokenizer_form(Path(folder), tokenizer)
            for file in Path(folder).iterdir():
                if file.is_file():
                    (place / file.name).unlink(missing_ok=True)
                    shutil.copy(file, place)
    return place


def template_file(place: str, folder: Path) -> Path | None:
    """Writes the model's chat template as a separate file, for vLLM; None: the model has none."""
    tokenizer = load_tokenizer(place)
    if not tokenizer.chat_template:
        return None
    path = folder / "template.jinja"
    path.write_text(choose_template(tokenizer).source, encoding="utf-8")
    return path


def serve(
    name: str,
    *,
    base: str | None,
    template: str | None,
    host: str,
    port: int,
    engine: Engine | None,
    told: Callable[[str], None],
) -> None:
    """Serves a model until it is stopped; see `burnish serve`."""
    chosen = choose_engine(engine)
    notes = check_address(host, port)
    with servable(name, base, template) as (place, lines), tempfile.TemporaryDirectory() as folder:
        file = template_file(place, Path(folder)) if chosen == "vllm" else None
        for line in [*notes, *lines, f"{chosen} serves {name} at http://{_reachable(host)}:{port}/v1; Ctrl+C ends it"]:
            told(line)
        told(f"try: {example(place, host, port)}")
        run_engine(engine_command(chosen, place, host, port, file))
