"""Opened data of a stage ppo: prompts and rewards, and the rows of PPO-ptx."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from burnish.data.dataset import TokenizedDataset
from burnish.stages.context import StageContext
from burnish.stages.on_policy.data import OnPolicyData
from burnish.stages.ppo.settings import PpoSettings
from burnish.stages.reader import OpenedData
from burnish.watch.counter import count_on_terminal

PTX = "the data of ptx"
"""Name of the fingerprint of the rows of PPO-ptx."""


def ptx_rows(context: StageContext[PpoSettings]) -> OpenedData | None:
    """The opened rows of PPO-ptx; None: there are none.

    Raises:
        DataError: they cannot be read.
    """
    settings = context.settings
    if settings.ptx is None:
        return None
    reader = replace(context.reader, reading=settings.of_answers, named_template=None)
    return reader.open(settings.ptx.data)


@dataclass(frozen=True, eq=False, slots=True)
class PpoData(OnPolicyData[PpoSettings]):
    """Prompts of a stage, the runner of its rewards, and the rows of PPO-ptx."""

    ptx: TokenizedDataset | None = None
    """Rows whose likelihood is added to the policy's loss; None: there are none."""
    ptx_identity: str = ""
    """Fingerprint of these rows; "": there are none."""

    @classmethod
    def of(cls, context: StageContext[PpoSettings]) -> Self:
        """See `OnPolicyData.of`."""
        opened = super(PpoData, cls).of(context)
        rows = ptx_rows(context)
        if rows is None:
            return opened
        told = count_on_terminal("rows of ptx.data tokenized")
        return replace(opened, ptx=rows.preparation.whole(told=told), ptx_identity=rows.preparation.identity)

    @property
    def fingerprints(self) -> dict[str, str]:
        own = super(PpoData, self).fingerprints
        return {**own, PTX: self.ptx_identity} if self.ptx_identity else own

    def report(self) -> Iterator[str]:
        """See `OnPolicyData.report`."""
        yield from super(PpoData, self).report()
        if self.ptx is not None:
            rows = len(self.ptx.draws)
            yield f"PPO-ptx: {rows:,} rows, {min(rows, self.settings.ptx_rows)} in each step of the policy"
