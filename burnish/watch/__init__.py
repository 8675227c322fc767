"""What a run tells people. Told by everyone, knows nobody."""

from burnish.watch.count import count_on_terminal
from burnish.watch.meter import Meter
from burnish.watch.progress import Progress, open_progress
from burnish.watch.quiet import quiet_transformers

__all__ = ["Meter", "Progress", "count_on_terminal", "open_progress", "quiet_transformers"]
