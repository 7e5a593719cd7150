"""Which column takes which attribute: from the configuration, an existing table, or inferred from a sample. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dyncdc.config import TableConfig
from dyncdc.config.attribute_paths import parse_attribute_path
from dyncdc.errors import ConfigError
from dyncdc.schema.existing.compatibility import DELETED_COLUMN, VERSION_TYPES
from dyncdc.schema.existing.nested_columns import NOTHING_SEEN, Seen, found_place, nested_arrays
from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.sql.ddl import add_column, add_mark_column
from dyncdc.schema.sql.quoting import mentions
from dyncdc.schema.types.codecs import default_takes

from .inference import infer_columns
from .naming import RESERVED_NAMES
from .redaction import Redaction
from .table_spec import AttributeType, ColumnSpec, KeyAttribute, TableSpec


def new_table_spec(
    config: TableConfig,
    keys: Sequence[KeyAttribute],
    sample: Iterable[Mapping[str, object]],
    *,
    version_type: str = "Int64",
) -> TableSpec:
    """Return the table to create: the configured columns, else inferred ones. Raises ConfigError.

    ``sample``: items in DynamoDB's typed JSON. ``version_type``: UInt256 where the stream stamps milliseconds.
    """
    metadata = config.metadata
    own = {metadata.version, metadata.deleted, metadata.spill, metadata.expired} - {""}
    redaction = redaction_of(config)
    inferred = infer_columns(
        keys,
        map(redaction.apply, sample),
        nested=config.nested,
        flatten_depth=config.flatten_depth,
        max_columns=config.max_columns,
        reserved=RESERVED_NAMES | own,
    )
    columns = _configured(config, keys)
    columns = _with_keys(columns, keys, inferred) if columns else inferred
    return TableSpec(
        config.dynamodb,
        config.destination,
        tuple(keys),
        columns,
        metadata.version,
        version_type,
        metadata.deleted,
        metadata.spill,
        config.deletes,
        redaction_of(config),
        config.ttl_deletes,
        metadata.expired if config.ttl_deletes == "keep" else "",
        config.history or "",
        config.base_microseconds,
    )


def redaction_of(config: TableConfig) -> Redaction:
    """Return what a table leaves out and masks."""
    exclude, mask = (tuple(map(parse_attribute_path, texts)) for texts in (config.exclude, config.mask))
    return Redaction(exclude, mask, config.mask_key)


def existing_table_spec(
    config: TableConfig, keys: Sequence[KeyAttribute], table: ExistingTable, seen: Seen = NOTHING_SEEN
) -> TableSpec:
    """Return the mapping to a table as it is: the configured columns, else its own, comments outranking names.

    It may be unusable as it stands: ``incompatibilities`` says so, and ``offered_statements`` what would complete it.
    Metadata columns that the configuration does not name are found by the engine; those the table lacks are "".
    ``seen``: what items hold, for columns whose name may mean a place inside a map.
    """
    version, deleted, spill = _metadata(config, table)
    expired = _expired(config, table)
    redaction = redaction_of(config)
    own = _own(table, keys, {version, deleted, spill, expired}, seen)
    own = tuple(column for column in own if not redaction.hides(column.path))
    columns = _configured(config, keys, table)
    columns = (*_with_keys(columns, keys, own), *_grown(config, spill, columns, own)) if columns else own
    columns = tuple(replace(column, defaulted=_defaulted(table, column, spill)) for column in columns)
    found = table.column(version)
    return TableSpec(
        config.dynamodb,
        config.destination,
        tuple(keys),
        columns,
        version,
        _version_type(found.type if found is not None else ""),
        deleted,
        spill,
        config.deletes,
        redaction_of(config),
        config.ttl_deletes,
        expired,
        config.history or "",
        config.base_microseconds,
    )


def _defaulted(table: ExistingTable, column: ColumnSpec, spill: str) -> bool:
    """Whether the table has a DEFAULT for a column that is not the one by which it reads the spill."""
    found = table.column(column.name)
    return found is not None and not column.key and bool(found.default) and not mentions(found.default, spill)


def _grown(
    config: TableConfig, spill: str, configured: Sequence[ColumnSpec], own: Sequence[ColumnSpec]
) -> Sequence[ColumnSpec]:
    """Columns beside the configured ones, where every attribute is to have one: those that the table has already.

    The attribute of a column that someone added by hand would else get another column, under another name.
    """
    if config.evolve != "add_columns" or not spill:
        return ()
    names = {column.name for column in configured}
    return [column for column in own if not column.key and column.name not in names]


def beside_list(config: TableConfig, columns: Sequence[ColumnSpec]) -> Sequence[ColumnSpec]:
    """Return those of a table's columns that its list of columns does not name; none where it has no list."""
    if not config.column_list:
        return ()
    listed = {name for column in config.column_list for name in (column.column, column.former_column)}
    return [column for column in columns if not column.key and column.name not in listed]


def offered_statements(
    config: TableConfig, table: ExistingTable, spec: TableSpec, cluster: str | None = None
) -> list[str]:
    """Return the statements that would give an existing table the columns it lacks; each harmless when repeated."""
    missing = [column for column in spec.columns if table.column(column.name) is None]
    statements = [add_column(table.name, column, cluster, spec.spill_column) for column in missing]
    if spec.deletes == "tombstone" and not spec.deleted_column:
        statements.append(add_mark_column(table.name, config.metadata.deleted or DELETED_COLUMN, cluster))
    if spec.expired_column and table.column(spec.expired_column) is None:
        statements.append(add_mark_column(table.name, spec.expired_column, cluster))
    return statements


def unfilled_columns(table: ExistingTable, spec: TableSpec) -> list[str]:
    """Return the columns of an existing table that nothing fills: they keep their default in every row."""
    own = {spec.version_column, spec.deleted_column, spec.spill_column, spec.expired_column}
    filled = {column.name for column in spec.columns} | own
    return [column.name for column in table.columns if not column.computed and column.name not in filled]


def _metadata(config: TableConfig, table: ExistingTable) -> tuple[str, str, str]:
    """Names of the columns of version, deleted and spill. What the configuration says outranks the engine."""
    metadata, given = config.metadata, config.metadata.model_fields_set
    version, deleted, *_ = (*table.engine_columns, "", "")
    version = metadata.version if "version" in given or not version else version
    if "deleted" in given or not deleted:
        deleted = metadata.deleted if table.column(metadata.deleted) is not None else ""
    return version, deleted, metadata.spill if table.column(metadata.spill) is not None else ""


def _expired(config: TableConfig, table: ExistingTable) -> str:
    """Name of the column that marks expired items. Those that were kept stay so when ``ttl_deletes`` changes."""
    name = config.metadata.expired
    if config.ttl_deletes == "keep":
        return name
    column = table.column(name) if name else None
    return name if column is not None and column.type == "UInt8" and column.origin is None else ""


def _version_type(column_type: str) -> str:
    """What the plan makes of a version column: every integer of 64 bits and more holds microseconds."""
    if column_type in ("UInt64", "UInt256"):
        return column_type
    return "Int64" if column_type in VERSION_TYPES else column_type


def _configured(
    config: TableConfig, keys: Sequence[KeyAttribute], table: ExistingTable | None = None
) -> tuple[ColumnSpec, ...]:
    """The configured columns. Raises ConfigError for a type that no attribute can fill."""
    types = {key.name: key.type for key in keys}
    columns = []
    for column in config.column_list:
        key = types.get(column.path[0]) if len(column.path) == 1 else None
        takes: tuple[AttributeType, ...] = column.takes or (
            (key,) if key else default_takes(column.type, column.encoding)
        )
        name = column.column
        if table is not None and table.column(name) is None and table.column(column.former_column) is not None:
            name = column.former_column
        columns.append(
            ColumnSpec(name, column.type, column.path, takes, column.lossy, key is not None, column.encoding)
        )
    return tuple(columns)


def _with_keys(
    columns: tuple[ColumnSpec, ...], keys: Sequence[KeyAttribute], others: Sequence[ColumnSpec]
) -> tuple[ColumnSpec, ...]:
    """Put those key columns in front that a list of columns leaves out; a second column of a key is a plain one."""
    seen: set[str] = set()
    found = []
    for column in columns:
        found.append(replace(column, key=column.key and column.path[0] not in seen))
        seen.update(column.path[:1] if column.key else ())
    missing = {key.name for key in keys} - seen
    return tuple(column for column in others if column.key and column.path[0] in missing) + tuple(found)


def _own(table: ExistingTable, keys: Sequence[KeyAttribute], metadata: set[str], seen: Seen) -> tuple[ColumnSpec, ...]:
    """The table's own columns, by comment or by name; those of a type that no attribute can fill are left alone."""
    types = {key.name: key.type for key in keys}
    sorting = table.sorting_columns or ()
    found = []
    parts = nested_arrays(table)
    for column in table.columns:
        if not column.computed and column.name not in metadata and column.name not in parts:
            spec = _own_column(column, types, seen)
            if spec is not None:
                found.append(spec)
    # a key attribute may fill several columns: the one in ORDER BY is its key column
    found.sort(key=lambda spec: spec.key and spec.name not in sorting)
    return _with_keys(tuple(found), (), ())


def _own_column(column: ExistingColumn, keys: Mapping[str, AttributeType], seen: Seen) -> ColumnSpec | None:
    origin = column.origin
    if origin is None and column.name not in keys:
        origin = found_place(column, seen)
    path = origin.path if origin is not None else (column.name,)
    key = keys.get(path[0]) if len(path) == 1 else None
    try:
        takes = origin.takes if origin is not None else (key,) if key else default_takes(column.type)
    except ConfigError:
        return None
    found = ColumnSpec(column.name, column.type, path, takes, key=key is not None)
    return replace(found, lossy=origin.lossy, encoding=origin.encoding) if origin is not None else found
