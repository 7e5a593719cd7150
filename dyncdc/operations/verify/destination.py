"""The destination's side of a comparison: rows by key, counts by bucket of keys, keys of a bucket. Reads only.

Everything is read through the exact text of each column (``decode.render``) and with FINAL, so it shows what a reader
of the ``_current`` view sees. Keys are found through the sorting key: no query reads the whole table but the counts.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dyncdc.schema.sql.readback import Reader, column_reader, quote_identifier, readback_expression
from dyncdc.schema.sql.row_reader import RowRenderer
from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.schema.types.codecs import compile_type
from dyncdc.schema.types.dynamodb_values import Item, canonical, unpack

from .result import key_text

BUCKETS: Final = 65_536
"""Keys are counted by hash, in so many counters: enough to find a few extra rows among many millions of keys."""
KEYS_PER_PAGE: Final = 1_000
_SETTINGS: Final = "max_query_size = 67108864, date_time_input_format = 'best_effort'"
"""A thousand keys of the longest kind are 3 MiB of text."""

UNREADABLE: Final = "(the row cannot be read)"
_CORRUPT = (ValueError, KeyError, TypeError, ArithmeticError)
"""What reading a value raises when someone has written by hand what dyncdc never writes."""


class Queries(Protocol):
    """The part of a ClickHouse connection that is used here."""

    async def fetch(self, query: str) -> Sequence[Sequence[object]]:
        """Return the rows of a query."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row as text: the renderer's values, the spill, and the bucket of its key."""

    values: Sequence[str | None]
    spill: str
    bucket: int


@dataclass(frozen=True, slots=True)
class _KeyColumn:
    spec: ColumnSpec
    reader: Reader
    encode: Callable[[object], bytes | None]
    tag: str


class Destination:
    """One ClickHouse table that mirrors a DynamoDB table."""

    def __init__(self, clickhouse: Queries, spec: TableSpec) -> None:
        self._clickhouse = clickhouse
        self._spec = spec
        self._renderer = RowRenderer(spec)
        self._keys = [_key_column(spec, key.name) for key in spec.keys]
        self._key_index = [spec.columns.index(key.spec) for key in self._keys]
        names = ", ".join(quote_identifier(key.spec.name) for key in self._keys)
        self._key_tuple = f"({names})" if len(self._keys) == 1 else f"tuple({names})"
        self._bucket = f"cityHash64({names}) % {BUCKETS}"
        # DynamoDB has neither deleted items nor expired ones, which ``ttl_deletes = "keep"`` leaves in the table
        marks = [name for name in (spec.deleted_column, spec.expired_column) if name]
        alive = " AND ".join(f"{quote_identifier(name)} = 0" for name in marks) or "1"
        self._rows = f"FROM {quote_identifier(spec.destination)} FINAL WHERE {alive}"

    @property
    def not_compared(self) -> tuple[str, ...]:
        """What the table cannot tell by its definition."""
        spec = self._spec
        found = {f"attribute {column.path[0]!r} (lossy column)" for column in spec.columns if column.lossy}
        found |= {
            f"column {column.name} where an item has nothing for it (a DEFAULT that dyncdc did not make)"
            for column in spec.columns
            if column.defaulted
        }
        if not spec.spill_column:
            found.add("attributes without a column (the table has no spill column)")
            mixed = [
                column.path[0]
                for column in spec.columns
                if len(column.takes) > 1 and not column.key and column.encoding != "typed"
            ]
            found |= {f"attribute {name!r} (several types in one column)" for name in mixed}
        if spec.deletes == "ignore":
            found.add('items deleted in DynamoDB (deletes = "ignore")')
        if spec.expired_column:
            found.add(f"expired items that were kept ({spec.expired_column} = 1)")
        return tuple(sorted(found))

    def key_of(self, item: Mapping[str, object]) -> Item:
        """The canonical primary key of an item."""
        return {key.spec.path[0]: canonical(item[key.spec.path[0]]) for key in self._keys}

    def differences(self, item: Mapping[str, object], row: Row) -> tuple[str, ...]:
        """The attributes in which an item differs from its row, as far as the row can tell."""
        try:
            return tuple(self._renderer.differences(item, row.values, row.spill))
        except _CORRUPT:
            return (UNREADABLE,)

    async def rows(self, keys: Sequence[Item]) -> dict[str, Row]:
        """The live rows of these keys, by the text of the key. At most ``KEYS_PER_PAGE`` keys."""
        cells = [cells for key in keys if (cells := self._cells(key)) is not None]
        if not cells:
            return {}
        structure = ", ".join(f"k{index} {key.spec.type}" for index, key in enumerate(self._keys))
        columns = b",".join(b"[%s]" % b",".join(column) for column in zip(*cells, strict=True))
        wanted = f"format(JSONCompactColumns, {_literal(structure)}, {_literal(f'[{columns.decode()}]')})"
        spill = quote_identifier(self._spec.spill_column) if self._spec.spill_column else "''"
        found = await self._clickhouse.fetch(
            f"SELECT {', '.join(self._renderer.expressions)}, {spill}, {self._bucket} {self._rows} "
            f"AND {self._key_tuple} IN (SELECT * FROM {wanted}) SETTINGS {_SETTINGS}"
        )
        rows: dict[str, Row] = {}
        for found_row in found:
            *values, spilled, bucket = found_row
            texts = [None if value is None else str(value) for value in values]
            key = self._read_key([texts[index] for index in self._key_index])
            if key is not None:
                rows[key_text(key)] = Row(texts, str(spilled), int(str(bucket)))
        return rows

    async def differing_buckets(self, shown: array[int]) -> Sequence[int]:
        """Buckets that hold another number of live rows than ``shown`` says."""
        counts = await self._clickhouse.fetch(f"SELECT {self._bucket} AS bucket, count() {self._rows} GROUP BY bucket")
        return [bucket for bucket, count in ((int(str(b)), int(str(n))) for b, n in counts) if count != shown[bucket]]

    async def keys_in(self, buckets: Collection[int]) -> AsyncIterator[Sequence[Item | str]]:
        """Yield pages of the live keys of some buckets, in the order of the sorting key.

        A key that no one could have written, and that cannot be read, comes as its text.
        """
        expressions = ", ".join(readback_expression(key.spec) for key in self._keys)
        of_buckets = f"{self._bucket} IN ({', '.join(map(str, buckets))})"
        after: Sequence[object] = ()
        while True:
            resume = f"AND {self._key_tuple} > ({self._after(after)})" if after else ""
            page = await self._clickhouse.fetch(
                f"SELECT {expressions} {self._rows} AND {of_buckets} {resume} "
                f"ORDER BY {self._key_tuple} LIMIT {KEYS_PER_PAGE} SETTINGS {_SETTINGS}"
            )
            if page:
                yield [self._read_key(texts) or repr(texts) for texts in ([str(each) for each in row] for row in page)]
            if len(page) < KEYS_PER_PAGE:
                return
            after = page[-1]

    def _after(self, texts: Sequence[object]) -> str:
        pairs = zip(texts, self._keys, strict=True)
        return ", ".join(f"CAST({_literal(str(text))}, {_literal(key.spec.type)})" for text, key in pairs)

    def _cells(self, key: Item) -> list[bytes] | None:
        """How the key's columns would hold it; None when they cannot, so that there is no such row."""
        cells = [column.encode(unpack(key[column.spec.path[0]])[1]) for column in self._keys]
        fitting = [cell for cell in cells if cell is not None]
        return fitting if len(fitting) == len(cells) else None

    def _read_key(self, texts: Sequence[str | None]) -> Item | None:
        try:
            return {
                key.spec.path[0]: canonical(key.reader.read(text or ""))
                for key, text in zip(self._keys, texts, strict=True)
            }
        except _CORRUPT:
            return None


def _key_column(spec: TableSpec, attribute: str) -> _KeyColumn:
    column = next(column for column in spec.columns if column.key and column.path == (attribute,))
    tag = next(key.type for key in spec.keys if key.name == attribute)
    return _KeyColumn(column, column_reader(column.type, tag), compile_type(column.type).encoders[tag], tag)


def _literal(text: str) -> str:
    """A ClickHouse string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
