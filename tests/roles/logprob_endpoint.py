"""HTTP endpoint with a small model that answers /v1/completions with ``prompt_logprobs`` in vLLM's form.

Faults are injected by the tokens of a request and the number of earlier requests for the same tokens, so they do not
depend on the order in which threads ask.
"""

from __future__ import annotations

import json
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.builtin.tiny import make_model

HOLD_S = 20.0
"""Longest time that a slow request is held; it ends when the endpoint is closed."""
PROBLEM = "the engine is out of order"
"""Message of the endpoint's own faults."""


class Fault(Enum):
    """What goes wrong with one request."""

    TOO_MANY = auto()
    """Status 429 with Retry-After."""
    ERROR = auto()
    """Status 500."""
    SLOW = auto()
    """No answer until the endpoint is closed."""
    RESET = auto()
    """The connection is closed without an answer."""
    CUT = auto()
    """The connection is closed in the middle of the body."""
    NOT_JSON = auto()
    NOT_AN_OBJECT = auto()
    REFUSED = auto()
    """Status 400."""
    NOT_FOUND = auto()
    """Status 404."""
    OTHER_MODEL = auto()
    """The answer names another model."""
    NO_LOGPROBS = auto()
    """The answer of a server that does not know prompt_logprobs."""
    MISSING_POSITIONS = auto()
    ONE_MORE_POSITION = auto()
    EMPTY_POSITION = auto()
    """null where entries belong."""
    OTHER_TOKEN = auto()
    """The entries lack the given token."""
    TOO_FEW = auto()
    """Only the given token, whatever was asked."""
    NAN = auto()
    NULL = auto()
    POSITIVE = auto()


PASSING = (Fault.TOO_MANY, Fault.ERROR, Fault.RESET, Fault.CUT, Fault.NOT_JSON, Fault.NOT_AN_OBJECT)
"""Faults after which a request is worth repeating at once; SLOW too, but it takes time."""

Faults = Callable[[tuple[int, ...], int], Fault | None]
"""(tokens, number of earlier requests for them) → what goes wrong."""


class LogprobEndpoint:
    """A served model. Its attributes can be changed while it runs."""

    def __init__(self, model: PreTrainedModel, name: str = "teacher") -> None:
        self.model = model.eval()
        self.names = [name]
        """Served names; the first one is that of the answers."""
        self.key = ""
        """Key that requests must bring; "" none."""
        self.max_logprobs = 20
        self.retry_after = "3"
        """Header of a request refused for TOO_MANY."""
        self.faults: Faults = lambda tokens, earlier: None
        self.bodies: list[dict[str, Any]] = []
        """Every request for log-probabilities, in the order of arrival."""
        self.asked: Counter[tuple[int, ...]] = Counter()
        """Tokens → number of requests for them."""
        self.unexpected: list[BaseException] = []
        """Mistakes of the endpoint itself."""
        self.released = Event()
        self.lock = Lock()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def forget(self) -> None:
        """Forgets what was asked before."""
        self.bodies.clear()
        self.asked.clear()

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def logprobs(self, tokens: tuple[int, ...]) -> Tensor:
        """[tokens - 1, V] float32 log-probabilities after each token but the last."""
        with torch.no_grad():
            return torch.log_softmax(self.model(torch.tensor([tokens])).logits[0, :-1].float(), dim=-1)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request, in vLLM's form."""
        tokens, k = tuple(body["prompt"]), body["prompt_logprobs"]
        positions: list[dict[str, Any] | None] = [None]
        for row, token in zip(self.logprobs(tokens), tokens[1:], strict=True):
            best = row.topk(k).indices.tolist()
            ranked = {each: rank for rank, each in enumerate(best, start=1)}
            ranked.setdefault(token, int((row >= row[token]).sum()))
            order = [token, *(each for each in best if each != token)]
            positions.append(
                {
                    str(each): {"logprob": float(row[each]), "rank": ranked[each], "decoded_token": chr(each)}
                    for each in order
                }
            )
        choice = {
            "index": 0,
            "text": "a",
            "logprobs": None,
            "finish_reason": "length",
            "stop_reason": None,
            "token_ids": None,
            "prompt_logprobs": positions,
            "prompt_token_ids": None,
        }
        return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": self.names[0], "choices": [choice]}


@contextmanager
def serving(endpoint: LogprobEndpoint) -> Iterator[LogprobEndpoint]:
    """Runs an endpoint in a thread."""
    thread = Thread(target=endpoint.run, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.close()
        thread.join()
    assert [repr(error) for error in endpoint.unexpected] == []


def small_model(seed: int = 0) -> PreTrainedModel:
    """Model with random weights, whose distributions are far from uniform."""
    model = make_model(seed, hidden_size=64, layers=2)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20)  # tied to the head
    return model


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, endpoint: LogprobEndpoint) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = endpoint

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):  # a client may go away
            self.endpoint.unexpected.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer takes 40 ms: head and body are two packets
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        endpoint = self.server.endpoint
        if self.path != "/v1/models":
            return self._send(404, {"detail": "Not Found"})
        if self._is_stranger():
            return None
        models = [{"id": name, "object": "model", "max_model_len": 512} for name in endpoint.names]
        return self._send(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        endpoint = self.server.endpoint
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if len(sent) < int(self.headers["Content-Length"]):  # the client went away
            return self._hang_up()
        body = json.loads(sent)
        if self.path != "/v1/completions":
            return self._send(404, {"detail": "Not Found"})
        if self._is_stranger():
            return None
        tokens = tuple(body["prompt"])
        with endpoint.lock:
            earlier = endpoint.asked[tokens]
            endpoint.asked[tokens] += 1
            endpoint.bodies.append(body)
        refusal = self._refusal(body)
        if refusal is not None:
            return self._send(*refusal)
        return self._answer(body, endpoint.faults(tokens, earlier))

    def _refusal(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """vLLM's refusals."""
        endpoint, k = self.server.endpoint, body["prompt_logprobs"]
        if body["model"] not in endpoint.names:
            return 404, _error(404, f"The model `{body['model']}` does not exist.")
        if k > endpoint.max_logprobs:
            limit = endpoint.max_logprobs
            text = f"Requested prompt logprobs of {k}, which is greater than max allowed: {limit}"
            return 400, _error(400, text)
        return None

    def _answer(self, body: dict[str, Any], fault: Fault | None) -> None:
        if fault is Fault.TOO_MANY:
            return self._send(429, _error(429, PROBLEM), {"Retry-After": self.server.endpoint.retry_after})
        if fault in (Fault.ERROR, Fault.REFUSED, Fault.NOT_FOUND):
            status = {Fault.ERROR: 500, Fault.REFUSED: 400, Fault.NOT_FOUND: 404}[fault]
            return self._send(status, _error(status, PROBLEM))
        if fault is Fault.SLOW:
            self.server.endpoint.released.wait(HOLD_S)
        if fault in (Fault.SLOW, Fault.RESET):
            return self._hang_up()
        if fault is Fault.NOT_JSON:
            return self._send(200, b'{"model": ')
        if fault is Fault.NOT_AN_OBJECT:
            return self._send(200, [])
        with self.server.endpoint.lock:  # one forward at a time
            answer = self.server.endpoint.answer(body)
        spoil(answer, fault, body["prompt"])
        return self._send(200, answer, cut=fault is Fault.CUT)

    def _is_stranger(self) -> bool:
        """Whether the key is wrong; the answer repeats it, as some servers do."""
        key, given = self.server.endpoint.key, self.headers.get("Authorization", "")
        if not key or given == f"Bearer {key}":
            return False
        self._send(401, _error(401, f"Incorrect API key: {given}"))
        return True

    def _send(self, status: int, what: object, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        data = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):  # the client may have gone first
            self.connection.shutdown(socket.SHUT_RDWR)


def spoil(answer: dict[str, Any], fault: Fault | None, tokens: list[int]) -> None:
    """Makes an answer wrong in its content, at its last position."""
    choice = answer["choices"][0]
    positions, last = choice["prompt_logprobs"], str(tokens[-1])
    if fault is Fault.OTHER_MODEL:
        answer["model"] = "somebody-else"
    elif fault is Fault.NO_LOGPROBS:
        del choice["prompt_logprobs"]
    elif fault is Fault.MISSING_POSITIONS:
        positions.pop(1)
    elif fault is Fault.ONE_MORE_POSITION:
        positions.append(positions[-1])
    elif fault is Fault.EMPTY_POSITION:
        positions[-1] = None
    elif fault is Fault.OTHER_TOKEN:
        del positions[-1][last]
    elif fault is Fault.TOO_FEW:
        positions[-1] = {last: positions[-1][last]}
    elif fault in (Fault.NAN, Fault.NULL, Fault.POSITIVE):
        positions[-1][last]["logprob"] = {Fault.NAN: float("nan"), Fault.NULL: None, Fault.POSITIVE: 0.1}[fault]


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "Error", "param": None, "code": status}}
