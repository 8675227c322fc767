"""HTTP client of a model server: a request is repeated until it is answered, is refused, or its deadline passes.

Used by `logprob_server`, from several threads. What a server says reaches an error as one short line, without the key.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from threading import Event
from typing import Any

import httpx

from burnish.errors import RecipeError, RunError, UserError

FIRST_DELAY_S = 0.5
"""Delay before the second try, without jitter; it doubles from try to try."""
LONGEST_DELAY_S = 30.0
"""The longest delay, unless the server asks for more."""
CHARACTERS = 500
"""Characters of a server's message in an error."""
_REPEATED = frozenset({408, 425, 429})
"""Statuses that pass, besides those of the server's own faults (500 and more)."""

Clock = Callable[[], float]
"""Seconds since some moment."""
Wait = Callable[[Event, float], object]
"""Waits so many seconds, or less if the event is set meanwhile."""


class Abandoned(Exception):  # noqa: N818 (an end, not an error)
    """Another request of the same call failed for good, so this one is not repeated."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Moment when a call ends, for all of its requests together."""

    ends: float
    """By the client's clock."""
    seconds: float
    """Length of the call, for messages."""
    abandoned: Event = field(default_factory=Event)
    """Set when the call has ended: waits end, and no request is sent any more."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the server, once or many times. Example: ``Request("/models", "the list of models")``."""

    path: str
    """Path below /v1."""
    what: str
    """What is waited for, for messages. Example: ``the log-probabilities of sequence 3``."""
    body: Mapping[str, object] | None = None
    """Sent as JSON by POST; None: the request is a GET."""
    seed: int = 0
    """Decides the jitter of the delays."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try that failed for a reason that may pass."""

    reason: str
    retry_after_s: float = 0.0
    """Seconds that the server asks to wait; 0: it asks for nothing."""


class ServerClient:
    """Client of one server, for several threads."""

    def __init__(self, base: str, key: str, timeout_s: float, *, wait: Wait, clock: Clock) -> None:
        """
        Args:
            base: address that ends in ``/v1``, see `base_address`.
            key: sent as a bearer token; "" none.
            timeout_s: seconds that one try may take.
            wait: waits between two tries.
            clock: seconds of a monotonic clock.
        """
        self.base = base
        self._key, self._timeout_s, self._wait, self._clock = key, timeout_s, wait, clock
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)  # the callers limit themselves
        self._client = httpx.Client(headers=headers, limits=limits)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def deadline(self, seconds: float) -> Deadline:
        """Deadline of a call that begins now."""
        return Deadline(self._clock() + seconds, seconds)

    def remaining(self, deadline: Deadline) -> float:
        """Seconds until the deadline."""
        return deadline.ends - self._clock()

    def ask(self, request: Request, deadline: Deadline) -> dict[str, Any]:
        """The JSON object with which the server answers.

        Connections that fail, timeouts, statuses 408, 425, 429 and 5xx, and bodies that are cut or are not JSON are
        asked for again, after exponentially growing delays with jitter, or after what the server asks for
        (Retry-After) if that is longer. A delay that would outlast the deadline is not begun.

        Raises:
            RunError: the deadline has passed, or the server refuses the request.
            RecipeError: the server refuses the key.
            Abandoned: see there.
        """
        failure: _Failure | None = None
        for attempt in count():
            if deadline.abandoned.is_set():
                raise Abandoned
            if self.remaining(deadline) <= 0:
                raise self._late(request, deadline, attempt, failure)
            answer = self._try(request, min(self._timeout_s, self.remaining(deadline)))
            if not isinstance(answer, _Failure):
                return answer
            failure = answer
            delay = max(_backoff_s(request.seed, attempt), failure.retry_after_s)
            if delay >= self.remaining(deadline):
                raise self._late(request, deadline, attempt + 1, failure)
            self._wait(deadline.abandoned, delay)
        raise AssertionError("an endless loop has no end")

    def _try(self, request: Request, timeout_s: float) -> dict[str, Any] | _Failure:
        """One try. A failure that cannot pass is raised."""
        try:
            response, body = self._exchange(request, timeout_s)
        except httpx.TimeoutException:
            return _Failure(f"no answer within {timeout_s:g} s")
        except httpx.RequestError as error:
            return _Failure(self.clean(f"{type(error).__name__}: {error}"))
        if response.status_code != httpx.codes.OK:
            reason = f"status {response.status_code}: {self.clean(_message(body))}"
            if response.status_code not in _REPEATED and response.status_code < 500:
                raise _refusal(self.base, request, response.status_code, reason)
            return _Failure(reason, retry_after_s(response.headers.get("Retry-After", "")))
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return _Failure(f"the answer of {len(body)} bytes is not JSON")
        return answer if isinstance(answer, dict) else _Failure("the answer is not a JSON object")

    def _exchange(self, request: Request, timeout_s: float) -> tuple[httpx.Response, bytes]:
        """The response and its body. The timeout of httpx is one for each piece of a body, this one is for all."""
        ends = self._clock() + timeout_s
        method = "GET" if request.body is None else "POST"
        address, parts = self.base + request.path, []
        with self._client.stream(method, address, json=request.body, timeout=timeout_s) as response:
            for part in response.iter_bytes():
                parts.append(part)
                if self._clock() > ends:
                    raise httpx.ReadTimeout("the body takes longer than a request may")
        return response, b"".join(parts)

    def clean(self, text: str) -> str:
        """One short line without the key, which a server or a library may repeat."""
        hidden = text.replace(self._key, "***") if self._key else text
        line = " ".join(hidden.split())
        return line if len(line) <= CHARACTERS else line[:CHARACTERS] + "…"

    def _late(self, request: Request, deadline: Deadline, tries: int, failure: _Failure | None) -> RunError:
        tried = "asked once" if tries == 1 else f"asked {tries} times"
        last = f"{tried}, the last time: {failure.reason}" if failure else "the time was up before it was asked"
        asks = f"; it asks to wait {failure.retry_after_s:g} s" if failure and failure.retry_after_s else ""
        return RunError(
            given=f"{self.base}: waited for {request.what}: {last}{asks}",
            rule=f"the server answers within {deadline.seconds:g} s, all tries together",
            remedy="see the server's log; if it is only slow, lower concurrency, or raise timeout and deadline",
        )


def base_address(url: str) -> str:
    """The address that ends in ``/v1`` of a server whose address is given with or without it.

    Raises:
        RecipeError: it is no http or https address, or one with a user, a query or a fragment.
    """
    try:
        parsed = httpx.URL(url.strip())
        has_host = bool(parsed.host) and "%" not in parsed.host and (parsed.port or 0) < 2**16
        usable = parsed.scheme in ("http", "https") and has_host
        usable = usable and not (parsed.userinfo or parsed.query or parsed.fragment)
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise RecipeError(  # the text itself may hold a password
            given="the url of the server is not an http or https address alone",
            rule="it is http://host:port or https://host:port, with or without a path, without user, query or fragment",
            remedy="give the address of the server; a key goes into an environment variable, named by api_key_variable",
        )
    address = url.strip().rstrip("/")
    return address if address.endswith("/v1") else f"{address}/v1"


def retry_after_s(header: str) -> float:
    """Seconds that a Retry-After header asks to wait: a number of seconds or a date; 0: neither."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(time.time(), UTC)).total_seconds())


def _backoff_s(seed: int, attempt: int) -> float:
    """Delay after a try, from half of the exponential one to all of it. The same seed gives the same delays."""
    whole = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 32))
    return whole * (1 + random.Random(hash((seed, attempt))).random()) / 2


def _message(body: bytes) -> str:
    """What a server says of an error: the message of its JSON, or the body."""
    text = body.decode("utf-8", "replace")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    return said if isinstance(said, str) else json.dumps(said)


def _refusal(base: str, request: Request, status: int, reason: str) -> UserError:
    given = f"{base}{request.path}: asked for {request.what}, the server refuses: {reason}"
    if status in (401, 403):
        return RecipeError(
            given=given,
            rule="the server lets in only who has its key",
            remedy="name the environment variable with the key by api_key_variable, and set it to the server's key",
        )
    return RunError(
        given=given,
        rule="the server has /v1/models and /v1/completions, as vLLM has, and can do what is asked",
        remedy="correct what the server names: its address, the model, or the length of the sequences",
    )
