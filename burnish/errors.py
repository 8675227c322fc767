"""Exceptions that a user can meet.

The tree::

    BurnishError
    ├── UserError            a user's mistake, or a limit of their machine: exit status 2, a message, never a traceback
    │   ├── RecipeError      a recipe, a flag or an override: unknown key, wrong type, a combination that cannot work
    │   ├── DataError        a data file or a row of it
    │   ├── ModelError       a model folder, its tokenizer, its template, or an architecture we refuse
    │   ├── RunError         a run folder: another recipe's, in use, not writable, disk full, damaged checkpoint
    │   └── CapacityError    memory: a batch that does not fit
    ├── DivergenceError      the training itself went wrong (loss not finite): exit status 1
    └── Interrupted          stopped by Ctrl+C or SIGTERM after a checkpoint was written: exit status 130

A mistake of ours is not here: it is an assertion with the invariant in words.
"""

from __future__ import annotations


class BurnishError(Exception):
    """Base class of all errors raised on purpose."""


class UserError(BurnishError):
    """A user's mistake: what was given, the rule that it breaks, and what to change.

    Example: ``DataError(given="train.jsonl line 7 is not valid JSON: ...", rule="every line of a .jsonl file is one
    JSON object", remedy="correct or delete line 7")``.
    """

    def __init__(self, given: str, rule: str, remedy: str) -> None:
        super().__init__(given, rule, remedy)
        self.given = given
        self.rule = rule
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.given}\n  rule: {self.rule}\n  to do: {self.remedy}"


class RecipeError(UserError):
    """A recipe, flag or override that cannot be run."""


class DataError(UserError):
    """A data file, or a row of it, that cannot be used."""


class ModelError(UserError):
    """A model folder, tokenizer, template or architecture that cannot be used."""


class RunError(UserError):
    """A run folder that cannot be written, continued or trusted."""


class CapacityError(UserError):
    """A batch that does not fit into memory."""


class DivergenceError(BurnishError):
    """The loss or the gradient is no longer a finite number."""


class Interrupted(BurnishError):  # noqa: N818 (an end of the run, not an error)
    """The run was stopped by a signal and has written a checkpoint."""
