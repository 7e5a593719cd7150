"""Trial: one scenario's AWS, tables, load and daemon, and whether every server ended equal to DynamoDB."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from support.data.load import COLUMNS, Load, make_account, make_item, make_key
from support.data.oracle import assert_equal_within
from support.processes.harness import ClickHouseHttp, Daemon, wait_until
from support.servers.aws import Aws, Item
from support.servers.place import Place

from dyncdc.emulator.aws import LocalAws

DATABASE = "matrix"
SEED = 14
FIRST_ITEMS, FIRST_ACCOUNTS, PLACES = 400, 40, 300
EQUAL_SECONDS = 40.0
REFUSAL_SECONDS = 25.0
READY_SECONDS = 60.0
TABLES: Mapping[str, Mapping[str, str]] = {
    "items": {"pk": "S", "n": "N"},
    "accounts": {"id": "S"},
    "places": {"id": "S"},
}
PLACE_COLUMNS: list[dict[str, Any]] = [
    {"attribute": "id", "type": "String"},
    {"attribute": "lat", "type": "Nullable(Float64)"},
    {"attribute": "lon", "type": "Nullable(Float32)"},
    {"attribute": "seen_at", "type": "Nullable(DateTime64(3, 'UTC'))"},
]


class Refused(Exception):
    """The daemon does not begin, and says why."""


@contextlib.contextmanager
def local_aws() -> Iterator[Aws]:
    """A local AWS, and clients of it."""
    with contextlib.ExitStack() as stack:
        server = LocalAws()
        runner = stack.enter_context(asyncio.Runner())
        runner.run(server.start())
        stack.callback(lambda: runner.run(server.stop()))
        os.environ.update(AWS_ENDPOINT_URL=server.endpoint_url, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
        clients = Aws(server.endpoint_url, local=True)
        stack.callback(clients.close)
        yield clients


class Server(Protocol):
    """What must end equal. ``address``: as ``clickhouse.url`` takes it, up to the database."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    def queries(self, database: str) -> ClickHouseHttp: ...


@dataclass
class Trial:
    """``servers``: each must end equal. ``url``: how the daemon reaches them, up to the database.

    ``options``: more of the ``[clickhouse]`` of every configuration.
    """

    place: Place
    servers: Sequence[Server]
    url: str
    database: str = DATABASE
    options: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""
    notes: list[str] = field(default_factory=list)
    """What is to be said beside the result."""
    changes: int = 0
    _daemon: Daemon | None = None
    _seed: int = SEED

    def make_tables(self) -> None:
        """Make stream and tables, and write the items that the snapshot loads."""
        stream, rng, aws = self.place.make_stream(2), random.Random(SEED), self.place.aws
        for label, keys in TABLES.items():
            self.place.make_table(label, keys, stream)
        items = {str(key): make_item(rng, key) for key in (make_key(rng, FIRST_ITEMS) for _ in range(FIRST_ITEMS))}
        aws.put_all(self._name("items"), list(items.values()))
        aws.put_all(self._name("accounts"), [make_account(rng, number) for number in range(FIRST_ACCOUNTS)])
        self.write_places("first")

    def write_places(self, prefix: str) -> None:
        """Write items whose floats and moments older servers read otherwise than they are written."""
        rng = random.Random(prefix)
        self.place.aws.put_all(self._name("places"), [_make_place(rng, f"{prefix}-{n}") for n in range(PLACES)])

    @property
    def daemon(self) -> Daemon:
        """The daemon, as often as it is started."""
        if self._daemon is None:
            self._daemon = self.place.daemon(self.configure("config", self.url))
        return self._daemon

    def configure(self, label: str, url: str, **clickhouse: Any) -> Path:
        """Write a configuration."""
        clickhouse = {"url": f"{url}/{self.database}", "insert_timeout_seconds": 10.0, **self.options, **clickhouse}
        if self.cluster:
            clickhouse["cluster"] = self.cluster
        columns: dict[str, dict[str, Any]] = {"items": {"columns": COLUMNS}, "places": {"columns": PLACE_COLUMNS}}
        entries = [self.place.entry(self._name(table), **columns.get(table, {})) for table in TABLES]
        return self.place.configure(entries, label, clickhouse=clickhouse)

    def start(self, seconds: float = READY_SECONDS) -> None:
        """Start the daemon and wait until it is ready. Raises Refused when it ends instead."""
        self.daemon.start()

        def ready() -> bool:
            return not self.daemon.running or self.daemon.get("/readyz")[0] == 200

        try:
            wait_until(ready, seconds, "the daemon is ready", strict=True)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self._last_words()}") from None
        if not self.daemon.running:
            raise Refused(self._last_words())

    def start_or_refuse(self) -> str:
        """Start the daemon; return "" once it is ready, or what it says, be it that it ends or waits unready."""
        try:
            self.start(REFUSAL_SECONDS)
            return ""
        except Refused as refused:
            return str(refused)
        except AssertionError:
            found = self.place.command("check", "--json", "-c", str(self.daemon.config))
        if found.code == 0:  # slow, not refused
            wait_until(self.daemon.ready, READY_SECONDS, f"the daemon is ready: {self.daemon.tail()}")
            return ""
        self.daemon.kill()
        errors = [one for one in json.loads(found.out)["findings"] if one["level"] == "error"]
        return "{subject}: {text}; {todo}".format(**errors[0])

    def restart(self) -> None:
        """SIGKILL, then start again."""
        self.daemon.kill()
        self.start()

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Write to the tables while the block runs."""
        self._seed += 1
        names = self._name("items"), self._name("accounts")
        with Load(self.place.aws, *names, seed=self._seed, keys=FIRST_ITEMS, pause_seconds=0.02) as load:
            yield
        self.changes += load.changes

    def expect_equal(self, seconds: float = EQUAL_SECONDS) -> None:
        """Wait until each server holds what DynamoDB holds."""
        for server in self.servers:
            clickhouse = server.queries(self.database)
            for table in ("items", "accounts"):
                with _about(server):
                    assert_equal_within(seconds, self.place.aws, clickhouse, self._name(table))
            with _about(server):
                self._expect_places(clickhouse, seconds)

    def verify(self) -> None:
        """Let ``dyncdc verify`` compare each server, too."""
        for number, server in enumerate(self.servers):
            config = self.configure(f"direct-{number}", server.address)
            for table in TABLES:
                verdict = self.place.command("verify", self._name(table), "-c", str(config))
                assert verdict.code == 0, f"{server.name}: {verdict.out[-1500:]}{verdict.err[-500:]}"

    def _name(self, label: str) -> str:
        return f"{self.place.name}.{label}"

    def _last_words(self) -> str:
        """The last thing that the log has to say beyond what goes well."""
        for line in reversed(self.daemon.tail().splitlines()):
            try:
                document = json.loads(line)
            except ValueError:
                if line.strip() and not line.rstrip().endswith("}"):  # the tail may begin within a line
                    return line.strip()
                continue
            if document.get("level") in ("warning", "error", "critical"):
                return str(document.get("error") or document.get("event"))
        return "it says nothing"

    def _expect_places(self, clickhouse: ClickHouseHttp, seconds: float) -> None:
        last: list[str] = []

        def exact() -> bool:
            last[:] = self._inexact_places(clickhouse)
            return not last

        try:
            wait_until(exact, seconds, "equal places", pause_seconds=0.3)
        except AssertionError:
            raise AssertionError(f"places differs after {seconds:g} s: {'; '.join(last[:4])}") from None

    def _inexact_places(self, clickhouse: ClickHouseHttp) -> list[str]:
        """Each value must be in its column exactly, or whole in the spill."""
        sql = "SELECT id, lat, lon, toString(seen_at) AS seen_at, _spill FROM places FINAL WHERE _deleted = 0"
        rows = {str(row["id"]): row for row in clickhouse.dicts(sql)}
        found = []
        for item in self.place.aws.scan(self._name("places")):
            row = rows.pop(item["id"]["S"], None)
            if row is None:
                found.append(f"{item['id']['S']} is missing")
                continue
            spill = json.loads(str(row["_spill"]) or "{}")
            moment = str(item["seen_at"]["S"]).replace("T", " ").rstrip("Z")
            for name, there in (
                ("lat", _float(row["lat"]) == float(item["lat"]["N"])),
                ("lon", _float(row["lon"]) == float(item["lon"]["N"])),
                ("seen_at", row["seen_at"] == moment),
            ):
                if not there and spill.get(name) != item[name]:
                    found.append(f"{item['id']['S']}: {name} is {row[name]!r}, not {item[name]}")
        return found + [f"{key} should not be there" for key in rows]


@contextlib.contextmanager
def _about(server: Server) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{server.name}: {error}") from None


def _float(cell: object) -> float | None:
    """A whole number comes without a point, as an integer."""
    return None if cell is None else float(str(cell))


def _make_place(rng: random.Random, key: str) -> Item:
    """Coordinates of six decimals, some numbers with an exponent, moments on both sides of 1970."""
    lat = f"{rng.uniform(-90, 90):.6f}" if rng.random() < 0.7 else f"{rng.uniform(1, 10):.12f}E{rng.randint(-90, 90)}"
    seen = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(rng.randrange(-(10**9), 10**9)))
    return {
        "id": {"S": key},
        "lat": {"N": lat},
        "lon": {"N": f"{rng.randrange(-(2**20), 2**20) / 2**10}"},
        "seen_at": {"S": f"{seen}.{rng.randrange(1000):03d}Z"},
    }
