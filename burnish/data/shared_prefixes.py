"""Shared prefixes of the samples of a group: its prompt, and what neighbors have in common, which is computed once.

Used by `selection`, from which groups are made, and by `limits`, which counts what a limit costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.data.token_store import SHARED, TEXT_INDEX, TokenStore
from burnish.prefix_tree import MIN_SAVED

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class SharedPrefixes:
    """Numbers of tokens of n samples."""

    prompts: Ints
    """[n] tokens of the prompt of its group, with which all of its samples begin."""
    shared: Ints
    """[n] tokens of each that are computed for the sample before it in its group; 0: it is the first."""


def shared_prefixes(samples: TokenStore, kept: Ints, lengths: Ints) -> SharedPrefixes:
    """Shared prefixes of the samples that are used.

    Neighbors share their prompt, and more if it is at least `prefix_tree.MIN_SAVED` tokens more. Texts of one response
    share all that they have in common.

    Args:
        samples: all samples.
        kept: [n] indices of those that are used, ascending.
        lengths: [n] tokens of each that are used.
    """
    if not len(kept):
        return SharedPrefixes(np.zeros(0, np.int64), np.zeros(0, np.int64))
    groups = samples.groups[kept]
    firsts = np.flatnonzero(np.append(True, np.diff(groups) != 0))
    since = np.append(0, kept[:-1] + 1)  # neighbors share what those between them share
    noted = np.minimum.reduceat(samples.notes[: kept[-1] + 1, SHARED].astype(np.int64), since)
    common = np.minimum(noted, np.minimum(lengths, np.append(0, lengths[:-1])))
    common[firsts] = 0
    bounds = samples.prompt_lengths[kept].copy()
    others = np.setdiff1d(np.arange(len(kept)), firsts, assume_unique=True)
    bounds[others] = np.minimum(bounds[others], common[others])
    sizes = np.diff(np.append(firsts, len(kept)))
    prompts = np.repeat(np.minimum.reduceat(bounds, firsts), sizes)
    is_text = samples.notes[kept, TEXT_INDEX] > 0
    shared = np.where(is_text | (common - prompts >= MIN_SAVED), common, np.minimum(common, prompts))
    return SharedPrefixes(prompts, shared)
