"""One ``[[tables]]`` entry: what is mirrored, how it is loaded first, and how it maps to columns."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from .attribute_paths import parse_attribute_path
from .redaction_rules import check_redaction_rules
from .sections import Section, Text, check_stream
from .snapshots import AWS_EXPORT_FUZZ_SECONDS, SnapshotConfig

AttributeType = Literal["S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M"]
_DYNAMODB_TABLE = re.compile(r"[a-zA-Z0-9_.-]{3,255}", re.ASCII)


def _tuple(value: object) -> object:
    """TOML has lists only; strict validation of a tuple would refuse them."""
    return tuple(value) if isinstance(value, list) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else _tuple(value)


def _columns_kind(value: object) -> str:
    return "list" if isinstance(value, list | tuple) else "infer"


class MetadataConfig(Section):
    """Names of the columns that dyncdc keeps; "" where a table has none."""

    version: str = Field(default="_version", min_length=1, description="column of the row's version, an integer")
    deleted: str = Field(default="_deleted", description='column that marks deleted rows; "" if the table has none')
    spill: str = Field(
        default="_spill", description='column for what has no column or does not fit; "" if the table has none'
    )
    expired: str = Field(
        default="_expired", description='column that marks expired items that were kept; "" if the table has none'
    )

    @model_validator(mode="after")
    def _combinations(self) -> MetadataConfig:
        names = [name for name in (self.version, self.deleted, self.spill, self.expired) if name]
        if len(set(names)) < len(names):
            raise ValueError("version, deleted, spill and expired must name different columns")
        return self


class ColumnConfig(Section):
    """One column and the attribute that fills it."""

    attribute: Text = Field(description="attribute; dots step into maps, '\"a.b\"' quotes a name that holds a dot")
    name: str = Field(default="", description="column; default: the attribute's path joined by _, with _ for dots")
    type: Text = Field(description="ClickHouse type")
    takes: Annotated[tuple[AttributeType, ...] | None, BeforeValidator(_one_or_more)] = Field(
        default=None,
        alias="from",
        description="DynamoDB type, or list of types, it takes; default: by the column's type",
    )
    lossy: bool = Field(default=False, description="true: do not also keep in the spill what this column blurs")
    encoding: Literal["", "typed", "raw", "epoch_ms", "epoch_us"] = Field(
        default="",
        description="of a String: typed (DynamoDB's typed JSON of any value) or raw (the bytes of a binary); of a "
        "DateTime or DateTime64: epoch_ms or epoch_us (N counts milliseconds or microseconds since 1970, not seconds)",
    )

    @field_validator("attribute")
    @classmethod
    def _is_path(cls, value: str) -> str:
        parse_attribute_path(value)
        return value

    @field_validator("takes")
    @classmethod
    def _names_types_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("must name one or more DynamoDB types, each once")
        return value

    @property
    def path(self) -> tuple[str, ...]:
        """The attribute's name, then map keys."""
        return parse_attribute_path(self.attribute)

    @property
    def column(self) -> str:
        """The column's name. Without a dot, which makes it a part of a Nested structure, unless one is given."""
        return self.name or "_".join(self.path).replace(".", "_")

    @property
    def former_column(self) -> str:
        """The column's name as versions made it that let a dot stay in it."""
        return self.name or "_".join(self.path)


Columns = Annotated[
    Annotated[Literal["infer"], Tag("infer")]
    | Annotated[tuple[ColumnConfig, ...], BeforeValidator(_tuple), Field(min_length=1), Tag("list")],
    Discriminator(_columns_kind),
]
Names = Annotated[tuple[Text, ...], BeforeValidator(_tuple)]


class TableConfig(Section):
    """One DynamoDB table and the ClickHouse table that mirrors it."""

    dynamodb: str = Field(description="name of the DynamoDB table, as in the records of its changes; not its ARN")
    clickhouse: str = Field(default="", description="ClickHouse table; default: the same name")
    stream: str | None = Field(default=None, description="name or ARN of the stream; default: kinesis.stream")
    history: Text | None = Field(default=None, description="table that keeps every change, beside the destination")
    exclude: Names = Field(default=(), description="attributes, or paths into maps, to leave out everywhere")
    mask: Names = Field(
        default=(), description="attributes, or paths into maps, to replace by a keyed hash (HMAC-SHA-256) everywhere"
    )
    mask_key_env: Text | None = Field(
        default=None, description="environment variable that holds the key of mask, 16 bytes or more"
    )
    max_columns: int = Field(default=1000, gt=0, description="most columns that inference makes")
    snapshot: SnapshotConfig = Field(description="how the table is loaded first")
    nested: Literal["flatten", "json", "typed"] = Field(
        default="flatten",
        description="what inference makes of maps: flatten (columns a_b), json (text) or typed (JSON)",
    )
    flatten_depth: int = Field(default=1, ge=1, le=32, description="levels of maps that become columns")
    evolve: Literal["add_columns", "spill"] = Field(
        default="add_columns",
        description="where new attributes go: add_columns (each becomes a column, older rows included) or spill",
    )
    deletes: Literal["tombstone", "ignore"] = Field(
        default="tombstone", description="what a delete does: tombstone (marks the row) or ignore (it stays)"
    )
    ttl_deletes: Literal["delete", "keep"] = Field(
        default="delete",
        description="what a TTL delete does: delete (as any other) or keep (the row stays, marked as expired)",
    )
    clean_tombstones: bool = Field(
        default=False, description="true: delete tombstones once nothing can bring back what they hold down"
    )
    columns: Columns = Field(
        default="infer",
        description="infer (an existing table: its columns, by name; else from the key schema and a sample) or a list "
        "of [[tables.columns]]",
    )
    metadata: MetadataConfig = Field(default=MetadataConfig(), description="names of the columns that dyncdc keeps")

    _mask_key: bytes = PrivateAttr(default=b"")
    _stream = field_validator("stream")(check_stream)

    @field_validator("dynamodb")
    @classmethod
    def _is_table_name(cls, value: str) -> str:
        if value.startswith("arn:"):
            raise ValueError(f"must be the name of a DynamoDB table, not its ARN: {value.rpartition('/')[2]}")
        if not _DYNAMODB_TABLE.fullmatch(value):
            raise ValueError("must be the name of a DynamoDB table: 3 to 255 of a-z A-Z 0-9 _ . -")
        return value

    @field_validator("exclude", "mask")
    @classmethod
    def _are_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            parse_attribute_path(path)
        return value

    @model_validator(mode="after")
    def _combinations(self) -> TableConfig:
        if bool(self.mask) != (self.mask_key_env is not None):
            raise ValueError("mask and mask_key_env need each other: the hash of what is masked has a key")
        check_redaction_rules(self.exclude, self.mask, (column.path for column in self.column_list))
        if not self.metadata.spill and self.evolve == "add_columns" and "evolve" in self.model_fields_set:
            raise ValueError('evolve = "add_columns" needs a metadata.spill column: older rows are read from it')
        if not self.metadata.deleted and self.deletes == "tombstone":
            raise ValueError('without a metadata.deleted column, deletes must be "ignore"')
        if self.clean_tombstones and self.deletes == "ignore":
            raise ValueError('with deletes = "ignore" there are no tombstones for clean_tombstones')
        if not self.metadata.expired and self.ttl_deletes == "keep":
            raise ValueError('without a metadata.expired column, ttl_deletes must be "delete"')
        if self.nested != "flatten" and "flatten_depth" in self.model_fields_set:
            raise ValueError(f'flatten_depth means nothing with nested = "{self.nested}"')
        if self.columns == "infer":
            return self
        taken = [name for name in (self.metadata.version, self.metadata.deleted, self.metadata.spill) if name]
        taken += [self.metadata.expired] if self.ttl_deletes == "keep" else []
        for column in self.columns:
            if column.column in taken:
                raise ValueError(f"column {column.column} is named twice")
            taken.append(column.column)
        return self

    def with_mask_key(self, key: bytes) -> TableConfig:
        """Return this table with the key that ``mask_key_env`` stands for. It is never shown or written anywhere."""
        table = self.model_copy()
        table._mask_key = key
        return table

    @property
    def mask_key(self) -> bytes:
        """The key that ``mask_key_env`` stands for, b"" without one."""
        return self._mask_key

    @property
    def destination(self) -> str:
        """The ClickHouse table's name."""
        return self.clickhouse or self.dynamodb

    @property
    def base_microseconds(self) -> int:
        """How long after its version a snapshot's row is known to hold: its margin, and the minute of its time."""
        return int((self.snapshot.margin_seconds + AWS_EXPORT_FUZZ_SECONDS) * 1_000_000)

    @property
    def column_list(self) -> tuple[ColumnConfig, ...]:
        """The columns given in the configuration; empty when they are inferred."""
        return () if self.columns == "infer" else self.columns
