"""Serving: the command that is built, the folder that the engine is given, and how it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from burnish.errors import ModelError
from burnish.export import serve as module
from burnish.export.serve import (
    check_address,
    choose_engine,
    engine_command,
    example,
    run_engine,
    servable,
    serve,
    template_file,
)
from burnish.model.open import open_model
from tests.adapters import change_json, write_adapter, write_base


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def installed(monkeypatch: pytest.MonkeyPatch, *, vllm: bool, transformers: bool) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: object() if vllm else None)
    monkeypatch.setattr(module, "is_serve_available", lambda: transformers)


def test_the_engine_that_is_there(monkeypatch):
    installed(monkeypatch, vllm=True, transformers=True)
    assert choose_engine(None) == "vllm"
    assert choose_engine("transformers") == "transformers"
    installed(monkeypatch, vllm=False, transformers=True)
    assert choose_engine(None) == "transformers"
    with pytest.raises(ModelError, match="pip install vllm"):
        choose_engine("vllm")
    installed(monkeypatch, vllm=False, transformers=False)
    for wanted in (None, "transformers"):
        with pytest.raises(ModelError, match=r"transformers\[serving\]"):
            choose_engine(wanted)


def test_commands():
    assert engine_command("transformers", "/m", "127.0.0.1", 8000, None)[1:] == shlex.split(
        "-m transformers.cli.transformers serve /m --host 127.0.0.1 --port 8000"
    )
    assert engine_command("vllm", "/m", "::1", 8001, Path("/t.jinja"))[1:] == shlex.split(
        "serve /m --host ::1 --port 8001 --generation-config /m --chat-template /t.jinja"
    )
    assert "--chat-template" not in engine_command("vllm", "/m", "::1", 8001, None)


def test_transformers_server_knows_the_options():
    """The options exist in the installed server (which is imported only where its extra is installed)."""
    source = (Path(torch.__file__).parents[1] / "transformers" / "cli" / "serve.py").read_text()
    for name in ("force_model", "host", "port"):
        assert f"        {name}: Annotated[" in source


def test_a_whole_model_is_served_where_it_is(base):
    with servable(str(base)) as (place, lines):
        assert (place, lines) == (str(base), [])


def test_an_adapter_is_merged_into_a_temporary_folder(base, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", base)
    ids = torch.tensor([[5, 9, 30]])
    with servable(str(adapter)) as (place, lines), torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(place)(input_ids=ids).logits
        assert torch.allclose(merged, open_model(str(adapter)).model(input_ids=ids).logits, atol=1e-4)
        assert any("verified on" in line for line in lines)
    assert not Path(place).exists()


def test_another_template_is_served_without_touching_the_model(base):
    change_json(base / "generation_config.json", eos_token_id=[256])
    before = AutoTokenizer.from_pretrained(base).chat_template
    with servable(str(base), template="plain") as (place, _):
        assert AutoTokenizer.from_pretrained(place).chat_template.startswith("{")
        assert AutoTokenizer.from_pretrained(place).chat_template != before
        assert GenerationConfig.from_pretrained(place).eos_token_id == [256]
        AutoModelForCausalLM.from_pretrained(place)
    assert AutoTokenizer.from_pretrained(base).chat_template == before


def test_a_path_with_an_at_sign_is_served_under_another(tmp_path):
    """Servers take what follows it for a revision."""
    base = write_base(tmp_path / "me@home")
    with servable(str(base)) as (place, _):
        assert "@" not in place
        AutoModelForCausalLM.from_pretrained(place)


def test_a_model_that_would_not_stop_is_not_served(base):
    change_json(base / "generation_config.json", eos_token_id=7)
    with pytest.raises(ModelError, match="continues with the next turns"), servable(str(base)):
        pass


def test_the_template_as_a_file(base, tmp_path):
    path = template_file(str(base), tmp_path)
    assert path is not None
    assert path.read_text() == AutoTokenizer.from_pretrained(base).chat_template
    (base / "chat_template.jinja").unlink()
    assert template_file(str(base), tmp_path) is None


def test_the_example_is_a_command(base):
    words = shlex.split(example(str(base), "0.0.0.0", 8000))
    assert words[:2] == ["curl", "http://127.0.0.1:8000/v1/chat/completions"]
    assert json.loads(words[-1])["model"] == str(base)
    assert "http://[::1]:80/" in example("m", "::1", 80)


def test_addresses():
    assert check_address("127.0.0.1", 0) == []
    assert "anyone who reaches it" in check_address("0.0.0.0", 0)[0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ModelError, match="free"):
            check_address("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ModelError, match="--host"):
        check_address("256.1.1.1", 8000)


def test_an_engine_that_fails_is_reported():
    with pytest.raises(ModelError, match="status 3"):
        run_engine([sys.executable, "-c", "raise SystemExit(3)"])
    run_engine([sys.executable, "-c", ""])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_engine_and_is_no_failure(number):
    before = signal.getsignal(number)
    # The engine asks for the signal itself, once it runs; then it waits for its end.
    code = f"import os, signal; os.kill({os.getpid()}, {int(number)}); signal.pause()"
    run_engine([sys.executable, "-c", code])
    assert signal.getsignal(number) is before


def test_all_together(base, monkeypatch):
    """With an engine of the test: it gets its arguments, and the address is logged."""
    installed(monkeypatch, vllm=False, transformers=True)
    started: list[list[str]] = []
    monkeypatch.setattr(module, "run_engine", started.append)
    lines: list[str] = []
    serve(str(base), base=None, template=None, host="127.0.0.1", port=8765, engine=None, told=lines.append)
    assert started == [engine_command("transformers", str(base), "127.0.0.1", 8765, None)]
    assert "http://127.0.0.1:8765/v1" in lines[0]
    assert lines[1] == f"try: {example(str(base), '127.0.0.1', 8765)}"
