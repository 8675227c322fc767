"""A teacher behind a real HTTP endpoint gives the streams of the same model in this process, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from transformers import PreTrainedModel

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.errors import ModelError
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.roles.logprob_server import LogprobServer, ServerSettings
from burnish.teachers.local import LocalTeacher
from burnish.teachers.remote import LEAST, ServedModel, ServerTeacher
from burnish.teachers.signal import Signal
from burnish.types import Group, Response
from tests.roles.logprob_endpoint import PASSING, Fault, LogprobEndpoint, serving

K = 5


def model(seed: int = 1) -> PreTrainedModel:
    return make_model(seed, hidden_size=32, layers=1)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[LogprobEndpoint]:
    with serving(LogprobEndpoint(model())) as served:
        yield served


@pytest.fixture
def server(endpoint: LogprobEndpoint) -> Iterator[LogprobServer]:
    endpoint.faults = lambda tokens, earlier: None
    endpoint.model = model().eval()
    endpoint.forget()
    settings = ServerSettings(endpoint.url, None, concurrency=3)
    with LogprobServer.open(settings, k=K, wait=lambda event, seconds: None) as opened:
        yield opened


@pytest.fixture
def groups() -> list[Group]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for lengths in ([4, 2], [3], [5, 1, 2]):
        responses = []
        for length in lengths:
            tokens = torch.randint(0, 250, (length,), generator=generator)
            responses.append(Response(tokens=tokens, trainable=torch.arange(length) % 3 != 1))
        made.append(Group(prompt=torch.randint(0, 250, (6,), generator=generator), responses=tuple(responses)))
    return made


def local(signal: Signal) -> LocalTeacher:
    own = model()
    install(own)
    return LocalTeacher(lambda: nullcontext(Model(own, make_tokenizer())), signal, 100)


def pairs(one: list[Group], other: list[Group]) -> Iterator[tuple[Response, Response]]:
    for a, b in zip(one, other, strict=True):
        yield from zip(a.responses, b.responses, strict=True)


def test_logprobs_are_those_of_the_model(server, groups):
    signal = Signal("logprobs")
    for served, own in pairs(ServerTeacher(server, signal)(groups), local(signal)(groups)):
        assert torch.allclose(served.teacher_logprobs, own.teacher_logprobs, atol=1e-5)


def test_the_top_k_is_that_of_the_model(server, groups):
    signal = Signal("top_k", K)
    for served, own in pairs(ServerTeacher(server, signal)(groups), local(signal)(groups)):
        assert torch.equal(served.teacher_topk_tokens, own.teacher_topk_tokens)
        assert torch.allclose(served.teacher_topk_logprobs, own.teacher_topk_logprobs, atol=1e-5)
        assert torch.allclose(served.teacher_tail_logprobs, own.teacher_tail_logprobs, atol=1e-5)


def test_faults_change_nothing(server, endpoint, groups):
    """Every request fails once, in another way: nothing is lost, and nothing counts twice."""
    signal = Signal("top_k", K)
    faultless = ServerTeacher(server, signal)(groups)
    endpoint.forget()
    endpoint.faults = lambda tokens, earlier: PASSING[sum(tokens) % len(PASSING)] if not earlier else None
    with_faults = ServerTeacher(server, signal)(groups)
    for served, own in pairs(with_faults, faultless):
        for name in ("teacher_topk_tokens", "teacher_topk_logprobs", "teacher_tail_logprobs"):
            assert torch.equal(getattr(served, name), getattr(own, name))
    assert set(endpoint.asked.values()) == {2}


def test_a_model_that_was_swapped_is_refused(server, endpoint, groups):
    endpoint.model = model(seed=9).eval()
    with pytest.raises(ModelError, match="probe"):
        ServerTeacher(server, Signal("top_k", K))(groups)


def test_another_name_is_refused(server, endpoint, groups):
    endpoint.faults = lambda tokens, earlier: Fault.OTHER_MODEL
    with pytest.raises(ModelError):
        ServerTeacher(server, Signal("top_k", K))(groups)


def test_a_resumed_run_tells_another_model(server, endpoint):
    tensors, values = ServedModel(server).state_dict()
    ServedModel(server).load_state_dict(tensors, values)
    endpoint.model = model(seed=9).eval()
    with LogprobServer.open(ServerSettings(endpoint.url, None)) as again, pytest.raises(ModelError, match="probe"):
        ServedModel(again).load_state_dict(tensors, values)


def test_tokens_that_the_student_lacks_are_refused(server, groups):
    with pytest.raises(ModelError, match="the student has 2 tokens"):
        ServerTeacher(server, Signal("top_k", K, vocabulary=2))(groups)


def test_the_tail_is_never_empty(server, endpoint, groups):
    """Rounded probabilities that add up to 1 leave the others a small mass, so that a reverse KL stays finite."""
    sharp = model()
    with torch.no_grad():
        sharp.get_input_embeddings().weight.mul_(60)
    endpoint.model = sharp.eval()
    with LogprobServer.open(ServerSettings(endpoint.url, None)) as opened:
        for group in ServerTeacher(opened, Signal("top_k", K))(groups):
            for response in group.responses:
                tails = response.teacher_tail_logprobs[response.trainable]
                assert bool((tails.exp() >= 0.99 * LEAST).all())
                assert bool(response.teacher_topk_logprobs.isfinite().all())


def test_no_groups_ask_nothing(server, endpoint):
    before = len(endpoint.bodies)
    assert ServerTeacher(server, Signal("top_k", K))([]) == []
    assert len(endpoint.bodies) == before
