"""Logs: JSON when no one watches, repeats counted, task names bound."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from dyncdc.telemetry.log_lines import LogLines, lost_lines
from dyncdc.telemetry.logging import configure_logging
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.repeat_limiter import RepeatLimiter
from dyncdc.telemetry.task_health import TaskHealth


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_each_line_is_one_json_object() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger().info("shard finished", shard="shardId-0", rows=5)
    (entry,) = lines(stream)
    assert entry["timestamp"].endswith("Z")
    assert {**entry, "timestamp": ""} == {
        "event": "shard finished",
        "level": "info",
        "shard": "shardId-0",
        "rows": 5,
        "timestamp": "",
    }


def test_a_terminal_gets_colours_and_a_file_never() -> None:
    terminal, file = Terminal(), io.StringIO()
    configure_logging(stream=terminal)
    structlog.get_logger().info("shard finished")
    configure_logging(format="console", stream=file)
    structlog.get_logger().info("shard finished")
    assert "\x1b[" in terminal.getvalue()
    assert "\x1b[" not in file.getvalue()
    assert "shard finished" in file.getvalue()


def test_the_level_filters() -> None:
    stream = io.StringIO()
    configure_logging("warning", stream=stream)
    structlog.get_logger().info("shard finished")
    assert stream.getvalue() == ""


def test_libraries_are_heard_from_warning_on_only() -> None:
    stream = io.StringIO()
    configure_logging("debug", stream=stream)
    logging.getLogger("botocore.endpoint").debug("a request with its signature")
    logging.getLogger("asyncio").warning("slow callback")
    (entry,) = lines(stream)
    assert (entry["event"], entry["level"], entry["logger"]) == ("slow callback", "warning", "asyncio")


def test_a_repeated_warning_is_written_once_with_its_count() -> None:
    now = [0.0]
    stream = io.StringIO()
    configure_logging(stream=stream, limiter=RepeatLimiter(clock=lambda: now[0]))
    for _ in range(12):
        structlog.get_logger().warning("table unknown", table="others")
        structlog.get_logger().info("shard finished")
        now[0] += 1.0
    warnings = [entry for entry in lines(stream) if entry["level"] == "warning"]
    assert [entry.get("repeats") for entry in warnings] == [None, 9]
    assert len(lines(stream)) == 14


def test_logs_written_inside_a_task_carry_its_name() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    with TaskHealth().task("shard:orders:1"):
        structlog.get_logger().info("shard started")
    structlog.get_logger().info("done")
    assert [entry.get("task") for entry in lines(stream)] == ["shard:orders:1", None]


def test_an_exception_stays_one_line_of_json() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    try:
        raise ValueError("x")
    except ValueError:
        structlog.get_logger().exception("daemon failed")
    (entry,) = lines(stream)
    assert "ValueError: x" in entry["exception"]


@pytest.mark.parametrize("terminal", [True, False])
def test_an_exception_shows_no_local_variables(terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    configure_logging(stream=stream)
    item = "SECRET" * 2
    try:
        raise ValueError(f"{len(item)} letters")
    except ValueError:
        structlog.get_logger().exception("daemon failed")
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    assert stream.getvalue().count("ValueError: 12 letters") == 2
    assert "SECRETSECRET" not in stream.getvalue()


@pytest.mark.parametrize(
    "name", ["botocore.credentials", "aiobotocore.credentials", "asyncio", "aiohttp.server", "asynch", "urllib3", "any"]
)
def test_a_library_that_repeats_itself_is_left_out_and_never_sees_an_exception(name: str) -> None:
    now = [0.0]
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream, limiter=RepeatLimiter(clock=lambda: now[0]))
    for number in range(3):
        logging.getLogger(name).error("refreshing failed for %s", number)
    now[0] = 11.0
    logging.getLogger(name).error("refreshing failed for %s", 3)
    assert [(entry["event"], entry.get("repeats")) for entry in lines(stream)] == [
        ("refreshing failed for 0", None),
        ("refreshing failed for 3", 2),
    ]


def test_a_librarys_record_that_cannot_be_formatted_is_named_and_raises_nothing() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    logging.getLogger("botocore").warning("%d items", "secret")
    assert "botocore" in stream.getvalue()
    assert "secret" not in stream.getvalue()


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_stream_that_cannot_be_written_raises_nothing_and_is_counted() -> None:
    configure_logging(stream=Full())
    before = lost_lines()
    structlog.get_logger().error("task stuck")
    logging.getLogger("asyncio").error("task was destroyed")
    assert lost_lines() - before == 2
    assert f"dyncdc_log_lines_lost_total {lost_lines():.1f}" in Metrics().render().decode()


def test_a_pipe_that_no_one_reads_holds_no_one_up_and_is_whole_lines_again_afterwards() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(reader, "rb", 0) as reading, os.fdopen(writer, "w") as stream:
        lines = LogLines(stream)
        before = lost_lines()
        for number in range(100):
            lines.write(f"{number} {'x' * 10_000}\n")
        assert lost_lines() > before
        reading.read(2**20)
        lines.write("after\n")
        assert reading.read(2**20).splitlines()[-1] == b"after"


def test_a_pipe_whose_reader_is_gone_is_counted() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        before = lost_lines()
        LogLines(stream).write("shard finished\n")
    assert lost_lines() - before == 1
