"""Dead letters end to end: found, shown, fixed and replayed; too many of them stop the daemon, and keep it stopped."""

from __future__ import annotations

import io
import json
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
import structlog
from support.processes.harness import Daemon, Ended, environment, running, wait_until
from support.servers.place import Place

from dyncdc.cli.main import run_cli
from dyncdc.operations.dead_letters.reader import SHORT_ID

FATAL, USAGE = 1, 2
GUIDE = "id String, first_name String, age Int8, version Int64, _deleted UInt8"
METADATA = {"version": "version", "deleted": "_deleted", "spill": ""}


def person(number: int, age: str) -> dict[str, Any]:
    """An item of the guide."""
    return {"id": {"S": f"p{number}"}, "first_name": {"S": f"name {number}"}, "age": {"N": age}}


class Users:
    """A table without a spill column, so that what does not fit becomes a dead letter."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.table = place.make_table("users", {"id": "S"})
        place.clickhouse.run(f"CREATE TABLE users ({GUIDE}) ENGINE = ReplacingMergeTree(version, _deleted) ORDER BY id")

    def enable(self, *items: dict[str, Any]) -> None:
        """Put items that only the snapshot will show, then let changes go to the stream."""
        self.place.aws.put_all(self.table, items)
        self.place.aws.send_changes(self.table, self.place.make_stream())

    def configure(self, **options: Any) -> Any:
        """A configuration; ``options`` are sections."""
        snapshot = options.pop("snapshot", None)
        more = {} if snapshot is None else {"snapshot": snapshot}
        return self.place.configure([self.place.entry(self.table, metadata=METADATA, **more)], **options)

    def send(self, *records: bytes) -> None:
        """Put records into the stream as if DynamoDB had sent them."""
        for record in records:
            self.place.aws.kinesis.put_record(StreamName=self.place.name, Data=record, PartitionKey="k")

    def change(self, item: dict[str, Any], microseconds: int) -> bytes:
        """One change record."""
        body = {
            "ApproximateCreationDateTime": microseconds,
            "ApproximateCreationDateTimePrecision": "MICROSECOND",
            "Keys": {"id": item["id"]},
            "NewImage": item,
        }
        return json.dumps({"eventName": "INSERT", "tableName": self.table, "dynamodb": body}).encode()

    def ages(self) -> dict[object, object]:
        """Age by id, as a reader sees it."""
        return {row["id"]: row["age"] for row in self.place.clickhouse.dicts("SELECT id, age FROM users_current")}

    def dead_letters(self, *options: str) -> list[dict[str, Any]]:
        """What ``dead-letters list`` shows, the oldest first."""
        done = self.command("list", "--json", *options)
        assert done.code == 0, done
        found: list[dict[str, Any]] = json.loads(done.out)["dead_letters"]
        return found[::-1]

    def command(self, *arguments: str) -> Ended:
        """``dyncdc dead-letters ...``, in this process: starting one takes seconds, and there are many."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in environment().items():
                patch.setenv(name, value)
            try:
                code = run_cli(["dead-letters", *arguments, "-c", str(self.config)])
            finally:
                structlog.reset_defaults()  # it has sent the log of this process to where no one reads it
        return Ended(code, out.getvalue(), err.getvalue())

    @property
    def config(self) -> Any:
        """The configuration that was written last."""
        return self.place.directory / "config.toml"

    def verify(self) -> None:
        """``dyncdc verify`` finds nothing that differs."""
        done = self.place.command("verify", self.table, "-c", str(self.config))
        assert done.code == 0, done

    def open(self) -> int:
        """Dead letters that are open."""
        sql = "SELECT id FROM dyncdc_dead_letters GROUP BY id HAVING max(replayed_at) IS NULL"
        return self.place.clickhouse.number(f"SELECT count() FROM ({sql})")

    def wait_for_letters(self, count: int, daemon: Daemon) -> None:
        """Wait until so many dead letters are open."""
        wait_until(
            lambda: self.open() == count, 20, f"{count} dead letters are open, {self.open()} are: {daemon.tail()}"
        )


@pytest.fixture
def users(place: Place) -> Users:
    """The table, its stream and its destination."""
    return Users(place)


def test_a_bad_record_is_listed_shown_and_after_the_mapping_is_mended_replayed(users: Users) -> None:
    place, table = users.place, users.table
    users.enable(person(1, "300"))
    with running(place.daemon(users.configure())) as daemon:
        users.wait_for_letters(1, daemon)
        place.aws.put(table, person(2, "301"))
        place.aws.put(table, person(3, "302"))
        place.aws.put(table, person(3, "33"))
        users.send(b"\xffnot a change\x00")
        users.wait_for_letters(4, daemon)
        wait_until(lambda: users.ages() == {"p3": 33}, 20, f"what fits arrives: {daemon.tail()}")
        assert daemon.terminate() == 0, daemon.tail()

    dead_letters = users.dead_letters()
    assert [
        (dead_letter["table"], dead_letter["reason"], dead_letter["column"]) for dead_letter in dead_letters[:3]
    ] == [(table, "misfit", "age")] * 3
    assert [dead_letter["state"] for dead_letter in dead_letters] == ["open"] * 4 and dead_letters[3][
        "reason"
    ] == "not_json"
    listed = users.command("list")
    assert listed.out.splitlines()[-1] == "4 open" and "misfit" in listed.out
    assert set(listed.out.split()) <= places(users, dead_letters), "a list never shows what records hold"
    shown = users.command("show", dead_letters[1]["id"][:10])
    assert shown.code == 0 and '"301"' in shown.out and "name 2" in shown.out and place.name in shown.out
    exact = json.loads(users.command("show", dead_letters[0]["id"], "--json").out)
    assert json.loads(exact["raw"]) == {"Item": person(1, "300")}
    assert "ff 6e 6f 74" in users.command("show", dead_letters[3]["id"]).out, "what is no text is shown as hex"

    again = users.command("replay")
    assert again.code == FATAL and again.out.splitlines()[-1] == "0 replayed, 4 stay", again
    assert again.out.count("misfit in column age") == 3

    place.clickhouse.run("ALTER TABLE users MODIFY COLUMN age Int16")
    done = place.command("dead-letters", "replay", "--table", table, "-c", str(users.config))
    assert (done.code, done.out.splitlines()) == (0, ["3 replayed, 0 stay"]), done
    assert users.ages() == {"p1": 300, "p2": 301, "p3": 33}, "nothing newer is overwritten"
    users.verify()
    assert len(users.dead_letters()) == 1
    with running(place.daemon(users.config)) as daemon:
        place.aws.put(table, person(1, "1"))
        wait_until(lambda: users.ages()["p1"] == 1, 20, f"a replayed row is replaced by newer ones: {daemon.tail()}")

    dropped = users.command("drop", dead_letters[3]["id"])
    assert (dropped.code, dropped.out) == (0, "1 dropped\n")
    assert users.dead_letters() == []
    states = {dead_letter["id"]: dead_letter["state"] for dead_letter in users.dead_letters("--all")}
    assert [states[dead_letter["id"]] for dead_letter in dead_letters] == ["replayed"] * 3 + ["dropped"]


def places(users: Users, dead_letters: list[dict[str, Any]]) -> set[str]:
    """The words of a list that say where dead letters are and why. By chance, ids and positions hold any digits."""
    words = {*"id table reason column source shard position received state - open".split(), str(len(dead_letters))}
    for dead_letter in dead_letters:
        words |= {dead_letter["id"][:SHORT_ID], dead_letter["source"], users.place.name}
        words |= {
            dead_letter[name] for name in ("table", "reason", "column", "shard", "position", "received_at", "state")
        }
    return words


def test_wrong_ids_and_tables_are_usage_errors_on_one_line(users: Users) -> None:
    users.enable(person(1, "300"))
    with running(users.place.daemon(users.configure())) as daemon:
        users.wait_for_letters(1, daemon)
    for arguments, words in (
        (("show", "zz"), "zz"),
        (("drop", "zz"), "zz"),
        (("replay", "zz"), "zz"),
        (("replay", "--table", "nosuch"), "nosuch"),
    ):
        done = users.command(*arguments)
        assert done.code == USAGE and len(done.complaints) == 1 and words in done.complaints[0], done
        assert done.complaints[0].startswith("dyncdc: ")
    assert users.command("drop").code == USAGE
    assert users.open() == 1


def test_c10_a_row_that_clickhouse_refuses_leaves_its_record_and_column_and_can_be_replayed(users: Users) -> None:
    place, table = users.place, users.table
    place.clickhouse.run("ALTER TABLE users ADD CONSTRAINT adult CHECK age < 100")
    users.enable(*(person(number, "7") for number in range(200)), person(200, "111"))
    with running(place.daemon(users.configure())) as daemon:
        users.wait_for_letters(1, daemon)
        place.aws.put_all(table, [person(number, "8") for number in range(100)] + [person(201, "112")])
        users.wait_for_letters(2, daemon)
        wait_until(lambda: len(users.ages()) == 200, 20, f"all others arrive: {daemon.tail()}")
        assert daemon.metric("dyncdc_dead_letters_total", reason="refused_by_clickhouse") == 2
        assert daemon.terminate() == 0, daemon.tail()
    line, change = users.dead_letters()
    for dead_letter in (line, change):
        assert (dead_letter["table"], dead_letter["reason"], dead_letter["column"]) == (
            table,
            "refused_by_clickhouse",
            "age",
        )
        assert (
            "`adult`" in dead_letter["error"]
            and "111" not in dead_letter["error"]
            and "112" not in dead_letter["error"]
        )
    shown = [
        json.loads(users.command("show", dead_letter["id"], "--json").out)["raw"] for dead_letter in (line, change)
    ]
    assert json.loads(shown[0]) == {"Item": person(200, "111")}
    record = json.loads(shown[1])
    assert record["dynamodb"]["NewImage"] == person(201, "112") and record["eventID"]
    done = users.command("replay")
    assert done.code == FATAL and done.out.count("VIOLATED_CONSTRAINT `adult`") == 2, done
    place.clickhouse.run("ALTER TABLE users DROP CONSTRAINT adult")
    done = users.command("replay", line["id"][:12], change["id"])
    assert (done.code, done.out) == (0, "2 replayed, 0 stay\n"), done
    users.verify()
    versions = place.clickhouse.rows("SELECT version FROM users WHERE id IN ('p200', 'p201') ORDER BY id")
    assert int(str(versions[0][0])) == place.clickhouse.number("SELECT max(version) FROM dyncdc_snapshots")
    assert int(str(versions[1][0])) == record["dynamodb"]["ApproximateCreationDateTime"]


def test_o3_a_letter_replayed_onto_an_equal_version_reads_the_item_again(users: Users) -> None:
    place, table = users.place, users.table
    users.enable()
    at = time.time_ns() // 1000 + 3_600_000_000
    with running(place.daemon(users.configure(snapshot={"method": "none"}))) as daemon:
        users.send(
            users.change(person(1, "300"), at),
            users.change(person(1, "11"), at),
            users.change(person(2, "12"), at),
            users.change(person(2, "301"), at),
            users.change(person(3, "302"), at),
        )
        users.wait_for_letters(3, daemon)
        wait_until(lambda: users.ages() == {"p1": 11, "p2": 12}, 20, f"what fits arrives: {daemon.tail()}")
        place.aws.dynamodb.put_item(TableName=table, Item=person(2, "99"))
        time.sleep(1.0)
        assert daemon.terminate() == 0, daemon.tail()
    place.clickhouse.run("ALTER TABLE users MODIFY COLUMN age Int16")
    assert users.command("replay").out == "3 replayed, 0 stay\n"
    # 1 is in no table: gone. 2 is as DynamoDB has it now. 3 met no one: it is as the record says.
    assert users.ages() == {"p2": 99, "p3": 302}
    assert users.command("replay", *[dead_letter["id"] for dead_letter in users.dead_letters("--all")]).code == 0
    assert users.ages() == {"p2": 99}, "replayed twice, a dead letter meets its own row, and the item counts"


def test_too_many_in_a_row_stop_the_daemon_and_a_restart_until_someone_acts(users: Users) -> None:
    place, table = users.place, users.table
    users.enable()
    config = users.configure(dead_letters={"max_consecutive": 20}, snapshot={"method": "none"})
    at = time.time_ns() // 1000
    users.send(*(users.change(person(number, "7"), at) for number in range(30)))
    users.send(*(users.change(person(number, "300"), at) for number in range(100, 130)))
    daemon = place.daemon(config).start()
    assert daemon.wait() == FATAL, daemon.tail()
    said = complaint(daemon)
    assert (
        "20 in a row" in said
        and table in said
        and "misfit in column age" in said
        and "dead_letters.max_consecutive" in said
    )
    dead_letters, position = users.open(), saved_position(place)
    for _ in range(2):
        assert daemon.start().wait() == FATAL, daemon.tail()
        assert complaint(daemon) == said
        assert (users.open(), saved_position(place)) == (dead_letters, position)
    stopped = [dead_letter for dead_letter in users.dead_letters() if dead_letter["reason"] == "limit_reached"]
    assert len(stopped) == 1 and stopped[0]["error"] in said
    assert users.command("replay", stopped[0]["id"]).code == FATAL

    config = users.configure(dead_letters={"max_consecutive": 50}, snapshot={"method": "none"})
    with running(place.daemon(config)) as again:
        users.wait_for_letters(30, again)
        users.send(users.change(person(500, "5"), at))
        wait_until(lambda: users.ages().get("p500") == 5, 20, f"the stream goes on: {again.tail()}")
        assert "limit_reached" not in {dead_letter["reason"] for dead_letter in users.dead_letters()}


def test_mending_the_cause_is_enough_to_go_on_after_the_limit(users: Users) -> None:
    place = users.place
    users.enable()
    config = users.configure(dead_letters={"max_consecutive": 20}, snapshot={"method": "none"})
    place.clickhouse.run("ALTER TABLE users ADD CONSTRAINT adult CHECK age < 100")
    at = time.time_ns() // 1000
    users.send(*(users.change(person(number, "101"), at) for number in range(60)))
    daemon = place.daemon(config)
    said = []
    for _ in range(2):
        assert daemon.start().wait() == FATAL, daemon.tail()
        said.append(complaint(daemon))
    assert said[0] == said[1] and "refused_by_clickhouse in column age" in said[0]
    assert users.ages() == {} and {dead_letter["reason"] for dead_letter in users.dead_letters()} == {"limit_reached"}
    place.clickhouse.run("ALTER TABLE users DROP CONSTRAINT adult")
    with running(place.daemon(config)) as again:
        wait_until(lambda: len(users.ages()) == 60, 20, f"all arrive: {again.tail()}")
        users.wait_for_letters(0, again)


def complaint(daemon: Daemon) -> str:
    """The last line for people on stderr."""
    return [line for line in daemon.log.read_text().splitlines() if line.startswith("dyncdc: ")][-1]


def saved_position(place: Place) -> object:
    """Where the shard stands in the checkpoints."""
    return place.clickhouse.value("SELECT argMax(position, rank) FROM dyncdc_checkpoints")


def test_c11_without_the_dead_letter_table_the_position_stays_and_health_is_red_until_it_is_back(
    users: Users,
) -> None:
    place, table = users.place, users.table
    users.enable()
    config = users.configure(snapshot={"method": "none"}, run={"stuck_after_seconds": 1.0})
    with running(place.daemon(config)) as daemon:
        place.aws.put(table, person(1, "7"))
        wait_until(lambda: users.ages() == {"p1": 7}, 20, f"rows arrive: {daemon.tail()}")
        time.sleep(1.0)
        place.clickhouse.run("DROP TABLE dyncdc_dead_letters SYNC")
        position = saved_position(place)
        place.aws.put(table, person(2, "300"))
        place.aws.put(table, person(3, "8"))
        wait_until(lambda: daemon.get("/healthz")[0] == 503, 20, f"health is red: {daemon.tail()}")
        assert "dyncdc_dead_letters" in daemon.get("/healthz")[1]
        wait_until(lambda: users.ages().get("p3") == 8, 20, "good rows of the same chunk arrive all the same")
        assert saved_position(place) == position
        made = place.command("ddl", "--apply", "-c", str(config))
        assert made.code == 0, made
        users.wait_for_letters(1, daemon)
        wait_until(lambda: daemon.get("/healthz")[0] == 200, 20, f"health is green again: {daemon.tail()}")
        wait_until(lambda: saved_position(place) != position, 10, "the position moves on")
        assert daemon.terminate() == 0, daemon.tail()
