"""What the sinks write and read as text: names, comments, statements, mappings, errors. No server."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import orjson
import pytest
from asynch.errors import NetworkError, ServerException

from dyncdc.config.tables import TableConfig
from dyncdc.decode.dead_letters.rows import DEAD_LETTER_COLUMNS, DEAD_LETTER_TABLE
from dyncdc.errors import AccessDeniedError, ConfigError, RejectedRowsError, RetryableError
from dyncdc.model.blocks import Block
from dyncdc.schema.existing.compatibility import incompatibilities
from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.mapping import existing_table_spec, new_table_spec
from dyncdc.schema.sql.column_comments import Origin, column_comment, read_comment
from dyncdc.schema.sql.ddl import create_table, create_view
from dyncdc.schema.sql.quoting import qualified, quote_name, quote_text
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sinks.client.asynch_connection import PIECE_BYTES, Statement
from dyncdc.sinks.client.error_codes import LoginRefused, UnknownCodeError, translate
from dyncdc.sinks.sink import insert_statement
from dyncdc.sinks.state.tables import own_statements
from dyncdc.sinks.tables.grants import GrantedTable, grant_statements

KEYS = (KeyAttribute("pk", "S"), KeyAttribute("sk", "N"))
PK = ColumnSpec("pk", "String", ("pk",), ("S",), key=True)
SK = ColumnSpec("sk", "Int64", ("sk",), ("N",), key=True)


def config(**options: Any) -> TableConfig:
    return TableConfig.model_validate({"dynamodb": "orders", "snapshot": {"method": "none"}, **options})


def table(engine_full: str, *columns: ExistingColumn, sorting_key: str = "pk, sk") -> ExistingTable:
    engine = engine_full.partition("(")[0].partition(" ")[0]
    return ExistingTable("orders", "uuid", engine, engine_full, sorting_key, "", columns)


def test_names_and_texts_cannot_end_early() -> None:
    assert quote_name("a`b\\`c") == r"`a\`b\\\`c`"
    assert quote_text("it's \\' \n") == r"'it\'s \\\' \n'"
    assert qualified("a.b") == "`a.b`"
    assert qualified("t", "d") == "`d`.`t`"


@pytest.mark.parametrize(
    "column",
    [
        ColumnSpec("a", "String", ("a",), ("S",)),
        ColumnSpec("a", "String", ("a.b", 'c"d', "emoji 😀"), ("M", "L"), lossy=True),
    ],
)
def test_a_comment_says_what_fills_the_column(column: ColumnSpec) -> None:
    assert read_comment(column_comment(column)) == Origin(column.path, column.takes, column.lossy)


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "a note",
        "dyncdc",
        "dyncdc {",
        "dyncdc []",
        'dyncdc {"attribute":"a"}',
        'dyncdc {"attribute":"","from":["S"]}',
        'dyncdc {"attribute":"a","from":["X"]}',
        'dyncdc {"attribute":"a","from":[]}',
        'dyncdc {"attribute":1,"from":["S"]}',
    ],
)
def test_other_comments_say_nothing(comment: str) -> None:
    assert read_comment(comment) is None


def test_a_destination_is_created_as_documented() -> None:
    status = ColumnSpec("status", "Nullable(String)", ("status",), ("S",))
    assert create_table(TableSpec("orders", "orders", KEYS, (PK, SK, status))) == (
        "CREATE TABLE IF NOT EXISTS `orders` (\n"
        '  `pk` String COMMENT \'dyncdc {"attribute":"pk","from":["S"]}\',\n'
        '  `sk` Int64 COMMENT \'dyncdc {"attribute":"sk","from":["N"]}\',\n'
        '  `status` Nullable(String) COMMENT \'dyncdc {"attribute":"status","from":["S"]}\',\n'
        "  `_spill` String,\n"
        "  `_version` Int64,\n"
        "  `_deleted` UInt8\n"
        ") ENGINE = ReplacingMergeTree(`_version`, `_deleted`) ORDER BY (`pk`, `sk`)"
        " SETTINGS non_replicated_deduplication_window = 1000"
    )


def test_a_destination_without_metadata_columns_has_none_in_its_statements() -> None:
    spec = TableSpec("orders", "orders", KEYS, (SK, PK), deleted_column="", spill_column="", deletes="ignore")
    assert "ReplacingMergeTree(`_version`) ORDER BY (`pk`, `sk`)" in create_table(spec)
    assert create_view(spec).endswith("SELECT * EXCEPT (`_version`) FROM `orders` FINAL")


def test_grants_follow_what_is_done_to_a_table() -> None:
    plain = grant_statements("me", "d", [GrantedTable("t", made=False, grows=False)], engines=False)
    assert "GRANT SELECT, INSERT ON `d`.`t` TO `me`" in plain
    assert not any("TABLE ENGINE" in grant or "mutations" in grant or "REPLICA" in grant for grant in plain)
    table = GrantedTable("t", made=True, grows=True, history="h", cleaned=True)
    full = grant_statements("me", "d", [table], cluster="main")
    for grant in (
        "GRANT SELECT, INSERT, CREATE TABLE, ALTER ADD COLUMN, ALTER COMMENT COLUMN, ALTER DELETE,"
        " ALTER UPDATE(_row_exists) ON `d`.`t` TO `me`",
        "GRANT SELECT, INSERT, CREATE TABLE ON `d`.`h` TO `me`",
        "GRANT SELECT, INSERT, CREATE TABLE, SYSTEM SYNC REPLICA ON `d`.`dyncdc_checkpoints` TO `me`",
        "GRANT SELECT ON system.mutations TO `me`",
        "GRANT CLUSTER ON *.* TO `me`",
        "GRANT TABLE ENGINE ON ReplicatedReplacingMergeTree TO `me`",
    ):
        assert grant in full


def test_the_dead_letter_table_has_every_column_that_the_decoder_fills() -> None:
    (statement,) = (text for text in own_statements() if DEAD_LETTER_TABLE in text)
    assert all(f"{name} " in statement for name in DEAD_LETTER_COLUMNS)


@pytest.mark.parametrize(
    ("engine_full", "columns"),
    [
        ("ReplacingMergeTree ORDER BY (pk, sk)", ()),
        ("ReplacingMergeTree(v) PARTITION BY (a) ORDER BY pk", ("v",)),
        ("ReplacingMergeTree(v, `gone\\` )`) ORDER BY pk", ("v", "gone` )")),
        (r"ReplicatedReplacingMergeTree('/a, \'b)/{shard}', '{replica}', v, d) ORDER BY pk", ("v", "d")),
        ("SharedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', v) ORDER BY pk", ("v",)),
        ("ReplicatedReplacingMergeTree('/a', 'b') ORDER BY pk", ()),
    ],
)
def test_the_engines_columns_are_told_from_its_other_arguments(engine_full: str, columns: tuple[str, ...]) -> None:
    assert table(engine_full).engine_columns == columns


@pytest.mark.parametrize(
    ("sorting_key", "columns"),
    [
        ("", ()),
        ("pk", ("pk",)),
        ("pk, sk DESC", ("pk", "sk")),
        ("`a, b`, `c DESC`, DESC", ("a, b", "c DESC", "DESC")),
        ("lower(pk)", None),
        ("pk, sk % 2", None),
    ],
)
def test_the_sorting_key_is_columns_or_something_else(sorting_key: str, columns: tuple[str, ...] | None) -> None:
    assert table("ReplacingMergeTree(v)", sorting_key=sorting_key).sorting_columns == columns


@pytest.mark.parametrize(
    "engine", ["ReplicatedReplacingMergeTree('/a', 'b', v)", "SharedReplacingMergeTree('/a', 'b', v)"]
)
def test_replicated_and_shared_tables_are_safe(engine: str) -> None:
    columns = (ExistingColumn("pk", "String"), ExistingColumn("sk", "Int64"), ExistingColumn("v", "Int64"))
    found = table(engine, *columns)
    assert incompatibilities(found, existing_table_spec(config(deletes="ignore"), KEYS, found)) == []


@pytest.mark.parametrize(("engine", "words"), [("ReplacingMergeTree(v)", ["only one server"]), ("Replicated", [])])
def test_of_a_cluster_every_server_must_have_the_rows(engine: str, words: list[str]) -> None:
    full = engine if "(" in engine else "ReplicatedReplacingMergeTree('/a', 'b', v)"
    columns = (ExistingColumn("pk", "String"), ExistingColumn("sk", "Int64"), ExistingColumn("v", "Int64"))
    found = table(full, *columns)
    spec = existing_table_spec(config(deletes="ignore"), KEYS, found)
    reasons = [refusal.reason for refusal in incompatibilities(found, spec, "main")]
    assert len(reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))


def test_a_destination_of_a_cluster_is_replicated() -> None:
    text = create_table(TableSpec("orders", "orders", KEYS, (PK, SK)), "main")
    assert text.startswith("CREATE TABLE IF NOT EXISTS `orders` ON CLUSTER `main` (")
    assert "ENGINE = ReplicatedReplacingMergeTree(`_version`, `_deleted`) ORDER BY (`pk`, `sk`)" in text
    assert text.endswith("SETTINGS replicated_deduplication_window = 1000")


def test_configured_columns_win_and_missing_keys_are_put_in_front() -> None:
    columns = [
        {"attribute": "customer.city", "type": "LowCardinality(String)"},
        {"attribute": "sk", "type": "String", "name": "sort"},
        {"attribute": "body", "type": "String", "from": ["M", "L"], "lossy": True},
    ]
    spec = new_table_spec(config(columns=columns, clickhouse="o2"), KEYS, ())
    assert spec.columns == (
        PK,
        ColumnSpec("customer_city", "LowCardinality(String)", ("customer", "city"), ("S",)),
        ColumnSpec("sort", "String", ("sk",), ("N",), key=True),
        ColumnSpec("body", "String", ("body",), ("M", "L"), lossy=True),
    )
    assert spec.destination == "o2"


def test_a_configured_type_that_nothing_can_fill_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="AggregateFunction"):
        new_table_spec(config(columns=[{"attribute": "a", "type": "AggregateFunction(sum, Int8)"}]), KEYS, ())


def test_inferred_columns_never_take_the_names_of_metadata_columns() -> None:
    sample = [{"pk": {"S": "a"}, "sk": {"N": "1"}, "ver": {"S": "x"}, "gone": {"S": "x"}}]
    spec = new_table_spec(config(metadata={"version": "ver", "deleted": "gone", "spill": ""}), KEYS, sample)
    names = [column.name for column in spec.columns]
    assert names[:2] == ["pk", "sk"]
    assert len(names) == 4
    assert not {"ver", "gone"} & set(names)


def test_of_two_columns_for_a_key_the_sorted_one_is_the_key_column() -> None:
    comment = column_comment(PK)
    columns = (ExistingColumn("copy", "String", comment), ExistingColumn("pk", "String"), ExistingColumn("sk", "Int64"))
    found = table("ReplacingMergeTree(v)", *columns, ExistingColumn("v", "Int64"))
    spec = existing_table_spec(config(deletes="ignore"), KEYS, found)
    assert {column.name: column.key for column in spec.columns} == {"pk": True, "sk": True, "copy": False}
    assert incompatibilities(found, spec) == []


@pytest.mark.parametrize(
    ("column_type", "version_type"),
    [("UInt64", "UInt64"), ("UInt256", "UInt256"), ("Int128", "Int64"), ("Int256", "Int64")],
)
def test_wider_version_columns_hold_microseconds_too(column_type: str, version_type: str) -> None:
    columns = (ExistingColumn("pk", "String"), ExistingColumn("sk", "Int64"), ExistingColumn("v", column_type))
    found = table("ReplacingMergeTree(v)", *columns)
    spec = existing_table_spec(config(deletes="ignore"), KEYS, found)
    assert (spec.version_type, incompatibilities(found, spec)) == (version_type, [])


def test_a_statement_is_sent_in_small_pieces_that_are_the_whole() -> None:
    cells = [b",".join([b'"' + b"x" * 1000 + b'"'] * 2000), b",".join(b"%d" % number for number in range(2000))]
    statement = insert_statement(Block("t", ("a", "b`"), cells, 2000))
    pieces = [bytes(piece) for piece in statement.pieces()]
    whole = b"".join(pieces)
    head, _, body = whole.partition(b" FORMAT JSONCompactColumns ")
    assert head == rb"INSERT INTO `t` (`a`, `b\``)"
    assert [len(column) for column in orjson.loads(body)] == [2000, 2000]
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert statement.nbytes == len(whole)


def test_what_a_statement_shows_of_itself_holds_no_data() -> None:
    statement = Statement.of("INSERT INTO t ", [b"s3cret"])
    assert "s3cret" not in f"{statement} {statement!r} {statement.lower()}"


def test_a_code_that_no_table_knows_is_retried_and_counted_apart() -> None:
    error = translate(ServerException("s3cret", 9999), "inserting")  # type: ignore[no-untyped-call]
    assert type(error) is UnknownCodeError
    assert isinstance(error, RetryableError)
    assert "9999" in str(error)
    assert "s3cret" not in str(error)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(516, LoginRefused), (497, AccessDeniedError), (27, RejectedRowsError), (252, RetryableError)],
)
def test_codes_decide_and_texts_do_not(code: int, expected: type[Exception]) -> None:
    text = "DB::Exception: Authentication failed: Too many parts (252). Cannot parse input. (ACCESS_DENIED)"
    error = translate(ServerException(text, code), "inserting")  # type: ignore[no-untyped-call]
    assert type(error) is expected


def test_an_untrusted_certificate_is_told_from_other_network_errors() -> None:
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "self-signed certificate"
    error = NetworkError("All hosts are unreachable")  # type: ignore[no-untyped-call]
    error.__cause__ = refused
    assert type(translate(error, "querying")) is LoginRefused
    error.__cause__ = ConnectionRefusedError(111, "user:s3cret@host")
    found = translate(error, "querying")
    assert type(found) is RetryableError
    assert str(found) == "querying: the connection failed (Connection refused)"
    late = TimeoutError()
    late.__cause__ = asyncio.CancelledError()
    error.__cause__ = late
    assert str(translate(error, "querying")) == "querying: no answer in time"
