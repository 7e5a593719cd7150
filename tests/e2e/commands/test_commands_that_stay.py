"""Commands that go on until they are interrupted: `status --watch`, in a pipe and on a terminal, and `local-aws`."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from support.processes.harness import die_with_parent, environment
from support.servers.place import Place

COMMAND = [sys.executable, "-m", "dyncdc"]


@pytest.fixture
def config(place: Place) -> str:
    """Of a pipeline whose table has been loaded by a session that has ended."""
    table = place.make_table("things", {"id": "S"}, place.make_stream())
    place.aws.put(table, {"id": {"S": "a"}})
    config = str(place.configure([place.entry(table, snapshot={"method": "scan", "settle_seconds": 0.5})]))
    assert place.command("run", "--once", "-c", config).code == 0
    return config


def test_watching_in_a_pipe_prints_a_document_per_line_until_interrupted(config: str) -> None:
    command = [*COMMAND, "status", "--watch", "--interval", "1", "--json", "-c", config]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment(), preexec_fn=die_with_parent
    ) as watching:
        assert watching.stdout is not None
        for _ in range(2):
            document = json.loads(watching.stdout.readline())
            assert document["tables"][0]["snapshot"] == "complete"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0


def test_watching_on_a_terminal_draws_it_again_and_leaves_no_trace(config: str) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "status", "--watch", "--interval", "1", "-c", config]
    given = environment() | {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=given, preexec_fn=die_with_parent) as watching:
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + 30
        while seen.count(b"rows stored") < 2 and time.monotonic() < deadline:
            seen += os.read(ours, 65_536)
        watching.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(ours, 65_536):
                seen += chunk
        except OSError:  # the terminal is closed at its other end
            pass
        assert watching.wait(10) == 0
    os.close(ours)
    assert seen.count(b"rows stored") >= 2 and b"daemon not answering" in seen
    assert b"\x1b[?1049h" in seen and b"\x1b[?1049l" in seen, "it has a screen of its own and gives it back"


def test_the_local_aws_says_how_to_use_it_and_ends_when_told() -> None:
    bare = {name: value for name, value in environment().items() if not name.startswith("AWS_")}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, "local-aws"], stdout=pipe, stderr=pipe, text=True, env=bare, preexec_fn=die_with_parent
    ) as served:
        assert served.stdout is not None and served.stderr is not None
        endpoint = served.stdout.readline().strip()
        hint = served.stderr.readline()
        given = dict(word.split("=", 1) for word in hint.partition("export ")[2].split())
        assert given["AWS_ENDPOINT_URL"] == endpoint
        use = "import boto3; print(boto3.client('dynamodb').list_tables()['TableNames'])"
        asked = subprocess.run(
            [sys.executable, "-c", use], env={**bare, **given}, capture_output=True, text=True, check=False
        )
        assert asked.stdout == "[]\n", asked.stderr
        served.terminate()
        assert served.wait(10) == 0
