"""Version ties: which rows to be written meet a row of the same key and version that stands already, or each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dyncdc.model.blocks import Block
from dyncdc.schema.sql.quoting import qualified, quote_name, quote_text
from dyncdc.schema.table_spec import TableSpec
from dyncdc.sinks.client.client import ClickHouse

_SETTINGS: Final = {"max_query_size": 64 * 2**20, "date_time_input_format": "best_effort"}
"""Keys are part of the query's text."""


async def tied_rows(clickhouse: ClickHouse, spec: TableSpec, blocks: Sequence[Block]) -> list[int]:
    """Return the numbers of the blocks, of one row each, whose key and version are in the table, or come twice here."""
    if not blocks:
        return []
    keys = [column for column in spec.columns if column.key]
    rows: dict[tuple[bytes, ...], list[int]] = {}
    for number, block in enumerate(blocks):
        cells = dict(zip(block.columns, block.cells, strict=True))
        place = (*(cells[column.name] for column in keys), b'"%d"' % block.versions[0])
        rows.setdefault(place, []).append(number)
    twice = {number for numbers in rows.values() if len(numbers) > 1 for number in numbers}
    names = [f"k{index}" for index in range(len(keys))]
    structure = ", ".join(
        ["n UInt32", *(f"{name} {key.type}" for name, key in zip(names, keys, strict=True)), f"v {spec.version_type}"]
    )
    ordinals = b",".join(b"%d" % numbers[0] for numbers in rows.values())
    columns = b"],[".join([ordinals, *(b",".join(column) for column in zip(*rows, strict=True))])
    data = f"[[{columns.decode()}]]"
    given = f"format(JSONCompactColumns, {quote_text(structure)}, {quote_text(data)})"
    theirs = ", ".join(quote_name(key.name) for key in keys)
    found = await clickhouse.fetch(
        f"SELECT n FROM {given} WHERE ({', '.join(names)}, v) IN (SELECT {theirs}, {quote_name(spec.version_column)}"
        f" FROM {qualified(spec.destination)} WHERE ({theirs}) IN (SELECT {', '.join(names)} FROM {given}))",
        settings=_SETTINGS,
        doing=f"looking for rows of equal versions in {spec.destination}",
    )
    return sorted({int(number) for (number,) in found} | twice)
