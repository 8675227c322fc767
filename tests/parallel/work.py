"""Pieces of work that a process of a group does, at the top level of a module as the group needs them."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from burnish.errors import RunError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.microbatch import CostModel
from burnish.model.attention import install
from burnish.model.divide import divisible_of
from burnish.model.head import Head
from burnish.model.policy import Model
from burnish.model.scoring import score
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import pack
from burnish.parallel.columns import Columns
from burnish.parallel.part import Part
from burnish.parallel.processes import Processes
from burnish.parallel.traffic import Activations, ModelBytes, Traffic, of_copies, of_shards, of_slices
from burnish.parallel.world import World
from burnish.runs.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from burnish.runs.pieces import Piece
from burnish.stages.run import run
from burnish.train.step import Trainer
from burnish.types import TEACHER_SCORES, VALUE_SCORES, Denominator, Group, Response, Score
from tests.families import without_rounding
from tests.parallel.cases import settings_of
from tests.stages.small import resolved


def collective_values(world: World) -> dict[str, Any]:
    """Results of every collective function on simple values."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    parameters[0].grad = torch.ones(1)
    parameters[1].grad = torch.full((1,), 3.0) if world.is_main else None
    world.sum_gradients(parameters)
    world.wait()
    own = {"all": torch.ones(())} | ({"main": torch.tensor(7.0)} if world.is_main else {})
    gathered = world.gather({"rank": world.rank, "tensor": torch.tensor([float(world.rank)])})
    return {
        "rank": world.rank,
        "gathered": [{**each, "tensor": each["tensor"].tolist()} for each in gathered],
        "sum": float(world.sum(torch.tensor(float(world.rank)))),
        "sums": {name: float(value) for name, value in world.sum(own).items()},
        "gradients": [None if each.grad is None else each.grad.tolist() for each in parameters],
        "shards": [item for shard in world.gather(list(world.share(range(7)))) for item in shard],
    }


def bytes_summed(world: World, sizes: Sequence[int]) -> int:
    """Bytes that the sum of gradients of float32 weights with so many numbers gives to all_reduce."""
    parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    sent: list[int] = []
    original = dist.all_reduce

    def counted(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        sent.append(tensor.nbytes)
        return original(tensor, *arguments, **options)

    with mock.patch.object(dist, "all_reduce", counted):
        world.sum_gradients(parameters)
    assert all(bool((parameter.grad == world.size).all()) for parameter in parameters)
    return sum(sent)


def scores_apart(world: Processes, route: str, softcap: float | None, bias: bool) -> dict[str, float]:
    """Largest differences between scores and gradients of a head whose tokens are divided, and of the whole head.

    Args:
        world: two processes that divide the tokens.
        route: frozen, recomputed or known: how the gradient is computed, see `model.scoring`.
        softcap: of the head.
        bias: whether the head has one.
    """
    draw = torch.Generator().manual_seed(0)
    vocabulary, width = 14, 6
    prompt, responses = torch.tensor([1, 2, 3]), (torch.tensor([4, 13, 0]), torch.tensor([7, 6]))
    answers = [Response(tokens=each, trainable=torch.ones(len(each), dtype=torch.bool)) for each in responses]
    group = Group(prompt=prompt, responses=tuple(answers))
    [microbatch] = pack([group], 100, CostModel(), share=True)
    weight = torch.randn((vocabulary, width), generator=draw, dtype=torch.float64)
    offsets = torch.randn(vocabulary, generator=draw, dtype=torch.float64) if bias else None
    hidden = torch.randn((len(microbatch.tokens), width), generator=draw, dtype=torch.float64)
    order = [kind for kind in Score if kind not in TEACHER_SCORES | VALUE_SCORES]
    upstream = {kind: torch.randn(len(microbatch.targets), generator=draw, dtype=torch.float64) for kind in order}

    def computed(rows: slice, columns: Columns | None) -> list[Tensor]:
        """Scores, and gradients of hidden states, weight and bias."""
        trained = route != "frozen"
        inputs = hidden.clone().requires_grad_()
        own = weight[rows].clone().requires_grad_(trained)
        own_bias = None if offsets is None else offsets[rows].clone().requires_grad_(trained)
        head = Head(own, own_bias, scale=1.5, softcap=softcap, columns=columns)
        known = upstream if route == "known" else None
        scores = score(inputs, head, microbatch, order, temperature=0.7, coefficients=known, chunk_bytes=1)
        values = torch.stack([scores.of(kind) for kind in order])
        (values * torch.stack([upstream[kind] for kind in order])).sum().backward()
        gradients = [each.grad for each in (inputs, own, own_bias) if each is not None and each.grad is not None]
        return [values.detach(), *gradients]

    half = vocabulary // 2
    rows = slice(world.rank * half, (world.rank + 1) * half)
    whole = computed(slice(None), None)
    found = computed(rows, Columns(rows.start, half, vocabulary, world.groups.same_rows))
    expected = [*whole[:2], *(each[rows] for each in whole[2:])]
    names = ["values", "hidden", "weight", "bias"]
    return {name: float((one - other).abs().max()) for name, one, other in zip(names, found, expected, strict=False)}


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Context manager with the bytes of the whole tensors of collective calls, by kind. Numbers that are not those of
    weights or activations (flags, sums of a softmax) are not counted: tensors of less than a kilobyte."""
    found = {"all_gather": 0, "reduce_scatter": 0, "all_reduce": 0}
    originals = dist.all_gather_single, dist.reduce_scatter_single, dist.all_reduce

    def gather(output: Tensor, *arguments: Any, **options: Any) -> Any:
        found["all_gather"] += output.nbytes
        return originals[0](output, *arguments, **options)

    def scatter(*, input: Tensor, **options: Any) -> Any:
        found["reduce_scatter"] += input.nbytes
        return originals[1](input=input, **options)

    def reduce(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        found["all_reduce"] += tensor.nbytes if tensor.nbytes >= 1024 else 0
        return originals[2](tensor, *arguments, **options)

    with (
        mock.patch.object(dist, "all_gather_single", gather),
        mock.patch.object(dist, "reduce_scatter_single", scatter),
        mock.patch.object(dist, "all_reduce", reduce),
    ):
        yield found


def traffic_of_step(world: Processes, folder: Path, num_microbatches: int) -> tuple[dict[str, int], Traffic]:
    """Bytes that were given to collective calls in a step of equal microbatches, and those of `parallel.traffic`."""
    causal_lm = LlamaForCausalLM.from_pretrained(folder).train()
    install(causal_lm)
    whole = Model(causal_lm, tokenizer=None)
    shape = causal_lm.config
    policy = replace(whole, placement=world.place(divisible_of(whole, cut_head=True)))
    sizes = {name: 4 * prod(part_bytes(policy, name, p)) for name, p in policy.named_parameters()}
    layers = sum(size for name, size in sizes.items() if ".layers." in name)
    model = ModelBytes(layers, sum(sizes.values()) - layers, sum(sizes.values()))
    optimizer = Optimizer(policy.trained_parameters(), OptimizerSettings(), placement=policy.placement)
    trainer = Trainer(policy, optimizer, world=world)
    answer = Response(tokens=torch.arange(20), trainable=torch.ones(20, dtype=torch.bool))
    group = Group(prompt=torch.arange(44), responses=(answer,))
    [microbatch] = policy.pack([group], 64)
    denominators = dict.fromkeys(Denominator, 1.0)
    with counted() as found:
        for _ in range(num_microbatches):
            trainer.forward_backward(microbatch, CrossEntropy(), denominators)
        optimizer.sum_gradients(world)
    in_shards = of_shards(model, num_microbatches) if world.mesh.shard > 1 else Traffic()
    activations = Activations(64, 20, 4 * shape.hidden_size, shape.num_hidden_layers, ties_head=True)
    sliced = of_slices(activations).all_reduce * num_microbatches if world.mesh.tensor > 1 else 0.0
    copied = of_copies(model, world.mesh).all_reduce
    return found, replace(in_shards, all_reduce=sliced + copied)


def part_bytes(policy: Model, name: str, weight: nn.Parameter) -> list[int]:
    """Shape of a weight before it was sharded."""
    part = policy.placement.part(name)
    return list(weight.shape if part.shape is None else part.shape)


def checkpoint_of(world: Processes, folder: Path, step: int, full_rank: int | None) -> str:
    """Writes a checkpoint with pieces of one tensor; on one rank the disk is full. Returns the error, if any."""
    part = Part(mesh=world.groups.mesh, shape=torch.Size([6, 4]))
    whole = torch.arange(24.0).view(6, 4) + step
    pieces = {"weights/w": Piece(part, part.own(whole).clone())}
    checkpoint = Checkpoint(step, {"common": torch.ones(2)}, {"step": step}, pieces)

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    fails = mock.patch.object(HuggingFaceStorageWriter, "write_data", full)
    with fails if world.rank == full_rank else nullcontext():
        try:
            save_checkpoint(folder, checkpoint, None, world)
        except RunError as error:
            return str(error)
    return ""


def checkpoint_read(world: Processes, folder: Path) -> tuple[int, bool]:
    """Step of the newest checkpoint, and whether this process reads its part and the whole tensor as they were."""
    newest = latest_checkpoint(folder).path
    assert newest is not None
    found = load_checkpoint(newest)
    whole = torch.arange(24.0).view(6, 4) + found.step
    part = Part(mesh=world.groups.mesh, shape=torch.Size([6, 4]))
    own = found.tensor("weights/w", Piece(part, part.own(whole)))
    return found.step, torch.equal(own, part.own(whole)) and torch.equal(found.tensor("weights/w"), whole)


def whole_run(world: World, folder: Path, method: str, adapter: str, output: Path) -> int:
    """Runs three steps of a stage in float64, with evaluations and checkpoints; returns its steps.

    Two amplifiers of rounding are off. transformers' norms round to float32, where another order of a float64 sum may
    choose the neighbor. Adam divides a gradient by its size plus `eps`: at 1e-8 the rounding of a gradient (1e-14)
    moves a weight that has almost none by the learning rate × 1e-14 / 1e-8, which is 1e-9.
    """
    stage, settings = settings_of(method, adapter, folder)
    length = {"max_steps": 3, "log_every": 1, "checkpoint_every": 2, "eval_every": 2, "learning_rate": 1e-3}
    optimizer = {"optimizer.kind": "adamw", "optimizer.eps": 1e-3}
    recipe = resolved(folder, stage, output=str(output), dtype="float64", **settings, **length, **optimizer)
    with pytest.MonkeyPatch.context() as patch:
        without_rounding(LlamaRMSNorm(1), patch)
        return run(recipe, world).steps
