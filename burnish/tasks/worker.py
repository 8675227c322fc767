"""``python -m burnish.tasks.worker REQUESTS REPLIES PARENT``: judges answers in a process that can be killed.

Started by `pool`, and imported by nobody. What a reward prints goes to standard error and is never taken for a verdict.
"""

from __future__ import annotations

import math
import os
import pickle
import random
import resource
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from burnish.errors import UserError
from burnish.tasks.call import call
from burnish.tasks.protocol import Request, Work, ready_message, refusal_message, verdict_message
from burnish.tasks.reward import Reward

_POLL = 1.0
"""Seconds after which an orphan notices."""


def main(requests: int, replies: int, parent: int) -> None:
    """Prepares the rewards, says so, and judges until nobody asks any more."""
    _end_with(parent)
    with Connection(requests, writable=False) as asked, Connection(replies, readable=False) as told:
        work: Work = pickle.loads(asked.recv_bytes())
        if work.memory is not None and sys.platform == "linux":  # elsewhere address space cannot be limited
            resource.setrlimit(resource.RLIMIT_AS, (work.memory, work.memory))
        try:
            for reward in work.rewards:
                reward.prepare()
            told.send_bytes(ready_message())
            while True:
                several: tuple[Request, ...] = pickle.loads(asked.recv_bytes())
                for request in several:
                    _serve(work.rewards, request, told)
        except UserError as error:
            told.send_bytes(refusal_message(error.given, error.rule, error.remedy))
        except EOFError:
            pass  # nobody asks any more


def _serve(rewards: Sequence[Reward], request: Request, told: Connection) -> None:
    for part in request.parts:
        reward = rewards[part]
        _limit_processor_time(reward.timeout * len(request.answers))
        random.seed(request.answers[0].key)  # a reward that draws gives the same in every worker
        told.send_bytes(verdict_message(part, call(reward, request.answers)))


def _end_with(parent: int) -> None:
    """A killed parent kills nobody, and this process's work has no taker any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limit_processor_time(timeout: float) -> None:
    """The kernel ends an orphan that hangs inside C code, where no thread of Python's can run."""
    used = sum(os.times()[:2])
    most = math.ceil(used + (timeout + _POLL) * (os.cpu_count() or 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
