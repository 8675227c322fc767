"""What is to be learned by trying: prompts with verifiers, and the processes that judge answers.

A row of data (`burnish.data.records.Task`) and a response make an `Answer` (`rows`); a `Judge` has each `Reward` of a
recipe (`read_rewards`) say a number or a typed failure of it, and combines them into a `Verdict`. A source of rollouts
calls the judge, learns from `Verdict.reward` where it is a number, and counts the rest.
"""

from burnish.tasks.answer import Answer
from burnish.tasks.journal import Journal
from burnish.tasks.judge import Judge
from burnish.tasks.reward import Reward
from burnish.tasks.settings import read_rewards
from burnish.tasks.trying import Tried, try_rewards
from burnish.tasks.verdict import Failure, FailureKind, Outcome, Verdict, count_failures

__all__ = [
    "Answer",
    "Failure",
    "FailureKind",
    "Journal",
    "Judge",
    "Outcome",
    "Reward",
    "Tried",
    "Verdict",
    "count_failures",
    "read_rewards",
    "try_rewards",
]
