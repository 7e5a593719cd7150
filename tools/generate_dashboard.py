"""Writes deploy/grafana/dyncdc.json: one Grafana dashboard, from the few lines per panel below. Run by `make docs`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "dyncdc.json"
COLUMNS = 24
"""Width of Grafana's grid."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WHERE = 'job=~"$job",instance=~"$instance"'
LATE = "dyncdc_iterator_age_seconds{W} + clamp_min(time() - dyncdc_last_fetch_timestamp_seconds{W}, 0)"
UNREAD = f"({LATE} and dyncdc_retention_headroom_seconds{{W}})"
HEADROOM = f"(1 - {UNREAD} / (dyncdc_retention_headroom_seconds{{W}} + dyncdc_iterator_age_seconds{{W}}))"

Steps = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Panel:
    """One panel. In expressions ``{W}`` stands for the chosen jobs and instances."""

    title: str
    text: str
    queries: dict[str, str]
    """Legend to expression."""

    unit: str = "short"
    width: int = 8
    kind: str = "timeseries"
    steps: Steps = ()
    """Colour of a stat from a value on; the first is the colour below all others."""

    stacked: bool = False
    largest: float | None = None


def stat(title: str, text: str, query: str, unit: str = "short", steps: Steps = ()) -> Panel:
    """One number with a colour."""
    return Panel(title, text, {"": query}, unit, 3, "stat", steps or (("green", 0), ("red", 1)))


def quantiles(metric: str, by: str) -> dict[str, str]:
    """The middle and the slow end of a histogram."""
    return {
        f"{name} {{{{{by}}}}}": f"histogram_quantile({q}, sum by (le, {by})"
        f" (rate({metric}_bucket{{W}}[$__rate_interval])))"
        for name, q in (("p50", 0.5), ("p99", 0.99))
    }


def rates(metric: str, by: str) -> dict[str, str]:
    """The rate of a counter."""
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate({metric}{{W}}[$__rate_interval]))"}


ROWS: dict[str, tuple[Panel, ...]] = {
    "Is all well?": (
        stat("Processes up", "Answering scrapes.", "sum(up{W})", steps=(("red", 0), ("green", 1))),
        stat("Stuck tasks", "Tasks that do not move; /healthz says why.", "sum(dyncdc_stuck_tasks{W}) or vector(0)"),
        stat(
            "Least headroom",
            "Share of the stream's retention left before unread changes expire, on the worst shard.",
            f"min({HEADROOM})",
            "percentunit",
            (("red", 0), ("orange", 0.2), ("green", 0.5)),
        ),
        stat(
            "Most lag",
            "How late the worst shard is read.",
            f"max({UNREAD})",
            "s",
            (("green", 0), ("orange", 60), ("red", 300)),
        ),
        stat(
            "Complete until",
            "The table that is furthest behind: up to how long ago ClickHouse holds everything.",
            "max(time() - dyncdc_complete_until_timestamp_seconds{W})",
            "s",
            (("green", 0), ("orange", 900), ("red", 3600)),
        ),
        stat(
            "Dead letters, 24 h",
            "Kept whole in dyncdc_dead_letters.",
            "sum(increase(dyncdc_dead_letters_total{W}[24h])) or vector(0)",
        ),
        stat(
            "Gaps, 24 h",
            "Times that changes were lost before they were read.",
            "sum(increase(dyncdc_gaps_total{W}[24h])) or vector(0)",
        ),
        stat(
            "ClickHouse went back, 24 h",
            "Restarts of the server, and times that it lacked what it had acknowledged.",
            "sum(increase(dyncdc_clickhouse_went_back_total{W}[24h])) or vector(0)",
        ),
        stat(
            "Shards read again, 24 h",
            "Shards, files and segments read again for what a restart of ClickHouse may have lost.",
            "sum(increase(dyncdc_rewound_shards_total{W}[24h])) or vector(0)",
        ),
        stat(
            "Log lines lost, 24 h",
            "Lines that could not be written to stderr: its disk is full, or its reader is gone.",
            "sum(increase(dyncdc_log_lines_lost_total{W}[24h])) or vector(0)",
        ),
        stat(
            "Failed shards",
            "Files of a snapshot that need a person.",
            'sum(dyncdc_shards{W,state="failed"}) or vector(0)',
        ),
    ),
    "How far is it?": (
        Panel(
            "Lag, worst shards",
            "Age of the oldest unread change.",
            {"{{stream}} {{shard}}": f"topk(10, {UNREAD})"},
            "s",
        ),
        Panel(
            "Headroom, worst shards",
            "1 at the tip, 0 when unread changes expire. Alerts at 0.5 and 0.2.",
            {"{{stream}} {{shard}}": f"bottomk(10, {HEADROOM})"},
            "percentunit",
            largest=1,
        ),
        Panel(
            "Complete until, by table",
            "Up to how long ago the destination provably holds everything.",
            {"{{table}}": "max by (table) (time() - dyncdc_complete_until_timestamp_seconds{W})"},
            "s",
        ),
        Panel(
            "Latency, change to ClickHouse",
            "From the change in DynamoDB to ClickHouse's acknowledgement.",
            quantiles("dyncdc_end_to_end_latency_seconds", "table"),
            "s",
        ),
        Panel(
            "Latency by stage",
            "Where on the way the delay is.",
            quantiles("dyncdc_stage_latency_seconds", "stage"),
            "s",
        ),
        Panel(
            "Snapshot progress",
            "Share of the snapshot that is durable.",
            {"{{table}}": "min by (table) (dyncdc_snapshot_progress_ratio{W})"},
            "percentunit",
            largest=1,
        ),
    ),
    "How much?": (
        Panel("Records read", "Changes and items of snapshots.", rates("dyncdc_records_read_total", "table"), "rps"),
        Panel("Rows written", "Rows that ClickHouse acknowledged.", rates("dyncdc_rows_written_total", "table"), "wps"),
        Panel("Items of snapshots", "Part of the records read.", rates("dyncdc_snapshot_rows_total", "table"), "rps"),
        Panel(
            "Rows per insert",
            "Larger is kinder to ClickHouse.",
            {
                "{{table}}": "sum by (table) (rate(dyncdc_insert_rows_sum{W}[$__rate_interval]))"
                " / sum by (table) (rate(dyncdc_insert_rows_count{W}[$__rate_interval]))"
            },
        ),
        Panel(
            "Inserts",
            "Each makes a part that ClickHouse has to merge.",
            {"{{table}}": "sum by (table) (rate(dyncdc_insert_rows_count{W}[$__rate_interval]))"},
            "ops",
        ),
        Panel("Time of an insert", "Until acknowledged.", quantiles("dyncdc_insert_duration_seconds", "table"), "s"),
    ),
    "Where does the time go?": (
        Panel(
            "Time by stage",
            "Seconds per second over all tasks: the stage that grows is the one that is slow.",
            rates("dyncdc_stage_seconds_total", "stage"),
            "s",
            stacked=True,
        ),
        Panel(
            "Memory budget",
            "Bytes fetched and not yet durable. Full for long: ClickHouse is slower than the stream.",
            {
                "used {{instance}}": "dyncdc_budget_used_bytes{W}",
                "limit {{instance}}": "dyncdc_budget_limit_bytes{W}",
                "resident {{instance}}": "dyncdc_process_resident_memory_bytes{W}",
            },
            "bytes",
        ),
        Panel(
            "CPU",
            "1 is a whole core; decoding uses one at most.",
            {"{{instance}}": "rate(dyncdc_process_cpu_seconds_total{W}[$__rate_interval])"},
            "percentunit",
        ),
    ),
    "What went wrong?": (
        Panel("Retries", "Attempts that failed and were repeated.", rates("dyncdc_retries_total", "stage"), "ops"),
        Panel(
            "Errors",
            "By stage and class, retried ones included.",
            {
                "{{stage}} {{error_class}}": "sum by (stage, error_class)"
                " (rate(dyncdc_errors_total{W}[$__rate_interval]))"
            },
            "ops",
        ),
        Panel(
            "Dead letters",
            "By reason.",
            {
                "{{table}} {{reason}}": "sum by (table, reason)"
                " (increase(dyncdc_dead_letters_total{W}[$__rate_interval]))"
            },
        ),
        Panel(
            "Values in the spill column",
            "Values that no column holds exactly.",
            rates("dyncdc_spilled_values_total", "table"),
            "ops",
        ),
        Panel("Stuck tasks", "By name.", {"{{instance}} {{task}}": "dyncdc_stuck_tasks{W}"}, stacked=True),
        Panel(
            "Tables left out", "By name.", {"{{table}}": "1 - min by (table) (dyncdc_table_usable{W})"}, stacked=True
        ),
        Panel(
            "Worker restarts",
            "With limits.workers: workers that ended and were started again.",
            {"{{instance}}": "increase(dyncdc_worker_restarts_total{W}[$__rate_interval])"},
        ),
        Panel("Shards", "By state.", {"{{state}}": "sum by (state) (dyncdc_shards{W})"}),
        Panel(
            "Since the last checkpoint",
            "Progress that a crash would repeat.",
            {"{{instance}}": "time() - (dyncdc_last_checkpoint_timestamp_seconds{W} > 0)"},
            "s",
        ),
        Panel(
            "Since the last insert",
            "By table; grows while nothing changes.",
            {"{{table}}": "time() - max by (table) (dyncdc_last_insert_timestamp_seconds{W})"},
            "s",
        ),
        Panel(
            "Age of the process and version",
            "A saw tooth is a restart loop.",
            {
                "{{instance}}": "time() - dyncdc_process_start_time_seconds{W}",
                "{{version}}": "count by (version) (dyncdc_build_info{W})",
            },
            "s",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The whole dashboard as Grafana imports it."""
    return {
        "uid": "dyncdc",
        "title": "dyncdc",
        "description": "DynamoDB to ClickHouse: how far it is, how long until data is lost, what is stuck.",
        "tags": ["dyncdc"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), _variable("job", "up"), _variable("instance", 'up{job=~"$job"}')]},
        "panels": _panels(),
    }


def page() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(label: str, series: str) -> dict[str, Any]:
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values({series}, {label})", "refId": label},
        "regex": "/dyncdc.*/" if label == "job" else "",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for title, panels in ROWS.items():
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": _at(0, y, COLUMNS, 1),
            }
        )
        y, x = y + 1, 0
        height = 4 if panels[0].kind == "stat" else 8
        for panel in panels:
            if x + panel.width > COLUMNS:
                y, x = y + height, 0
            made.append({"id": len(made) + 1, "gridPos": _at(x, y, panel.width, height), **_panel(panel)})
            x += panel.width
        y += height
    return made


def _at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": expression(query),
            "legendFormat": legend or "__auto",
        }
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    options: dict[str, Any]
    if panel.kind == "stat":
        steps = [
            {"color": colour, "value": value if place else None} for place, (colour, value) in enumerate(panel.steps)
        ]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        options = {"colorMode": "background", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    else:
        stacking = {"mode": "normal" if panel.stacked else "none"}
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "stacking": stacking}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.largest is not None:
        defaults["max"] = panel.largest
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }


def expression(query: str) -> str:
    """A query with the chosen jobs and instances in it."""
    return query.replace("{W}", f"{{{WHERE}}}").replace("{W,", f"{{{WHERE},")


if __name__ == "__main__":
    DASHBOARD.write_text(page())
