"""What the demo shows: the daemon's own metrics and ClickHouse's row counts, nothing from the generator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from .seed import STREAM

SCRAPE_TIMEOUT_SECONDS = 2.0
WINDOW_SECONDS = 2.0
"""Over which a rate is measured."""


@dataclass(frozen=True, slots=True)
class ShardView:
    """One shard as the daemon reports it; times in seconds."""

    id: str
    lag_seconds: float
    fetched_at: float


@dataclass(frozen=True, slots=True)
class DaemonView:
    """One scrape of ``/metrics``. ``snapshot``: share loaded, by DynamoDB table."""

    rows_written: float = 0.0
    snapshot: dict[str, float] = field(default_factory=dict)
    shards: tuple[ShardView, ...] = ()
    budget_used_bytes: float = 0.0
    dead_letters: float = 0.0
    retries: float = 0.0

    @property
    def lag_seconds(self) -> float | None:
        """The lag of the shard that is furthest behind."""
        return max((shard.lag_seconds for shard in self.shards), default=None)


async def scrape(session: aiohttp.ClientSession, url: str) -> DaemonView | None:
    """Read ``/metrics``; None while no one answers."""
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_SECONDS)) as response:
            return read_metrics(await response.text())
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def read_metrics(text: str) -> DaemonView:
    """Take from a Prometheus exposition what the view shows."""
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}

    def total(name: str) -> float:
        samples = families.get(f"dyncdc_{name}", ())
        return sum(sample.value for sample in samples if not sample.name.endswith("_created"))

    def by_label(name: str, label: str) -> dict[str, float]:
        return {sample.labels[label]: sample.value for sample in families.get(f"dyncdc_{name}", ())}

    def by_shard(name: str) -> dict[str, float]:
        """Of the stream: the files of a snapshot are shards, too."""
        samples = families.get(f"dyncdc_{name}", ())
        return {sample.labels["shard"]: sample.value for sample in samples if sample.labels["stream"] == STREAM}

    lags, fetched = by_shard("iterator_age_seconds"), by_shard("last_fetch_timestamp_seconds")
    return DaemonView(
        rows_written=total("rows_written"),
        snapshot=by_label("snapshot_progress_ratio", "table"),
        shards=tuple(ShardView(shard, lags[shard], fetched.get(shard, 0.0)) for shard in sorted(lags)),
        budget_used_bytes=total("budget_used_bytes"),
        dead_letters=total("dead_letters"),
        retries=total("retries"),
    )


def caught_up(view: DaemonView, open_shards: Iterable[str], tables: Iterable[str], since: float) -> bool:
    """Whether everything written before ``since`` (epoch seconds) is durable in ClickHouse.

    That is: each snapshot is complete, each open shard was read to its tip after ``since``, nothing read is waiting.
    """
    tips = {shard.id for shard in view.shards if shard.lag_seconds <= 0 and shard.fetched_at > since}
    loaded = all(view.snapshot.get(table, 0.0) >= 1.0 for table in tables)
    return loaded and tips.issuperset(open_shards) and view.budget_used_bytes == 0


class Speed:
    """A rate from a counter that falls back to zero when the daemon is started again."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._offset = 0.0
        self._last = 0.0

    def add(self, now: float, counter: float) -> float:
        """Take a sample (monotonic seconds); return the rate per second over the window."""
        if counter < self._last:
            self._offset += self._last
        self._last = counter
        self._samples.append((now, self._offset + counter))
        while len(self._samples) > 2 and self._samples[1][0] < now - WINDOW_SECONDS:
            del self._samples[0]
        (begun, first), (ended, last) = self._samples[0], self._samples[-1]
        return (last - first) / (ended - begun) if ended > begun else 0.0
