"""The adapters that are tried on tiny models: what the laws run on, and the rows of the table in docs/adapters.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from burnish.model.adapters.settings import AdapterSettings

Size = tuple[int, int]
"""A matrix, (out, in)."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    title: str
    settings: AdapterSettings
    paper: str
    in_recipe: str
    parameters: Callable[[int, int], int]
    """Trained numbers per matrix, by (out, in), as in the papers."""
    formula: str
    """The same for people, r the rank, b the block size."""
    begins: str = "exactly"
    """as the base: exactly, or to rounding."""
    on_quantised: bool = False
    """Whether it trains on a 4-bit and 8-bit base (kind: qlora)."""
    combines: bool = False
    """Whether several become one."""


def lora(**options: object) -> AdapterSettings:
    return AdapterSettings(rank=4, alpha=8.0, **options)


def other(kind: str, **options: object) -> AdapterSettings:
    return AdapterSettings(kind=kind, **{"rank": 4, **options})


def factors(out: int, into: int) -> int:
    return 4 * (out + into)


CASES = {
    case.title: case
    for case in (
        Case("LoRA", lora(), "2106.09685", "kind: lora", factors, "r (out + in)", on_quantised=True, combines=True),
        Case(
            "rank-stabilised",
            lora(rslora=True),
            "2312.03732",
            "kind: lora, rslora: true",
            factors,
            "r (out + in)",
            on_quantised=True,
            combines=True,
        ),
        Case(
            "gaussian",
            lora(init="gaussian"),
            "2106.09685",
            "kind: lora, init: gaussian",
            factors,
            "r (out + in)",
            on_quantised=True,
            combines=True,
        ),
        Case(
            "DoRA",
            lora(dora=True),
            "2402.09353",
            "kind: lora, dora: true",
            lambda out, into: factors(out, into) + out,
            "r (out + in) + out",
            begins="to rounding",
            on_quantised=True,
        ),
        Case(
            "PiSSA",
            lora(init="pissa"),
            "2404.02948",
            "kind: lora, init: pissa",
            factors,
            "r (out + in)",
            begins="to rounding",
            combines=True,
        ),
        Case(
            "OLoRA",
            lora(init="olora"),
            "2406.01775",
            "kind: lora, init: olora",
            factors,
            "r (out + in)",
            begins="to rounding",
            combines=True,
        ),
        Case("VeRA", other("vera"), "2310.11454", "kind: vera", lambda out, _: out + 4, "r + out"),
        Case("LoHa", other("loha"), "2108.06098", "kind: loha", lambda o, i: 2 * factors(o, i), "2 r (out + in)"),
        Case("IA3", AdapterSettings(kind="ia3"), "2205.05638", "kind: ia3", lambda out, _: out, "out (down_proj: in)"),
        Case(
            "OFT",
            AdapterSettings(kind="oft"),
            "2306.07280",
            "kind: oft",
            lambda _, into: into // 8 * (8 * 7 // 2),
            "in (b - 1) / 2",
        ),
        Case("HRA", other("hra"), "2405.17484", "kind: hra", lambda _, into: 4 * into, "r in", begins="to rounding"),
        Case("RoAd", AdapterSettings(kind="road"), "2409.00119", "kind: road", lambda out, _: out, "out"),
        Case("MiSS", other("miss"), "2409.15371", "kind: miss", lambda out, _: 4 * out, "r out"),
        Case(
            "DeLoRA",
            other("delora"),
            "2503.18225",
            "kind: delora",
            lambda out, into: factors(out, into) + 1,
            "r (out + in) + 1",
        ),
        Case("GraLoRA", other("gralora"), "2505.20355", "kind: gralora", factors, "r (out + in)"),
        Case("HiRA", other("hira"), "TwJrTz9cRS", "kind: hira", factors, "r (out + in)"),
        Case("LoKr", other("lokr"), "2309.14859", "kind: lokr", lambda o, i: lokr(o, i), "of two Kronecker factors"),
        Case(
            "RandLoRA",
            other("randlora"),
            "2502.00987",
            "kind: randlora",
            lambda out, into: -(-min(out, into) // 4) * (4 + min(out, into)),
            "⌈min / r⌉ (r + min)",
        ),
    )
}


def lokr(out: int, into: int) -> int:
    """W = C ⊗ D with C [a, b] small and D [out / a, in / b] of low rank if that is smaller (arXiv 2309.14859, 3.1)."""
    (a, m), (b, n) = near_root(out), near_root(into)
    return a * b + (4 * (m + n) if max(m, n) / 2 > 4 else m * n)


def near_root(number: int) -> Size:
    """The factors of a number that are nearest to each other, the smaller first."""
    small = next(each for each in range(int(number**0.5), 0, -1) if number % each == 0)
    return small, number // small
