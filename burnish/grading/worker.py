"""``python -m burnish.grading.worker REQUESTS REPLIES PARENT``: worker process that grades answers.

Started by `pool`, never imported. The output of a reward goes to standard error and is never read as a verdict.
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
from burnish.grading.call import call
from burnish.grading.protocol import Request, Work, ready_message, refusal_message, verdict_message
from burnish.rewards.reward import Reward

_POLL = 1.0
"""Seconds between checks whether the parent process is alive."""


def main(requests: int, replies: int, parent: int) -> None:
    """Prepares the rewards, reports that, and grades until the pipe of requests is closed."""
    _end_with(parent)
    with Connection(requests, writable=False) as incoming, Connection(replies, readable=False) as outgoing:
        work: Work = pickle.loads(incoming.recv_bytes())
        if work.memory is not None and sys.platform == "linux":  # elsewhere address space cannot be limited
            resource.setrlimit(resource.RLIMIT_AS, (work.memory, work.memory))
        try:
            for reward in work.rewards:
                reward.prepare()
            outgoing.send_bytes(ready_message())
            while True:
                batch: tuple[Request, ...] = pickle.loads(incoming.recv_bytes())
                for request in batch:
                    _serve(work.rewards, request, outgoing)
        except UserError as error:
            outgoing.send_bytes(refusal_message(error.given, error.rule, error.remedy))
        except EOFError:
            pass  # the pool closed the pipe


def _serve(rewards: Sequence[Reward], request: Request, outgoing: Connection) -> None:
    for part in request.parts:
        reward = rewards[part]
        _limit_processor_time(reward.timeout * len(request.answers))
        random.seed(request.answers[0].key)  # a reward with random draws gives the same in every worker
        outgoing.send_bytes(verdict_message(part, call(reward, request.answers)))


def _end_with(parent: int) -> None:
    """Exits when the parent process has ended, since a killed parent does not end its workers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limit_processor_time(timeout: float) -> None:
    """Limits processor time, so that the kernel ends an orphan that hangs in C code, where no Python thread can run."""
    used = sum(os.times()[:2])
    limit = math.ceil(used + (timeout + _POLL) * (os.cpu_count() or 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
