"""Commands on an existing model: chat, eval, generate, merge, export, serve.

Registered by `cli`, and like it quick to import: nothing heavy is imported before a command runs. Results go to the
standard output, notes to the standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from burnish.export.write import WrittenModel
    from burnish.verbs.evaluate import EvalReport
    from burnish.verbs.evaluate_any import AnyReport

app = typer.Typer(rich_markup_mode=None)

Model = Annotated[str, typer.Argument(help="Model: a hub name, or a folder of a model, an adapter or a run.")]
Base = Annotated[str | None, typer.Option(help="Base model of an adapter, if it is not at the path in its config.")]
Template = Annotated[
    str | None,
    typer.Option(help="Template: plain, chatml, llama2, llama3, gemma, mistral or a .jinja file. Default: its own."),
]
Push = Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Upload the folder to the hub afterwards.")]
Public = Annotated[bool, typer.Option("--public", help="Make a new repository on the hub public. Default: private.")]


def _note(line: str) -> None:
    typer.echo(line, err=True)


@app.command(rich_help_panel="use")
def chat(
    model: Model,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="temperature, top_p, top_k, max_new_tokens, seed."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    chat_template: Template = None,
    base: Base = None,
) -> None:
    """Chat with a model. In the terminal, or through a pipe with one message per line; /help lists the commands."""
    from burnish.evaluate.chat import HELP, Chat, converse
    from burnish.model.open import open_model, with_template
    from burnish.runs.named_model import resolve_model
    from burnish.verbs.evaluate import ChatSettings, read_settings

    given = read_settings(ChatSettings, {}, settings or [])
    opened = open_model(resolve_model(model), base=base)
    if chat_template is not None:
        opened = with_template(opened, chat_template)
    for note in opened.notes:
        _note(note)
    talk = Chat(opened, given.params_over(opened.causal_lm.generation_config), system)
    template = chat_template or ("the model's own" if opened.template is not None else "none: it continues your text")
    _note(f"{model}; template: {template}")
    in_terminal = sys.stdin.isatty()
    if in_terminal:
        _note(HELP)
    converse(talk, _typed() if in_terminal else _piped(), _say, _note)


def _say(piece: str) -> None:
    """Prints text; a terminal that lacks a character gets a question mark in its place."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(piece.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _piped() -> Iterator[str]:
    """Lines of standard input; one that is not UTF-8 is refused, and the next is read."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            _note(
                f"line {number} is not UTF-8: {error.reason} (byte 0x{line[error.start]:02x})\n"
                "  rule: messages are UTF-8 text\n  to do: write it as UTF-8, such as with iconv; the line is left out"
            )


def _typed() -> Iterator[str]:
    """Lines from the terminal; Ctrl+C discards the line, Ctrl+D ends."""
    import readline  # noqa: F401 (editing and history)

    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            _note("\nCtrl+D or /exit ends")
        except UnicodeDecodeError as error:
            _note(f"the line is not {error.encoding}, the encoding of this terminal; it is left out")
        except EOFError:
            typer.echo()
            return


@app.command("eval", rich_help_panel="use")
def evaluate(
    model: Model,
    data: Annotated[str, typer.Option(help="Evaluation data: a file, a folder, a pattern or a hub dataset.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, such as match=number, count=200, max_new_tokens=64."),
    ] = None,
    base: Base = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON object to this file.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Write every prompt and response to this .jsonl file.")] = None,
) -> None:
    """Evaluate a model on data. Loss, perplexity and accuracy (of conversations, the loss is over all turns, the
    accuracy over the last one); on pairs, preference accuracy; for a reward model, its accuracy; with verifier=…,
    pass@k."""
    from burnish.verbs.evaluate_any import evaluate_any

    for path in (output, samples):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent} to write {path.name} to")
    report = evaluate_any(model, {"data": data}, settings or [], base=base)
    for note in report.notes:
        _note(note)
    text = json.dumps(report.figures(), ensure_ascii=False)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    if samples is not None:
        lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in report.samples())
        samples.write_text("".join(lines), encoding="utf-8")
    if json_lines:
        typer.echo(text)
    else:
        _show(report)


def _table(report: EvalReport) -> list[tuple[str, str]]:
    """Rows of the table in the terminal: metric and value."""
    rows = [
        ("tokens", f"{report.tokens:,}, of them {report.trained_tokens:,} in the loss"),
        ("loss", f"{report.loss:.4f} nats per token"),
        ("perplexity", f"{report.perplexity:.4g}"),
    ]
    if (accuracy := report.accuracy) is not None:
        share = f"{accuracy.share:.1%} ({accuracy.correct:,} of {accuracy.total:,})"
        rows.append((f"accuracy ({report.match})", share))
        if truncated := sum(not sample.ended for sample in accuracy.samples):
            rows.append(("truncated responses", f"{truncated:,} did not end within max_new_tokens"))
    return rows


def _show(report: AnyReport) -> None:
    from rich.console import Console
    from rich.table import Table

    from burnish.verbs.evaluate import EvalReport

    table = Table("metric", "value", box=None, pad_edge=False)
    left_out = f" ({report.left_out:,} left out)" if report.left_out else ""
    table.add_row("rows", f"{report.rows:,}{left_out}")
    for name, value in _table(report) if isinstance(report, EvalReport) else report.table():
        table.add_row(name, value)
    Console(soft_wrap=True, highlight=False).print(table)


@app.command(rich_help_panel="use")
def generate(
    model: Annotated[str, typer.Option(help="Model: a hub name, or a folder of a model, an adapter or a run.")],
    data: Annotated[str, typer.Option(help="Prompts: a file, a folder, a pattern or a hub dataset.")],
    output: Annotated[Path, typer.Option(help="The .jsonl file to write.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, such as responses_per_prompt=8, temperature=0.7."),
    ] = None,
    base: Base = None,
) -> None:
    """Generate responses to the prompts in a file. One line per prompt; the same command again resumes."""
    from burnish.verbs.evaluate import read_settings
    from burnish.verbs.generate import GenerateSettings
    from burnish.verbs.generate import generate as generate_responses

    given = read_settings(GenerateSettings, {"data": data}, settings or [])
    result = generate_responses(model, given, output=output, base=base)
    for note in result.notes:
        _note(note)
    typer.echo(f"{output}: {result.line()}")


@app.command(rich_help_panel="use")
def merge(
    models: Annotated[list[str], typer.Argument(metavar="RUN_OR_ADAPTER...", help="Run folders or adapters.")],
    output: Annotated[Path, typer.Option(help="A new or empty folder.")],
    weights: Annotated[
        str | None, typer.Option(metavar="W,W,...", help="Weights of several adapters. Default: equal, with the sum 1.")
    ] = None,
    method: Annotated[
        Literal["cat", "svd", "linear", "ties", "dare_linear", "dare_ties"],
        typer.Option(help="Method that combines several adapters; cat is exact (docs/adapters.md)."),
    ] = "cat",
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of --method svd. Default: the largest rank of the adapters.")
    ] = None,
    density: Annotated[float, typer.Option(min=0, max=1, help="Share of values that ties and dare keep.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of the values that dare drops.")] = 0,
    form: Annotated[
        Literal["merged", "adapter"],
        typer.Option(help="merged: write merged weights. adapter: combine several adapters into one."),
    ] = "merged",
    base: Base = None,
    chat_template: Template = None,
    push: Push = None,
    public: Public = False,
) -> None:
    """Merge adapters into their base model. The written model is verified on prompts."""
    from burnish.model.adapters.combine import Combination
    from burnish.verbs.merge import merge as merge_adapters

    shares = None if weights is None else _numbers(weights)
    combination = Combination(shares, method, rank, density, seed)
    written = merge_adapters(
        models,
        output,
        combination=combination,
        form=form,
        base=base,
        chat_template=chat_template,
        push=push,
        public=public,
    )
    _tell_written(*written)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text} is not a list of numbers such as 0.7,0.3", param_hint="--weights") from None


@app.command(rich_help_panel="use")
def export(
    model: Model,
    output: Annotated[Path, typer.Option(help="A new or empty folder.")],
    form: Annotated[
        Literal["merged", "adapter", "gguf"],
        typer.Option(help="merged: full weights. adapter: without the base. gguf: prints the command that converts."),
    ] = "merged",
    base: Base = None,
    chat_template: Template = None,
    push: Push = None,
    public: Public = False,
) -> None:
    """Export a model for other libraries, with a model card. The written model is verified on prompts."""
    from burnish.verbs.merge import write_as

    written = write_as([model], output, form=form, base=base, chat_template=chat_template, push=push, public=public)
    _tell_written(*written)


def _tell_written(written: WrittenModel, uploaded: str) -> None:
    for note in written.notes:
        _note(note)
    typer.echo(f"{written.folder}: {written.dtype} weights in safetensors")
    typer.echo(written.replayed.line())
    if uploaded:
        typer.echo(uploaded)


@app.command(rich_help_panel="use")
def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    engine: Annotated[
        Literal["vllm", "transformers"] | None, typer.Option(help="Server. Default: vLLM if it is installed.")
    ] = None,
    base: Base = None,
    chat_template: Template = None,
) -> None:
    """Serve a model with vLLM or transformers. The chat template and end tokens are those of training."""
    from burnish.export.serve import serve as run_server
    from burnish.runs.named_model import resolve_model

    run_server(resolve_model(model), base=base, template=chat_template, host=host, port=port, engine=engine, told=_note)
