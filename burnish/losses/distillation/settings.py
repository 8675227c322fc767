"""Settings of the divergence from a teacher. Imports no torch; `model.divergence` computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DivergenceKind = Literal["reverse_kl", "forward_kl", "jsd"]
Support = Literal["full", "top_k", "other_vocabulary"]


@dataclass(frozen=True, slots=True)
class DivergenceOptions:
    """Divergence between the next-token distributions of teacher (t) and student (s).

    Example: ``DivergenceOptions("jsd", "full", jsd_beta=0.5)``.
    """

    kind: DivergenceKind = "reverse_kl"
    """reverse_kl: KL(s ‖ t). forward_kl: KL(t ‖ s). jsd: generalized Jensen-Shannon divergence (GKD, Agarwal et al.
    2023, arXiv 2306.13649, equation 1): β KL(t ‖ m) + (1 − β) KL(s ‖ m) with m = β t + (1 − β) s. Divided by β it tends
    to forward_kl as β → 0, divided by 1 − β to reverse_kl as β → 1."""
    support: Support = "top_k"
    """full: the whole vocabulary. top_k: the teacher's k most probable tokens, and all others as one bucket.
    other_vocabulary: sorted probabilities, which need no common vocabulary (ULD); `kind` has no meaning."""
    jsd_beta: float = 0.5
    """β of jsd, above 0 and below 1."""

    def __post_init__(self) -> None:
        assert self.kind != "jsd" or 0 < self.jsd_beta < 1, "beta of jsd is between 0 and 1"
