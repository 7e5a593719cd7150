"""The configuration that ``init`` proposes, as commented TOML. Text only; whatever a name holds, it stays a name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from dyncdc.config import ClickHouseUrl, TableConfig, format_attribute_path
from dyncdc.config.urls import host_text
from dyncdc.schema.inference import Inference, Observation
from dyncdc.schema.table_spec import ColumnSpec, TableSpec

PASSWORD_VARIABLE = "CLICKHOUSE_PASSWORD"  # noqa: S105 - the name of a variable
"""Where the written configuration finds the password, which it never holds itself."""

NAME_CHARS = 100
"""Of a name in a comment; in a key it is always whole."""

LISTED_PLACES = 200
"""Most attributes without a column that are listed."""


@dataclass(frozen=True, slots=True)
class ColumnLine:
    """One column and what the sample says of it."""

    column: ColumnSpec
    comments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that the text says. ``stream``: name or ARN; ``password``: of the URL, which does not show it."""

    pipeline: str
    region: str
    endpoint_url: str
    url: ClickHouseUrl
    cluster: str
    password: bool
    stream: str
    table: TableConfig
    snapshot: str
    snapshot_comment: str
    inference: Inference
    columns: tuple[ColumnLine, ...]
    outside: tuple[Observation, ...]
    spec: TableSpec
    existing: bool
    notes: tuple[str, ...] = ()
    todo: tuple[str, ...] = field(default=())


def toml_text(text: str) -> str:
    """A TOML basic string. JSON's escapes are TOML's too; DEL is the one character that only TOML forbids."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def shown_name(path: Sequence[str]) -> str:
    """A path as a comment may show it: one line, printable, not longer than ``NAME_CHARS``."""
    text = json.dumps(format_attribute_path(tuple(path)), ensure_ascii=False)[1:-1].replace("\x7f", "\\u007F")
    return text if len(text) <= NAME_CHARS else f"{text[:NAME_CHARS]}… ({len(text):,} characters)"


def comment_lines(text: str) -> list[str]:
    """A text as TOML comments: control characters, which TOML forbids there, are escaped."""
    return [
        "# " + "".join(c if c == "\t" or (c.isprintable() or ord(c) > 0x9F) else repr(c)[1:-1] for c in line)
        for line in text.split("\n")
    ]


def url_text(url: ClickHouseUrl) -> str:
    """The URL without its password, so that it parses to the same address."""
    if url.kind == "local":
        return f"local://{quote(url.directory)}"
    scheme = "clickhouses" if url.secure else "clickhouse"
    hosts = ",".join(map(host_text, url.hosts))
    return f"{scheme}://{quote(url.user, safe='')}@{hosts}/{quote(url.database, safe='')}"


def frequency(observed: Observation | None, inference: Inference) -> str:
    """How often a place occurred in the sample, and as which types."""
    if observed is None or not observed.times:
        return "in none of the sampled items"
    within = f"in {observed.times:,} of {inference.items:,} items"
    if len(observed.path) > 1:
        maps = {each.path: dict(each.types).get("M", 0) for each in inference.observations}
        within = f"in {observed.times:,} of {maps.get(observed.path[:-1], observed.times):,} maps"
    types = ", ".join(f"{tag} {count:,}" for tag, count in observed.types)
    return f"{within}: {types}"


def config_text(draft: Draft) -> str:
    """Return the whole file."""
    return "\n".join(_lines(draft)) + "\n"


def _lines(draft: Draft) -> Iterator[str]:
    yield from comment_lines(
        f"dyncdc: {draft.table.dynamodb} into {draft.table.destination}, proposed from a sample of"
        f" {draft.inference.items:,} items.\nEvery key there is: config.example.toml."
    )
    for heading, lines in (("To do on the AWS side:", draft.todo), ("Please note:", draft.notes)):
        if lines:
            yield from ("#", *comment_lines(heading))
            for text in lines:
                yield from comment_lines(f"- {text}" if not text.startswith(" ") else f"  {text}")
    yield f'\npipeline = "{draft.pipeline}"\n'
    yield "[aws]"
    yield f"region = {toml_text(draft.region)}"
    if draft.endpoint_url:
        yield f"endpoint_url = {toml_text(draft.endpoint_url)}"
    yield "\n[clickhouse]"
    yield f"url = {toml_text(url_text(draft.url))}"
    if draft.cluster:
        yield f"cluster = {toml_text(draft.cluster)}"
    if draft.password:
        yield "# The password is not written here: it comes from the environment."
        yield f"password_env = {toml_text(PASSWORD_VARIABLE)}"
    yield "\n[kinesis]"
    yield f"stream = {toml_text(draft.stream)}"
    yield from _table(draft)


def _table(draft: Draft) -> Iterator[str]:
    table, spec = draft.table, draft.spec
    yield "\n[[tables]]"
    yield f"dynamodb = {toml_text(table.dynamodb)}"
    yield f"clickhouse = {toml_text(table.destination)}"
    yield from comment_lines(draft.snapshot_comment)
    yield f"snapshot = {draft.snapshot}"
    if draft.existing:
        if spec.deletes == "ignore":
            yield from comment_lines(
                "The table has no column that marks deleted items: they stay. `dyncdc ddl` has the statement that adds"
                " one; then\nset metadata.deleted to its name and leave deletes out."
            )
            yield 'deletes = "ignore"'
        names = {"version": spec.version_column, "deleted": spec.deleted_column, "spill": spec.spill_column}
        yield f"metadata = {{ {', '.join(f'{key} = {toml_text(name)}' for key, name in names.items())} }}"
    if draft.inference.items == 0 and not draft.existing:
        yield from comment_lines(
            "The table had no items to look at: columns are inferred when the destination is made."
        )
        yield 'columns = "infer"'
        return
    yield "columns = ["
    for line in draft.columns:
        for text in line.comments:
            yield from (f"  {comment}" for comment in comment_lines(text))
        yield f"  {column_text(line.column)},"
    yield "]"
    yield from _outside(draft)


def column_text(column: ColumnSpec) -> str:
    """One column as an inline table."""
    takes = [toml_text(tag) for tag in column.takes]
    keys = {
        "attribute": toml_text(format_attribute_path(column.path)),
        "name": "" if column.name == "_".join(column.path) else toml_text(column.name),
        "type": toml_text(column.type),
        "from": takes[0] if len(takes) == 1 else f"[{', '.join(takes)}]",
        "lossy": "true" if column.lossy else "",
        "encoding": toml_text(column.encoding) if column.encoding else "",
    }
    return "{ " + ", ".join(f"{key} = {text}" for key, text in keys.items() if text) + " }"


def _outside(draft: Draft) -> Iterator[str]:
    if not draft.outside:
        return
    where = "kept in the spill column" if draft.spec.spill_column else "left out: the table has no spill column"
    yield from comment_lines(f"Without a column of their own ({where}, what columns above hold aside):")
    for observed in draft.outside[:LISTED_PLACES]:
        yield from comment_lines(
            f"  {shown_name(observed.path)}: {frequency(observed, draft.inference)}; {observed.why}"
        )
    if len(draft.outside) > LISTED_PLACES:
        yield from comment_lines(f"  and {len(draft.outside) - LISTED_PLACES:,} more")
