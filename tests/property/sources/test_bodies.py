"""What compiled code makes of a GetRecords body is what msgspec makes of it, for plain ones and for any bytes."""

from __future__ import annotations

import base64
import json
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncdc.errors import RetryableError
from dyncdc.native import _get_records as _bodies
from dyncdc.sources.kinesis import get_records
from dyncdc.sources.kinesis.get_records import RecordsBody, parse_records

NUMBERS = st.one_of(
    st.integers(0, 2**186).map(str),
    st.sampled_from(["", "x", "1.5", "-1", "٣", "0", "00", '1"', "1\\n"]),
)
DATA = st.one_of(
    st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()),
    st.sampled_from(
        ["", "=", "====", "A===", "AA==", "AB==", "AAB=", "AAA", "AA=A", "AAAA=", "A A=", "AAAA\\u003d", "é"]
    ),
)
TIMES = st.sampled_from(
    [
        "1.7E9",
        "1E999",
        "1700000000.123",
        "1.698765432123E9",
        "0",
        "-1",
        "-0",
        "-0.0",
        "01",
        "1.",
        "1e",
        ".5",
        "null",
        '"1"',
    ]
)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    odd = draw(st.integers(0, 9)) == 0
    data = draw(DATA) if odd else base64.b64encode(draw(st.binary(max_size=60))).decode()
    number = draw(NUMBERS) if odd else str(draw(st.integers(0, 2**186)))
    time = draw(TIMES) if odd else "1.7E9"
    fields = [
        f'"Data":"{data}"',
        f'"SequenceNumber":"{number}"',
        f'"ApproximateArrivalTimestamp":{time}',
        f'"PartitionKey":{json.dumps(draw(st.text(max_size=4)))}',
        '"EncryptionType":"KMS"',
    ]
    chosen = draw(st.permutations(fields))
    if odd:
        chosen = draw(st.lists(st.sampled_from(fields), max_size=6))
    space = draw(st.sampled_from(["", "", "", " "]))
    return ("{" + f",{space}".join(chosen) + "}").encode()


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    found = b"[" + b",".join(draw(st.lists(records(), max_size=6))) + b"]"
    fields = [
        b'"Records":' + (found if draw(st.integers(0, 20)) else b"null"),
        b'"NextShardIterator":' + draw(st.sampled_from([b'"AAA"', b"null", b"5"])),
        b'"MillisBehindLatest":' + draw(st.sampled_from([b"0", b"7", b"1.5", b"null"])),
        b'"ChildShards":[{"ShardId":"s","ParentShards":["a","b"],"HashKeyRange":{}}]',
        b'"Records":[]',
        b'"Other":{"a":[1,{"b":"\\u00e9"}]}',
    ]
    body = b"{" + b",".join(draw(st.lists(st.sampled_from(fields), max_size=5, unique=True))) + b"}"
    if draw(st.integers(0, 9)) == 0:
        cut = draw(st.integers(0, len(body)))
        body = body[:cut] + draw(st.binary(max_size=3)) + body[cut + draw(st.integers(0, 3)) :]
    return body


def outcome(body: bytes) -> RecordsBody | str:
    try:
        found = parse_records(body)
    except RetryableError:
        return "retry"
    assert all(type(each) is bytes for each in found.records)
    assert all(type(each) is str for each in found.positions)
    return found


@settings(deadline=None, max_examples=400)
@given(answers())
def test_plain_and_odd_bodies_give_the_same_answer_on_both_ways(body: bytes) -> None:
    compiled = outcome(body)
    with patch.object(get_records, "split", lambda _: None):
        assert str(outcome(body)) == str(compiled)


def test_a_plain_body_takes_the_compiled_way() -> None:
    body = (
        b'{"MillisBehindLatest":7,"NextShardIterator":"i","Records":['
        b'{"Data":"YWI=","SequenceNumber":"49","ApproximateArrivalTimestamp":1.5},'
        b'{"Data":"YWI=","SequenceNumber":"50","ApproximateArrivalTimestamp":2.5},'
        b'{"Data":"YWI=","SequenceNumber":"51"}]}'
    )
    assert _bodies.split(body) == (
        [b"ab", b"ab", b"ab"],
        ["49", "50", "51"],
        1.5,
        0.0,
        b'{"MillisBehindLatest":7,"NextShardIterator":"i","Records":[]}',
    )


def test_a_time_beyond_all_numbers_is_no_time() -> None:
    """Catches: infinity, behind which no position would ever look expired."""
    body = b'{"Records":[{"Data":"YWI=","SequenceNumber":"49","ApproximateArrivalTimestamp":1.7E9002}]}'
    assert _bodies.split(body) is None
    with pytest.raises(RetryableError):
        parse_records(body)


def test_base64_of_every_length_is_decoded() -> None:
    for length in range(70):
        data = bytes(range(200, 256))[: length % 56] + bytes(length - length % 56)
        body = b'{"Records":[{"Data":"%b","SequenceNumber":"1"}]}' % base64.b64encode(data)
        assert parse_records(body).records == [data]


@pytest.mark.parametrize("time", ["-0", "-0.0", "-0e1", "0", "0.0", "-1"])
def test_a_time_that_is_nothing_is_the_same_nothing_on_both_ways(time: str) -> None:
    body = f'{{"Records":[{{"Data":"YWI=","SequenceNumber":"49","ApproximateArrivalTimestamp":{time}}}]}}'.encode()
    with patch.object(get_records, "split", lambda _: None):
        exact = parse_records(body).arrived
    assert str(parse_records(body).arrived) == str(exact)
