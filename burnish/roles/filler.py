"""Stream fillers: score responses with a model and store the scores in a stream of the responses.

Stands between a source and credit. A stream is filled when a step is drawn (`sources.filled`), once before the first
step (`precomputed`), or for held-out rows, again after each update of a reference (`FollowingGroups`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from burnish.data.records import Task
from burnish.model.snapshot import Snapshot
from burnish.parallel.world import ONE_PROCESS, World
from burnish.roles.scorer import ResponseScores, Scorer
from burnish.streams import present_streams, spread, with_stream
from burnish.types import Group, Response, Score

BLOCK = 256
"""Number of rows that are scored together where a whole data set is filled. Blocks depend on the rows alone, and so do
the bits."""


_TASK = "task"
"""Key of `Group.metadata` with the task that a group answers."""


class Filler(Protocol):
    """Fills streams of groups, which it changes in no other way than that tokens may become untrained."""

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with their streams. Groups of rollouts have their task, see `task_of`."""


def with_task(group: Group, task: Task) -> Group:
    """The group with the task that it answers, for fillers that render its prompt in another way."""
    return replace(group, metadata={**group.metadata, _TASK: task})


def without_task(group: Group) -> Group:
    """The group without its task, which a checkpoint does not have."""
    return replace(group, metadata={key: value for key, value in group.metadata.items() if key != _TASK})


def task_of(group: Group) -> Task:
    """The task that a group of rollouts answers."""
    task = group.metadata.get(_TASK)
    assert isinstance(task, Task), "groups of rollouts have their task while streams are filled"
    return task


@dataclass(frozen=True, eq=False, slots=True)
class StreamFiller:
    """Fills a stream with a score of a model. Example: ``StreamFiller(LiveScorer(policy), "old_logprobs", 1024)``."""

    scorer: Scorer
    stream: str
    """Name of the stream, see `streams.Streams`."""
    budget: int
    """Maximum number of tokens of a microbatch of the scorer."""
    kind: Score = Score.LOGPROB
    """The score."""
    only_missing: bool = False
    """Whether groups that have the stream already keep it; False: all groups are scored."""
    world: World = ONE_PROCESS
    """Processes that share the microbatches; all give all groups and get all scores."""

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with the stream filled; the groups without it are packed together."""
        lacking = [group for group in groups if not (self.only_missing and self._is_filled(group))]
        filled = iter(self.put(lacking, self.scores(lacking)))
        return [group if self.only_missing and self._is_filled(group) else next(filled) for group in groups]

    def scores(self, groups: Sequence[Group]) -> ResponseScores:
        """Scores of the trained tokens of every response."""
        return self.scorer.score(groups, self.kind, self.budget, self.world) if groups else []

    def put(self, groups: Sequence[Group], scores: ResponseScores) -> list[Group]:
        """The groups with the stream filled by these scores; 0 at tokens that are not trained."""
        filled = []
        for group, scores_of_group in zip(groups, scores, strict=True):
            pairs = zip(group.responses, scores_of_group, strict=True)
            filled.append(replace(group, responses=tuple(self._put(*pair) for pair in pairs)))
        return filled

    def in_blocks(self, groups: Sequence[Group]) -> Iterator[Group]:
        """The groups of a whole data set with the stream filled, in order."""
        for start in range(0, len(groups), BLOCK):
            yield from self([groups[index] for index in range(start, min(start + BLOCK, len(groups)))])

    def _put(self, response: Response, scores: Tensor) -> Response:
        if self.kind is Score.STATE_VALUE:
            scores, bootstrap = scores[:-1], float(scores[-1])
            response = replace(response, bootstrap_value=bootstrap)
        return with_stream(response, self.stream, spread(scores, response.trainable))

    def _is_filled(self, group: Group) -> bool:
        return self.stream in present_streams(group.responses[0])


@dataclass(frozen=True, eq=False, slots=True)
class DealtFiller:
    """Filler whose groups are shared by the processes of a world: each fills its share, and gets the groups of all."""

    filler: Filler
    world: World

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        mine = self.world.share(groups)
        return [group for shard in self.world.gather_shares(self.filler(mine) if mine else []) for group in shard]


def dealt_filler(filler: Filler, world: World) -> Filler:
    """The filler, shared by the processes of the world; of one process, the filler itself."""
    if isinstance(filler, StreamFiller):
        return replace(filler, world=world)
    return filler if world.shares == 1 else DealtFiller(filler, world)


class FollowingGroups(Sequence[Group]):
    """Held-out groups with a stream that a snapshot of the policy scores, again after each update of the snapshot."""

    def __init__(self, groups: Sequence[Group], filler: StreamFiller, snapshot: Snapshot) -> None:
        """
        Args:
            groups: groups without the stream.
            filler: fills it with scores of the snapshot.
            snapshot: see `Snapshot.version`.
        """
        self._groups, self._filler, self._snapshot = groups, filler, snapshot
        self._version = -1
        self._filled: list[Group] = []

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Group:  # type: ignore[override]  # taken singly
        if self._version != self._snapshot.version:
            self._filled = list(self._filler.in_blocks(self._groups))
            self._version = self._snapshot.version
        return self._filled[index]
