"""A served model scores given tokens as the model itself does, whatever goes wrong on the way."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Event, Lock

import pytest
import torch

from burnish.errors import ModelError, RecipeError, RunError, UserError
from burnish.roles import logprob_server, server_client
from burnish.roles.logprob_server import GivenTokens, LogprobServer, ServerSettings, TokenLogprobs
from burnish.roles.prompt_logprobs import read_prompt_logprobs
from burnish.roles.server_client import base_address, retry_after_s
from tests.roles.logprob_endpoint import PASSING, PROBLEM, Fault, LogprobEndpoint, serving, small_model

KEY = "sk-0123456789secret"


class FakeTime:
    """Time that passes only where a request waits to be repeated."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._lock = Lock()

    def clock(self) -> float:
        return sum(self.waits)

    def wait(self, _: Event, seconds: float) -> None:
        with self._lock:
            self.waits.append(seconds)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def endpoint() -> Iterator[LogprobEndpoint]:
    with serving(LogprobEndpoint(small_model())) as served:
        yield served


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


Open = Callable[..., LogprobServer]


@pytest.fixture
def opened(endpoint: LogprobEndpoint, time: FakeTime) -> Iterator[Open]:
    """Opens the endpoint with changed settings; what was asked and waited on opening is forgotten."""
    servers = []

    def open_server(**changes: object) -> LogprobServer:
        settings = replace(ServerSettings(endpoint.url, None, concurrency=4), **changes)  # type: ignore[arg-type]
        server = LogprobServer.open(settings, wait=time.wait, clock=time.clock)
        servers.append(server)
        endpoint.forget()
        time.waits.clear()
        return server

    yield open_server
    for server in servers:
        server.close()


def make_sequences(number: int = 12, seed: int = 0) -> list[GivenTokens]:
    """Sequences of different tokens and lengths."""
    draw = random.Random(seed)

    def tokens() -> tuple[int, ...]:
        return tuple(draw.randrange(260) for _ in range(draw.randrange(1, 9)))

    return [GivenTokens(tokens(), tokens()) for _ in range(number)]


def whole(sequence: GivenTokens) -> tuple[int, ...]:
    return (*sequence.prompt, *sequence.response)


def same(one: Sequence[TokenLogprobs], other: Sequence[TokenLogprobs]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, other, strict=True)
        for name in ("logprobs", "topk_tokens", "topk_logprobs")
    )


def only(sequence: GivenTokens, fault: Fault) -> Callable[[tuple[int, ...], int], Fault | None]:
    """A fault of every request for one sequence."""
    return lambda tokens, _: fault if tokens == whole(sequence) else None


@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_log_probabilities_are_those_of_the_model(endpoint: LogprobEndpoint, opened: Open, k: int) -> None:
    sequences = make_sequences()
    for found, sequence in zip(opened().score(sequences, k), sequences, strict=True):
        num = len(sequence.response)
        expected = endpoint.logprobs(whole(sequence))[-num:]
        best, tokens = expected.topk(k)
        assert (found.logprobs.dtype, found.topk_tokens.dtype) == (torch.float32, torch.int64)
        assert found.topk_tokens.shape == found.topk_logprobs.shape == (num, k)
        given = expected[torch.arange(num), torch.tensor(sequence.response)]
        torch.testing.assert_close(found.logprobs, given, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.topk_logprobs, best, rtol=0, atol=1e-5)
        assert torch.equal(found.topk_tokens, tokens)


def test_some_given_tokens_are_among_the_most_probable_and_some_are_not(opened: Open) -> None:
    """The test above covers both cases."""
    sequences = make_sequences()
    among = [
        bool((row == token).any())
        for found, sequence in zip(opened().score(sequences, 20), sequences, strict=True)
        for row, token in zip(found.topk_tokens, sequence.response, strict=True)
    ]
    assert set(among) == {True, False}


def test_equally_probable_tokens_are_ordered_by_id() -> None:
    entries = {str(token): {"logprob": value} for token, value in ((9, -1.0), (3, -1.0), (5, -0.5), (7, -1.0))}
    answer = {"choices": [{"prompt_logprobs": [None, entries]}]}
    logprobs, tokens, values = read_prompt_logprobs(answer, (4, 7), 1, 3, "server")
    assert (logprobs.tolist(), tokens.tolist(), values.tolist()) == ([-1.0], [[5, 3, 7]], [[-0.5, -1.0, -1.0]])
    assert read_prompt_logprobs(answer, (4, 7), 1, 2, "server")[1].tolist() == [[5, 3]]  # the given token is left out


@pytest.mark.parametrize("k", [0, 3])
def test_the_parameters_of_sampling_are_said(endpoint: LogprobEndpoint, opened: Open, k: int) -> None:
    """Unsaid, vLLM takes them from the model's generation_config.json."""
    opened().score(make_sequences(2), k)
    for body in endpoint.bodies:
        said = {name: body[name] for name in ("temperature", "top_p", "top_k", "max_tokens", "prompt_logprobs")}
        assert said == {"temperature": 1, "top_p": 1, "top_k": -1, "max_tokens": 1, "prompt_logprobs": k}


@pytest.mark.parametrize("concurrency", [1, 2, 16])
def test_results_do_not_depend_on_concurrency(opened: Open, concurrency: int) -> None:
    sequences = make_sequences()
    assert same(opened(concurrency=concurrency).score(sequences, 4), opened(concurrency=3).score(sequences, 4))


def test_nothing_is_asked_for_no_sequences(endpoint: LogprobEndpoint, opened: Open) -> None:
    assert opened().score([], 4) == []
    assert endpoint.bodies == []


def test_equal_sequences_have_a_result_each(endpoint: LogprobEndpoint, opened: Open) -> None:
    [sequence] = make_sequences(1)
    one, *others = opened().score([sequence] * 3, 2)
    assert all(same([one], [other]) for other in others)
    assert endpoint.asked == {whole(sequence): 3}


@pytest.mark.parametrize("concurrency", [1, 5])
@pytest.mark.parametrize("passing", [*((fault,) for fault in PASSING), PASSING], ids=lambda faults: faults[-1].name)
def test_passing_faults_change_nothing(
    endpoint: LogprobEndpoint, opened: Open, time: FakeTime, passing: tuple[Fault, ...], concurrency: int
) -> None:
    """A failed request is repeated alone, until it is answered and no more."""
    sequences = make_sequences()
    server = opened(concurrency=concurrency)
    expected = server.score(sequences, 4)
    endpoint.forget()
    faults = {whole(sequence): index % 3 for index, sequence in enumerate(sequences)}  # so many in a row
    endpoint.faults = lambda tokens, earlier: passing[earlier % len(passing)] if earlier < faults[tokens] else None
    assert same(server.score(sequences, 4), expected)
    assert endpoint.asked == {tokens: number + 1 for tokens, number in faults.items()}
    assert len(time.waits) == sum(faults.values())


def test_a_slow_answer_is_asked_for_again(endpoint: LogprobEndpoint, opened: Open) -> None:
    sequences = make_sequences(3)
    server = opened(timeout_s=0.5)
    expected = server.score(sequences, 4)
    endpoint.forget()
    endpoint.faults = lambda tokens, earlier: Fault.SLOW if tokens == whole(sequences[1]) and not earlier else None
    assert same(server.score(sequences, 4), expected)
    assert endpoint.asked[whole(sequences[1])] >= 2


def test_delays_grow_and_are_repeatable(endpoint: LogprobEndpoint, opened: Open, time: FakeTime) -> None:
    server, sequences = opened(concurrency=1), make_sequences(2)
    runs = []
    for _ in range(2):
        endpoint.forget()
        time.waits.clear()
        endpoint.faults = lambda tokens, earlier: Fault.ERROR if earlier < 10 else None
        server.score(sequences, 0)
        runs.append(list(time.waits))
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 20  # jitter: no two sequences are in step
    for tried, delay in enumerate(runs[0][:10]):
        longest = min(server_client.LONGEST_DELAY_S, server_client.FIRST_DELAY_S * 2**tried)
        assert longest / 2 <= delay <= longest


def test_the_server_may_ask_for_a_longer_delay(endpoint: LogprobEndpoint, opened: Open, time: FakeTime) -> None:
    endpoint.retry_after = "77"
    endpoint.faults = lambda tokens, earlier: Fault.TOO_MANY if not earlier else None
    opened(concurrency=1).score(make_sequences(1), 0)  # opening waits too
    endpoint.forget()
    opened(concurrency=1).score(make_sequences(2), 0)
    assert time.waits == [77, 77]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("12", 12), ("", 0), ("soon", 0), ("-3", 0), ("nan", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_what_a_server_asks_to_wait(header: str, seconds: float) -> None:
    assert retry_after_s(header) == seconds


def test_a_server_may_ask_to_wait_until_a_date() -> None:
    assert retry_after_s("Fri, 21 Oct 2150 07:28:00 GMT") > 1e6


def test_the_deadline_bounds_all_tries(endpoint: LogprobEndpoint, opened: Open, time: FakeTime) -> None:
    server = opened(concurrency=1, deadline_s=10)
    sequences = make_sequences(3)
    endpoint.faults = only(sequences[1], Fault.ERROR)
    with pytest.raises(RunError) as caught:
        server.score(sequences, 0)
    for words in ("sequence 1", "within 10 s", PROBLEM, "status 500", "1 of 3 sequences were answered"):
        assert words in str(caught.value)
    assert 5 < sum(time.waits) < 10
    assert endpoint.asked == {whole(sequences[0]): 1, whole(sequences[1]): len(time.waits) + 1}


def test_a_delay_that_outlasts_the_deadline_is_not_begun(
    endpoint: LogprobEndpoint, opened: Open, time: FakeTime
) -> None:
    server = opened(concurrency=1, deadline_s=50)
    endpoint.retry_after = "60"
    endpoint.faults = lambda *_: Fault.TOO_MANY
    with pytest.raises(RunError, match="it asks to wait 60 s"):
        server.score(make_sequences(2), 0)
    assert (len(endpoint.bodies), time.waits) == (1, [])


def test_the_deadline_bounds_a_server_that_says_nothing(endpoint: LogprobEndpoint, opened: Open) -> None:
    server = opened(timeout_s=0.3, deadline_s=3)
    endpoint.faults = lambda *_: Fault.SLOW
    with pytest.raises(RunError, match="no answer within") as caught:
        server.score(make_sequences(3), 0)
    assert "0 of 3 sequences were answered" in str(caught.value)


def test_the_deadline_bounds_a_request_that_never_ends(
    endpoint: LogprobEndpoint, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call ends by itself, even if a thread hangs: here until it hears that the call is over."""
    monkeypatch.setattr(logprob_server, "_GRACE_S", 0.0)
    settings = ServerSettings(endpoint.url, None, deadline_s=0.6)
    released = []

    def hang(abandoned: Event, _: float) -> None:
        released.append(abandoned.wait())

    with LogprobServer.open(settings, wait=hang, clock=time.clock) as server:
        endpoint.faults = lambda *_: Fault.ERROR
        with pytest.raises(RunError, match="log-probabilities of 3 sequences \\(0 of 3 sequences were answered"):
            server.score(make_sequences(3), 0)
    assert all(released)


REFUSALS = {
    Fault.REFUSED: (RunError, PROBLEM),
    Fault.NOT_FOUND: (RunError, PROBLEM),
    Fault.OTHER_MODEL: (ModelError, "'somebody-else' answered"),
    Fault.NO_LOGPROBS: (RunError, "without choices\\[0\\].prompt_logprobs"),
    Fault.MISSING_POSITIONS: (RunError, "positions for"),
    Fault.ONE_MORE_POSITION: (RunError, "positions for"),
    Fault.EMPTY_POSITION: (RunError, "no entries at position"),
    Fault.OTHER_TOKEN: (RunError, "no log-probability of the given token at position"),
    Fault.TOO_FEW: (RunError, "--max-logprobs 4"),
    Fault.NAN: (ModelError, "log-probability nan"),
    Fault.NULL: (ModelError, "log-probability None"),
    Fault.POSITIVE: (ModelError, "log-probability 0.1"),
}


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda fault: fault.name)
def test_what_cannot_pass_is_not_repeated(
    endpoint: LogprobEndpoint, opened: Open, time: FakeTime, fault: Fault
) -> None:
    server, sequences = opened(concurrency=1), make_sequences(3)
    expected = server.score(sequences, 4)
    endpoint.forget()
    endpoint.faults = only(sequences[1], fault)
    kind, words = REFUSALS[fault]
    with pytest.raises(kind, match=words) as caught:
        server.score(sequences, 4)
    assert "1 of 3 sequences were answered" in str(caught.value)
    assert endpoint.asked[whole(sequences[1])] == 1
    assert time.waits == []
    endpoint.faults = lambda *_: None
    assert same(server.score(sequences, 4), expected)  # the failure leaves nothing behind


def test_many_failures_at_once_are_one_error(endpoint: LogprobEndpoint, opened: Open) -> None:
    """What ends because another request failed is not the error that is told."""
    sequences = make_sequences(30)
    server = opened(concurrency=8)
    failing = {whole(sequence) for sequence in sequences[4:]}
    endpoint.faults = lambda tokens, _: Fault.NOT_FOUND if tokens in failing else None
    for _ in range(20):
        with pytest.raises(RunError, match=r"sequence \d+, the server refuses: status 404"):
            server.score(sequences, 0)


def test_every_fault_has_its_case() -> None:
    assert {*REFUSALS, *PASSING, Fault.SLOW} == set(Fault)


def test_too_many_tokens_are_told_on_opening_and_on_scoring(endpoint: LogprobEndpoint, opened: Open) -> None:
    endpoint.max_logprobs = 7
    server = opened()
    with pytest.raises(RunError, match="max allowed: 7") as caught:
        server.score(make_sequences(1), 8)
    assert "--max-logprobs 8" in caught.value.remedy
    with pytest.raises(RunError, match="--max-logprobs 8"):
        LogprobServer.open(ServerSettings(endpoint.url, None), k=8)
    LogprobServer.open(ServerSettings(endpoint.url, None), k=7).close()


def test_the_only_model_needs_no_name(endpoint: LogprobEndpoint, opened: Open) -> None:
    assert opened().model == opened(model="teacher").model == "teacher"
    endpoint.names = ["teacher", "another"]
    with pytest.raises(RecipeError, match="2 models") as caught:
        opened()
    assert "teacher, another" in caught.value.remedy
    with pytest.raises(RecipeError, match="no model 'third'") as caught:
        opened(model="third")
    assert "teacher, another" in caught.value.remedy
    assert opened(model="teacher").model == "teacher"
    with pytest.raises(ModelError, match="'teacher' answered"):  # vLLM answers under the first of its names
        opened(model="another")


def test_a_fingerprint_is_that_of_the_model(opened: Open) -> None:
    first = opened().fingerprint
    for seed, name, is_same in ((0, "teacher", True), (1, "teacher", False), (0, "another", False)):
        with (
            serving(LogprobEndpoint(small_model(seed), name)) as restarted,
            LogprobServer.open(ServerSettings(restarted.url, None)) as server,
        ):
            assert (server.fingerprint == first) == is_same


def test_an_exchanged_model_is_noticed(endpoint: LogprobEndpoint, opened: Open) -> None:
    server = opened()
    server.verify()
    with torch.no_grad():
        endpoint.model.get_input_embeddings().weight.mul_(1.0005)  # rounding of another machine
    server.verify()
    server.verify(expected=opened().probe)
    endpoint.model = small_model(1)
    with pytest.raises(ModelError, match="have changed by"):
        server.verify()
    with pytest.raises(ModelError, match="have changed by"):
        opened().verify(expected=server.probe)


def test_a_key_is_sent_and_never_told(endpoint: LogprobEndpoint, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.key = KEY
    monkeypatch.setenv("TEACHER_KEY", f"{KEY}\n")
    assert len(opened(api_key_variable="TEACHER_KEY").score(make_sequences(2), 1)) == 2
    endpoint.key = "another"
    monkeypatch.setenv("BROKEN_KEY", f"{KEY} {KEY}")
    for variable, words in (
        ("TEACHER_KEY", "Bearer \\*\\*\\*"),  # the endpoint repeats what it was sent
        ("", "status 401"),
        ("NO_SUCH_KEY", "NO_SUCH_KEY is not set"),
        ("BROKEN_KEY", "BROKEN_KEY holds no key"),
    ):
        with pytest.raises(RecipeError, match=words) as caught:
            opened(api_key_variable=variable)
        error: BaseException | None = caught.value
        while error is not None:
            assert KEY not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_an_address_may_end_in_its_version(endpoint: LogprobEndpoint, opened: Open, ending: str) -> None:
    assert len(opened(url=endpoint.url + ending).score(make_sequences(1), 1)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host",
        "",
        "http://",
        "http://user:secret@host",
        "http://host?key=secret",
        "http://[",
        "http://host:99999",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RecipeError, match="http://host:port") as caught:
        base_address(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_has_no_models_is_told(endpoint: LogprobEndpoint, opened: Open) -> None:
    with pytest.raises(RunError, match="status 404: Not Found"):
        opened(url=endpoint.url + "/elsewhere")
    endpoint.names = []
    with pytest.raises(RunError, match="without a list of models"):
        opened()


def test_a_server_that_is_not_there_is_told(time: FakeTime) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        settings = ServerSettings(f"http://127.0.0.1:{unused.getsockname()[1]}", None)
        with pytest.raises(RunError, match=r"waited for the list of models: asked .* times, the last time: Connect"):
            LogprobServer.open(settings, wait=time.wait, clock=time.clock)
    assert 20 < sum(time.waits) < 60


def test_errors_are_those_of_users() -> None:
    assert all(issubclass(kind, UserError) for kind, _ in REFUSALS.values())
