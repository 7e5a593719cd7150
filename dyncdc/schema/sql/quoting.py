"""Names and texts as SQL writes them: the one place that quotes. Pure text."""

from __future__ import annotations

import re
from typing import Final

_ESCAPES = str.maketrans({"\\": "\\\\", "`": "\\`", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"})

_TOKENS: Final = re.compile(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|[A-Za-z_]\w*", re.DOTALL)


def quote_name(name: str) -> str:
    """Return an identifier in backquotes, whatever it holds."""
    return f"`{name.translate(_ESCAPES)}`"


def quote_text(text: str) -> str:
    """Return a string literal."""
    return f"'{text.translate(_ESCAPES)}'"


def qualified(table: str, database: str = "") -> str:
    """Return a table's name, in the connection's database unless another is named. Dots in it are part of the name."""
    return f"{quote_name(database)}.{quote_name(table)}" if database else quote_name(table)


DATABASE_ITSELF: Final = ""
"""In place of a cluster's name: the database is of the engine Replicated. It runs each statement about tables on every
server, refuses ON CLUSTER, and keeps the rows together only of Replicated tables.
"""


def on_cluster(cluster: str | None) -> str:
    """Return the clause that runs a statement on every server of a cluster; nothing without one."""
    return f" ON CLUSTER {quote_name(cluster)}" if cluster else ""


def mentions(expression: str, name: str) -> bool:
    """Whether an expression, as ClickHouse prints it, names a column; its string literals are none."""
    return bool(name) and not {name, quote_name(name)}.isdisjoint(_TOKENS.findall(expression))
