"""What the package brings along, so that everything runs without a download: a little world and an untrained model."""

from burnish.builtin.tiny import write_untrained
from burnish.builtin.world import Row, generate, write_rows

__all__ = ["Row", "generate", "write_rows", "write_untrained"]
