"""Mappings that cannot work, and why: what is refused before the first record is read."""

from __future__ import annotations

from dyncdc.errors import ConfigError

from .redaction import MIN_KEY_BYTES
from .table_spec import ColumnSpec, TableSpec


def check_table(spec: TableSpec, names: list[str]) -> None:
    """Refuse a table whose columns of its own cannot work; ``names``: of all columns. Raises ConfigError."""
    where = f"mapping {spec.source_table} to {spec.destination}"
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ConfigError(f"{where}: two columns are named {repeated!r}", hint="column names must differ")
    if not spec.version_column or spec.version_type not in ("Int64", "UInt64", "UInt256"):
        raise ConfigError(
            f"{where}: the version column is {spec.version_column!r} {spec.version_type}",
            hint="it must be Int64 or UInt64 (microseconds), or UInt256 (microseconds and sequence number)",
        )
    if spec.deletes == "tombstone" and not spec.deleted_column:
        raise ConfigError(
            f"{where}: no column for deletes", hint='add a _deleted UInt8 column or set deletes = "ignore"'
        )
    if spec.ttl_deletes == "keep" and not spec.expired_column:
        raise ConfigError(
            f"{where}: no column for expired items", hint='add an _expired UInt8 column or set ttl_deletes = "delete"'
        )


def check_redaction(spec: TableSpec) -> None:
    """Refuse to hide a key, and columns that cannot hold what is masked. Raises ConfigError."""
    redaction, keys = spec.redaction, {key.name for key in spec.keys}
    for path in (*redaction.exclude, *redaction.mask):
        if path[0] in keys:
            raise ConfigError(
                f"mapping {spec.source_table} to {spec.destination}: the key attribute {path[0]!r} can be neither left"
                " out nor masked",
                hint="a row is found by its key: by changes, verify and repair; keep it out of exclude and mask",
            )
    if redaction.mask and len(redaction.key) < MIN_KEY_BYTES:
        raise ConfigError(f"masking attributes of {spec.source_table}: no key", hint="set mask_key_env")
    for column in spec.columns:
        if redaction.masks(column.path) and column.takes[:1] != ("S",):
            raise unusable(
                spec,
                column,
                f"it is masked, and {column.type} takes {', '.join(column.takes)}",
                hint='a masked attribute is text of 64 characters: give it a String column, from = "S", or exclude it',
            )


def unusable(spec: TableSpec, column: ColumnSpec, why: str, hint: str = "") -> ConfigError:
    """Return the error for one column."""
    return ConfigError(f"mapping {spec.source_table} to {spec.destination}, column {column.name!r}: {why}", hint=hint)
