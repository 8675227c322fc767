"""Pool of worker processes that run rewards: timeouts, crashes, replacement of processes.

`reward_runner` gives it jobs, `worker` is the program of the processes. A job is one answer (or one group) and the
rewards to run on it. A process that exceeds its time limit or ends is replaced, and another one gets the rest of its
job.
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
from burnish.grading.protocol import Request, Work, outcomes_in
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import Failure, FailureKind, Outcome

STARTUP = 120.0
"""Seconds for a worker to import and prepare its rewards."""


@dataclass(frozen=True, slots=True)
class Job:
    """Answers that are graded together. Example: ``Job(7, Request((answer,), parts=(0, 1)))``."""

    index: int
    """Number of the job, for the caller."""
    request: Request


_EXIT_SECONDS = 5.0
"""Seconds to wait for the end of a process that closed its replies."""
_MAX_JOBS_AT_ONCE = 32
"""Limit of the jobs that a worker is given at once, so that it does not wait for this process between them."""

OnOutcomes = Callable[[Job, int, list[Outcome]], None]
"""Called with (job, part, outcomes), in no particular order."""


@dataclass(eq=False, slots=True)
class Worker:
    """Worker process with its pending jobs."""

    popen: subprocess.Popen[bytes]
    requests: Connection
    replies: Connection
    due: float
    """Deadline by time.monotonic(), after which it is killed."""
    ready: bool = False
    """Whether its rewards are prepared."""
    pending: deque[tuple[Job, int]] = field(default_factory=deque)
    """(Job, part) that it was given and has not graded yet; the first is being graded."""

    @classmethod
    def start(cls, work: Work) -> Worker:
        """Starts a fresh interpreter, since a fork of a process with threads and a device may hang."""
        request_end, requests = Pipe(duplex=False)
        replies, reply_end = Pipe(duplex=False)
        with request_end, reply_end:
            ends = (request_end.fileno(), reply_end.fileno())
            # -P: files of the current folder do not shadow modules. Workers import from the same paths.
            command = [sys.executable, "-P", "-m", "burnish.grading.worker", *map(str, ends), str(os.getpid())]
            importable = os.pathsep.join(os.path.abspath(path) for path in sys.path)
            # Sets are iterated in the same order in every worker.
            environment = {**os.environ, "PYTHONPATH": importable, "PYTHONHASHSEED": "0"}
            # A process group: Ctrl+C reaches the trainer only, and processes of a reward are killed with the worker.
            popen = subprocess.Popen(
                command, env=environment, pass_fds=ends, stdin=subprocess.DEVNULL, stdout=2, process_group=0
            )
        worker = cls(popen, requests, replies, due=time.monotonic() + STARTUP)
        with contextlib.suppress(BrokenPipeError):  # it ended already: its replies say so
            requests.send_bytes(pickle.dumps(work))
        return worker

    @property
    def idle(self) -> bool:
        return self.ready and not self.pending

    def begin(self, jobs: Sequence[Job], rewards: Sequence[Reward]) -> None:
        """Sends jobs to this worker, which must be idle: an idle worker reads its pipe, so sending never blocks."""
        assert self.idle, "jobs are sent to idle workers"
        self.pending.extend((job, part) for job in jobs for part in job.request.parts)
        self.due = self._deadline(rewards)
        with contextlib.suppress(BrokenPipeError):  # it ended meanwhile: its replies say so
            self.requests.send_bytes(pickle.dumps(tuple(job.request for job in jobs)))

    def finish_part(self, rewards: Sequence[Reward]) -> None:
        """Removes the part that was graded and sets the deadline of the next one."""
        self.pending.popleft()
        if self.pending:
            self.due = self._deadline(rewards)

    def remaining_jobs(self) -> list[Job]:
        """Jobs with the parts that are not graded, without the part that was being graded when the worker stopped."""
        _, *left = self.pending
        jobs = {job.index: job for job, _ in left}
        parts = {index: tuple(part for job, part in left if job.index == index) for index in jobs}
        return [Job(index, Request(job.request.answers, parts[index])) for index, job in jobs.items()]

    def kill(self) -> None:
        """Kills the process and all processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self.requests.close()
        self.replies.close()

    def exit_reason(self) -> str:
        """How the process ended, in words; "" while it runs."""
        status = self.popen.poll()
        if status is None:
            return ""
        names = {member.value: member.name for member in signal.Signals}
        return f"by signal {names.get(-status, -status)}" if status < 0 else f"with exit status {status}"

    def _deadline(self, rewards: Sequence[Reward]) -> float:
        return time.monotonic() + _time_limit(*self.pending[0], rewards)


@dataclass(eq=False)
class Pool:
    """Pool of `size` workers, started when there is work; its owner closes it.

    Example: ``Pool(Work(rewards, None), 2).run(jobs, on_outcomes)``.
    """

    work: Work
    size: int
    _workers: list[Worker] = field(default_factory=list)

    def close(self) -> None:
        """Kills all workers."""
        while self._workers:
            self._workers.pop().kill()

    def run(self, jobs: Iterable[Job], on_outcomes: OnOutcomes) -> None:
        """Grades every part of every job.

        Raises:
            RecipeError: a reward cannot be prepared, or breaks its contract.
        """
        waiting = deque(jobs)
        try:
            while waiting or any(worker.pending for worker in self._workers):
                self._assign(waiting)
                self._wait()
                for worker in tuple(self._workers):
                    self._poll(worker, waiting, on_outcomes)
        except BaseException:
            self.close()  # their pending replies would belong to no job
            raise

    def _assign(self, waiting: deque[Job]) -> None:
        busy = sum(bool(worker.pending) for worker in self._workers)
        for _ in range(min(self.size, busy + len(waiting)) - len(self._workers)):
            self._workers.append(Worker.start(self.work))
        for worker in self._workers:
            if worker.idle and waiting:
                num_jobs = max(1, min(_MAX_JOBS_AT_ONCE, len(waiting) // (4 * self.size)))
                worker.begin([waiting.popleft() for _ in range(num_jobs)], self.work.rewards)

    def _wait(self) -> None:
        """Waits until a worker replies, or the first deadline passes."""
        working = [worker for worker in self._workers if not worker.idle]
        first = min((worker.due for worker in working), default=0.0)
        wait([worker.replies for worker in working], timeout=max(0.0, first - time.monotonic()))

    def _poll(self, worker: Worker, waiting: deque[Job], on_outcomes: OnOutcomes) -> None:
        if worker.idle:
            return
        try:
            # A reply that was sent in time counts, however late it is read.
            while not worker.idle and worker.replies.poll():
                self._receive(worker, worker.replies.recv_bytes(), on_outcomes)
        except (EOFError, ConnectionResetError):
            with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its end, and still runs
                worker.popen.wait(timeout=_EXIT_SECONDS)
            self._replace(worker, f"its process ended {worker.exit_reason()}".rstrip(), waiting, on_outcomes)
            return
        if not worker.idle and time.monotonic() >= worker.due:
            reason = worker.exit_reason()
            self._replace(worker, f"its process ended {reason}" if reason else "", waiting, on_outcomes)

    def _receive(self, worker: Worker, reply: bytes, on_outcomes: OnOutcomes) -> None:
        message = json.loads(reply)
        if "refused" in message:
            raise RecipeError(*message["refused"])
        if not worker.ready:
            worker.ready = True
            return
        job, part = worker.pending[0]
        assert message["part"] == part, "parts are graded in the order of the request"
        on_outcomes(job, part, outcomes_in(message))
        worker.finish_part(self.work.rewards)

    def _replace(self, worker: Worker, exit_reason: str, waiting: deque[Job], on_outcomes: OnOutcomes) -> None:
        """Replaces a worker whose process ended, or that passed its deadline (`exit_reason` is "")."""
        self._workers.remove(worker)
        worker.kill()
        if not worker.pending:
            names = ", ".join(reward.name for reward in self.work.rewards)
            raise RecipeError(
                given=f"rewards {names}: {exit_reason or f'not ready within {STARTUP:g} s'}",
                rule="a reward is imported in a worker process",
                remedy="read its output above; run its file alone with python",
            )
        job, part = worker.pending[0]
        kind = FailureKind.CRASH if exit_reason else FailureKind.TIMEOUT
        failure = Failure(kind, exit_reason or f"no verdict within {_time_limit(job, part, self.work.rewards):g} s")
        waiting.extendleft(reversed(worker.remaining_jobs()))
        on_outcomes(job, part, [failure] * len(job.request.answers))


def _time_limit(job: Job, part: int, rewards: Sequence[Reward]) -> float:
    """Seconds for a part of a job."""
    return rewards[part].timeout * len(job.request.answers)
