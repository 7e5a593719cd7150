"""Whatever bytes AWS or S3 hand over, the answer is a value or an error of the tree, never a crash."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from dyncdc.errors import DyncdcError
from dyncdc.model.shards import Position
from dyncdc.sources.export import manifest
from dyncdc.sources.export.gzip_lines import GzipLines
from dyncdc.sources.item_json import decode_items, key_json
from dyncdc.sources.kinesis.get_records import parse_records
from dyncdc.sources.kinesis.stream_positions import in_words, iterator_request
from dyncdc.sources.scan.segments import read_page, start_key

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Records", "Data", "SequenceNumber", "ChildShards", "ShardId", "itemCount", "s3Bucket"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
).map(lambda document: json.dumps(document).encode())
BODIES = st.binary(max_size=200) | DOCUMENTS
SUMMARY = manifest.Summary("a", "b", "k", 1)


@given(BODIES)
def test_any_body_is_an_answer_or_a_typed_error(body: bytes) -> None:
    with contextlib.suppress(DyncdcError):
        parse_records(body)


@given(BODIES)
def test_any_manifest_is_a_value_or_a_typed_error(body: bytes) -> None:
    for parse in (
        lambda: manifest.parse_summary("k", body, "a"),
        lambda: manifest.parse_files(SUMMARY, body),
        lambda: manifest.verify_checksum("k", b"x", body),
    ):
        with contextlib.suppress(DyncdcError):
            parse()


@given(st.text(max_size=40) | st.text("0123456789.:AT_IMESP-", max_size=40).map("AT_TIMESTAMP:".__add__))
def test_any_position_is_a_request_or_a_typed_error(text: str) -> None:
    in_words(Position(text))
    with contextlib.suppress(DyncdcError):
        iterator_request(Position(text))


@given(
    lines=st.lists(st.binary(max_size=300).map(lambda line: line.replace(b"\n", b"")), max_size=30),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    want_bytes=st.integers(1, 20_000),
    damage=st.none() | st.tuples(st.integers(0, 3000), st.integers(0, 255)),
)
def test_gzip_lines_give_exactly_the_lines_or_a_typed_error(
    lines: list[bytes], cuts: list[int], want_bytes: int, damage: tuple[int, int] | None
) -> None:
    wanted = [line for line in lines if line]
    whole = gzip.compress(b"\n".join(lines))
    data = bytearray(whole)
    if damage is not None and damage[0] < len(data):
        data[damage[0]] = damage[1]
    reader = GzipLines("f", hashlib.md5(whole).digest(), len(wanted))
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    found: list[bytes] = []
    try:
        for first, last in itertools.pairwise(edges):
            reader.feed(bytes(data[first:last]))
            while not reader.hungry:
                found += reader.take(want_bytes)
        found += reader.finish()
    except DyncdcError:
        assert bytes(data) != whole
    else:
        assert found == wanted


ANSWERS = st.binary(max_size=100) | st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Items", "Count", "ScannedCount", "LastEvaluatedKey", "ConsumedCapacity", "CapacityUnits", "id", "S"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=14,
).map(lambda document: json.dumps(document).encode())


@given(ANSWERS)
def test_any_page_of_a_scan_adds_up_or_is_a_typed_error(body: bytes) -> None:
    response: dict[str, object] = {"status_code": 200, "body": body}
    parsed: dict[str, object] = {}
    decode_items(response, parsed)
    try:
        rest = json.loads(str(response["body"], "utf-8") if isinstance(response["body"], bytes) else "")
    except ValueError:
        return  # botocore's own error
    if not isinstance(rest, dict):
        return
    try:
        page = read_page({**rest, **parsed})
    except DyncdcError:
        return
    assert len(page.items) == rest["Count"] == rest["ScannedCount"]
    assert (page.last is None) == (not rest.get("LastEvaluatedKey"))


@given(
    st.text(max_size=40)
    | st.dictionaries(
        st.text(max_size=3), st.dictionaries(st.sampled_from(["S", "N", "B", "M"]), st.text(max_size=6), max_size=2)
    ).map(json.dumps)
)
def test_any_position_of_a_scan_is_a_key_or_a_typed_error(text: str) -> None:
    with contextlib.suppress(DyncdcError):
        start_key(Position(text))


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.one_of(
            st.text(max_size=9).map(lambda text: {"S": text}),
            st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: {"N": str(number)}),
            st.binary(max_size=9).map(lambda content: {"B": content}),
        ),
        min_size=1,
        max_size=2,
    )
)
def test_a_key_survives_being_a_position(key: dict[str, dict[str, object]]) -> None:
    assert start_key(Position(key_json(key))) == key
