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

from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from .faults import BadFaultError
from .settings import UnknownSettingError

if TYPE_CHECKING:
    from .server import Server

PREFIX = "/_dyncdc"


def add_routes(application: web.Application, server: Server) -> None:
    """Add the control API to the application of ``server``."""
    handlers = _Handlers(server)
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
    def __init__(self, server: Server) -> None:
        self._server = server

    async def health(self, _request: web.Request) -> web.Response:
        return _answer({"status": "ok"})

    async def show_settings(self, _request: web.Request) -> web.Response:
        return _answer(self._server.settings.as_dict())

    async def change_settings(self, request: web.Request) -> web.Response:
        try:
            changes = orjson.loads(await request.read())
            self._server.settings.update(changes)
        except (orjson.JSONDecodeError, UnknownSettingError) as error:
            return _answer({"error": str(error)}, 400)
        if "seed" in changes:
            self._server.streaming.reseed()
        return _answer(self._server.settings.as_dict())

    async def show_faults(self, _request: web.Request) -> web.Response:
        return _answer(self._server.faults.pending())

    async def add_faults(self, request: web.Request) -> web.Response:
        try:
            self._server.faults.add(orjson.loads(await request.read()))
        except (orjson.JSONDecodeError, BadFaultError) as error:
            return _answer({"error": str(error)}, 400)
        return _answer(self._server.faults.pending())

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._server.faults.clear(request.query.get("operation"))
        return _answer(self._server.faults.pending())

    async def show_calls(self, _request: web.Request) -> web.Response:
        return _answer(dict(self._server.faults.calls))

    async def clear_calls(self, _request: web.Request) -> web.Response:
        self._server.faults.calls.clear()
        self._server.faults.injected.clear()
        return _answer({})

    async def show_injected(self, _request: web.Request) -> web.Response:
        return _answer(dict(self._server.faults.injected))

    async def sweep(self, _request: web.Request) -> web.Response:
        return _answer({"expired": self._server.sweep()})


def _answer(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
