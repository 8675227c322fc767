"""Where groups come from."""

from burnish.sources.base import HoldsTensors, Source, Tells
from burnish.sources.rows import RowSource, epoch_order, num_draws

__all__ = ["HoldsTensors", "RowSource", "Source", "Tells", "epoch_order", "num_draws"]
