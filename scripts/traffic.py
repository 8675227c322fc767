"""The table of docs/parallel.md of what a step sends on 8, 64 and 512 GPUs, by `burnish.parallel.traffic`.

python -m scripts.traffic
"""

from __future__ import annotations

from collections.abc import Iterator

from burnish.parallel.mesh import Mesh
from burnish.parallel.traffic import Activations, ModelBytes, of_copies, of_shards, of_slices

LAYERS, OTHERS = 6.98e9, 1.05e9
"""Weights of a model with eight billion in 32 layers of the hidden size 4096."""
HIDDEN, NUM_LAYERS, TOKENS = 4096, 32, 8192
STATE_BYTES = 18
"""Of a bfloat16 weight: itself, and in float32 its master, the gradient and two states of AdamW."""
CASES = (
    (Mesh(data=8), 4),
    (Mesh(shard=8), 4),
    (Mesh(tensor=8), 32),
    (Mesh(data=8, shard=8), 1),
    (Mesh(data=64, shard=8), 1),
    (Mesh(data=8, shard=8, tensor=8), 1),
    (Mesh(shard=512), 1),
)
"""Layouts, and the microbatches of each process in a step."""


def rows() -> Iterator[list[str]]:
    yield ["GPUs", "layout", "microbatches each", "state of each", "for `shard`", "between copies", "for `tensor`"]
    yield ["---"] * 7
    for mesh, count in CASES:
        weights = [each / mesh.tensor for each in (LAYERS, OTHERS)]
        total = sum(weights)
        model = ModelBytes(2 * weights[0], 2 * weights[1], 2 * total)
        slices = of_slices(Activations(TOKENS, TOKENS, 2 * HIDDEN, NUM_LAYERS, ties_head=False))
        sizes = {"data": mesh.data, "shard": mesh.shard, "tensor": mesh.tensor}
        sent = (
            of_shards(model, count).sent(mesh.shard),
            of_copies(ModelBytes(0, 0, 4 * total), mesh).sent(mesh.data),
            count * slices.sent(mesh.tensor),
        )
        layout = ", ".join(f"{name}: {size}" for name, size in sizes.items() if size > 1)
        state = f"{STATE_BYTES * total / mesh.shard / 1e9:.1f} GB"
        yield [str(mesh.size), f"`{layout}`", str(count), state, *(f"{each / 1e9:.1f} GB" for each in sent)]


if __name__ == "__main__":
    print("\n".join(f"| {' | '.join(cells)} |" for cells in rows()))
