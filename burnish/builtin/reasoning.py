"""Sums of three or four numbers, solved in steps: thoughts to imitate, and solutions with wrong steps.

A chain is solved from left to right, one operation a step, so an early mistake makes all that follows wrong: this is
what process rewards are about. Chains are divided by content, as `arithmetic` divides pairs: two chains of the same
numbers and signs are in the same split, whatever their order. No step of a train split is an operation that
`arithmetic` keeps for tests, and no step that fine-tuning learns one that it keeps for reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from burnish.builtin.arithmetic import Problem, Use
from burnish.builtin.draw import Draw, bucket

MAX_TOTAL = 20
"""Largest number of a chain, totals on the way included."""
MAX_TERM = 9
"""Largest number that is added or subtracted."""
FLAWED = 0.5
"""Share of the solutions of `solutions` that have a wrong step."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Sum of several numbers. Example: ``Chain((14, 5, -9))`` is 14 + 5 - 9, solved by 14 + 5 = 19, 19 - 9 = 10."""

    terms: tuple[int, ...]
    """The first is 0 or more; a negative one is subtracted; all others differ from 0. No total is below 0."""

    @property
    def steps(self) -> tuple[Problem, ...]:
        """The operations, from left to right."""
        totals = [sum(self.terms[:count]) for count in range(1, len(self.terms))]
        pairs = zip(totals, self.terms[1:], strict=True)
        return tuple(Problem(total, "-" if term < 0 else "+", abs(term)) for total, term in pairs)

    @property
    def result(self) -> int:
        return sum(self.terms)

    @property
    def use(self) -> Use:
        """Use of the chain; the same for every order of its terms."""
        number = bucket(f"chain {sorted(self.terms)}")
        return "train" if number < 7 else "rl" if number < 9 else "test"

    def is_for(self, use: Use) -> bool:
        """Whether a split of this use may have the chain. Train: nothing of it is kept for another use. Reinforcement
        learning: nothing of it is kept for tests. Test: the chain is in no other split."""
        uses = {self.use, *(step.use for step in self.steps)}
        if use == "test":
            return self.use == "test"
        return uses <= ({"train"} if use == "train" else {"train", "rl"})

    def __str__(self) -> str:
        return str(self.terms[0]) + "".join(f" {'-' if term < 0 else '+'} {abs(term)}" for term in self.terms[1:])


@dataclass(frozen=True, slots=True)
class Solution:
    """Solution in steps. Example: ``Solution(("14 + 5 = 19", "19 - 9 = 10"), "10")``."""

    lines: tuple[str, ...]
    """Operations with their results, one a line."""
    answer: str
    first_wrong: int | None = None
    """Index of the first wrong step, where the answer is the last step; None: all are right."""

    @property
    def text(self) -> str:
        """A thought with a step in each line, and the answer."""
        return "\n".join(self.steps)

    @property
    def steps(self) -> tuple[str, ...]:
        """Parts of the text, each with the tag before it: the operations, and the answer."""
        opened = (f"<think>\n{self.lines[0]}", *self.lines[1:])
        return (*opened, f"</think>\n{self.answer}")

    @property
    def labels(self) -> tuple[bool, ...]:
        """Whether each step is right. After a wrong step all are wrong: none of them leads to the answer any more."""
        wrong_from = len(self.steps) if self.first_wrong is None else self.first_wrong
        return tuple(index < wrong_from for index in range(len(self.steps)))


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Question with a solution in steps, and the right answer."""

    question: str
    solution: Solution
    answer: str


def solve(chain: Chain) -> Solution:
    """The right solution."""
    return Solution(tuple(f"{step} = {step.result}" for step in chain.steps), str(chain.result))


def reasoning(use: Use, seed: int, name: str = "reasoning") -> Iterator[Reasoning]:
    """Endless chains of this use with their right solutions."""
    draw = Draw(f"{name} {use} {seed}")
    while True:
        chain = _draw_chain(draw, use)
        yield Reasoning(_ask(draw, chain), solve(chain), str(chain.result))


def solutions(use: Use, seed: int) -> Iterator[Reasoning]:
    """Endless chains of this use with solutions, half of which have a wrong step. For training the use is rl: a reward
    model may know what the prompts of reinforcement learning ask, as a verifier does."""
    draw = Draw(f"steps {use} {seed}")
    while True:
        chain = _draw_chain(draw, use)
        solution = _flawed(draw, chain) if draw.chance(FLAWED) else solve(chain)
        yield Reasoning(_ask(draw, chain), solution, str(chain.result))


def _draw_chain(draw: Draw, use: Use) -> Chain:
    while not (chain := _any_chain(draw)).is_for(use):
        pass
    return chain


def _any_chain(draw: Draw) -> Chain:
    return _continued(draw, (draw.between(1, MAX_TERM),), 1 + draw.between(2, 3))


def _continued(draw: Draw, terms: tuple[int, ...], count: int) -> Chain:
    """Draws the terms that a chain of this many still lacks."""
    while len(terms) < count:
        total = sum(terms)
        added, subtracted = min(MAX_TERM, MAX_TOTAL - total), min(MAX_TERM, total)
        adds = not subtracted or (added > 0 and draw.chance(0.5))
        terms = (*terms, draw.between(1, added) if adds else -draw.between(1, subtracted))
    return Chain(terms)


def _ask(draw: Draw, chain: Chain) -> str:
    return draw.choice((f"What is {chain}?", f"{chain} = ?", f"How much is {chain}?", f"Compute {chain}."))


def _flawed(draw: Draw, chain: Chain) -> Solution:
    """Draws a solution with one mistake, from which the later steps go on."""
    while (solution := draw.choice(_MISTAKES)(draw, chain)) is None:
        pass
    right = solve(chain).steps
    # The mistake may show later than where it was made: in 5 - 1 - 1 the first number that is repeated looks right.
    wrong = next(index for index, step in enumerate(solution.steps) if step != right[index])
    return replace(solution, first_wrong=wrong)


def _other_result(draw: Draw, chain: Chain) -> Solution | None:
    """A wrong result of one operation, with which the next one goes on."""
    at, slip = draw.below(len(chain.steps)), draw.choice((-10, -2, -1, 1, 2, 10))
    totals = [step.result + (slip if index >= at else 0) for index, step in enumerate(chain.steps)]
    if min(totals) < 0:
        return None
    problems = (
        replace(step, first=first) for step, first in zip(chain.steps, (chain.terms[0], *totals[:-1]), strict=True)
    )
    lines = (f"{problem} = {total}" for problem, total in zip(problems, totals, strict=True))
    return Solution(tuple(lines), str(totals[-1]))


def _other_chain(draw: Draw, chain: Chain) -> Solution | None:
    """The right solution of another question, which may begin alike. Its lines are as likely as right ones: only the
    question tells."""
    kept = draw.below(len(chain.terms))
    begun = chain.terms[:kept] or (draw.between(1, MAX_TERM),)
    other = _continued(draw, begun, len(chain.terms))
    return None if other.result == chain.result else solve(other)


def _other_term(draw: Draw, chain: Chain) -> Solution | None:
    """A number of the question that was copied wrongly, and calculated with rightly."""
    at, number = draw.below(len(chain.terms)), draw.between(1, MAX_TERM)
    changed = -number if chain.terms[at] < 0 else number
    same = changed == chain.terms[at]
    return None if same else _solved_as((*chain.terms[:at], changed, *chain.terms[at + 1 :]))


def _repeated(draw: Draw, chain: Chain) -> Solution | None:
    """A number that is added or subtracted twice."""
    at = draw.between(1, len(chain.terms) - 1)
    return _solved_as((*chain.terms[: at + 1], chain.terms[at], *chain.terms[at + 1 :]))


def _too_early(_draw: Draw, chain: Chain) -> Solution | None:
    """An answer before the last operation."""
    return _solved_as(chain.terms[:-1])


def _other_answer(draw: Draw, chain: Chain) -> Solution | None:
    """An answer that is not the last result."""
    answer = draw.between(0, MAX_TOTAL)
    return None if answer == chain.result else replace(solve(chain), answer=str(answer))


def _solved_as(terms: tuple[int, ...]) -> Solution | None:
    """Solution of other terms; None: a total would be below 0."""
    is_possible = all(sum(terms[:count]) >= 0 for count in range(1, len(terms) + 1))
    return solve(Chain(terms)) if is_possible else None


_MISTAKES: tuple[Callable[[Draw, Chain], Solution | None], ...] = (
    _other_chain,
    _other_chain,
    _other_chain,
    _other_result,
    _other_term,
    _repeated,
    _too_early,
    _other_answer,
)
"""Three of eight mistakes are solutions of other questions. Without them few mistakes ended in 0, and a policy that was
trained by a reward model of such data learned to answer 0 (docs/rl.md)."""
