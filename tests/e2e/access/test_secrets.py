"""Nothing of an item, a key or a credential leaves by a log, a metric, a page, an error or a command's output."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from support.processes.harness import Daemon, running, wait_until
from support.servers.fixtures import GUEST, GUEST_PASSWORD
from support.servers.place import Place

from dyncdc.cli.exit_codes import DIFFERENT, FATAL

KEY, VALUE, BAD = "keyof4711", "valueof4712", "badof4713"
"""What every key, every other value and every record that is no change holds."""

NUMBER = "987654321"
"""A number that no column takes, or a constraint refuses."""

AWS_SECRET, WRONG_PASSWORD = "awssecretof4714", "passwordof4715"
SECRETS = [KEY, VALUE, BAD, NUMBER, AWS_SECRET, WRONG_PASSWORD, GUEST_PASSWORD]
PAGES = ("/", "/status.json", "/metrics", "/healthz", "/readyz", "/livez")
DDL = """CREATE TABLE things (id String, name String, age UInt8, wide Int64, version UInt64,
_deleted UInt8, CONSTRAINT small CHECK wide < 100) ENGINE = ReplacingMergeTree(version, _deleted) ORDER BY id"""
METADATA = {"version": "version", "deleted": "_deleted", "spill": ""}


def item(number: int, age: str = "7", wide: str = "8") -> dict[str, Any]:
    """An item that is recognisable by each of its values."""
    return {
        "id": {"S": f"{KEY}-{number}"},
        "name": {"S": f"{VALUE}-{number}"},
        "age": {"N": age},
        "wide": {"N": wide},
        "more": {"M": {"inner": {"S": VALUE}}},
    }


class Said:
    """All that was said, and where."""

    def __init__(self, place: Place, config: Path) -> None:
        self.texts: list[tuple[str, str]] = []
        self._place = place
        self._config = config

    def pages(self, daemon: Daemon) -> None:
        """Every page, as it is now."""
        for page in PAGES:
            status, body = daemon.get(page)
            assert status, f"{page} does not answer: {daemon.tail()}"
            self.texts.append((page, body))

    def command(self, *arguments: str, config: Path | None = None) -> int:
        """Run a command; return its exit code. On stdout ``verify`` names keys that differ: that is what it is for."""
        done = self._place.command(*arguments, "-c", str(config or self._config))
        self.texts.append((f"dyncdc {' '.join(arguments)}", ("" if arguments[0] == "verify" else done.out) + done.err))
        return done.code

    def assert_nothing_secret(self) -> None:
        """No text holds a secret, as it is or in base64 or hex."""
        found = re.compile("|".join(re.escape(form) for secret in SECRETS for form in forms(secret)))
        for where, text in self.texts:
            assert text or where.startswith("dyncdc"), f"{where} is empty"
            match = found.search(text)
            assert match is None, f"{where}: ...{text[max(0, match.start() - 300) : match.end() + 100]}"


def forms(secret: str) -> set[str]:
    """How a secret may be written."""
    return {secret, secret.encode().hex(), secret.replace(" ", "%20"), secret.replace(" ", "+")}


def test_a_run_with_everything_going_wrong_tells_no_value_key_or_credential(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setenv("GUEST_PASSWORD", GUEST_PASSWORD)
    table = place.make_table("things", {"id": "S"})
    place.aws.put_all(table, [item(1), item(2, age=NUMBER)])
    stream = place.make_stream()
    place.aws.send_changes(table, stream)
    place.clickhouse.run(DDL)
    url = place.url.replace("default@", f"{GUEST}@")
    options = {
        "run": {"stuck_after_seconds": 1.0, "startup_timeout_seconds": 2.0},
        "log": {"level": "debug", "format": "json"},
    }
    entries = [place.entry(table, metadata=METADATA)]
    config = place.configure(
        entries, clickhouse={"url": url, "password_env": "GUEST_PASSWORD", "insert_timeout_seconds": 2.0}, **options
    )
    wrong = place.configure(entries, "wrong", clickhouse={"url": url.replace("@", f":{WRONG_PASSWORD}@", 1)}, **options)
    said = Said(place, config)
    daemon = place.daemon(config, "--debug")
    daemon.environment["AWS_SECRET_ACCESS_KEY"] = AWS_SECRET
    with running(daemon):
        place.aws.put_all(table, [item(3), item(4, age=NUMBER), item(5, wide=NUMBER), item(6)])
        for record in (f"\xff{BAD}".encode("latin-1"), json.dumps({BAD: VALUE}).encode(), BAD.encode()):
            place.aws.kinesis.put_record(StreamName=place.name, Data=record, PartitionKey="k")
        wait_until(lambda: daemon.metric("dyncdc_dead_letters_total") >= 6, 20, f"six dead letters: {daemon.tail()}")
        said.pages(daemon)
        warned = [line for line in daemon.log.read_text().splitlines() if '"event":"dead letters"' in line]
        assert any("refused_by_clickhouse" in line for line in warned), "the writer's dead letters are told"
        assert any("refused_by_clickhouse" not in line for line in warned), "the decoder's dead letters are told"
        with place.freeze_clickhouse():
            place.aws.put_all(table, [item(number) for number in range(10, 20)])
            wait_until(lambda: daemon.get("/healthz")[0] == 503, 20, f"health is red: {daemon.tail()}")
            said.pages(daemon)
        wait_until(lambda: daemon.get("/healthz")[0] == 200, 20, f"health is green again: {daemon.tail()}")
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
    place.aws.put_all(table, [item(20, age=NUMBER), item(21)])
    with running(daemon):
        wait_until(lambda: place.clickhouse.number("SELECT count() FROM things FINAL") >= 14, 20, daemon.tail())
        said.pages(daemon)
        assert said.command("status") == 0
        assert said.command("status", "--json") == 0
        said.command("check")
        assert said.command("dead-letters", "list", "--json") == 0
        assert said.command("dead-letters", "list") == 0
        assert said.command("dead-letters", "replay") == 1
        time.sleep(0.5)
        assert daemon.terminate() == 0, daemon.tail()
    place.clickhouse.run(
        f"INSERT INTO things SELECT * REPLACE ('other' AS name, version + 1 AS version) FROM things"
        f" FINAL WHERE id = '{KEY}-3'"
    )
    assert said.command("verify", table) == DIFFERENT
    assert said.command("run", "--once", config=wrong) == FATAL
    assert said.command("check", config=wrong) != 0
    said.texts.append(("the log", daemon.log.read_text(errors="replace")))
    said.assert_nothing_secret()
