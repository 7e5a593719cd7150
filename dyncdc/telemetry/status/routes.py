"""The page itself: one HTML document that holds its own style and script, and the JSON that it draws.

The script makes elements and sets their text; no markup ever comes from data, and the policy lets nothing run or load
that is not part of the document.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from .columns import columns_of
from .model import DaemonStatus, DeadLettersStatus, ShardStatus, TableStatus, encode

_HERE = Path(__file__).parent
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

Ask = Callable[[], Awaitable[DaemonStatus]]


def add_page(application: web.Application, ask: Ask) -> None:
    """Serve ``/`` and ``/status.json``; ``ask`` makes the document of the moment."""

    async def show_page(_: web.Request) -> web.Response:
        html, policy = page()
        return web.Response(text=html, content_type="text/html", headers={**_HEADERS, **policy})

    async def show_document(_: web.Request) -> web.Response:
        return web.Response(body=encode(await ask()), content_type="application/json", headers=_HEADERS)

    application.add_routes([web.get("/", show_page), web.get("/status.json", show_document)])


@functools.cache
def page() -> tuple[str, dict[str, str]]:
    """The document, and the header that allows its own parts by their hashes and nothing else."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    html = (_HERE / "page.html").read_text(encoding="utf-8")
    script = script.replace("{} /* columns */", _columns())
    html = html.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return html, {"Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items())}


def _columns() -> str:
    """What the page shows of a table, a shard and dead letters, and how, for the script."""
    shown = {"tables": TableStatus, "shards": ShardStatus, "dead_letters": DeadLettersStatus}
    found = {name: list(columns_of(struct, "page").items()) for name, struct in shown.items()}
    return msgspec.json.encode(found).decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
