"""Log-probabilities of given tokens from a model behind an HTTP server, for a teacher that is not in this process.

The server speaks the completions interface with ``prompt_logprobs``, as vLLM's does: a sequence goes in as token ids,
and comes back with the log-probability of each of its tokens and of the most probable ones there. The temperature is 1:
the values are the log-softmax of the logits as the model gives them. One token is generated besides, as the interface
wants it, and is thrown away; the server's model needs room for it.

Sequences are asked for concurrently and each by itself, so a failed request is repeated alone. Results are in the order
of the sequences and independent of the concurrency, up to what the server itself rounds differently.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from burnish.errors import ModelError, RecipeError, RunError, UserError
from burnish.roles.prompt_logprobs import check_model, read_prompt_logprobs, too_many
from burnish.roles.server_client import Abandoned, Clock, Deadline, Request, ServerClient, Wait, base_address

OPENING_S = 60.0
"""Seconds, all tries together, after which a server that does not list its models is not there."""
PROBE = (11, 35, 70, 22, 58, 91, 14, 77, 40, 63, 29, 85, 52, 18, 96, 7)
"""Token ids of the probe, small enough for any vocabulary."""
TOLERANCE = 0.05
"""Nats by which the probe's log-probabilities may differ on average while the model is the same one."""
_GRACE_S = 1.0
"""Seconds after the deadline in which a request may still say itself why it failed; its error says more."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where a model is served and how it is asked. Example: ``ServerSettings("http://localhost:8000", None)``."""

    url: str
    """Address, with or without /v1."""
    model: str | None
    """Name of the model; None: the only one that the server lists."""
    api_key_variable: str = ""
    """Name of the environment variable with the key; "" none. The key is in no message."""
    concurrency: int = 8
    """Number of requests at a time."""
    timeout_s: float = 60.0
    """Seconds that one request may take."""
    deadline_s: float = 600.0
    """Seconds that a call may take, over all of its requests and their repetitions."""

    def __post_init__(self) -> None:
        assert self.concurrency >= 1, f"there is at least one request at a time, not {self.concurrency}"
        assert self.timeout_s > 0, f"a request may take more than {self.timeout_s} s"
        assert self.deadline_s > 0, f"a call may take more than {self.deadline_s} s"


@dataclass(frozen=True, slots=True)
class GivenTokens:
    """A sequence whose response is scored. Example: ``GivenTokens(prompt=(9, 4, 9), response=(5, 6, 2))``."""

    prompt: tuple[int, ...]
    """[P] token ids, P >= 1."""
    response: tuple[int, ...]
    """[R] token ids, R >= 1."""

    def __post_init__(self) -> None:
        assert self.prompt, "a prompt has at least one token, from which the first one of the response is predicted"
        assert self.response, "a response has at least one token"


@dataclass(frozen=True, eq=False, slots=True)
class TokenLogprobs:
    """Log-probabilities of a response of R tokens, and of the K >= 0 most probable tokens in their places."""

    logprobs: Tensor
    """[R] float32 nats, of the given tokens. A probability of 0 is -9999 (vLLM)."""
    topk_tokens: Tensor
    """[R, K] int64 token ids, most probable first, equally probable ones by id. The given token is among them only
    if it is one of the K most probable."""
    topk_logprobs: Tensor
    """[R, K] float32 nats of `topk_tokens`."""


class LogprobServer:
    """A served model that scores given tokens. Made by `open`; used by one thread at a time."""

    def __init__(self, settings: ServerSettings, client: ServerClient, model: str, probe: tuple[float, ...]) -> None:
        self._settings, self._client = settings, client
        self.model = model
        """Name of the model on the server."""
        self.probe = probe
        """Log-probabilities of `PROBE` after its first token, nats. Stored, they tell after a restart whether the
        model is the same, see `verify`."""

    @classmethod
    def open(
        cls, settings: ServerSettings, *, k: int = 0, wait: Wait = Event.wait, clock: Clock = time.monotonic
    ) -> LogprobServer:
        """Verifies that the server is there, has the model, and scores given tokens.

        Args:
            settings: where the model is served and how it is asked.
            k: number of most probable tokens that will be asked for; the server must return as many.
            wait: waits before a request is repeated, see `server_client.Wait`.
            clock: seconds of a monotonic clock.

        Raises:
            RecipeError: the address is none, the key is missing or refused, or the name of the model is.
            RunError: the server does not answer, or not with log-probabilities of given tokens.
            ModelError: another model answers, or its log-probabilities are none.
        """
        base = base_address(settings.url)
        client = ServerClient(base, _key(settings.api_key_variable), settings.timeout_s, wait=wait, clock=clock)
        try:
            deadline = client.deadline(min(OPENING_S, settings.deadline_s))
            listed = client.ask(Request("/models", "the list of models"), deadline)
            server = cls(settings, client, _choose(_names(listed, base), settings.model, base), ())
            server.probe = server._ask_probe(k)
        except BaseException:
            client.close()
            raise
        return server

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the model's name and of the probe's log-probabilities, rounded to 0.01 nats.

        The same over restarts of a server that computes the same numbers. One whose numbers change with its load or
        its hardware (narrow floats) crosses a border of rounding now and then: whether the model is the same is told
        by `verify`, with a tolerance.
        """
        rounded = [f"{round(value, 2) + 0.0:.2f}" for value in self.probe]  # + 0.0: no minus before zero
        return hashlib.sha256(json.dumps([self.model, rounded]).encode()).hexdigest()

    def verify(self, expected: Sequence[float] | None = None) -> None:
        """Asks for the probe again.

        Args:
            expected: earlier values of `probe`; None: those of when the server was opened.

        Raises:
            ModelError: they differ by more than `TOLERANCE` nats on average, or another model answers.
            RunError: as for `score`.
        """
        before = self.probe if expected is None else tuple(expected)
        now = self._ask_probe(0)
        assert len(before) == len(now), f"the probe has {len(now)} log-probabilities, not {len(before)}"
        difference = sum(abs(one - other) for one, other in zip(before, now, strict=True)) / len(now)
        if difference > TOLERANCE:
            raise ModelError(
                given=f"the log-probabilities of a fixed probe by the model {self.model!r} of {self._client.base} "
                f"have changed by {difference:.3g} nats on average",
                rule=f"one model answers all requests of a run (changes up to {TOLERANCE:g} nats are rounding)",
                remedy="serve the first model again: the same weights, dtype and quantization",
            )

    def score(self, sequences: Sequence[GivenTokens], k: int) -> list[TokenLogprobs]:
        """Log-probabilities of the responses' tokens, and of the k most probable tokens in their places.

        Every sequence is asked for until it is answered, and used once.

        Args:
            sequences: what is scored.
            k: number of most probable tokens, >= 0.

        Returns:
            One for each sequence, in their order.

        Raises:
            RunError: the deadline of the call has passed, the server refuses a request, or its answer has not the form.
            RecipeError: the key is refused.
            ModelError: another model answers, or a log-probability is no number or above 0.
        """
        assert k >= 0, f"the number of most probable tokens is not negative: {k}"
        deadline = self._client.deadline(self._settings.deadline_s)
        failures: dict[int, Exception] = {}
        executor = ThreadPoolExecutor(max(1, min(self._settings.concurrency, len(sequences))), "logprob-server")
        try:
            futures = [
                executor.submit(self._one, index, sequence, k, deadline, failures)
                for index, sequence in enumerate(sequences)
            ]
            return self._gather(futures, deadline, failures)
        finally:  # whatever happened, what is not done is not needed any more
            deadline.abandoned.set()
            executor.shutdown(wait=False, cancel_futures=True)

    def _one(
        self, index: int, sequence: GivenTokens, k: int, deadline: Deadline, failures: dict[int, Exception]
    ) -> TokenLogprobs:
        """One sequence of a call. If it fails for good, that is noted, and nothing more is asked for in this call."""
        try:
            return self._ask(sequence, k, deadline, f"the log-probabilities of sequence {index}")
        except Abandoned:
            raise
        except Exception as error:
            failures[index] = error  # before the others end, so that the cause is known when the first of them has
            deadline.abandoned.set()
            raise

    def _gather(
        self, futures: Sequence[Future[TokenLogprobs]], deadline: Deadline, failures: Mapping[int, Exception]
    ) -> list[TokenLogprobs]:
        """All results; or the error of the first sequence that failed, with the number of those that were answered."""
        remaining = max(0.0, self._client.remaining(deadline)) + _GRACE_S
        done, waiting = wait_for(futures, timeout=remaining, return_when=FIRST_EXCEPTION)
        num_answered = sum(future.exception() is None for future in done)
        answered = f"{num_answered} of {len(futures)} sequences were answered"
        if failures:
            error = failures[min(list(failures))]
            if isinstance(error, UserError):
                raise type(error)(f"{error.given} ({answered})", error.rule, error.remedy) from None
            raise error
        if waiting:
            raise RunError(
                given=f"{self._client.base}: waited for the log-probabilities of {len(waiting)} sequences ({answered})",
                rule=f"the server answers within {deadline.seconds:g} s",
                remedy="see the server's log; if it is only slow, lower concurrency or raise the deadline",
            )
        return [future.result() for future in futures]

    def _ask_probe(self, k: int) -> tuple[float, ...]:
        deadline = self._client.deadline(self._settings.deadline_s)
        answer = self._ask(GivenTokens(PROBE[:1], PROBE[1:]), k, deadline, "the log-probabilities of a probe")
        return tuple(answer.logprobs.tolist())

    def _ask(self, sequence: GivenTokens, k: int, deadline: Deadline, what: str) -> TokenLogprobs:
        tokens = (*sequence.prompt, *sequence.response)
        body = {
            "model": self.model,
            "prompt": list(tokens),
            "prompt_logprobs": k,
            "max_tokens": 1,
            "temperature": 1.0,  # these three, unsaid, would be those of the model's generation_config.json
            "top_p": 1.0,
            "top_k": -1,
        }
        try:
            answer = self._client.ask(Request("/completions", what, body, seed=hash(tokens)), deadline)
        except RunError as error:
            raise (too_many(error.given, k) if k and _is_about_k(error.given) else error) from None
        base = self._client.base
        check_model(answer, self.model, base)
        return TokenLogprobs(*read_prompt_logprobs(answer, tokens, len(sequence.response), k, base))


def _is_about_k(refusal: str) -> bool:
    """Whether a server refuses the number of most probable tokens. vLLM: "Requested prompt logprobs of 30, …"."""
    return "status 400" in refusal and "logprobs" in refusal.split("status 400", 1)[1]


def _key(variable: str) -> str:
    """The key in an environment variable; "" if none is named."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise RecipeError(
            given=f"the environment variable {variable} " + ("holds no key that can be sent" if key else "is not set"),
            rule="api_key_variable names an environment variable with the server's key: ASCII without spaces",
            remedy=f"export {variable}=… in the shell that starts the run",
        )
    return key


def _names(listed: Mapping[str, Any], base: str) -> list[str]:
    """Names in an answer of /v1/models."""
    data = listed.get("data")
    entries = data if isinstance(data, list) else []
    names = [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    if not names:
        raise RunError(
            given=f"{base}/models answered without a list of models",
            rule="the server has /v1/models and /v1/completions, as vLLM has",
            remedy="correct the url, or load a model on the server",
        )
    return names


def _choose(names: Sequence[str], asked: str | None, base: str) -> str:
    """The name that is asked for, or the only one."""
    if asked is None and len(names) == 1:
        return names[0]
    if asked is not None and asked in names:
        return asked
    has = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    raise RecipeError(
        given=f"{base} has {len(names)} models" if asked is None else f"{base} has no model {asked!r}",
        rule="the model is one that the server lists; without a name it lists a single one",
        remedy=f"give one of its names: {has}",
    )
