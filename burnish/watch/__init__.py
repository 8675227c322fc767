"""What a run tells people. Told by everyone, knows nobody."""

from burnish.watch.meter import Meter
from burnish.watch.progress import Progress, open_progress

__all__ = ["Meter", "Progress", "open_progress"]
