"""The verbs for a model that is there already: talk to it, have it answer, measure it, merge, export and serve it.

Registered by `cli`, and like it quick to import: nothing heavy is imported before a verb runs. What a verb is about
goes to the standard output, everything else to the standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from burnish.model.adapters.combine import Combination
    from burnish.model.write import Form
    from burnish.verbs.evaluate import EvalReport
    from burnish.verbs.evaluate_preferences import PreferenceEvalReport
    from burnish.verbs.evaluate_reward_model import RewardModelEvalReport
    from burnish.verbs.evaluate_rewards import RewardEvalReport

    Found = EvalReport | PreferenceEvalReport | RewardModelEvalReport | RewardEvalReport

app = typer.Typer(rich_markup_mode=None)

Model = Annotated[str, typer.Argument(help="A hub name, or a folder: a model's, an adapter's or a run's.")]
Base = Annotated[str | None, typer.Option(help="The adapter's base, if it is not where the adapter remembers it.")]
Template = Annotated[
    str | None, typer.Option(help="plain, chatml, llama2, llama3, gemma, mistral or a .jinja file. Default: its own.")
]
Push = Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Upload the folder to the hub afterwards.")]
Public = Annotated[bool, typer.Option("--public", help="Of a new repository on the hub. Default: private.")]


def _note(line: str) -> None:
    typer.echo(line, err=True)


@app.command()
def chat(
    model: Model,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="temperature, top_p, top_k, max_new_tokens, seed."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    chat_template: Template = None,
    base: Base = None,
) -> None:
    """Talk to a model, in the terminal or through a pipe (a message each line). /help shows the commands."""
    from burnish.evaluate.chat import HELP, Chat, converse
    from burnish.model.open import open_model, with_template
    from burnish.verbs.evaluate import ChatSettings, read_settings

    given = read_settings(ChatSettings, {}, settings or [])
    opened = open_model(model, base=base)
    if chat_template is not None:
        opened = with_template(opened, chat_template)
    for note in opened.notes:
        _note(note)
    talk = Chat(opened, given.params_over(opened.causal_lm.generation_config), system)
    which = chat_template or ("the model's own" if opened.template is not None else "none: it continues what you write")
    _note(f"{model}; template: {which}")
    in_terminal = sys.stdin.isatty()
    if in_terminal:
        _note(HELP)
    converse(talk, _typed() if in_terminal else _piped(), _say, _note)


def _say(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _piped() -> Iterator[str]:
    return (line.rstrip("\r\n") for line in sys.stdin)


def _typed() -> Iterator[str]:
    """Lines from the terminal; Ctrl+C discards what was typed, Ctrl+D ends."""
    import readline  # noqa: F401 (editing and history)

    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            _note("\nCtrl+D or /exit ends")
        except EOFError:
            typer.echo()
            return


@app.command("eval")
def evaluate(
    model: Model,
    data: Annotated[str, typer.Option(help="Rows to measure it on: a file, a folder, a pattern or a hub data set.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as match=number, count=200, max_new_tokens=64."),
    ] = None,
    base: Base = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the JSON object to this file too.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Write every question and answer to this .jsonl file.")] = None,
) -> None:
    """Loss, perplexity and exact match on a file (of several turns, the loss is of all, the match of the last); on
    pairs, how often the better answer is worth more to the model; of a reward model, how well it judges; with
    verifier=…, pass@k."""
    for path in (output, samples):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent} to write {path.name} to")
    found = _measured(model, data, settings or [], base)
    for note in found.notes:
        _note(note)
    text = json.dumps(found.figures(), ensure_ascii=False)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    if samples is not None:
        lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in found.samples())
        samples.write_text("".join(lines), encoding="utf-8")
    if json_lines:
        typer.echo(text)
    else:
        _show(found)


def _measured(model: str, data: str, settings: list[str], base: str | None) -> Found:
    """By what the settings ask for, what the model is, and what the rows mean."""
    from burnish.config.text import parse_overrides
    from burnish.verbs.evaluate import EvalSettings, read_settings
    from burnish.verbs.evaluate import evaluate as measure
    from burnish.verbs.evaluate_preferences import evaluate_preferences, holds_comparisons
    from burnish.verbs.evaluate_reward_model import evaluate_reward_model, value_head_to_evaluate
    from burnish.verbs.evaluate_rewards import RewardEvalSettings, evaluate_rewards

    if "verifier" in parse_overrides(settings):
        return evaluate_rewards(model, read_settings(RewardEvalSettings, {"data": data}, settings), base=base)
    asked = read_settings(EvalSettings, {"data": data}, settings)
    judging = value_head_to_evaluate(model, base)
    if judging is not None:
        return evaluate_reward_model(model, asked, judging, base=base)
    return (evaluate_preferences if holds_comparisons(asked) else measure)(model, asked, base=base)


def _table(found: EvalReport) -> list[tuple[str, str]]:
    """For people: figure and value."""
    rows = [
        ("tokens", f"{found.tokens:,}, of them {found.trained_tokens:,} in the loss"),
        ("loss", f"{found.loss:.4f} nats per token"),
        ("perplexity", f"{found.perplexity:.4g}"),
    ]
    if (asked := found.accuracy) is not None:
        rows.append((f"accuracy ({found.match})", f"{asked.share:.1%} ({asked.correct:,} of {asked.total:,})"))
        if cut := sum(not sample.ended for sample in asked.samples):
            rows.append(("answers cut", f"{cut:,} did not end within max_new_tokens"))
    return rows


def _show(found: Found) -> None:
    from rich.console import Console
    from rich.table import Table

    from burnish.verbs.evaluate import EvalReport

    table = Table("figure", "value", box=None, pad_edge=False)
    left_out = f" ({found.left_out:,} left out)" if found.left_out else ""
    table.add_row("rows", f"{found.rows:,}{left_out}")
    for name, value in _table(found) if isinstance(found, EvalReport) else found.table():
        table.add_row(name, value)
    Console(soft_wrap=True, highlight=False).print(table)


@app.command()
def generate(
    model: Annotated[str, typer.Option(help="A hub name, or a folder: a model's, an adapter's or a run's.")],
    data: Annotated[str, typer.Option(help="Prompts: a file, a folder, a pattern or a hub data set.")],
    output: Annotated[Path, typer.Option(help="The .jsonl file to write.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Such as responses_per_prompt=8, temperature=0.7, max_new_tokens=512."
        ),
    ] = None,
    base: Base = None,
) -> None:
    """Answer the prompts in a file, a line for each. The same command again goes on after an interruption."""
    from burnish.verbs.evaluate import read_settings
    from burnish.verbs.generate import GenerateSettings
    from burnish.verbs.generate import generate as write_answers

    given = read_settings(GenerateSettings, {"data": data}, settings or [])
    written = write_answers(model, given, output=output, base=base)
    for note in written.notes:
        _note(note)
    typer.echo(f"{output}: {written.line()}")


@app.command()
def merge(
    models: Annotated[list[str], typer.Argument(metavar="RUN_OR_ADAPTER...", help="Run folders or adapters.")],
    output: Annotated[Path, typer.Option(help="A new or empty folder.")],
    weights: Annotated[
        str | None, typer.Option(metavar="W,W,...", help="Of several adapters. Default: equal, with the sum 1.")
    ] = None,
    method: Annotated[
        Literal["cat", "svd", "linear", "ties", "dare_linear", "dare_ties"],
        typer.Option(help="How several adapters become one; cat is exact (docs/adapters.md)."),
    ] = "cat",
    rank: Annotated[
        int | None, typer.Option(min=1, help="Of --method svd. Default: the largest of the adapters'.")
    ] = None,
    density: Annotated[float, typer.Option(min=0, max=1, help="Share that ties and dare keep.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of what dare leaves out.")] = 0,
    form: Annotated[
        Literal["merged", "adapter"],
        typer.Option(help="merged: into the weights. adapter: several become one adapter."),
    ] = "merged",
    base: Base = None,
    chat_template: Template = None,
    push: Push = None,
    public: Public = False,
) -> None:
    """Add an adapter, or several, to the base, and write one model. Prompts are replayed with what was written."""
    from burnish.errors import ModelError
    from burnish.model.adapters.combine import Combination
    from burnish.model.open import find_model

    model, *others = models

    if find_model(model, base).kind != "adapter":
        raise ModelError(
            given=f"{model} is a whole model",
            rule="what is merged is an adapter",
            remedy="nothing has to be merged; burnish export writes it in another form",
        )
    shares = None if weights is None else _numbers(weights)
    _write(
        model, output, form, base, chat_template, push, public, others, Combination(shares, method, rank, density, seed)
    )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text} is no list of numbers such as 0.7,0.3", param_hint="--weights") from None


@app.command()
def export(
    model: Model,
    output: Annotated[Path, typer.Option(help="A new or empty folder.")],
    form: Annotated[
        Literal["merged", "adapter", "gguf"],
        typer.Option(help="merged: whole weights. adapter: without the base. gguf: says who converts."),
    ] = "merged",
    base: Base = None,
    chat_template: Template = None,
    push: Push = None,
    public: Public = False,
) -> None:
    """Write a model so that others load it, with a model card. Prompts are replayed with what was written."""
    _write(model, output, form, base, chat_template, push, public)


def _write(
    model: str,
    output: Path,
    form: Form,
    base: str | None,
    template: str | None,
    repository: str | None,
    public: bool,
    others: list[str] | None = None,
    combination: Combination | None = None,
) -> None:
    from burnish.model.push import check_push
    from burnish.model.push import push as upload
    from burnish.model.write import write_model

    if repository is not None:
        check_push(repository)
    written = write_model(
        model, output, form=form, base=base, template=template, others=others or (), combination=combination
    )
    for note in written.notes:
        _note(note)
    typer.echo(f"{output}: {written.dtype} weights in safetensors")
    typer.echo(written.replayed.line())
    if repository is not None:
        typer.echo(upload(output, repository, private=not public))


@app.command()
def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    engine: Annotated[
        Literal["vllm", "transformers"] | None, typer.Option(help="Default: vLLM if it is installed.")
    ] = None,
    base: Base = None,
    chat_template: Template = None,
) -> None:
    """Hand a model over to vLLM or transformers' server, with the right template and end tokens."""
    from burnish.model.serve import serve as run_server

    run_server(model, base=base, template=chat_template, host=host, port=port, engine=engine, told=_note)
