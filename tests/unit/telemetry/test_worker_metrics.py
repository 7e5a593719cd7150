"""Several workers' metrics as one daemon's: sums stay sums, and a gauge tells of the worst."""

from __future__ import annotations

from collections.abc import Mapping

from dyncdc.app.workers.http import Answers, WorkerPages
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.status import StatusBuilder, StatusSources
from dyncdc.telemetry.task_health import TaskHealth
from dyncdc.telemetry.worker_metrics import GAUGES, MergedMetrics


def page(rows: int, *, used: float = 1.0, last: float = 5.0) -> tuple[Metrics, str]:
    metrics = Metrics()
    metrics.inserted("orders", rows, 0.2, last)
    metrics.watch_budget(lambda: used, 100)
    metrics.watch_shards("reading", lambda: 2)
    metrics.watch_shards("unowned", lambda: 3)
    metrics.checkpointed(last)
    return metrics, metrics.render().decode()


def value(text: bytes, series: str) -> float | None:
    found = [line for line in text.decode().splitlines() if line.rpartition(" ")[0] == series]
    assert len(found) <= 1, found
    return float(found[0].rpartition(" ")[2]) if found else None


def test_every_gauge_says_how_it_is_merged() -> None:
    kinds = [line.split() for line in Metrics().render().decode().splitlines() if line.startswith("# TYPE ")]
    assert GAUGES.keys() == {name for _, _, name, kind in kinds if kind == "gauge"}


def test_counters_and_histograms_are_sums_and_gauges_follow_their_rules() -> None:
    merged = MergedMetrics().render({0: page(10, last=5.0)[1], 1: page(30, last=9.0)[1]}, 2, 4)
    assert value(merged, 'dyncdc_rows_written_total{table="orders"}') == 40
    assert value(merged, 'dyncdc_insert_rows_bucket{le="10.0",table="orders"}') == 1
    assert value(merged, 'dyncdc_insert_rows_bucket{le="+Inf",table="orders"}') == 2
    assert value(merged, 'dyncdc_insert_rows_sum{table="orders"}') == 40
    assert value(merged, "dyncdc_budget_limit_bytes") == 200
    assert value(merged, 'dyncdc_shards{state="reading"}') == 4
    assert value(merged, 'dyncdc_shards{state="unowned"}') == 3
    assert value(merged, "dyncdc_last_checkpoint_timestamp_seconds") == 5.0
    assert value(merged, 'dyncdc_last_insert_timestamp_seconds{table="orders"}') == 9.0
    assert value(merged, "dyncdc_worker_restarts_total") == 4
    lines = merged.decode().splitlines()
    assert lines.count("# TYPE dyncdc_rows_written_total counter") == 1


def test_complete_until_is_that_of_the_slowest_and_of_no_one_where_one_is_missing() -> None:
    series = 'dyncdc_complete_until_timestamp_seconds{table="orders"}'
    (one, _), (other, _) = page(1), page(1)
    one.completed("orders", 50.0)
    merged = MergedMetrics()
    assert value(merged.render({0: one.render().decode(), 1: other.render().decode()}, 2, 0), series) is None
    other.completed("orders", 40.0)
    texts = {0: one.render().decode(), 1: other.render().decode()}
    assert value(merged.render(texts, 2, 0), series) == 40.0
    assert value(merged.render({0: texts[0]}, 2, 0), series) is None


def test_a_counter_never_falls_when_a_worker_is_silent_or_dies() -> None:
    series = 'dyncdc_rows_written_total{table="orders"}'
    merged = MergedMetrics()
    first = page(10)[1]
    assert value(merged.render({0: first, 1: page(30)[1]}, 2, 0), series) == 40
    silent = merged.render({0: first}, 2, 0)
    assert value(silent, series) == 40 and value(silent, "dyncdc_budget_limit_bytes") == 100
    merged.died(1)
    assert value(merged.render({0: first}, 2, 1), series) == 40
    assert value(merged.render({0: first, 1: page(5)[1]}, 2, 1), series) == 45


class Dying(Answers):
    """Answers of two workers; the second dies while others are still waited for, once that is wanted."""

    def __init__(self, merged: MergedMetrics) -> None:
        super().__init__([])
        self.merged = merged
        self.rows = 10
        self.dies = False

    async def ask(self, path: str) -> Mapping[int, tuple[int, str] | None]:
        if self.dies:
            self.merged.died(1)
        return {0: (200, page(10)[1]), 1: (200, page(self.rows)[1])}


async def test_a_worker_that_dies_while_the_others_are_asked_is_not_counted_twice() -> None:
    series = 'dyncdc_rows_written_total{table="orders"}'
    merged = MergedMetrics()
    answers = Dying(merged)
    pages = WorkerPages(
        answers, merged, StatusBuilder("p", "0/1", (), StatusSources(Metrics(), TaskHealth(), lambda: ())), lambda: 0
    )
    found = []
    for answers.rows, answers.dies in ((30, False), (40, True), (5, False)):
        found.append(value(await pages._render(), series))
    assert found == [40, 40, 45]
