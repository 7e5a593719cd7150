"""Each mistake in a configuration is one line that names file, key path and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyncdc.config import load_config, parse_config
from dyncdc.errors import ConfigError

MINIMAL = """
pipeline = "orders"
[clickhouse]
url = "clickhouse://ch.internal"
[kinesis]
stream = "orders-changes"
"""
TABLE = '[[tables]]\ndynamodb = "orders"\nsnapshot = { method = "none" }\n'


def mistake(text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, environ or {}, name="config.toml")
    message = str(caught.value)
    whole = f"{message}: {caught.value.hint}" if caught.value.hint else message
    assert "\n" not in whole
    return whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            MINIMAL + "poll_intervall_seconds = 1\n" + TABLE,
            "reading config.toml: unknown key kinesis.poll_intervall_seconds: did you mean poll_interval_seconds?",
        ),
        ("pipelin = 'x'\n" + MINIMAL + TABLE, "reading config.toml: unknown key pipelin: did you mean pipeline?"),
        (
            MINIMAL + TABLE + "[[tables.columns]]\natribute = 'a'\ntype = 'String'",
            "unknown key tables[0].columns[0].atribute: did you mean attribute?",
        ),
        (
            MINIMAL + TABLE.replace('"none"', '"export", buckt = "b"'),
            "unknown key tables[0].snapshot.buckt: did you mean bucket?",
        ),
        (MINIMAL + TABLE + "[sink]\nx = 1", "unknown key sink: keys here: pipeline, aws"),
        (MINIMAL + TABLE + "nested = 'json'\nflatten_depth = 2", 'flatten_depth means nothing with nested = "json"'),
        (MINIMAL + "poll_interval_seconds = '1'\n" + TABLE, "kinesis.poll_interval_seconds must be a number"),
        (MINIMAL + "poll_interval_seconds = true\n" + TABLE, "kinesis.poll_interval_seconds must be a number"),
        (MINIMAL + "poll_interval_seconds = 0\n" + TABLE, "kinesis.poll_interval_seconds must be greater than 0"),
        (MINIMAL + "poll_interval_seconds = inf\n" + TABLE, "kinesis.poll_interval_seconds must be a finite number"),
        (MINIMAL + "start = 'YESTERDAY'\n" + TABLE, 'kinesis.start must be "TRIM_HORIZON", "LATEST" or a time'),
        (MINIMAL + "start = '2026-01-31T00:00:00'\n" + TABLE, "a time with its zone"),
        (MINIMAL + "start = 2026-01-31T00:00:00\n" + TABLE, "a time with its zone"),
        (MINIMAL + "start = '2026-02-31T00:00:00Z'\n" + TABLE, "kinesis.start: day is out of range for month"),
        (MINIMAL + "[batch]\nmax_rows = 1.5\n" + TABLE, "batch.max_rows must be a whole number"),
        (MINIMAL + "[limits]\nmemory_bytes = 1000\n" + TABLE, "limits.memory_bytes must be greater than or equal to"),
        (MINIMAL + "[http]\nlisten = '9108'\n" + TABLE, 'http.listen must be "host:port"'),
        (MINIMAL + "[http]\nlisten = 'h:99999'\n" + TABLE, 'http.listen must be "host:port"'),
        (MINIMAL + "[log]\nlevel = 'loud'\n" + TABLE, "log.level must be 'debug', 'info', 'warning' or 'error'"),
        ("batch = 1\n" + MINIMAL + TABLE, "batch must be a table of keys"),
        ("tables = 1\n" + MINIMAL, "tables must be a list"),
        (MINIMAL, "tables is missing"),
        ("tables = []\n" + MINIMAL, "tables must not be empty"),
        (MINIMAL.replace('"orders"', '"Orders!"') + TABLE, "pipeline must be 1 to 64 of a-z 0-9 _ -"),
        (MINIMAL.replace('"orders"', '"orders\\n"') + TABLE, "pipeline must be 1 to 64 of a-z 0-9 _ -"),
        (MINIMAL.replace("[clickhouse]", "[clickhouse]\ncompression = 'zip'") + TABLE, "compression must be"),
        (MINIMAL.replace("clickhouse:", "https:") + TABLE, "clickhouse.url must start with clickhouse://"),
        (MINIMAL.replace("//ch.internal", "//ch1,ch2") + TABLE, "several hosts in url must be replicas of one cluster"),
        (MINIMAL.replace("//ch.internal", "//ch1,,ch2") + TABLE, "names no host"),
        (MINIMAL.replace("//ch.internal", "//ch1,ch2:9000,ch1:9000") + TABLE, "names a host twice"),
        (MINIMAL.replace("clickhouse://ch.internal", "local://x") + TABLE, "url needs an absolute directory"),
        (MINIMAL.replace('url = "clickhouse://ch.internal"', "") + TABLE, "clickhouse.url is missing"),
        (
            MINIMAL.replace("ch.internal", 'u:p@ch.internal"\npassword_env = "X') + TABLE,
            "clickhouse: the password is given twice",
        ),
        (MINIMAL.replace("[clickhouse]", '[clickhouse]\npassword_env = "NOPE"') + TABLE, "variable NOPE is not set"),
        (
            MINIMAL.replace("[clickhouse]", '[clickhouse]\npassword_file = "/nonexistent"') + TABLE,
            "clickhouse.password_file: /nonexistent: No such file",
        ),
        (MINIMAL.replace("[clickhouse]", '[clickhouse]\nca_file = "x"') + TABLE, "ca_file needs TLS"),
        (MINIMAL.replace("[clickhouse]", '[clickhouse]\ncert_file = "x"') + TABLE, "cert_file needs TLS"),
        (MINIMAL.replace("[clickhouse]", '[clickhouse]\nkey_file = "x"') + TABLE, "key_file needs clickhouse.c"),
        (MINIMAL.replace("stream", "# stream") + TABLE, "tables[0] has no stream: set kinesis.stream"),
        (MINIMAL + TABLE + TABLE, "tables[1].dynamodb: orders is named twice"),
        (
            MINIMAL + TABLE + TABLE.replace('"orders"', '"others"\nclickhouse = "orders"'),
            "tables[1].clickhouse: orders is the destination of two tables",
        ),
        (MINIMAL + TABLE + TABLE.replace('"orders"', '"orders_current"'), "also the name of the view over orders"),
        (MINIMAL + TABLE.replace('"orders"', '"dyncdc_gaps"'), "kept for dyncdc's own"),
        (MINIMAL + TABLE.replace('"orders"', '"a b"'), "tables[0].dynamodb must be the name of a DynamoDB table"),
        (
            MINIMAL + TABLE.replace('"orders"', '"arn:aws:dynamodb:eu-west-1:123456789012:table/orders"'),
            "tables[0].dynamodb must be the name of a DynamoDB table, not its ARN: orders",
        ),
        (
            MINIMAL + TABLE + 'stream = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-31"',
            "tables[0].stream must be a Kinesis data stream that the table sends its changes to",
        ),
        (MINIMAL + '[[tables]]\ndynamodb = "orders"\n', "tables[0].snapshot is missing"),
        (MINIMAL + TABLE.replace('"none"', '"export"'), "tables[0].snapshot: method = \"export\" needs either bucket"),
        (MINIMAL + TABLE.replace('"none"', '"none", bucket = "b"'), "bucket means nothing with method = \"none\""),
        (
            MINIMAL + TABLE.replace('"none"', '"export", bucket = "b", settle_seconds = 1'),
            "tables[0].snapshot.settle_seconds must be at least 60",
        ),
        (MINIMAL + TABLE + 'metadata = { deleted = "" }', 'deletes must be "ignore"'),
        (MINIMAL + TABLE + 'metadata = { spill = "_version" }', "must name different columns"),
        (MINIMAL + TABLE + "columns = 'guess'", "tables[0].columns must be 'infer'"),
        (MINIMAL + TABLE + "columns = []", "tables[0].columns must not be empty"),
        (MINIMAL + TABLE + "[[tables.columns]]\nattribute = 'a..b'\ntype = 'String'", "empty name"),
        (
            MINIMAL + TABLE + "[[tables.columns]]\nattribute = 'a'\ntype = 'String'\nfrom = 'X'",
            "tables[0].columns[0].from[0] must be 'S'",
        ),
        (
            MINIMAL + TABLE + "[[tables.columns]]\nattribute = '_version'\ntype = 'String'",
            "column _version is named twice",
        ),
        (MINIMAL + TABLE + "mask = ['a']", "mask and mask_key_env need each other"),
        (MINIMAL + TABLE + "mask_key_env = 'K'", "mask and mask_key_env need each other"),
        (MINIMAL + TABLE + "mask_key_env = 'K'\nmask = ['a']", "environment variable K is not set"),
        (MINIMAL + TABLE + "exclude = ['a', 'a.b']", "exclude a holds exclude a.b: keep one of them"),
        (MINIMAL + TABLE + "exclude = ['a.b', 'a.b']", "a.b is named twice in exclude"),
        (
            MINIMAL + TABLE + "exclude = ['a']\nmask = ['a.\"b.c\"']\nmask_key_env = 'K'",
            'exclude a holds mask a."b.c": keep one of them',
        ),
        (MINIMAL + TABLE + "exclude = ['a..b']", "empty name"),
        (
            MINIMAL + TABLE + "exclude = ['a']\n[[tables.columns]]\nattribute = 'a.b'\ntype = 'String'",
            "a column takes a.b, and exclude a leaves nothing there",
        ),
        ("pipeline = \n", "not TOML: Invalid value (at line 1"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_key(text: str, expected: str) -> None:
    assert expected in mistake(text)


def test_a_masking_key_is_long_enough_and_never_shown() -> None:
    text = MINIMAL + TABLE + "mask_key_env = 'K'\nmask = ['a']"
    assert "environment variable K is too short" in mistake(text, {"K": "123456789012345"})
    config = parse_config(text, {"K": "sixteen bytes or"})
    assert config.tables[0].mask_key == b"sixteen bytes or"
    assert "sixteen" not in repr(config) + config.model_dump_json()


def test_an_unknown_key_is_named_before_what_follows_from_it() -> None:
    text = (MINIMAL + TABLE).replace("url =", "ulr =")
    assert "unknown key clickhouse.ulr: did you mean url?" in mistake(text)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("DYNCDC_KINESIS__POLL_INTERVAL_SECOND", "1", "did you mean DYNCDC_KINESIS__POLL_INTERVAL_SECONDS?"),
        ("DYNCDC_TABLES__DYNAMODB", "x", "tables can be set in the file only"),
        ("DYNCDC_BATCH__MAX_ROWS", "many", "variable DYNCDC_BATCH__MAX_ROWS: must be a number, true or false"),
        ("DYNCDC_BATCH__MAX_ROWS", "0", "reading the environment variable DYNCDC_BATCH__MAX_ROWS: batch.max_rows must"),
        ("DYNCDC_KINESIS__FAN_OUT", "true", "DYNCDC_KINESIS__FAN_OUT: kinesis.fan_out is not available"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, value: str, expected: str) -> None:
    assert expected in mistake(MINIMAL + TABLE, {variable: value})


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        ('"scan", bucket = "b"', 'bucket means nothing with method = "scan"'),
        ('"export", bucket = "b", segments = 2', 'segments means nothing with method = "export"'),
        ('"none", read_capacity_units = 2', 'read_capacity_units means nothing with method = "none"'),
        ('"scan", segments = 0', "snapshot.segments must be greater than 0"),
        ('"scan", segments = 1000001', "snapshot.segments must be less than or equal to 1000000"),
        ('"scan", read_capacity_units = 0', "snapshot.read_capacity_units must be greater than 0"),
    ],
)
def test_each_way_to_load_has_its_own_keys(snapshot: str, expected: str) -> None:
    assert expected in mistake(MINIMAL + TABLE.replace('"none"', snapshot))


def test_a_local_aws_may_settle_faster() -> None:
    snapshot = TABLE.replace('"none"', '"export", bucket = "b", settle_seconds = 0, margin_seconds = 5')
    local = '[aws]\nendpoint_url = "http://127.0.0.1:4566"\n'
    assert parse_config(MINIMAL + local + snapshot, {}).tables[0].snapshot.settle_seconds == 0
    vpc = '[aws]\nendpoint_url = "https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com"\n'
    assert "must be at least 60" in mistake(MINIMAL + vpc + snapshot)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=r"missing\.toml: no such file"):
        load_config(missing, {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path, {})
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'pipeline = "\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(latin, {})
