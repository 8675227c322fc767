"""Worker processes that judge, each of which can be killed: deadlines, crashes, replacements.

Between `judge`, which says what is to be asked, and `worker`, which asks it. A job is one answer (or one group) and the
rewards to ask of it. A process that passes its deadline or ends is replaced, and the rest of its job goes to another.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait

from burnish.errors import RecipeError
from burnish.tasks.protocol import Request, Work, outcomes_in
from burnish.tasks.reward import Reward
from burnish.tasks.verdict import Failure, FailureKind, Outcome

STARTUP = 120.0
"""Seconds that a worker has for importing and preparing its rewards."""


@dataclass(frozen=True, slots=True)
class Job:
    """Answers to be judged together. Example: ``Job(7, Request((answer,), parts=(0, 1)))``."""

    place: int
    """Its number, for whoever is told."""
    request: Request


_ENDING = 5.0
"""Seconds between the end of a worker's replies and that of its process."""
_AT_ONCE = 32
"""Most jobs that a worker is given at once; it need not wait for this process between them."""

Told = Callable[[Job, int, list[Outcome]], None]
"""Called with (job, part, outcomes), in no particular order."""


@dataclass(eq=False, slots=True)
class Worker:
    """A process, and what it is doing."""

    popen: subprocess.Popen[bytes]
    requests: Connection
    replies: Connection
    due: float
    """When it is killed, by time.monotonic()."""
    ready: bool = False
    """Whether its rewards are prepared."""
    asked: deque[tuple[Job, int]] = field(default_factory=deque)
    """(Job, part) of what it was given and has not judged yet; the first is being judged."""

    @classmethod
    def start(cls, work: Work) -> Worker:
        """A fresh interpreter: a fork of a process with threads and a device may hang by itself."""
        asked, requests = Pipe(duplex=False)
        replies, told = Pipe(duplex=False)
        with asked, told:
            ends = (asked.fileno(), told.fileno())
            # -P: what lies in the current folder is no module of ours. What this process can import, a worker can.
            command = [sys.executable, "-P", "-m", "burnish.tasks.worker", *map(str, ends), str(os.getpid())]
            importable = os.pathsep.join(os.path.abspath(path) for path in sys.path)
            # Sets are walked through in the same order in every worker.
            environment = {**os.environ, "PYTHONPATH": importable, "PYTHONHASHSEED": "0"}
            # A group of its own: Ctrl+C is for the trainer, and what a reward started is killed with it.
            popen = subprocess.Popen(
                command, env=environment, pass_fds=ends, stdin=subprocess.DEVNULL, stdout=2, process_group=0
            )
        worker = cls(popen, requests, replies, due=time.monotonic() + STARTUP)
        with contextlib.suppress(BrokenPipeError):  # it ended already: its replies say so
            requests.send_bytes(pickle.dumps(work))
        return worker

    @property
    def idle(self) -> bool:
        return self.ready and not self.asked

    def begin(self, jobs: Sequence[Job], rewards: Sequence[Reward]) -> None:
        """Gives it work. Only an idle one gets any: it reads, so that sending never waits."""
        assert self.idle, "work is given to idle workers"
        self.asked.extend((job, part) for job in jobs for part in job.request.parts)
        self.due = self._deadline(rewards)
        with contextlib.suppress(BrokenPipeError):  # it ended meanwhile: its replies say so
            self.requests.send_bytes(pickle.dumps(tuple(job.request for job in jobs)))

    def judged(self, rewards: Sequence[Reward]) -> None:
        """Goes on to the next part."""
        self.asked.popleft()
        if self.asked:
            self.due = self._deadline(rewards)

    def rest(self) -> list[Job]:
        """What remains of its work after the part at which it stopped."""
        _, *left = self.asked
        jobs = {job.place: job for job, _ in left}
        parts = {place: tuple(part for job, part in left if job.place == place) for place in jobs}
        return [Job(place, Request(job.request.answers, parts[place])) for place, job in jobs.items()]

    def kill(self) -> None:
        """Ends it and all that it started, wherever it is."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self.requests.close()
        self.replies.close()

    def ended(self) -> str:
        """How it ended by itself; "" while it runs."""
        status = self.popen.poll()
        if status is None:
            return ""
        names = {each.value: each.name for each in signal.Signals}
        return f"by signal {names.get(-status, -status)}" if status < 0 else f"with exit status {status}"

    def _deadline(self, rewards: Sequence[Reward]) -> float:
        return time.monotonic() + _allowed(*self.asked[0], rewards)


@dataclass(eq=False)
class Pool:
    """So many workers, started when there is work; whoever made it closes it.

    Example: ``Pool(Work(rewards, None), 2).run(jobs, told)``.
    """

    work: Work
    size: int
    _workers: list[Worker] = field(default_factory=list)

    def close(self) -> None:
        """Ends all workers."""
        while self._workers:
            self._workers.pop().kill()

    def run(self, jobs: Iterable[Job], told: Told) -> None:
        """Has every part of every job judged.

        Raises:
            RecipeError: a reward cannot be prepared, or breaks its contract.
        """
        waiting = deque(jobs)
        try:
            while waiting or any(worker.asked for worker in self._workers):
                self._hand_out(waiting)
                self._wait()
                for worker in tuple(self._workers):
                    self._look_at(worker, waiting, told)
        except BaseException:
            self.close()  # what they are doing now is nobody's answer
            raise

    def _hand_out(self, waiting: deque[Job]) -> None:
        busy = sum(bool(worker.asked) for worker in self._workers)
        for _ in range(min(self.size, busy + len(waiting)) - len(self._workers)):
            self._workers.append(Worker.start(self.work))
        for worker in self._workers:
            if worker.idle and waiting:
                several = max(1, min(_AT_ONCE, len(waiting) // (4 * self.size)))
                worker.begin([waiting.popleft() for _ in range(several)], self.work.rewards)

    def _wait(self) -> None:
        """Until a worker says something, or the first deadline passes."""
        working = [worker for worker in self._workers if not worker.idle]
        first = min((worker.due for worker in working), default=0.0)
        wait([worker.replies for worker in working], timeout=max(0.0, first - time.monotonic()))

    def _look_at(self, worker: Worker, waiting: deque[Job], told: Told) -> None:
        if worker.idle:
            return
        try:
            # What it said in time counts, however late it is read.
            while not worker.idle and worker.replies.poll():
                self._hear(worker, worker.replies.recv_bytes(), told)
        except (EOFError, ConnectionResetError):
            with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its side, and runs on
                worker.popen.wait(timeout=_ENDING)
            self._lost(worker, f"its process ended {worker.ended()}".rstrip(), waiting, told)
            return
        if not worker.idle and time.monotonic() >= worker.due:
            how = worker.ended()
            self._lost(worker, f"its process ended {how}" if how else "", waiting, told)

    def _hear(self, worker: Worker, reply: bytes, told: Told) -> None:
        said = json.loads(reply)
        if "refused" in said:
            raise RecipeError(*said["refused"])
        if not worker.ready:
            worker.ready = True
            return
        job, part = worker.asked[0]
        assert said["part"] == part, "parts are judged in the order of the request"
        told(job, part, outcomes_in(said))
        worker.judged(self.work.rewards)

    def _lost(self, worker: Worker, how: str, waiting: deque[Job], told: Told) -> None:
        """Replaces a worker that ended by itself (`how` says it), or that passed its deadline."""
        self._workers.remove(worker)
        worker.kill()
        if not worker.asked:
            names = ", ".join(reward.name for reward in self.work.rewards)
            raise RecipeError(
                given=f"rewards {names}: {how or f'not ready within {STARTUP:g} s'}",
                rule="a reward can be imported in a process of its own",
                remedy="see above for what it printed; run its file by itself",
            )
        job, part = worker.asked[0]
        kind = FailureKind.CRASH if how else FailureKind.TIMEOUT
        failure = Failure(kind, how or f"no verdict within {_allowed(job, part, self.work.rewards):g} s")
        waiting.extendleft(reversed(worker.rest()))
        told(job, part, [failure] * len(job.request.answers))


def _allowed(job: Job, part: int, rewards: Sequence[Reward]) -> float:
    """Seconds that a part of a job may take."""
    return rewards[part].timeout * len(job.request.answers)
