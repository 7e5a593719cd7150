"""What the demo concludes from the daemon's metrics, and the lines it prints."""

from dyncdc.operations.demo.console import Picture, plain_line
from dyncdc.operations.demo.progress import DaemonView, ShardView, Speed, caught_up, read_metrics
from dyncdc.operations.demo.result import verdict_line
from dyncdc.operations.demo.seed import STREAM
from dyncdc.operations.verify.result import Verification
from dyncdc.telemetry.metrics import Metrics

LOADED = {"orders": 1.0, "customers": 1.0}


def _view(*shards: ShardView, snapshot: dict[str, float] | None = None, budget: float = 0.0) -> DaemonView:
    return DaemonView(snapshot=LOADED if snapshot is None else snapshot, shards=shards, budget_used_bytes=budget)


def test_caught_up_needs_every_open_shard_at_its_tip_after_the_last_write() -> None:
    at_tip = _view(ShardView("a", 0.0, 11.0), ShardView("b", 0.0, 11.0))
    assert caught_up(at_tip, ["a", "b"], LOADED, since=10.0)
    assert not caught_up(at_tip, ["a", "b", "c"], LOADED, since=10.0)
    assert not caught_up(at_tip, ["a", "b"], LOADED, since=12.0)
    assert not caught_up(_view(ShardView("a", 0.5, 11.0)), ["a"], LOADED, since=10.0)


def test_caught_up_needs_complete_snapshots_and_an_empty_budget() -> None:
    shard = ShardView("a", 0.0, 11.0)
    assert not caught_up(_view(shard, snapshot={"orders": 1.0}), ["a"], LOADED, since=10.0)
    assert not caught_up(_view(shard, snapshot={"orders": 1.0, "customers": 0.9}), ["a"], LOADED, since=10.0)
    assert not caught_up(_view(shard, budget=1.0), ["a"], LOADED, since=10.0)


def test_metrics_of_the_daemon_are_understood() -> None:
    metrics = Metrics()
    metrics.fetched(STREAM, "shard-1", 100.0, 2.5, 86_400.0)
    metrics.fetched("orders", "export/data/1.json.gz", 100.0, 9.9, None)
    metrics.snapshot_progress("orders", 0.5)
    metrics.inserted("orders", 7, 0.1, 100.0)
    metrics.inserted("customers", 3, 0.1, 100.0)
    metrics.watch_budget(lambda: 42.0, 100)
    view = read_metrics(metrics.render().decode())
    assert view.rows_written == 10
    assert view.snapshot == {"orders": 0.5}
    assert view.shards == (ShardView("shard-1", 2.5, 100.0),)
    assert view.budget_used_bytes == 42
    assert view.lag_seconds == 2.5


def test_speed_does_not_fall_below_zero_when_the_daemon_is_started_again() -> None:
    speed = Speed()
    speed.add(0.0, 0.0)
    assert speed.add(1.0, 100.0) == 100.0
    assert speed.add(2.0, 50.0) == 75.0


def test_verdict_is_the_contract_s_last_line() -> None:
    equal, different = Verification("a", "a", items=3), Verification("b", "b", items=4, differing=2)
    assert verdict_line([equal, equal], 9) == "EQUAL items=6 changes=9"
    assert verdict_line([equal, different], 9) == "DIFFERENT items=7 changes=9 differing=2"


def test_plain_line_tells_everything_on_one_line() -> None:
    picture = Picture("following", 12.34, 4711, daemon=_view(ShardView("a", 0.25, 11.0)), rows={"orders": 12_034})
    line = plain_line(picture)
    assert line == (
        " 12.3s  following | daemon 4711 | snapshot customers 100% orders 100% | 0 rows/s | lag 0.2s over 1 shards"
        " | ClickHouse orders 12,034"
    )
