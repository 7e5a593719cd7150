"""The HTTP server, asked over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from dyncdc.errors import ConfigError
from dyncdc.telemetry.http import HttpPages, Readiness, serve_http
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.status import StatusBuilder, StatusSources
from dyncdc.telemetry.task_health import TaskHealth


@dataclass
class Site:
    session: aiohttp.ClientSession
    port: int
    metrics: Metrics
    health: TaskHealth
    readiness: Readiness
    now: float = 0.0

    async def get(self, path: str, accept: str = "*/*") -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept}) as answer:
            return answer.status, await answer.text()


def pages_of(metrics: Metrics, health: TaskHealth, readiness: Readiness) -> web.Application:
    overview = StatusBuilder("p", "0/1", [], StatusSources(metrics, health, lambda: readiness.missing))
    return HttpPages(metrics, health, readiness, overview).application()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    metrics, readiness = Metrics(), Readiness.of(["checkpoints loaded", "destinations checked"])
    health = TaskHealth(60.0, lambda: there.now)
    metrics.watch_stuck(lambda: [task.name for task in health.stuck()])
    async with (
        aiohttp.ClientSession() as session,
        serve_http(("127.0.0.1", 0), pages_of(metrics, health, readiness)) as port,
    ):
        there = Site(session, port, metrics, health, readiness)
        yield there


async def test_healthz_says_what_waits_as_planned_and_for_how_long(site: Site) -> None:
    with site.health.task("snapshot:orders") as task:
        task.planned("the stream must cover it", for_seconds=300.0)
        site.now = 50.0
        line = "snapshot:orders waits as planned: the stream must cover it, 250 s still\n"
        assert await site.get("/healthz") == (200, f"healthy\n{line}")
        _, body = await site.get("/healthz", "application/json")
        assert '"planned": [{"task": "snapshot:orders", "seconds": 250.0' in body
        task.planned("")
        assert await site.get("/healthz") == (200, "healthy\n")


async def test_healthz_names_what_is_stuck_and_livez_does_not_care(site: Site) -> None:
    assert await site.get("/healthz") == (200, "healthy\n")
    with site.health.task("insert:orders") as task:
        task.waiting_for("ClickHouse")
        site.now = 61.0
        stuck = "insert:orders has not moved for 61 s: waiting for ClickHouse\n"
        assert await site.get("/healthz") == (503, stuck)
        status, body = await site.get("/healthz", "application/json")
        assert (status, '"task": "insert:orders"' in body) == (503, True)
        assert await site.get("/livez") == (200, "live\n")
        assert 'dyncdc_stuck_tasks{task="insert:orders"} 1.0' in (await site.get("/metrics"))[1]
    assert (await site.get("/healthz"))[0] == 200
    while "insert:orders" in (await site.get("/metrics"))[1]:  # the page may be some milliseconds old
        pass


async def test_readyz_names_what_is_missing(site: Site) -> None:
    assert await site.get("/readyz") == (503, "not yet: checkpoints loaded\nnot yet: destinations checked\n")
    site.readiness.done("checkpoints loaded")
    site.readiness.done("destinations checked")
    site.readiness.done("destinations checked")
    assert await site.get("/readyz") == (200, "ready\n")


async def test_metrics_are_prometheus_text_and_the_front_page_points_to_them(site: Site) -> None:
    status, body = await site.get("/metrics")
    assert (status, "dyncdc_build_info{version=" in body) == (200, True)
    assert "/metrics" in (await site.get("/"))[1]
    assert (await site.get("/nothing"))[0] == 404


async def test_a_port_in_use_is_a_configuration_error(site: Site) -> None:
    pages = pages_of(site.metrics, site.health, site.readiness)
    with pytest.raises(ConfigError, match=rf"binding http\.listen 127\.0\.0\.1:{site.port}: the port is in use"):
        async with serve_http(("127.0.0.1", site.port), pages):
            pass


async def test_a_foreign_address_is_a_configuration_error(site: Site) -> None:
    pages = pages_of(site.metrics, site.health, site.readiness)
    with pytest.raises(ConfigError, match="not an address of this machine"):
        async with serve_http(("192.0.2.1", 0), pages):
            pass


@pytest.mark.parametrize("page", ["/", "/status.json", "/metrics", "/healthz", "/readyz", "/livez"])
async def test_a_page_on_loopback_is_not_for_names_that_a_foreign_web_page_has_there(site: Site, page: str) -> None:
    async def asked_as(host: str) -> int:
        url = f"http://127.0.0.1:{site.port}{page}"
        async with site.session.get(url, headers={"Host": host}) as answer:
            return answer.status

    assert await asked_as("evil.example") == 421
    assert await asked_as(f"evil.example:{site.port}") == 421
    for host in ("localhost", f"LOCALHOST.:{site.port}", "127.0.0.1:80", "[::1]:9108", "10.1.2.3"):
        assert await asked_as(host) != 421
