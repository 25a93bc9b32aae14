"""Every verb that is the same in all dialects, and the files that its statements are in."""

from __future__ import annotations

from typing import Final

from milepost.stores.by_hand import ByHandVerbs
from milepost.stores.leasing import LeaseVerbs
from milepost.stores.reading import ReadingVerbs
from milepost.stores.replaying import ReplayVerbs
from milepost.stores.scheduling import SchedulingVerbs
from milepost.stores.tracking import TrackingVerbs

__all__ = ["STATEMENT_FILES", "StoreVerbs"]

STATEMENT_FILES: Final = (
    "writes.sql",
    "leases.sql",
    "queue.sql",
    "waits.sql",
    "tracking.sql",
    "schedules.sql",
    "reads.sql",
    "maintenance.sql",
    "replays.sql",
    "by_hand.sql",
)


class StoreVerbs(ReadingVerbs, LeaseVerbs, SchedulingVerbs, TrackingVerbs, ReplayVerbs, ByHandVerbs):
    """A store but for how it connects and how it commits what drivers write."""
