"""``dyncdc snapshot``: what is refused before anything is connected."""

from __future__ import annotations

import pytest

from dyncdc.config import parse_config
from dyncdc.errors import ConfigError
from dyncdc.operations.snapshot import request_snapshot

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/given/export/01"
TEXT = f"""
pipeline = "p"
[aws]
endpoint_url = "http://127.0.0.1:1"
[clickhouse]
url = "clickhouse://default@127.0.0.1:1/x"
[kinesis]
stream = "s"
[[tables]]
dynamodb = "none"
snapshot = {{ method = "none" }}
[[tables]]
dynamodb = "given"
snapshot = {{ method = "export", export_arn = "{ARN}" }}
"""


@pytest.mark.parametrize(
    ("table", "words"),
    [("unknown", "no such table"), ("none", 'snapshot.method is "none"'), ("given", "one export forever")],
)
async def test_a_snapshot_that_could_never_be_taken_is_refused_at_once(table: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"snapshot of {table}: .*{words}") as caught:
        await request_snapshot(parse_config(TEXT, {}), table)
    assert caught.value.hint
