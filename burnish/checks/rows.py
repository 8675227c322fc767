"""Checks of the tokenized data: usable rows, trained tokens, ends of turns, begin tokens.

They need the tokenizer but no weights.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import numpy as np

from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, CheckResult, checked
from burnish.data.dataset import TokenizedDataset
from burnish.data.records import AnyExample, Completion, Conversation, Document, Labelled, Ranked, Scored, Stepped
from burnish.data.rendering import begin_token
from burnish.data.shared_prompt import rated_siblings as each_alone
from burnish.data.shared_prompt import single_rated
from burnish.data.token_store import DOCUMENT, SHORTENED, UNENDED
from burnish.data.view import RowView, view_rows

MAX_DROPPED = 0.5
"""Largest share of samples that may be left out since they are too long."""
_MAX_SHOWN = 600
"""Limit of the row that is shown, characters."""


def rows_are_usable(subject: Subject) -> CheckResult:
    """The first rows of the recipe become samples. An unusable row is a DataError that names it."""
    parts = [_usable("", subject.rows), *([_usable("held out: ", subject.held_out)] if subject.held_out else [])]
    worst, limit = max(share for share, _ in parts), subject.train.preparation.limit
    return checked(
        worst <= MAX_DROPPED,
        "; ".join(text for _, text in parts),
        f"a row has at most {limit}: {limit.raised(subject.context.reader.max_positions, then=', or ')}keep the "
        "beginning of long rows with overlong=truncate; `burnish data profile` shows the lengths",
    )


def _usable(name: str, prepared: TokenizedDataset) -> tuple[float, str]:
    """Share of dropped samples, and all counts in words."""
    report = prepared.report
    samples = report.groups if prepared.samples.compared else report.sequences
    dropped = sum(reason.count for reason in report.dropped)
    counts = [
        f"{name}{report.rows:,} rows checked ({report.format})",
        f"{samples:,} samples",
        f"longest {report.longest:,} tokens",
        *([f"{dropped:,} dropped for their length"] if dropped else []),
        *([f"{report.cut:,} truncated"] if report.cut else []),
        *([f"{report.unusable:,} unusable"] if report.unusable else []),
    ]
    return dropped / (dropped + samples), ", ".join(counts)


def answers_are_trained(subject: Subject) -> CheckResult:
    """In the first usable row, the answer is trained and the question is not.

    In documents: all tokens are trained but the first one of every piece, which nothing predicts.
    """
    rows, report = subject.rows, subject.rows.report
    share = f"{report.trained_tokens / report.sequence_tokens:.0%} of the tokens are trained"
    row = int(rows.picked.rows[0])
    preparation = subject.train.drawn(row + 1, subject.recipe.seed)
    views = list(view_rows(preparation, row))
    text = "\n".join(_shortened(view.plain()) for view in views)
    if rows.samples.notes[:, DOCUMENT].all():
        return checked(
            report.trained_tokens == report.tokens - report.groups,
            f"{share}, in {report.groups:,} pieces of documents; all of them but the first of each piece should be",
            REPORT,
            text,
        )
    expected = (
        None
        if _is_cut(rows)
        else _expected(preparation.builder.format.convert(rows.origin[row]), subject.stage.train_on)
    )
    if expected is None:
        return CheckResult(
            None, f"{share}; only a part of the row below: check whether it is the right one", shown=text
        )
    trained, context = expected
    faults = [
        *(f"{part[:40]!r} is not trained" for part in trained if not _is_in(part, views, trained=True)),
        *(f"{part[:40]!r} is not context" for part in context if not _is_in(part, views, trained=False)),
    ]
    return checked(
        not faults,
        f"{share}; {rows.origin.where(row)}: {faults[0] if faults else _RIGHT[bool(context)]}",
        "see the row below: either the template changes the text of messages (name another template), "
        "or train_on has the wrong value",
        text,
    )


_RIGHT = {True: "the answer is trained, the question is not", False: "question and answer are trained"}


def _is_cut(rows: TokenizedDataset) -> bool:
    """Whether the first group has only a part of its row."""
    sample = int(rows.picked.samples[0])
    return bool(rows.picked.lengths[0] < rows.samples.lengths[sample] or rows.samples.notes[sample, SHORTENED])


def _expected(example: AnyExample, train_on: str) -> tuple[list[str], list[str]] | None:
    """Texts that are trained, and texts that are not; None: a part of a message is trained; no rule."""
    if isinstance(example, Ranked | Labelled):
        example = each_alone(example, "any")[0][0]
    elif isinstance(example, Scored | Stepped):
        example = single_rated(example, "scores" if isinstance(example, Scored) else "steps")
    if isinstance(example, Document) or train_on not in ("assistant", "last", "everything"):
        return None
    if isinstance(example, Completion):
        trained, context = [example.completion], [example.prompt]
    else:
        assert isinstance(example, Conversation), "an example is a conversation, a completion or a document"
        turns = example.turns[-1:]
        trained = [(example.messages[turn].text or "").rpartition("</think>")[2] for turn in turns]
        questions = [message for message in example.messages[: turns[-1]] if message.role == "user"] if turns else []
        context = [message.text or "" for message in questions[-1:]]
    return (trained + context, []) if train_on == "everything" else (trained, context)


def _is_in(text: str, views: list[RowView], *, trained: bool) -> bool:
    """Whether the trained (or the other) parts contain a text, ignoring white space and case."""
    parts = ["".join(run for run, is_trained in view.runs if is_trained == trained) for view in views]
    return any(_bare(text) in _bare(part) for part in parts)


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).casefold()


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 2]} […] {text[-_MAX_SHOWN // 2 :]}"


def turn_ends_are_trained(subject: Subject) -> CheckResult:
    """Every trained turn ends with a trained token that ordinary text is never tokenized to."""
    rows, tokenizer = subject.rows, subject.context.reader.tokenizer
    unended = int(rows.samples.notes[:, UNENDED].sum())
    ends = ", ".join(f"{tokenizer.convert_ids_to_tokens(end)} ({end})" for end in sorted(rows.report.end_tokens))
    return checked(
        not unended and bool(ends),
        f"every trained turn ends with {ends}" if not unended else f"{unended:,} trained turns have no end token",
        "the template adds no token of its own after an answer, so the model would not learn to stop: name another "
        "template, such as chat_template=plain, or chat_template=chatml with add_tokens=template",
    )


def begins_once(subject: Subject) -> CheckResult:
    """Every sample has one begin token at its beginning if tokenizer or template use one, and none elsewhere."""
    tokenizer, template = subject.context.reader.tokenizer, subject.context.reader.template
    begin = tokenizer.bos_token_id
    if begin is None:
        return CheckResult(None, "the tokenizer has no begin token")
    source = template.source + (template.with_tools or "")
    writes = subject.rows.report.conversations > 0 and ("bos_token" in source or str(tokenizer.bos_token) in source)
    expected = int(bool(begin_token(tokenizer)) or writes)
    counts = list(_begin_tokens(subject.rows, begin, also_ends=begin in subject.rows.report.end_tokens))
    faults = [(count, row) for count, row in counts if count != expected]
    count, row = faults[0] if faults else (expected, 0)
    fault = f"{subject.rows.origin.where(row)} has {count}, and {len(faults):,} of {len(counts):,} samples are wrong"
    missing = (
        f"the tokenizer begins texts with {tokenizer.bos_token}, the template does not: add {{{{ bos_token }}}} at "
        "its beginning, or name a template that does"
    )
    return checked(
        not faults,
        f"{expected} expected; " + (fault if faults else f"all {len(counts):,} samples have {expected}"),
        missing
        if count < expected
        else f"the template or the rows write {tokenizer.bos_token} more than once: remove it from one of them",
    )


def _begin_tokens(prepared: TokenizedDataset, begin: int, *, also_ends: bool) -> Iterator[tuple[int, int]]:
    """Number of begin tokens in every sample (only at its beginning, if the token also ends turns), and its row."""
    samples = prepared.samples
    for tokens, row in zip(np.split(samples.tokens, np.cumsum(samples.lengths)[:-1]), samples.rows, strict=True):
        is_begin = tokens == begin
        count = int(np.argmin(np.append(is_begin, False))) if also_ends else int(is_begin.sum())
        yield count, int(row)
