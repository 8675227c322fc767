"""World of several processes, over torch.distributed.

Each computes its share of a step's microbatches; sums of gradients, metrics and gathered scores are those of one
process. `Mesh` says which processes have the same weights, and which compute the same rows. Tensors travel by gloo or
NCCL, other objects by gloo. A collective call that waits longer than the deadline, or whose partner is gone, is one
error that names the lost process (`heartbeat`).
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
from burnish.parallel.divided import Divided
from burnish.parallel.divisible import Divisible
from burnish.parallel.fsdp import Sharded, shard
from burnish.parallel.groups import Group, Groups
from burnish.parallel.heartbeat import Heartbeat
from burnish.parallel.mesh import Mesh
from burnish.parallel.part import WHOLE, Part, part_of
from burnish.parallel.place import Place
from burnish.parallel.placement import PLACED, Placement
from burnish.parallel.rendezvous import REASON, RUN, connect, say_failed, with_prefix
from burnish.parallel.tensor import Slices
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
        mesh: what is divided among how many of them; None: they have all weights each.
    """

    def __init__(
        self, place: Place, device: torch.device, store: Any, heartbeat: Heartbeat, mesh: Mesh | None = None
    ) -> None:
        self.rank, self.size = place.rank, place.size
        self.device, self._store, self._heartbeat = device, store, heartbeat
        self.mesh = mesh or Mesh(data=place.size)
        self.shares, self.own_share = self.mesh.shares, self.mesh.share(self.rank)
        self.groups = Groups.of(self.mesh, self.rank, device)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        return self._share(items, self.own_share)

    def _share(self, items: Sequence[T], number: int) -> Sequence[T]:
        start, end = (len(items) * share // self.shares for share in (number, number + 1))
        return items[start:end]

    def share_evenly(self, items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
        own, count = self.share(items), self.mesh.shard
        first = self.own_share - self.own_share % count
        most = max(len(self._share(items, number)) for number in range(first, first + count))
        return own, items[: most - len(own)]

    def gather(self, item: T) -> list[T]:
        buffer = io.BytesIO()
        torch.save(item, buffer)
        found: list[bytes] = [b""] * self.size
        self._call(lambda: dist.all_gather_object(found, buffer.getvalue()))
        return [self._loaded(each) for each in found]

    def gather_shares(self, item: T) -> list[T]:
        found = self.gather(item)
        return [found[rank] for rank in self.mesh.other_rows(self.rank)]

    def sum(self, value: Summed) -> Summed:
        if isinstance(value, Tensor):
            summed = value.detach().clone()
            self._call(lambda: self.groups.shares.sum(summed))
            return summed
        names = sorted({name for of_share in self.gather(list(value)) for name in of_share})
        zero = torch.zeros((), dtype=torch.float64)
        own = torch.stack([value.get(name, zero).detach().to(self.device, torch.float64) for name in names or ["-"]])
        self._call(lambda: self.groups.shares.sum(own))
        types = {name: value[name].dtype if name in value else torch.float32 for name in names}
        return cast(Summed, {name: total.to(types[name]) for name, total in zip(names, own, strict=False)})

    def sum_gradients(
        self,
        weights: Sequence[nn.Parameter],
        parts: Sequence[Part] | None = None,
        there: Sequence[bool] | None = None,
    ) -> None:
        found = [weight.grad is not None for weight in weights] if there is None else there
        counts = torch.tensor(found, dtype=torch.float32)
        self._call(lambda: dist.all_reduce(counts))
        summed: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for weight, part, count in zip(weights, parts or [WHOLE] * len(weights), counts.tolist(), strict=True):
            if count:
                summed.setdefault((part.mesh is not None, part.is_partial), []).append(weight)
            else:
                weight.grad = None
        for (sharded, is_partial), own in summed.items():
            groups = [self.groups.copies if sharded else self.groups.shares]
            groups += [self.groups.same_rows] if is_partial else []
            for bucket in _buckets(own):
                self._sum_bucket(bucket, groups)

    def _sum_bucket(self, bucket: Sequence[nn.Parameter], groups: Sequence[Group]) -> None:
        """Sums the gradients of some weights over each of the groups of processes."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        for group in groups:
            self._call(partial(group.sum, flat))
        for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
            parameter.grad = part.view_as(parameter)

    def grad_norm(self, weights: Sequence[nn.Parameter], parts: Sequence[Part] | None = None) -> Tensor:
        kinds = [(part.mesh is not None, part.split is not None) for part in parts or ()]
        if not any(any(kind) for kind in kinds):
            return super().grad_norm(weights)
        norms = []
        for sharded, split in sorted(set(kinds)):
            own = [weight for weight, kind in zip(weights, kinds, strict=True) if kind == (sharded, split)]
            square = super().grad_norm(own).double().square().to(self.device)
            for group in [self.groups.sharded] * sharded + [self.groups.same_rows] * split:
                self._call(partial(group.sum, square))
            norms.append(square)
        return torch.stack(norms).sum().sqrt().to(torch.promote_types(weights[0].dtype, torch.float32))

    def place(self, divisible: Divisible) -> Placement:
        model, slices, columns = divisible.model, None, None
        if self.mesh.tensor > 1:
            slices = Slices(self.groups.same_rows, self.rank)
            slices.decoder(divisible.decoder, divisible.plan, divisible.heads)
            columns = None if divisible.head is None else slices.head(divisible.head, divisible.embedding)
        cut = {} if slices is None else slices.named(model)
        if self.groups.mesh is not None:
            shard(divisible.root, divisible.layers, self.groups.mesh, cpu_offload=divisible.cpu_offload)
        named = {name: part_of(weight, *cut.get(name, ())) for name, weight in model.named_parameters()}
        parts = {name: part for name, part in named.items() if not part.is_whole or part.is_partial}
        if self.groups.mesh is not None:
            return Sharded(model, parts, divisible.root, self.device, columns)
        return Divided(model, parts, columns) if parts else PLACED

    def with_same_rows(self, make: Callable[[], T]) -> T:
        ranks = self.groups.same_rows.ranks
        own = make() if self.rank == ranks[0] else None
        return own if len(ranks) == 1 else cast(T, self.gather(own)[ranks[0]])  # type: ignore[return-value]

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

    def lost(self) -> RunError | None:
        """The error of another process that has ended; None: none has, as far as is known."""
        said = self._said()
        return None if said is None else _lost(said)

    def _failure(self, error: RuntimeError) -> RunError:
        """What is known of why a collective call failed."""
        lines = str(error).splitlines() or ["no reason given"]
        return _lost(self._said() or f"rank {self.rank} lost the other processes: {lines[0][:200]}")

    def _said(self) -> str | None:
        """What is said of a process that has ended; None: nothing."""
        try:
            self._store.wait([REASON], timedelta(seconds=_REASON_S))
            return str(self._store.get(REASON).decode())
        except dist.DistStoreError:
            return None
        except (RuntimeError, OSError):
            return "the rendezvous store is gone, and with it the process that serves it"


def _lost(said: str) -> RunError:
    return RunError(
        given=said,
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
def joined(place: Place, device: torch.device, timeout_s: float, mesh: Mesh | None = None) -> Iterator[Processes]:
    """The world of the processes at these places. Leaving it without an error waits for all.

    Args:
        place: this process among them.
        device: where it computes; CUDA devices communicate by NCCL.
        timeout_s: seconds that a collective call, or the silence of a process, may last.
        mesh: what is divided among how many of them; None: they have all weights each.

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
            world = Processes(place, device, shared, heartbeat, mesh)
            try:
                yield world
            except RuntimeError as error:  # of a collective call of torch's own, or of this process
                if (lost := world.lost()) is None:
                    say_failed(shared, f"rank {place.rank} failed: {type(error).__name__}: {error}".splitlines()[0])
                    raise
                raise lost from error
            except BaseException as error:
                say_failed(shared, f"rank {place.rank} failed: {type(error).__name__}: {error}".splitlines()[0])
                raise
        world.wait()
    finally:
        dist.destroy_process_group()
