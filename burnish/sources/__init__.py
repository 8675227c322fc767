"""Where groups come from."""

from burnish.sources.base import Source
from burnish.sources.rows import RowSource

__all__ = ["RowSource", "Source"]
