"""Configuration: it changes under the daemon, and is taken back. Each returns when its spell is over."""

from __future__ import annotations

import json
import random
import signal
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from support.processes.harness import wait_until
from support.servers.aws import REGION
from support.servers.place import toml

from ..plan import Spell
from ..processes.daemon import check_alive, logged, terminate
from ..workload import KEY_SCHEMAS
from ..world import MARGIN_SECONDS, MASK_KEY, World

NOTED_SECONDS = 20.0
HIDDEN = {"items": ["Name", "memo"], "accounts": ["visits"], "sessions": ["extra"]}
"""Attributes that no column is listed for."""


def change_settings(world: World, spell: Spell) -> int:
    """Change a setting that decides rows, let changes come in under it, and take it back."""
    rng = random.Random(f"settings {world.plan.seed} {spell.strength}")
    label = rng.choice(sorted(world.names))
    changes: list[dict[str, Any]] = [
        {"deletes": "ignore"},
        {"exclude": HIDDEN[label]},
        {"mask": HIDDEN[label], "mask_key_env": next(iter(MASK_KEY))},
        {"clickhouse": f"{label}_other"},
    ]
    listed = next(entry.get("columns") for entry in world.entries if entry["dynamodb"] == world.names[label])
    if listed:
        changes.append({"columns": listed[:-1]})
    restart = spell.strength < 0.5
    right = world.config.read_text()
    with world.by_hand:  # what was noted last stays
        before = _noted(world, label)
        if not before:
            return 0
        try:
            world.config.write_text(_with_entry(world, right, label, rng.choice(changes)))
            _take_up(world, restart=restart)
            taken = _wait_noted(world, label, lambda found: found not in ("", before))
            if taken:
                world.sleep(0.3 + spell.seconds * 1.5)
        finally:
            world.config.write_text(right)
        _take_up(world, restart=restart)
        if not _wait_noted(world, label, lambda found: found == before):
            _take_up(world, restart=True)
    return int(taken)


def _with_entry(world: World, text: str, label: str, change: dict[str, Any]) -> str:
    """The text of a configuration with another entry for one table."""
    name = world.names[label]
    entries = [entry | change if entry["dynamodb"] == name else entry for entry in world.entries]
    lines = [f"tables = {toml(entries)}" if line.startswith("tables = ") else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def _take_up(world: World, *, restart: bool) -> None:
    check_alive(world)
    if restart or world.daemon.get("/livez")[0] == 0:  # it does not listen to signals yet
        terminate(world)
        world.daemon.start()
    else:
        world.daemon.signal(signal.SIGHUP)


def _noted(world: World, label: str) -> str:
    """The settings that the rows of a table are written under now, as text; "" for none."""
    sql = f"SELECT argMax(settings, (number, recorded_at)) FROM dyncdc_settings WHERE table = '{world.names[label]}'"
    try:
        return str(world.place.clickhouse.value(sql))
    except (AssertionError, IndexError, OSError):
        return ""


def _wait_noted(world: World, label: str, done: Callable[[str], bool]) -> bool:
    end = time.monotonic() + NOTED_SECONDS
    while time.monotonic() < end:
        if done(_noted(world, label)):
            return True
        world.sleep(0.2)
    return False


def offer_partial_export(world: World, spell: Spell) -> int:
    """Name an export that leaves items out as the one to load: it is refused, and the daemon goes on without it."""
    rng = random.Random(f"partial {world.plan.seed} {spell.strength}")
    label = rng.choice(sorted(world.names))
    partial: dict[str, Any] = rng.choice(
        (
            {"FilterSpecification": {"FilterExpression": "attribute_exists(nobody_has_this)"}},
            {"FilterSpecification": {"ProjectionExpression": next(iter(KEY_SCHEMAS[label]))}},
            {
                "ExportType": "INCREMENTAL_EXPORT",
                "IncrementalExportSpecification": {"ExportFromTime": time.time() - 1.0},
            },
        )
    )
    given = {
        "method": "export",
        "export_arn": _export(world, label, partial),
        "accept_gap": True,
        "margin_seconds": MARGIN_SECONDS,
    }
    right = world.config.read_text()
    at = len(logged(world.daemon))
    if spell.strength < 0.5 and world.daemon.get("/livez")[0] == 0:
        return 0
    try:
        world.config.write_text(_with_entry(world, right, label, {"snapshot": given}))
        if spell.strength < 0.5:
            _reload_until_refused(world, at)
        else:
            terminate(world)
            world.daemon.start()
            code = world.daemon.wait(60)
            assert code == 2, f"with a partial export it ends with {code}: {world.daemon.tail()}"
        assert _said_partial(logged(world.daemon)[at:]), world.daemon.tail()
    finally:
        world.config.write_text(right)
    if not world.daemon.running:
        world.daemon.start()
        world.daemon.wait_ready()
    return 1


def _reload_until_refused(world: World, at: int) -> None:
    """Ask for a reload until it is refused for the export; another fault of the plan may refuse it before."""
    for _ in range(10):
        before = logged(world.daemon)[at:].count("reload rejected")
        world.daemon.signal(signal.SIGHUP)
        wait_until(
            lambda count=before: logged(world.daemon)[at:].count("reload rejected") > count,  # type: ignore[misc]
            20,
            "a reload with a partial export is refused",
        )
        if _said_partial(logged(world.daemon)[at:]):
            return
        world.sleep(0.5)


def _said_partial(said: str) -> bool:
    return "it is a filtered export" in said or "it is an incremental export" in said


def _export(world: World, label: str, partial: dict[str, Any]) -> str:
    """Make an export as an SDK that knows all its fields does; return its ARN once it is complete."""
    arn = world.aws.dynamodb.describe_table(TableName=world.names[label])["Table"]["TableArn"]
    made = _call(
        world,
        "ExportTableToPointInTime",
        {"TableArn": arn, "S3Bucket": world.place.bucket, "S3Prefix": "partial"} | partial,
    )
    export = str(made["ExportDescription"]["ExportArn"])

    def complete() -> bool:
        found = world.aws.dynamodb.describe_export(ExportArn=export)["ExportDescription"]
        return bool(found["ExportStatus"] == "COMPLETED")

    wait_until(complete, 20, "the partial export is complete", pause_seconds=0.1)
    return export


def _call(world: World, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    signature = f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/dynamodb/aws4_request"
    headers = {
        "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        "Authorization": signature,
        "Content-Type": "application/x-amz-json-1.0",
    }
    body = json.dumps(request).encode()
    for attempt in range(5):  # a fault of the plan may wait for the first one
        try:
            asked = urllib.request.Request(world.aws.endpoint_url, body, headers)
            with urllib.request.urlopen(asked, timeout=10) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except OSError:
            if attempt == 4:
                raise
            world.sleep(0.1)
    raise AssertionError("unreachable")
