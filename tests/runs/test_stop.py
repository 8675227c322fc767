"""Two signals: a wish, then an order."""

import os
import signal
import threading

import pytest

from burnish.runs.stop import StopSignal


@pytest.fixture(autouse=True)
def handlers():
    """Handlers that would show if a signal reached them, and the earlier ones afterwards."""
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted(number):
    with StopSignal() as stop:
        assert not stop.requested
        send(number)
        assert stop.requested


def test_a_second_interrupt_is_obeyed_at_once():
    with StopSignal() as stop:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert stop.requested


def test_termination_never_raises():
    with StopSignal() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert stop.requested


@pytest.mark.parametrize("raising", [False, True])
def test_earlier_handlers_come_back(raising):
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pytest.raises(ZeroDivisionError) if raising else StopSignal(), StopSignal() as stop:
        send(signal.SIGTERM)
        assert stop.requested
        if raising:
            _ = 1 / 0
    send(signal.SIGTERM)
    send(signal.SIGINT)
    assert heard == [signal.SIGINT]


def test_one_inside_another():
    with StopSignal() as outer:
        with StopSignal() as inner:
            send(signal.SIGINT)
        assert inner.requested
        assert not outer.requested
        send(signal.SIGINT)
        assert outer.requested


def test_outside_the_main_thread_nothing_happens():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with StopSignal() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert seen == [(before, False)]


def test_a_loop_in_another_process_ends_its_step_first(tmp_path, fork_server):
    pid = fork_server.start("loop", tmp_path, count=10**9)
    fork_server.read_until("done")
    os.kill(pid, signal.SIGTERM)
    assert fork_server.finish() == (0, ["checkpoint"])
