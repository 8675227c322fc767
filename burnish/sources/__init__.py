"""Where groups come from."""

from burnish.sources.base import Source
from burnish.sources.rows import RowSource, epoch_order, num_draws

__all__ = ["RowSource", "Source", "epoch_order", "num_draws"]
