"""Reward models of HH-RLHF with a small real model: pair accuracy on held-out dialogues before and after, by seed.

    python benchmarks/hh_reward.py MODEL TRAIN EVAL [--seeds 3] [--steps 200] [--measured 500] [key=value ...]

As `hh_prefer`, whose arguments and files it takes. Before the first step the value head is drawn by the seed, so
accuracy is a coin's. Prints a Markdown table: accuracy and accuracy with length controlled, with intervals of 95 %.
"""

from __future__ import annotations

from hh_prefer import USUAL, compare

import burnish

MEASURES = {"pairs right": "pair_accuracy", "length controlled": "pair_accuracy_length_controlled"}


def main() -> None:
    compare(burnish.reward, MEASURES, {**USUAL, "learning_rate": 1e-3, "center_coef": 0.01}, __doc__.splitlines()[0])


if __name__ == "__main__":
    main()
