"""What a run tells people. Told by everyone, knows nobody."""

from burnish.watch.count import count_on_terminal
from burnish.watch.environment import write_environment
from burnish.watch.meter import Meter
from burnish.watch.progress import Progress, open_progress
from burnish.watch.quiet import quiet_transformers
from burnish.watch.report import refresh_report, write_report
from burnish.watch.seen import Seen
from burnish.watch.trackers import TrackerName
from burnish.watch.tracking import NOWHERE, Tracking, require_installed
from burnish.watch.trying import AlarmName
from burnish.watch.watch import Listeners, Watch

__all__ = [
    "NOWHERE",
    "AlarmName",
    "Listeners",
    "Meter",
    "Progress",
    "Seen",
    "TrackerName",
    "Tracking",
    "Watch",
    "count_on_terminal",
    "open_progress",
    "quiet_transformers",
    "refresh_report",
    "require_installed",
    "write_environment",
    "write_report",
]
