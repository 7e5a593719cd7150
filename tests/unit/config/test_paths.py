"""Attribute paths and addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncdc.config import format_attribute_path, parse_attribute_path
from dyncdc.config.urls import parse_clickhouse_url, parse_http_address


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("id", ("id",)),
        ("customer.city", ("customer", "city")),
        ('"a.b"', ("a.b",)),
        ('"a.b".c', ("a.b", "c")),
        ('c."a.b"', ("c", "a.b")),
        (r'"say \"x\""', ('say "x"',)),
        ('in"side', ('in"side',)),
        ("with space", ("with space",)),
    ],
)
def test_dots_step_into_maps_and_quotes_keep_them(text: str, path: tuple[str, ...]) -> None:
    assert parse_attribute_path(text) == path


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"a', '"a"b', '""', '"a\\'])
def test_a_path_with_an_empty_name_or_open_quote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="attribute path"):
        parse_attribute_path(text)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4).map(tuple))
def test_any_path_written_out_is_read_back(path: tuple[str, ...]) -> None:
    assert parse_attribute_path(format_attribute_path(path)) == path


def test_addresses_are_written_as_they_are_read() -> None:
    for text in ("127.0.0.1:0", "[::1]:9108", "localhost:80"):
        assert str(parse_http_address(text)) == text
    for text in ("clickhouse://u@h:9000/d", "clickhouses://u@[::1]:9440/d", "local:///var/lib/x"):
        assert str(parse_clickhouse_url(text)) == text
