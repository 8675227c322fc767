"""Checks of the data as the model will see it: usable rows, what is learned, ends of turns, begin tokens.

They need the tokenizer and no weights.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import numpy as np

from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, Verdict, judged
from burnish.data.dataset import TokenizedDataset
from burnish.data.records import AnyExample, Completion, Conversation, Document, Labelled, Ranked, Scored, Stepped
from burnish.data.rendering import begin_token
from burnish.data.shared_prompt import rated_siblings as each_alone
from burnish.data.shared_prompt import single_rated
from burnish.data.token_store import DOCUMENT, SHORTENED, UNENDED
from burnish.data.view import RowView, view_rows

MOST_DROPPED = 0.5
"""Share of the samples that may be left out since they are too long."""
_SHOWN = 600
"""Characters of the row that is shown."""


def rows_are_usable(subject: Subject) -> Verdict:
    """The recipe is read, and its first rows become samples. What cannot be used is a DataError that says where."""
    parts = [_usable("", subject.rows), *([_usable("held out: ", subject.held_out)] if subject.held_out else [])]
    worst = max(share for share, _ in parts)
    return judged(
        worst <= MOST_DROPPED,
        "; ".join(text for _, text in parts),
        f"raise max_length (the model holds {subject.opener.reader.max_positions:,}), or keep the beginning of long "
        "rows with overlong=cut; `burnish data profile` shows the lengths",
    )


def _usable(name: str, prepared: TokenizedDataset) -> tuple[float, str]:
    """Share of the samples that were dropped, and all counts in words."""
    report = prepared.report
    dropped = sum(each.count for each in report.dropped)
    counts = [
        f"{name}{report.rows:,} rows looked at ({report.format})",
        f"{report.groups:,} samples",
        f"longest {report.longest:,} tokens",
        *([f"{dropped:,} dropped for their length"] if dropped else []),
        *([f"{report.cut:,} cut"] if report.cut else []),
        *([f"{report.unusable:,} unusable"] if report.unusable else []),
    ]
    return dropped / (dropped + report.groups), ", ".join(counts)


def the_answer_is_learned(subject: Subject) -> Verdict:
    """Of the first row that can be used, what it answers is learned, and what it asks is not.

    Of documents: all is learned but the first token of every piece, which nothing predicts.
    """
    rows, report = subject.rows, subject.rows.report
    share = f"{report.trained_tokens / report.tokens:.0%} of the tokens are learned"
    row = int(rows.picked.rows[0])
    preparation = subject.train.drawn(row + 1, subject.recipe.seed)
    shown = list(view_rows(preparation, row))
    view = "\n".join(_shortened(each.plain()) for each in shown)
    if rows.samples.notes[:, DOCUMENT].all():
        return judged(
            report.trained_tokens == report.tokens - report.groups,
            f"{share}, in {report.groups:,} pieces of documents; all of them but the first of each piece should be",
            REPORT,
            view,
        )
    told = (
        None if _is_cut(rows) else _expected(preparation.maker.format.convert(rows.origin[row]), subject.stage.train_on)
    )
    if told is None:
        return Verdict(None, f"{share}; only a part of the row below is: look whether it is the right one", shown=view)
    learned, context = told
    wrong = [
        *(f"{text[:40]!r} is not learned" for text in learned if not _is_in(text, shown, learned=True)),
        *(f"{text[:40]!r} is not context" for text in context if not _is_in(text, shown, learned=False)),
    ]
    return judged(
        not wrong,
        f"{share}; {rows.origin.where(row)}: {wrong[0] if wrong else _RIGHT[bool(context)]}",
        "look at the row below: either the template writes messages otherwise than they are (name another template), "
        "or train_on is not what you mean",
        view,
    )


_RIGHT = {True: "the answer is learned, the question is not", False: "question and answer are learned"}


def _is_cut(rows: TokenizedDataset) -> bool:
    """Whether the first group is not all of its row."""
    sample = int(rows.picked.samples[0])
    return bool(rows.picked.lengths[0] < rows.samples.lengths[sample] or rows.samples.notes[sample, SHORTENED])


def _expected(example: AnyExample, train_on: str) -> tuple[list[str], list[str]] | None:
    """Texts that are learned, and texts that are not; None: a part of a message is learned, which no rule here says."""
    if isinstance(example, Ranked | Labelled):
        example = each_alone(example, "any")[0][0]
    elif isinstance(example, Scored | Stepped):
        example = single_rated(example, "scores" if isinstance(example, Scored) else "steps")
    if isinstance(example, Document) or train_on not in ("assistant", "last", "everything"):
        return None
    if isinstance(example, Completion):
        learned, context = [example.completion], [example.prompt]
    else:
        assert isinstance(example, Conversation), "an example to learn is a conversation, a completion or a document"
        turns = example.turns[-1:]
        learned = [(example.messages[turn].content or "").rpartition("</think>")[2] for turn in turns]
        asked = [message for message in example.messages[: turns[-1]] if message.role == "user"] if turns else []
        context = [message.content or "" for message in asked[-1:]]
    return (learned + context, []) if train_on == "everything" else (learned, context)


def _is_in(text: str, shown: list[RowView], *, learned: bool) -> bool:
    """Whether the text stands in what is learned (or in what is not), whatever its white space and case."""
    written = ["".join(part for part, is_learned in each.runs if is_learned == learned) for each in shown]
    return any(_bare(text) in _bare(each) for each in written)


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).casefold()


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} […] {text[-_SHOWN // 2 :]}"


def ends_are_learned(subject: Subject) -> Verdict:
    """Every learned turn ends with a learned token that no ordinary text has."""
    rows, tokenizer = subject.rows, subject.opener.reader.tokenizer
    unended = int(rows.samples.notes[:, UNENDED].sum())
    ends = ", ".join(f"{tokenizer.convert_ids_to_tokens(end)} ({end})" for end in sorted(rows.report.end_tokens))
    return judged(
        not unended and bool(ends),
        f"every learned turn ends with {ends}" if not unended else f"{unended:,} learned turns have no end token",
        "the template puts no token of its own after an answer, so the model would not learn to stop: name another "
        "template, such as chat_template=plain, or chat_template=chatml with add_tokens=template",
    )


def begins_once(subject: Subject) -> Verdict:
    """One begin token at the beginning of every sample if tokenizer or template use one, and none anywhere else."""
    tokenizer, template = subject.opener.reader.tokenizer, subject.opener.reader.template
    begin = tokenizer.bos_token_id
    if begin is None:
        return Verdict(None, "the tokenizer has no begin token")
    source = template.source + (template.with_tools or "")
    writes = subject.rows.report.conversations > 0 and ("bos_token" in source or str(tokenizer.bos_token) in source)
    expected = int(bool(begin_token(tokenizer)) or writes)
    counts = list(_begin_tokens(subject.rows, begin, also_ends=begin in subject.rows.report.end_tokens))
    wrong = [(count, row) for count, row in counts if count != expected]
    count, row = wrong[0] if wrong else (expected, 0)
    some = f"{subject.rows.origin.where(row)} has {count}, and {len(wrong):,} of {len(counts):,} samples are so"
    missing = (
        f"the tokenizer begins texts with {tokenizer.bos_token}, the template does not: write {{{{ bos_token }}}} at "
        "its beginning, or name a template that does"
    )
    return judged(
        not wrong,
        f"{expected} expected; " + (some if wrong else f"all {len(counts):,} samples have {expected}"),
        missing
        if count < expected
        else f"the template or the rows write {tokenizer.bos_token} more than once: remove it from one of them",
    )


def _begin_tokens(prepared: TokenizedDataset, begin: int, *, also_ends: bool) -> Iterator[tuple[int, int]]:
    """For every sample: begin tokens in it (only those that it begins with, if the same token also ends turns), row."""
    samples = prepared.samples
    for tokens, row in zip(np.split(samples.tokens, np.cumsum(samples.lengths)[:-1]), samples.rows, strict=True):
        is_begin = tokens == begin
        count = int(np.argmin(np.append(is_begin, False))) if also_ends else int(is_begin.sum())
        yield count, int(row)
