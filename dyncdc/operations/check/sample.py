"""What a sample says of a mapping before the first row: names that no item has, values and keys that do not fit.

Pure. Shows names of attributes and counts, never values.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from dyncdc.config import TableConfig, format_attribute_path, parse_attribute_path
from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.schema.types.cells import Inexact
from dyncdc.schema.types.codecs import compile_type
from dyncdc.schema.types.dynamodb_values import Item
from dyncdc.schema.types.encodings import epoch_unit
from dyncdc.schema.types.families import shown_default
from dyncdc.schema.types.reject_reasons import UndecodableRecord

from .findings import Finding

Path = tuple[str, ...]
Values = Sequence[Mapping[str, object]]

_INDEX = re.compile(r"\[(?:\d+|\*)?\]\Z")
_MOST_LISTED = 20


def sample_findings(config: TableConfig, spec: TableSpec, items: Sequence[Item]) -> Iterator[Finding]:
    """Yield what is worth a warning. ``items`` as DynamoDB has them."""
    subject = f"destination {config.destination}"
    if items:
        yield from _unknown_names(config, items)
    shown = [spec.redaction.apply(item) for item in items]
    for column in spec.columns:
        values = values_at(shown, column.path)
        misfits = sum(not _fits(column, value, spill=bool(spec.spill_column)) for value in values)
        if misfits:
            found = f"{misfits:,} of {len(values):,} sampled values of {format_attribute_path(column.path)} do not fit"
            found += f" column {column.name} {compile_type(column.type, column.encoding).node.label} exactly"
            yield Finding("warning", subject, f"{found}: {_fate(column, spec)}", _todo(column, values))
    yield from _showing_defaults(subject, spec)


def values_at(items: Sequence[Mapping[str, object]], path: Path) -> list[Mapping[str, object]]:
    """Return the typed values at a path into maps."""
    found = []
    for item in items:
        value: object = {"M": item}
        for name in path:
            inner = value.get("M") if isinstance(value, Mapping) else None
            value = inner.get(name) if isinstance(inner, Mapping) else None
        if isinstance(value, Mapping):
            found.append(value)
    return found


def _fits(column: ColumnSpec, value: Mapping[str, object], *, spill: bool) -> bool:
    codec = compile_type(column.type, column.encoding)
    if next(iter(value), None) not in (*column.takes, *(("NULL",) if codec.nullable or spill else ())):
        return False
    try:
        cell = codec.encode(value)
    except UndecodableRecord:
        return True  # no DynamoDB value, whatever the column
    if cell is None:
        return "NULL" in value and spill and not column.key
    if column.lossy and not column.key:
        return True
    return type(cell) is bytes or (type(cell) is Inexact and spill and not column.key)


def _fate(column: ColumnSpec, spec: TableSpec) -> str:
    if column.key:
        return "items with such a key become dead letters"
    if not spec.spill_column:
        return "such items become dead letters"
    codec = compile_type(column.type, column.encoding)
    return "they are in the spill, and the column shows " + ("NULL" if codec.nullable else shown_default(codec.node))


def _todo(column: ColumnSpec, values: Values) -> str:
    numbers = [str(value["N"]) for value in values if "N" in value]
    unit = epoch_unit(numbers) if column.type.removeprefix("Nullable(").startswith("DateTime") else ""
    if unit and not column.encoding and not column.key:
        return (
            f'they look like {"milli" if unit == "epoch_ms" else "micro"}seconds: set encoding = "{unit}", from = "N"'
        )
    if column.key:
        return "use a String column in ORDER BY"
    if any(isinstance(_cell(column, value), Inexact) for value in values):
        return "lossy = true accepts what the column can show of them"
    return "give it another type, or name their type in from"


def _cell(column: ColumnSpec, value: Mapping[str, object]) -> bytes | None:
    try:
        return compile_type(column.type, column.encoding).encode(value)
    except UndecodableRecord:
        return None


def _showing_defaults(subject: str, spec: TableSpec) -> Iterator[Finding]:
    """Columns where no one can tell a default from a value."""
    found = []
    for column in spec.columns:
        codec = compile_type(column.type, column.encoding)
        told = column.key or codec.nullable or column.defaulted
        if not told and (default := shown_default(codec.node)):
            found.append(f"{column.name} ({default})")
    if found:
        more = f" and {len(found) - _MOST_LISTED:,} more" if len(found) > _MOST_LISTED else ""
        yield Finding(
            "warning",
            subject,
            "these columns cannot be NULL, and show a default where a value is missing or does not fit:"
            f" {', '.join(found[:_MOST_LISTED])}{more}",
            f"run: ALTER TABLE {spec.destination} MODIFY COLUMN … Nullable(…), where that may mislead",
        )


def _unknown_names(config: TableConfig, items: Sequence[Item]) -> Iterator[Finding]:
    subject = f"table {config.dynamodb}"
    known = set(_places([{"M": item} for item in items]))
    named = [("columns", column.path) for column in config.column_list]
    named += [("exclude", parse_attribute_path(text)) for text in config.exclude]
    named += [("mask", parse_attribute_path(text)) for text in config.mask]
    for where, path in named:
        if path not in known:
            text = f"{where} names {format_attribute_path(path)}, which none of {len(items):,} sampled items has"
            yield Finding("warning", subject, text, _instead(path, known))


def _places(values: Sequence[object], path: Path = ()) -> Iterator[Path]:
    """Every place in values, lists stepped into, as ``exclude`` and ``mask`` do."""
    for value in values:
        inner = value.get("M") if isinstance(value, Mapping) else None
        members = value.get("L") if isinstance(value, Mapping) else None
        if isinstance(inner, Mapping):
            for name, each in inner.items():
                yield (*path, name)
                yield from _places([each], (*path, name))
        elif isinstance(members, list):
            yield from _places(members, path)


def _instead(path: Path, known: Collection[Path]) -> str:
    """The nearest name, those that differ by case only first."""
    step = next((name for name in path if _INDEX.search(name)), None)
    if step is not None:
        whole = format_attribute_path((_INDEX.sub("", step),))
        return f'paths step into maps only, and {step} is taken for a name: map the list {whole} as a whole, from = "L"'
    texts = {format_attribute_path(each): each for each in sorted(known)}
    wanted = format_attribute_path(path)
    alike = [text for text in texts if text.lower() == wanted.lower()]
    alike = alike or difflib.get_close_matches(wanted, texts, n=1)
    return f"did you mean {alike[0]}? Names are case-sensitive" if alike else "it stays empty until an item has it"
