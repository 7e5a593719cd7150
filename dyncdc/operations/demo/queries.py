"""Queries of the demo's ClickHouse over HTTP, as a user's own tool would ask them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from dyncdc.errors import FatalError
from dyncdc.operations.demo.workload.sample_data import CUSTOMERS_TABLE, ORDERS_TABLE

from .seed import TABLES

QUERY_TIMEOUT_SECONDS = 15.0

SAMPLE_QUERY: Final = f"""\
SELECT o.shipping_country AS country, count() AS orders, uniqExact(o.customer_id) AS customers,
       round(sum(o.total)) AS revenue, round(avg(JSONLength(o.items)), 2) AS lines,
       round(avg(c.loyalty_points)) AS points
FROM {ORDERS_TABLE}_current AS o LEFT JOIN {CUSTOMERS_TABLE}_current AS c USING (customer_id)
WHERE o.status != 'draft'
GROUP BY country ORDER BY revenue DESC"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of the columns, and the rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


async def ask(session: aiohttp.ClientSession, url: str, query: str) -> Answer:
    """Run one query. Raises FatalError naming ClickHouse's own error code."""
    timeout = aiohttp.ClientTimeout(total=QUERY_TIMEOUT_SECONDS)
    try:
        async with session.post(url, data=f"{query}\nFORMAT JSONCompact", timeout=timeout) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise FatalError(f"asking ClickHouse: {type(error).__name__}") from error
    if response.status != 200:
        raise FatalError(f"asking ClickHouse: code {response.headers.get('X-ClickHouse-Exception-Code', '?')}")
    answer = orjson.loads(body)
    return Answer([column["name"] for column in answer["meta"]], answer["data"])


async def count_rows(session: aiohttp.ClientSession, url: str) -> dict[str, int]:
    """The rows that a reader sees now, by table; tables that do not exist yet are left out."""
    existing = await ask(session, url, "SELECT name FROM system.tables WHERE database = currentDatabase()")
    views = {row[0] for row in existing.rows}
    counts = {}
    for table in TABLES:
        if f"{table}_current" in views:
            answer = await ask(session, url, f"SELECT count() FROM {table}_current")
            counts[table] = int(answer.rows[0][0])
    return counts
