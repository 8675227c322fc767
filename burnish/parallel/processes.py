"""World of several processes, which hold all weights each (data parallelism), over torch.distributed.

Each computes its share of a step's microbatches; sums of gradients, metrics and gathered scores are those of one
process. Tensors travel by gloo or NCCL, other objects by gloo. A collective call that waits longer than the deadline,
or whose partner is gone, is one error that names the lost process (`heartbeat`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist

from burnish.errors import RunError
from burnish.parallel.heartbeat import Heartbeat
from burnish.parallel.place import Place
from burnish.parallel.rendezvous import REASON, RUN, connect, say_failed, with_prefix
from burnish.parallel.world import Summed, World

T = TypeVar("T")
BUCKET_BYTES = 32 * 2**20
"""Bytes of gradients that are summed in one call."""
_REASON_S = 3.0
"""Seconds for which a process waits for the words of why another one ended."""


class Processes(World):
    """The processes that `joined` connects, as one of them sees them.

    Args:
        place: this process among them.
        device: where it computes.
        store: the rendezvous store.
        heartbeat: tells the others what this process does.
    """

    def __init__(self, place: Place, device: torch.device, store: Any, heartbeat: Heartbeat) -> None:
        self.rank, self.size = place.rank, place.size
        self.device, self._store, self._heartbeat = device, store, heartbeat

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        start, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:end]

    def gather(self, item: T) -> list[T]:
        buffer = io.BytesIO()
        torch.save(item, buffer)
        found: list[bytes] = [b""] * self.size
        self._call(lambda: dist.all_gather_object(found, buffer.getvalue()))
        return [self._loaded(each) for each in found]

    def sum(self, value: Summed) -> Summed:
        if isinstance(value, Tensor):
            summed = value.detach().clone()
            self._call(lambda: dist.all_reduce(summed))
            return summed
        names = sorted({name for shard in self.gather(list(value)) for name in shard})
        zero = torch.zeros((), dtype=torch.float64)
        own = torch.stack([value.get(name, zero).detach().to(self.device, torch.float64) for name in names or ["-"]])
        self._call(lambda: dist.all_reduce(own))
        types = {name: value[name].dtype if name in value else torch.float32 for name in names}
        return cast(Summed, {name: total.to(types[name]) for name, total in zip(names, own, strict=False)})

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        own = list(parameters)
        there = torch.tensor([float(parameter.grad is not None) for parameter in own])
        self._call(lambda: dist.all_reduce(there))
        summed = [parameter for parameter, count in zip(own, there.tolist(), strict=True) if count]
        for bucket in _buckets(summed):
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            self._call(partial(dist.all_reduce, flat))
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = part.view_as(parameter)

    def wait(self) -> None:
        self._call(dist.barrier)

    def at(self, phase: str) -> None:
        self._heartbeat.at(phase)

    def _loaded(self, data: bytes) -> Any:
        """An object of another process; tensors of its device come to this one's."""
        here = self.device
        places = {f"cuda:{number}": str(here) for number in range(torch.cuda.device_count())}
        return torch.load(io.BytesIO(data), map_location=places, weights_only=False)

    def _call(self, collective: Callable[[], object]) -> None:
        """Calls a collective function; a failure of another process is an error that says which.

        Raises:
            RunError: another process has failed, is gone, or came to no collective call before the deadline.
        """
        try:
            collective()
        except RuntimeError as error:
            raise self._failure(error) from error

    def _failure(self, error: RuntimeError) -> RunError:
        """What is known of why a collective call failed."""
        said = ""
        try:
            self._store.wait([REASON], timedelta(seconds=_REASON_S))
            said = self._store.get(REASON).decode()
        except dist.DistStoreError:  # nobody has said anything
            pass
        except (RuntimeError, OSError):
            said = "the rendezvous store is gone, and with it the process that serves it"
        lines = str(error).splitlines() or ["no reason given"]
        return RunError(
            given=said or f"rank {self.rank} lost the other processes: {lines[0][:200]}",
            rule="all processes of a run go on together, or none",
            remedy="mend what stopped that process; the same command resumes from the last checkpoint",
        )


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in their order, of one type and device, up to `BUCKET_BYTES` at a time."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        same = not bucket or (bucket[0].dtype, bucket[0].device) == (parameter.dtype, parameter.device)
        if bucket and (not same or size >= BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel() * parameter.element_size()
    if bucket:
        yield bucket


@contextmanager
def joined(place: Place, device: torch.device, timeout_s: float) -> Iterator[Processes]:
    """The world of the processes at these places. Leaving it without an error waits for all.

    Args:
        place: this process among them.
        device: where it computes; CUDA devices communicate by NCCL.
        timeout_s: seconds that a collective call, or the silence of a process, may last.

    Raises:
        RunError: the others cannot be reached.
    """
    limit = timedelta(seconds=timeout_s)
    serves = place.rank == 0 and not place.has_store
    try:
        shared = with_prefix(RUN, connect(place.address, place.port, timeout_s, serves=serves))
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=shared, rank=place.rank, world_size=place.size, timeout=limit)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            given=f"rank {place.rank} of {place.size} cannot reach the others at {place.address}:{place.port}: "
            f"{str(error).splitlines()[0][:200]}",
            rule=f"all processes start within {timeout_s:.0f} s and reach the rendezvous store",
            remedy="start all of them; check the address, the port and parallel.timeout_s",
        ) from error
    beats = with_prefix("beats", connect(place.address, place.port, timeout_s))
    try:
        with Heartbeat(beats, place.rank, place.size, timeout_s) as heartbeat:
            world = Processes(place, device, shared, heartbeat)
            try:
                yield world
            except BaseException as error:
                say_failed(shared, f"rank {place.rank} failed: {type(error).__name__}: {error}".splitlines()[0])
                raise
        world.wait()
    finally:
        dist.destroy_process_group()
