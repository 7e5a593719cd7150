"""Reading the configuration: values, defaults, environment and secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dyncdc.config import Config, HttpAddress, load_config, parse_config
from dyncdc.errors import ConfigError

MINIMAL = """
pipeline = "orders"
[clickhouse]
url = "clickhouse://ch.internal"
[kinesis]
stream = "orders-changes"
[[tables]]
dynamodb = "orders"
snapshot = { method = "none" }
"""


def parse(extra: str = "", environ: dict[str, str] | None = None) -> Config:
    return parse_config(MINIMAL + extra, environ or {})


def test_what_is_left_out_takes_the_defaults_of_the_contract() -> None:
    config = parse()
    assert (config.clickhouse.url.port, config.clickhouse.url.user, config.clickhouse.url.database) == (
        9000,
        "default",
        "default",
    )
    assert config.batch.max_rows == 100_000
    assert config.limits.memory_bytes == 100_663_296
    assert config.http.listen == HttpAddress("127.0.0.1", 9108)
    assert config.tables[0].destination == "orders"
    assert config.tables[0].metadata.version == "_version"
    assert config.tables[0].column_list == ()
    assert config.stream_of(config.tables[0]) == "orders-changes"


def test_a_start_time_is_read_from_text_and_from_a_toml_time() -> None:
    expected = datetime(2026, 1, 31, tzinfo=UTC)
    for text in ('"2026-01-31T00:00:00Z"', "2026-01-31T00:00:00Z", '"2026-01-31T01:00:00+01:00"'):
        config = parse_config(MINIMAL.replace("[kinesis]", f"[kinesis]\nstart = {text}"), {})
        assert config.kinesis.start == expected


def test_columns_are_a_list_with_paths_and_types() -> None:
    config = parse(
        '[[tables.columns]]\nattribute = \'customer."a.b"\'\ntype = "String"\nfrom = ["M", "L"]\n'
        '[[tables.columns]]\nattribute = "id"\nname = "key"\ntype = "String"\nfrom = "S"\nlossy = true\n'
    )
    first, second = config.tables[0].column_list
    assert (first.path, first.column, first.takes) == (("customer", "a.b"), "customer_a_b", ("M", "L"))
    assert (second.column, second.takes, second.lossy) == ("key", ("S",), True)


def test_the_environment_overrides_the_file_with_the_type_of_the_key() -> None:
    environ = {
        "DYNCDC_PIPELINE": "other",
        "DYNCDC_CLICKHOUSE__URL": "clickhouses://u@h/d",
        "DYNCDC_BATCH__MAX_ROWS": "10",
        "DYNCDC_BATCH__MAX_AGE_SECONDS": "0.5",
        "DYNCDC_KINESIS__FAN_OUT": "false",
        "DYNCDC_KINESIS__STREAM": "123",
        "DYNCDC_KINESIS__START": "LATEST",
        "DYNCDC_HTTP__LISTEN": "0.0.0.0:9108",
        "DYNCDC_MEMBER": "0/1",
        "DYNCDC_MASK_KEY": "not ours to judge",
    }
    config = parse("", environ)
    assert config.pipeline == "other"
    assert (config.clickhouse.url.secure, config.clickhouse.url.port) == (True, 9440)
    assert (config.batch.max_rows, config.batch.max_age_seconds) == (10, 0.5)
    assert (config.kinesis.stream, config.kinesis.start) == ("123", "LATEST")
    assert str(config.http.listen) == "0.0.0.0:9108"


def test_the_file_is_found_by_argument_then_by_variable_then_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("argument", "variable", "config"):
        (tmp_path / f"{name}.toml").write_text(MINIMAL.replace('"orders"', f'"{name}"', 1))
    monkeypatch.chdir(tmp_path)
    environ = {"DYNCDC_CONFIG": "variable.toml"}
    assert load_config("argument.toml", environ).pipeline == "argument"
    assert load_config(None, environ).pipeline == "variable"
    assert load_config(None, {}).pipeline == "config"


def test_several_hosts_are_replicas_of_a_cluster_in_their_order() -> None:
    text = MINIMAL.replace('"clickhouse://ch.internal"', '"clickhouses://u:p%40,:@a:1,b,[::1]:3/db"\ncluster = "main"')
    url = parse_config(text, {}).clickhouse.url
    assert url.hosts == (("a", 1), ("b", 9440), ("::1", 3))
    assert (url.user, url.password, url.database) == ("u", "p@,:", "db")
    assert str(url) == "clickhouses://u:***@a:1,b:9440,[::1]:3/db"


def test_the_password_comes_from_the_url_a_variable_or_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("pa ss\n")
    url = 'url = "clickhouse://ch.internal"'
    ways = {
        'url = "clickhouse://u:pa%20ss@ch.internal"': {},
        f'{url}\npassword_env = "CH"': {"CH": "pa ss"},
        f'{url}\npassword_file = "{secret}"': {},
    }
    for text, environ in ways.items():
        assert parse_config(MINIMAL.replace(url, text), environ).clickhouse.url.password == "pa ss"


def test_a_password_is_never_shown() -> None:
    text = MINIMAL.replace("clickhouse://ch.internal", "clickhouse://u:hunter2@ch.internal")
    config = parse_config(text, {})
    for shown in (repr(config), str(config), str(config.clickhouse.url), config.model_dump_json()):
        assert "hunter2" not in shown
    assert "***" in str(config.clickhouse.url)


@pytest.mark.parametrize("url", ["clickhouse://u:hunt#er2@h", "clickhouse://u:hunt/er2@h:x", "ch://u:hunter2@h"])
def test_an_error_about_the_url_does_not_show_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL.replace("clickhouse://ch.internal", url), {})
    assert "hunt" not in str(caught.value) + caught.value.hint
    assert "clickhouse.url" in str(caught.value)


def test_a_local_clickhouse_is_a_directory() -> None:
    url = parse_config(MINIMAL.replace("clickhouse://ch.internal", "local:///var/lib/x"), {}).clickhouse.url
    assert (url.kind, url.directory) == ("local", "/var/lib/x")


def test_values_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse().batch.max_rows = 1


def test_a_json_schema_comes_for_free() -> None:
    assert "tables" in Config.model_json_schema()["properties"]


REGIONS = """
pipeline = "orders"
clickhouse = {{ url = "clickhouse://ch.internal" }}
aws = {{ region = "eu-west-1" }}
kinesis = {{ stream = "orders-changes" }}
[[tables]]
dynamodb = "orders"
snapshot = {{ method = "export", export_arn = "arn:aws:dynamodb:{export}:123456789012:table/orders/export/01-a" }}
"""


def test_an_export_of_another_region_is_refused_by_name() -> None:
    parse_config(REGIONS.format(export="eu-west-1"), {})
    with pytest.raises(ConfigError, match=r"snapshot.export_arn is in region us-east-1, aws.region is eu-west-1"):
        parse_config(REGIONS.format(export="us-east-1"), {})


@pytest.mark.parametrize(
    "line",
    ['bucket_owner = "12"', 'kms_key = "alias/mine"', 'kms_key = "arn:aws:kms:eu-west-1:123456789012:alias/mine"'],
)
def test_the_account_of_a_bucket_and_its_key_are_checked_before_anything_is_asked(line: str) -> None:
    options = f'method = "export", bucket = "exports", {line}'
    with pytest.raises(ConfigError, match=line.partition(" ")[0]):
        parse_config(MINIMAL.replace('method = "none"', options), {})
