"""The control API, on the same endpoint, for tests and the demo.

* ``GET /_dyncdc/health``: 200 once it serves
* ``GET`` and ``POST /_dyncdc/settings {"limits": true, "retention_seconds": 5}``: see ``settings.Settings``
* ``POST /_dyncdc/faults {"operation": "GetRecords", "faults": [null, {"error": "..."}, {"sleep": 2.0}, "drop"]}``,
  with ``"probability"`` and ``"seed"`` for random ones: see ``faults``; ``GET`` shows what is left, ``DELETE`` clears
  all, ``DELETE /_dyncdc/faults?operation=GetRecords`` those of one operation
* ``GET /_dyncdc/calls``: calls by operation; ``DELETE`` starts again from 0; ``GET /_dyncdc/injected``: faults injected
* ``POST /_dyncdc/sweep``: delete what has expired now, answers ``{"expired": n}``

Operations are named as in AWS: GetRecords, BatchWriteItem, GetObject. A bad request is a 400 with ``error``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from dyncdc.emulator.aws.dynamodb.streaming import Streaming

from .faults import BadFaultError, Faults
from .settings import Settings, UnknownSettingError

PREFIX = "/_dyncdc"


def add_routes(
    application: web.Application, settings: Settings, faults: Faults, streaming: Streaming, sweep: Callable[[], int]
) -> None:
    """Add the control API. ``sweep`` deletes expired items and returns how many."""
    handlers = _Handlers(settings, faults, streaming, sweep)
    application.router.add_get(f"{PREFIX}/health", handlers.health)
    application.router.add_get(f"{PREFIX}/settings", handlers.show_settings)
    application.router.add_post(f"{PREFIX}/settings", handlers.change_settings)
    application.router.add_get(f"{PREFIX}/faults", handlers.show_faults)
    application.router.add_post(f"{PREFIX}/faults", handlers.add_faults)
    application.router.add_delete(f"{PREFIX}/faults", handlers.clear_faults)
    application.router.add_get(f"{PREFIX}/calls", handlers.show_calls)
    application.router.add_delete(f"{PREFIX}/calls", handlers.clear_calls)
    application.router.add_get(f"{PREFIX}/injected", handlers.show_injected)
    application.router.add_post(f"{PREFIX}/sweep", handlers.sweep)


class _Handlers:
    def __init__(self, settings: Settings, faults: Faults, streaming: Streaming, sweep: Callable[[], int]) -> None:
        self._settings = settings
        self._faults = faults
        self._streaming = streaming
        self._sweep = sweep

    async def health(self, _request: web.Request) -> web.Response:
        return _answer({"status": "ok"})

    async def show_settings(self, _request: web.Request) -> web.Response:
        return _answer(self._settings.as_dict())

    async def change_settings(self, request: web.Request) -> web.Response:
        try:
            changes = orjson.loads(await request.read())
            self._settings.update(changes)
        except (orjson.JSONDecodeError, UnknownSettingError) as error:
            return _answer({"error": str(error)}, 400)
        if "seed" in changes:
            self._streaming.reseed()
        return _answer(self._settings.as_dict())

    async def show_faults(self, _request: web.Request) -> web.Response:
        return _answer(self._faults.pending())

    async def add_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults.add(orjson.loads(await request.read()))
        except (orjson.JSONDecodeError, BadFaultError) as error:
            return _answer({"error": str(error)}, 400)
        return _answer(self._faults.pending())

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear(request.query.get("operation"))
        return _answer(self._faults.pending())

    async def show_calls(self, _request: web.Request) -> web.Response:
        return _answer(dict(self._faults.calls))

    async def clear_calls(self, _request: web.Request) -> web.Response:
        self._faults.calls.clear()
        self._faults.injected.clear()
        return _answer({})

    async def show_injected(self, _request: web.Request) -> web.Response:
        return _answer(dict(self._faults.injected))

    async def sweep(self, _request: web.Request) -> web.Response:
        return _answer({"expired": self._sweep()})


def _answer(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
