"""What a life notes of the settings that decide its rows."""

from __future__ import annotations

from dyncdc.app.row_settings import of_member, row_settings
from dyncdc.config.tables import SnapshotConfig, TableConfig
from dyncdc.decode.spec import KeyAttribute
from dyncdc.pipeline.row_settings import Noted, RowSettings
from dyncdc.sinks.mapping import new_table_spec

ITEMS = [{"id": {"S": "a"}, "address": {"M": {"city": {"S": "Bonn"}}}}]


def settings_with(key: bytes) -> RowSettings:
    config = TableConfig(
        dynamodb="orders", snapshot=SnapshotConfig(method="none"), mask=("address.city",), mask_key_env="KEY"
    ).with_mask_key(key)
    return row_settings(config, new_table_spec(config, (KeyAttribute("id", "S"),), ITEMS))


def test_of_the_key_of_mask_a_digest_is_noted_and_never_the_key() -> None:
    one, other = settings_with(b"0123456789abcdef"), settings_with(b"fedcba9876543210")
    assert one == settings_with(b"0123456789abcdef")
    assert one.mask_key != other.mask_key
    assert "0123456789abcdef" not in one.text()
    assert "Bonn" not in one.text()
    assert RowSettings.of_text(one.text()) == one


def test_a_member_compares_with_what_it_noted_itself_or_with_all_when_it_is_new() -> None:
    past = [Noted("u", RowSettings(), 1.0, member=0), Noted("u", RowSettings(deletes="ignore"), 2.0, member=1)]
    assert of_member(past, 0) == past[:1]
    assert of_member(past, 1) == past[1:]
    assert of_member(past, 2) == past
