"""A ClickHouse user with the grants that ``dyncdc ddl`` prints, and no others, can do everything; without them not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from support.processes.harness import command, environment
from support.servers.place import Place

from dyncdc.config import ClickHouseUrl
from dyncdc.emulator.clickhouse import LocalClickHouse
from dyncdc.sinks.client.client import ClickHouse

USER, SECRET = "least", "open sesame"


class Granting(LocalClickHouse):
    """A server with one more user, who has the ``grants`` of the time when it was started."""

    grants: tuple[str, ...] = ("GRANT SELECT ON system.one TO least",)

    def _write_configuration(self) -> None:
        super()._write_configuration()
        file = self.directory / "users.xml"
        queries = "".join(f"<query>{escape(grant.partition(' TO ')[0])}</query>" for grant in self.grants)
        user = f"<{USER}><password>{SECRET}</password><networks><ip>127.0.0.1</ip></networks>"
        user += f"<profile>default</profile><quota>default</quota><grants>{queries}</grants></{USER}>"
        file.write_text(file.read_text().replace("</users>", f"{user}</users>"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Granting]:
    server = Granting(tmp_path / "granting")
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


def test_the_printed_grants_are_enough_and_none_too_few(place: Place, server: Granting) -> None:
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    place.aws.put_all(table, [{"id": {"S": f"u{number}"}, "name": {"S": "x"}} for number in range(20)])

    def run(*arguments: str, user: str = USER) -> Any:
        secret = f":{SECRET.replace(' ', '%20')}" if user == USER else ""
        url = f"clickhouse://{user}{secret}@127.0.0.1:{server.tcp_port}/{server.database}"
        given = {"DYNCDC_CLICKHOUSE__URL": url, "DYNCDC_RUN__STARTUP_TIMEOUT_SECONDS": "10.0"}
        return command(*arguments, "-c", str(config), environment=environment() | given)

    snapshot = {"method": "scan", "settle_seconds": 0.5, "margin_seconds": 1.0}
    config = place.configure([place.entry(table, snapshot=snapshot, history="users_history", clean_tombstones=True)])
    printed = run("ddl", user="default")
    assert printed.code == 0, printed.err
    refused = run("ddl", "--apply")
    assert refused.code == 1
    assert "missing grant" in refused.err
    asyncio.run(server.stop())
    server.grants = tuple(json.loads(run_ddl_grants(printed.out)))
    asyncio.run(server.start())
    for arguments in (("ddl", "--apply"), ("check",), ("run", "--once")):
        ended = run(*arguments)
        assert ended.code == 0, (arguments, ended.out[-2000:], ended.err[-2000:])
    place.aws.put(table, {"id": {"S": "u1"}, "name": {"S": "y"}, "grown": {"N": "1"}})
    place.aws.dynamodb.delete_item(TableName=table, Key={"id": {"S": "u2"}})
    for arguments in (("run", "--once"), ("snapshot", table), ("run", "--once"), ("status",), ("verify", table)):
        ended = run(*arguments)
        assert ended.code == 0, (arguments, ended.out[-2000:], ended.err[-2000:])

    asyncio.run(clean(server))
    asyncio.run(add_column(server))
    restart(server, [grant.replace(", CREATE VIEW, DROP VIEW", "") for grant in server.grants])
    ended = run("run", "--once")
    assert ended.code == 0, "rows do not wait for a view that cannot be made again"
    assert "view not made" in ended.err
    assert "missing grant: CREATE VIEW" in ended.err


def test_check_names_each_missing_grant_and_what_run_can_do_without(place: Place, server: Granting) -> None:
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    place.aws.put(table, {"id": {"S": "u1"}})
    config = place.configure([place.entry(table, snapshot={"method": "scan", "settle_seconds": 0.5})])

    def run(*arguments: str, user: str = USER) -> Any:
        secret = f":{SECRET.replace(' ', '%20')}" if user == USER else ""
        url = f"clickhouse://{user}{secret}@127.0.0.1:{server.tcp_port}/{server.database}"
        given = {"DYNCDC_CLICKHOUSE__URL": url, "DYNCDC_RUN__STARTUP_TIMEOUT_SECONDS": "10.0"}
        return command(*arguments, "-c", str(config), environment=environment() | given)

    printed = run("ddl", user="default")
    grants = json.loads(run_ddl_grants(printed.out))
    lacking = [grant.replace("SELECT, INSERT, CREATE TABLE, ALTER ADD COLUMN", "SELECT") for grant in grants]
    assert lacking != grants
    restart(server, lacking)
    found = run("check")
    assert found.code == 3, found.out
    errors = [line for line in found.out.splitlines() if line.startswith("error")]
    place_ = f"`{server.database}`.`users`"
    assert errors == [
        f"error    grants: {privilege} ON {place_} is missing;"
        f" run as an administrator: GRANT {privilege} ON {place_} TO `{USER}`"
        for privilege in ("INSERT", "CREATE TABLE")
    ], found.out
    assert f"warning  grants: ALTER ADD COLUMN ON {place_} is missing" in found.out
    assert run("ddl", "--apply", user="default").code == 0
    restart(server, [grant.replace(", CREATE TABLE", "") for grant in grants])
    found = run("check")
    assert found.code == 0, "nothing has to be made any more"
    assert found.out.count("warning  grants: CREATE TABLE ON ") > 1
    assert run("run", "--once").code == 0
    restart(server, grants)
    assert "ok       grants: all that `dyncdc ddl` lists are there" in run("check").out


def restart(server: Granting, grants: list[str]) -> None:
    """The server again, with other grants."""
    asyncio.run(server.stop())
    server.grants = tuple(grants)
    asyncio.run(server.start())


async def add_column(server: Granting) -> None:
    """As someone else may: the view is out of date then."""
    clickhouse = ClickHouse(ClickHouseUrl("native", port=server.tcp_port, database=server.database))
    await clickhouse.execute("ALTER TABLE users ADD COLUMN other String")
    await clickhouse.close()


async def clean(server: Granting) -> None:
    """What the clean-up of tombstones does once they are old enough."""
    url = ClickHouseUrl("native", port=server.tcp_port, user=USER, password=SECRET, database=server.database)
    clickhouse = ClickHouse(url)
    await clickhouse.execute("DELETE FROM users WHERE _deleted = 1 AND _version < 0")
    assert await clickhouse.fetch("SELECT count() FROM system.mutations WHERE NOT is_done") == [(0,)]
    await clickhouse.close()


def run_ddl_grants(printed: str) -> str:
    """The grants among the printed comments, as JSON."""
    lines = [line for line in printed.splitlines() if line.startswith("-- GRANT")]
    assert lines
    return json.dumps([line.removeprefix("-- ").removesuffix(";") for line in lines])
