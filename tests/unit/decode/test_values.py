"""Canonical values, envelopes and names: what equals what, and what a record says beside its images."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dyncdc.decode.envelope import read_change
from dyncdc.schema.naming import MAX_NAME_LENGTH, column_name
from dyncdc.schema.sql.readback import readback_expression
from dyncdc.schema.table_spec import ColumnSpec
from dyncdc.schema.types.dynamodb_values import canonical, canonical_number, plain_text
from dyncdc.schema.types.reject_reasons import UndecodableRecord


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("0e9999", "0"),
        ("007", "7"),
        ("1.50", "1.5"),
        ("+.5", "0.5"),
        ("5.", "5"),
        ("1E3", "1000"),
        ("-12.5e-3", "-0.0125"),
        ("1E-130", "0." + "0" * 129 + "1"),
        ("9.99E+125", "999" + "0" * 123),
        ("12345678901234567890", "12345678901234567890"),
        ("1" * 38 + "0" * 88, "1" * 38 + "0" * 88),
        ("0." + "0" * 50 + "1" * 38, "0." + "0" * 50 + "1" * 38),
    ],
)
def test_t1_a_number_has_one_canonical_text(given: str, expected: str) -> None:
    assert canonical_number(given) == expected
    assert canonical_number(expected) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "-",
        ".",
        "1e",
        "0x1",
        "1_000",
        " 1",
        "1\n",
        "\u0661",
        "NaN",
        "Infinity",
        "1E126",
        "1E-131",
        "1" * 39,
        1,
        1.5,
        None,
    ],
)
def test_t1_what_is_no_number_of_dynamodb_is_refused(given: Any) -> None:
    with pytest.raises(UndecodableRecord):
        canonical_number(given)


def test_t4_sets_are_equal_in_any_order_and_sorted_by_value() -> None:
    assert canonical({"SS": ["b", "a"]}) == {"SS": ["a", "b"]}
    assert canonical({"SS": ["é", "z", "😀", "\uffff"]}) == {"SS": ["z", "é", "\uffff", "😀"]}
    assert canonical({"NS": ["10", "9", "-1", "1E-2", "0.010"]}) == {"NS": ["-1", "0.01", "9", "10"]}
    assert canonical({"BS": ["/w==", "AA==", "AAA="]}) == {"BS": ["AA==", "AAA=", "/w=="]}
    assert canonical({"L": [{"S": "b"}, {"S": "a"}]}) == {"L": [{"S": "b"}, {"S": "a"}]}


def test_t3_the_five_kinds_of_nothing_differ() -> None:
    nothings: list[Any] = [{"NULL": True}, {"S": ""}, {"L": []}, {"M": {}}, {"SS": []}]
    assert [[canonical(one) == canonical(other) for other in nothings].count(True) for one in nothings] == [1] * 5


@pytest.mark.parametrize("given", ["A", "AA", "AA=", "AA==AA==", "A A=", "AA==\n", "A-_=", "é"])
def test_t5_binary_must_be_padded_base64(given: str) -> None:
    with pytest.raises(UndecodableRecord):
        canonical({"B": given})


def test_t5_binary_has_one_text() -> None:
    assert canonical({"B": "AB=="}) == canonical({"B": "AA=="}) == {"B": "AA=="}
    assert canonical({"B": ""}) == {"B": ""}


def test_plain_text_keeps_numbers_exact_and_says_when_it_blurs() -> None:
    value = {"n": {"N": "12345678901234567890.123"}, "a": {"L": [{"NULL": True}, {"BOOL": False}, {"S": '"'}]}}
    assert plain_text("M", value) == ('{"a":[null,false,"\\""],"n":12345678901234567890.123}', True)
    assert plain_text("L", [{"NS": ["2", "1"]}]) == ("[[1,2]]", False)
    assert plain_text("NS", ["2", "1"]) == ("[1,2]", True)
    assert plain_text("M", {"b": {"B": "AA=="}}) == ('{"b":"AA=="}', False)


def change(**fields: Any) -> bytes:
    body = {"Keys": {"id": {"S": "a"}}, "ApproximateCreationDateTime": 1, "OldImage": {"id": {"S": "a"}}}
    return json.dumps({"eventName": "REMOVE", "tableName": "t", "dynamodb": body} | fields).encode()


@pytest.mark.parametrize(
    ("identity", "by_ttl"),
    [
        ({"type": "Service", "principalId": "dynamodb.amazonaws.com"}, True),
        ({"type": "User", "principalId": "dynamodb.amazonaws.com"}, False),
        ({"type": "Service"}, False),
        (None, False),
        ("Service", False),
    ],
)
def test_o10_a_ttl_delete_is_known_by_its_identity(identity: Any, by_ttl: bool) -> None:
    assert read_change(change(userIdentity=identity)).by_ttl is by_ttl


def test_an_envelope_tells_event_id_and_old_image() -> None:
    found = read_change(change(eventID="e1", unknown={"more": [1.5]}))
    assert (found.event_id, found.old_image, found.event_name, found.table) == ("e1", {"id": {"S": "a"}}, "REMOVE", "t")
    assert not read_change(change()).by_ttl and read_change(change()).event_id == ""


@pytest.mark.parametrize(
    "name",
    ["a.b", "a`b", 'a"b', "😀", "x" * 60_000, "1a", "_version", "_part", "", "a b", "\\", "\0", "ä", "'; DROP TABLE x"],
)
def test_t10_hostile_names_become_plain_ones(name: str) -> None:
    found = column_name((name,), {"_version", "_part"})
    assert found.isascii() and found.isidentifier() and len(found) <= MAX_NAME_LENGTH
    assert found != column_name((name + "x",), {"_version", "_part"})


def test_t10_names_are_kept_where_they_can_be() -> None:
    assert [column_name((name,), ()) for name in ("Name", "name", "id_", "a_b")] == ["Name", "name", "id_", "a_b"]
    assert column_name(("a", "b"), ()) == "a_b"
    assert column_name(("a", "b"), {"a_b"}) not in {"a_b", column_name(("a_b",), {"a_b"})}


@pytest.mark.parametrize(
    ("name", "kind", "expression"),
    [
        ("a", "Nullable(String)", "toString(`a`)"),
        ("a`b\\", "Int8", "toString(`a\\`b\\\\`)"),
        ("d", "DateTime64(3, 'Europe/Berlin')", "toString(toTimeZone(`d`, 'UTC'))"),
        ("x", "Array(Array(Int64))", "toJSONString(arrayMap(v0 -> arrayMap(v1 -> toString(v1), v0), `x`))"),
        ("m", "Map(String, Int8)", "toJSONString(mapApply((k0, v0) -> (toString(k0), toString(v0)), `m`))"),
        ("j", "JSON", "toJSONString(`j`)"),
    ],
)
def test_readback_expressions_give_exact_text(name: str, kind: str, expression: str) -> None:
    assert readback_expression(ColumnSpec(name, kind, (name,), ("S",))) == expression
