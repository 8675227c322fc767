"""What a run tells people. Told by everyone, knows nobody."""

from burnish.watch.meter import Meter
from burnish.watch.progress import Progress, open_progress
from burnish.watch.quiet import quiet_transformers

__all__ = ["Meter", "Progress", "open_progress", "quiet_transformers"]
