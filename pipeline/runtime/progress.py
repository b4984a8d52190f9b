"""Progress as log lines, which stay readable if several jobs share a terminal."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

logger = logging.getLogger(__name__)


def progress(
    items: Iterable[Item], *, total: int, what: str, unit: str = "images", every: float = 10.0
) -> Iterator[Item]:
    """Yield the items, and log at intervals how many are done and how long the rest takes.

    Parameters
    ----------
    items : iterable
        The items; the work happens in the loop body.
    total : int
        Number of items.
    what : str
        Name of the task, for example ``"maps of train, shard 3"``.
    unit : str
        Name of the items, in the plural.
    every : float
        Seconds between two log lines.
    """
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every or done == total:
            last = now
            rate = done / max(now - start, 1e-9)
            logger.info(
                "%s: %d of %d %s, %.1f per second, %s left",
                what, done, total, unit, rate, _duration((total - done) / rate),
            )  # fmt: skip


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
