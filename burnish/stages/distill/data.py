"""Opened data of a stage distill: prompts and rewards, and the responses of rows where they are learned from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from burnish.data.dataset import TokenizedDataset
from burnish.errors import DataError
from burnish.roles.logprob_server import LogprobServer
from burnish.settings.data_settings import DataSettings
from burnish.stages.context import StageContext
from burnish.stages.distill.settings import DistillSettings
from burnish.stages.on_policy.data import OnPolicyData
from burnish.stages.reader import OpenedData
from burnish.watch.counter import count_on_terminal

GIVEN = "the responses of the rows"
"""Name of the fingerprint of the rows whose responses are learned from."""


def given_rows(context: StageContext[DistillSettings]) -> OpenedData | None:
    """The opened training rows with their responses; None: the stage learns from none.

    Raises:
        DataError: they cannot be read, or have no responses.
    """
    settings = context.settings
    if settings.response_source != "data" and settings.on_policy_fraction == 1:
        return None
    reading = DataSettings(**{name: value for name, value in settings if name in DataSettings.model_fields})
    reader = replace(context.reader, reading=reading)
    rows = reader.open_stage(settings.data, settings.held_out_data, settings.held_out_share).train
    builder = rows.preparation.builder
    if builder.format.documents:
        raise DataError(
            given=f"{builder.rows.source}: rows of plain text ({builder.format.name})",
            rule="distillation learns from responses to prompts",
            remedy="name rows with prompts and responses, or set response_source: student",
        )
    return rows


@dataclass(frozen=True, eq=False, slots=True)
class DistillData(OnPolicyData[DistillSettings]):
    """Prompts of a stage, the runner of its rewards, and rows with responses."""

    given: TokenizedDataset | None = None
    """Rows whose responses are learned from; None: there are none."""
    given_identity: str = ""
    """Fingerprint of these rows; "": there are none."""
    servers: list[LogprobServer] = field(default_factory=list)
    """Servers of teachers that were opened for the stage; closed at the end of its work."""

    @classmethod
    def of(cls, context: StageContext[DistillSettings]) -> Self:
        """See `OnPolicyData.of`."""
        opened = super(DistillData, cls).of(context)
        rows = given_rows(context)
        if rows is None:
            return opened
        told = count_on_terminal("rows with responses tokenized")
        return replace(opened, given=rows.preparation.whole(told=told), given_identity=rows.preparation.identity)

    @property
    def fingerprints(self) -> dict[str, str]:
        own = super(DistillData, self).fingerprints
        return {**own, GIVEN: self.given_identity} if self.given_identity else own

    def at_work(self, folder: Path) -> AbstractContextManager[object]:
        """See `OnPolicyData.at_work`."""
        stack = ExitStack()
        stack.enter_context(super(DistillData, self).at_work(folder))
        stack.callback(self._close_servers)
        return stack

    def _close_servers(self) -> None:
        for server in self.servers:
            server.close()

    def report(self) -> Iterator[str]:
        """See `OnPolicyData.report`."""
        yield from super(DistillData, self).report()
        if self.given is not None:
            yield f"responses of {len(self.given.draws):,} rows are learned from"
