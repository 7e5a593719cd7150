"""What the configuration will say: columns inferred for a new destination, or matched onto one that is there."""

from __future__ import annotations

from dataclasses import dataclass

from dyncdc.config import Config, TableConfig
from dyncdc.schema.existing.compatibility import Incompatibility, incompatibilities
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.inference import Inference, Observation, infer
from dyncdc.schema.mapping import new_table_spec
from dyncdc.schema.naming import RESERVED_NAMES
from dyncdc.schema.sql.quoting import qualified, quote_name
from dyncdc.schema.table_spec import TableSpec
from dyncdc.sinks.tables.versions import incompatible_versions

from .clickpipes import adoption_notes
from .column_matching import Match, Matched, match_columns
from .document import ColumnLine, Draft, frequency
from .introspect import ExistingDestination, Source

STREAM_PLACEHOLDER = "NAME-OF-THE-STREAM"
NEW_SUFFIX = "_dyncdc"
"""Behind the name of a table that is there and cannot be used: a new one is proposed beside it."""


@dataclass(frozen=True, slots=True)
class _Mapping:
    table: TableConfig
    spec: TableSpec
    columns: tuple[ColumnLine, ...]
    outside: tuple[Observation, ...]
    notes: tuple[str, ...] = ()
    existing: bool = False


def make_draft(
    first: Config, source: Source, standing: ExistingDestination, region: str, snapshot: tuple[str, str]
) -> Draft:
    """Decide what is written. ``snapshot``: its line, and the comment above."""
    table = first.tables[0]
    inference = _infer(table, source)
    notes: list[str] = []
    if standing.unseen:
        notes.append(
            f"ClickHouse was not looked at ({standing.unseen}): whether {table.destination} exists there, and is safe,"
            " is not known; `dyncdc check` will say"
        )
    if standing.table is not None:
        mapping = _existing(table, source, standing, standing.table, inference)
    else:
        mapping = _new(table, source, inference)
    stream = source.stream
    return Draft(
        pipeline=first.pipeline,
        region=region,
        endpoint_url=first.aws.endpoint_url or "",
        url=first.clickhouse.url,
        cluster=first.clickhouse.cluster or "",
        password=bool(first.clickhouse.url.password),
        stream=_stream_name(source) if stream is not None else STREAM_PLACEHOLDER,
        table=mapping.table,
        snapshot=snapshot[0],
        snapshot_comment=snapshot[1],
        inference=inference,
        columns=mapping.columns,
        outside=mapping.outside,
        spec=mapping.spec,
        existing=mapping.existing,
        notes=(*notes, *mapping.notes),
        todo=tuple(source.todo),
    )


def _stream_name(source: Source) -> str:
    """The stream's name; its ARN where it is of another account or region than the table."""
    stream = source.stream
    if stream is None:
        return STREAM_PLACEHOLDER
    return stream.name if stream.arn.split(":")[3:5] == source.table.arn.split(":")[3:5] else stream.arn


def _infer(table: TableConfig, source: Source) -> Inference:
    own = {table.metadata.version, table.metadata.deleted, table.metadata.spill} - {""}
    return infer(
        source.table.keys,
        source.items,
        nested=table.nested,
        flatten_depth=table.flatten_depth,
        max_columns=table.max_columns,
        reserved=RESERVED_NAMES | own,
    )


def _new(table: TableConfig, source: Source, inference: Inference, notes: tuple[str, ...] = ()) -> _Mapping:
    lines = tuple(
        ColumnLine(observed.column, (f"{frequency(observed, inference)}; {observed.why}",))
        for observed in inference.observations
        if observed.column is not None
    )
    outside = tuple(observed for observed in inference.observations if observed.column is None)
    spec = new_table_spec(table, source.table.keys, source.items, version_type=source.version_type)
    return _Mapping(table, spec, lines, outside, notes)


def _existing(
    table: TableConfig, source: Source, standing: ExistingDestination, there: ExistingTable, inference: Inference
) -> _Mapping:
    keys, items = source.table.keys, source.items
    match = match_columns(table, keys, there, inference, items)
    if not match.spec.deleted_column:
        table = table.model_copy(update={"deletes": "ignore"})
        match = match_columns(table, keys, there, inference, items)
    versions = standing.adoption.versions if standing.adoption is not None else None
    refused = [
        *incompatibilities(there, match.spec),
        *(incompatible_versions(match.spec, versions) if versions is not None else ()),
    ]
    if refused:
        return _beside(table, source, inference, there, refused)
    notes = [f"{there.name} is there already: this maps onto its columns as they are", *_match_notes(match, there)]
    if standing.adoption is not None:
        notes += adoption_notes(standing.adoption, match.spec, table.snapshot.method)
    lines = tuple(_matched_line(each, inference, there, match.spec) for each in match.columns)
    return _Mapping(table, match.spec, lines, match.outside, tuple(notes), existing=True)


def _beside(
    table: TableConfig, source: Source, inference: Inference, there: ExistingTable, refused: list[Incompatibility]
) -> _Mapping:
    name = there.name + NEW_SUFFIX
    notes = [f"{there.name} is there already and cannot be used: {each.reason}; {each.todo}" for each in refused]
    notes.append(f"so this makes {name} beside it; once that is complete, readers can move, or both be exchanged")
    update: dict[str, object] = {"clickhouse": name, "deletes": "tombstone"}
    return _new(table.model_copy(update=update), source, inference, tuple(notes))


def _match_notes(match: Match, there: ExistingTable) -> list[str]:
    notes = []
    if match.unfilled:
        notes.append(f"nothing fills its columns {', '.join(match.unfilled)}: they keep their defaults")
    if not match.spec.spill_column:
        notes.append(
            "it has no spill column: values without a column are left out, and items with a value that does not fit"
            f" become dead letters; to keep both: ALTER TABLE {qualified(there.name)} ADD COLUMN `_spill`"
            " String, and init again"
        )
    return notes


def _matched_line(matched: Matched, inference: Inference, there: ExistingTable, spec: TableSpec) -> ColumnLine:
    comments = [f"{matched.why}; {frequency(matched.observed, inference)}"]
    if matched.misfits:
        fate = "go to the spill column" if spec.spill_column and not matched.column.key else "become dead letters"
        text = f"{matched.misfits:,} sampled values do not fit {matched.column.type} exactly: they {fate}"
        if matched.better:
            change = (
                f"ALTER TABLE {qualified(there.name)} MODIFY COLUMN {quote_name(matched.column.name)} {matched.better}"
            )
            text += f"; to hold them all: {change}, and init again"
        comments.append(text)
    return ColumnLine(matched.column, tuple(comments))
