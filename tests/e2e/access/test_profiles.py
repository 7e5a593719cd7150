"""Users with odd profiles: the whole of a first day gives the rows that it gives anyone, or is refused by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.processes.harness import command, environment
from support.servers.place import Place

from dyncdc.emulator.clickhouse import LocalClickHouse

SECRET = "secret"

GROUPS = {
    "answers": {
        "extremes": 1,
        "limit": 5,
        "final": 1,
        "apply_deleted_mask": 0,
        "aggregate_functions_null_for_empty": 1,
        "join_use_nulls": 1,
        "transform_null_in": 1,
        "prefer_column_name_to_alias": 1,
        "use_query_cache": 1,
        "session_timezone": "Asia/Tokyo",
    },
    "types": {
        "data_type_default_nullable": 1,
        "cast_keep_nullable": 1,
        "input_format_null_as_default": 0,
        "input_format_json_map_as_array_of_tuples": 1,
        "output_format_json_quote_64bit_integers": 1,
        "bool_true_representation": "yes",
        "asterisk_include_alias_columns": 1,
        "show_create_query_identifier_quoting_rule": "always",
        "date_time_input_format": "basic",
        "date_time_output_format": "unix_timestamp",
    },
    "limits": {
        "max_columns_to_read": 1,
        "max_temporary_columns": 1,
        "max_result_rows": 1,
        "result_overflow_mode": "break",
        "max_rows_to_read": 1,
        "read_overflow_mode": "break",
        "max_query_size": 1000,
        "max_ast_elements": 10,
        "force_primary_key": 1,
    },
    "writing": {
        "async_insert": 1,
        "wait_for_async_insert": 0,
        "insert_deduplicate": 0,
        "mutations_sync": 0,
        "alter_sync": 0,
        "optimize_on_insert": 0,
        "insert_quorum": 2,
        "max_insert_block_size": 1,
        "format": "CSV",
    },
}

REFUSED = {
    "readonly": ("<readonly>1</readonly>", "164 READONLY of "),
    "constant": (
        "<extremes>1</extremes><constraints><extremes><readonly/></extremes></constraints>",
        "452 SETTING_CONSTRAINT_VIOLATION of extremes",
    ),
}

ITEMS = [
    {
        "id": {"S": f"u{number}"},
        "n": {"N": "9007199254740993"},
        "m": {"M": {"k": {"N": str(number)}}},
        "tags": {"SS": ["a/b", "c"]},
        "none": {"NULL": True},
        **({"odd": {"BOOL": True}} if number % 2 else {}),
    }
    for number in range(12)
]


class Profiled(LocalClickHouse):
    """A server with a user for each profile, named as it is."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, users=dict.fromkeys((*GROUPS, *REFUSED), SECRET))

    def _write_configuration(self) -> None:
        super()._write_configuration()
        texts = {name: text for name, (text, _) in REFUSED.items()}
        for name, group in GROUPS.items():
            texts[name] = "".join(f"<{setting}>{value}</{setting}>" for setting, value in group.items())
        path = self.directory / "users.xml"
        text = path.read_text()
        for name, profile in texts.items():
            user, found, rest = text.partition(f"<{name}><password_sha256_hex>")
            assert found
            text = user + found + rest.replace("<profile>default", f"<profile>{name}", 1)
            text = text.replace("</profiles>", f"<{name}>{profile}</{name}></profiles>", 1)
        path.write_text(text)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profiled]:
    server = Profiled(tmp_path_factory.mktemp("profiled"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.mark.parametrize("group", GROUPS)
def test_a_profile_changes_no_row(place: Place, profiled: Profiled, group: str) -> None:
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    place.aws.put_all(table, ITEMS)
    snapshot = {"method": "scan", "settle_seconds": 0.5, "margin_seconds": 1.0}
    config = place.configure([place.entry(table, snapshot=snapshot, clickhouse=f"users_{group}", history=f"h_{group}")])
    for arguments in (("check",), ("run", "--once")):
        ended = as_user(profiled, group, config, *arguments)
        assert ended.code == 0, (arguments, ended.out[-2000:], ended.err[-2000:])
    place.aws.put(table, {"id": {"S": "u1"}, "n": {"N": "2"}, "grown": {"N": "1.5"}})
    place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": "u2"}})
    for arguments in (("run", "--once"), ("verify", table)):
        ended = as_user(profiled, group, config, *arguments)
        assert ended.code == 0, (arguments, ended.out[-2000:], ended.err[-2000:])


@pytest.mark.parametrize("name", REFUSED)
def test_a_profile_that_cannot_be_is_refused_at_start_by_the_settings_name(
    place: Place, profiled: Profiled, name: str
) -> None:
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    config = place.configure([place.entry(table, snapshot={"method": "none"})])
    ended = as_user(profiled, name, config, "run", "--once")
    assert ended.code == 1
    assert REFUSED[name][1] in ended.err


def as_user(server: Profiled, user: str, config: Path, *arguments: str) -> Any:
    url = f"clickhouse://{user}:{SECRET}@127.0.0.1:{server.tcp_port}/{server.database}"
    given = {"DYNCDC_CLICKHOUSE__URL": url, "DYNCDC_RUN__STARTUP_TIMEOUT_SECONDS": "10.0", "DYNCDC_PIPELINE": user}
    return command(*arguments, "-c", str(config), environment=environment() | given)
