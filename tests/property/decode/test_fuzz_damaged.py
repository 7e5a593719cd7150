"""Valid inputs, damaged: they become rows, dead letters or a typed error, soon and in little memory.

Times and sizes are bounded per input, so that a hang or a blow-up is a failure and not a slow test.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.data.decode_items import VERSION, wide_table

from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.errors import CorruptSnapshotError, DyncdcError
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.types.reject_reasons import REASONS
from dyncdc.sources.export import manifest
from dyncdc.sources.export.gzip_lines import GzipLines
from dyncdc.sources.kinesis.get_records import parse_records

SECONDS = 15.0
"""For one input. The slowest takes a tenth of it on an idle machine."""

BASE_BYTES = 2**20
"""What anything may take, however small: blocks, dead letters, caches."""

INFLATED_BYTES = 20 * 2**20
"""The same for what is compressed: the longest line, a few times over, and a step of inflating."""

TIMES_INPUT = 60
"""Bytes at the peak for each byte of input: documents of tiny values are objects of a hundred bytes each."""

WIDE = wide_table()
PLANS = {"stream": compile_table(WIDE), "no spill": compile_table(wide_table(spill=""))}
SHARD = Shard(SourceId("arn@1"), ShardId("shardId-0"))

ITEM: dict[str, Any] = {
    "k_s": {"S": "a"},
    "k_n": {"N": "12345678901234567890"},
    "text": {"S": 'Zoë 😀 "quoted" \\'},
    "number": {"N": "1.5E+10"},
    "bytes": {"B": "AAH/"},
    "set": {"NS": ["1", "2.5", "-3E-7"]},
    "list": {"L": [{"M": {"deep": {"L": [{"NULL": True}, {"BOOL": False}]}}}, {"SS": ["x", "y"]}]},
}
RECORD = json.dumps(
    {
        "awsRegion": "us-east-1",
        "eventID": "e-1",
        "eventName": "MODIFY",
        "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
        "recordFormat": "application/json",
        "tableName": WIDE.source_table,
        "dynamodb": {
            "ApproximateCreationDateTime": VERSION,
            "ApproximateCreationDateTimePrecision": "MICROSECOND",
            "Keys": {"k_s": ITEM["k_s"], "k_n": ITEM["k_n"]},
            "NewImage": ITEM,
            "OldImage": ITEM,
            "SizeBytes": 300,
        },
        "eventSource": "aws:dynamodb",
    }
).encode()
LINE = json.dumps({"Item": ITEM}).encode()
BODY = json.dumps(
    {
        "Records": [
            {
                "SequenceNumber": str(10**55 + number),
                "ApproximateArrivalTimestamp": 1.7e9,
                "Data": base64.b64encode(RECORD).decode(),
                "PartitionKey": "p",
            }
            for number in range(3)
        ],
        "NextShardIterator": "AAAA",
        "MillisBehindLatest": 5,
        "ChildShards": [{"ShardId": "shardId-1", "ParentShards": ["shardId-0"], "HashKeyRange": {}}],
    }
).encode()
SUMMARY = json.dumps(
    {
        "version": "2020-06-30",
        "exportArn": "arn:e",
        "s3Bucket": "b",
        "manifestFilesS3Key": "k",
        "itemCount": 30,
        "outputFormat": "DYNAMODB_JSON",
        "exportType": "FULL_EXPORT",
    }
).encode()
FILES = b"\n".join(
    json.dumps(
        {"itemCount": 10, "md5Checksum": "1B2M2Y8AsgTpgAmY7PhCfg==", "etag": "e", "dataFileS3Key": f"d/{n}"}
    ).encode()
    for n in range(3)
)
DATA_FILE = gzip.compress(b"\n".join([LINE] * 40), mtime=0)


def decode_stream(data: bytes) -> None:
    """Decode as one record between two good ones, which must come to no harm."""
    for plan in PLANS.values():
        decoder = StreamDecoder({WIDE.source_table: plan}, pipeline="p")
        records = [RECORD, data, RECORD]
        chunk = RawChunk(SHARD, records, [Position(str(n)) for n in range(3)], Position("2"), 1, 0.0)
        [decoded] = decoder.decode(chunk)
        assert sum(decoded.records.values()) == 3
        assert {reason for _, reason in decoded.dead} <= set(REASONS)
        unknown = sum(count for table, count in decoded.records.items() if table not in (WIDE.source_table, ""))
        assert sum(block.rows for block in decoded.blocks) in (3, 3 - unknown)


def decode_line(data: bytes) -> None:
    for plan in PLANS.values():
        chunk = RawChunk(SHARD, [LINE, data], [Position("1"), Position("2")], Position("2"), 1, 0.0)
        [decoded] = SnapshotDecoder(plan, VERSION, pipeline="p").decode(chunk)
        assert sum(block.rows for block in decoded.blocks) == 2


def read_body(data: bytes) -> None:
    with contextlib.suppress(DyncdcError):
        answer = parse_records(data)
        assert all(position.isdecimal() for position in answer.positions)


def read_summary(data: bytes) -> None:
    with contextlib.suppress(DyncdcError):
        manifest.parse_summary("k", data, "arn:e")


def read_files(data: bytes) -> None:
    with contextlib.suppress(DyncdcError):
        manifest.parse_files(manifest.Summary("a", "b", "k", 30), data)
    with contextlib.suppress(DyncdcError):
        manifest.verify_checksum("k", FILES, data)


def read_data_file(data: bytes) -> None:
    reader = GzipLines("f", hashlib.md5(DATA_FILE).digest(), 40)
    with contextlib.suppress(CorruptSnapshotError):
        for first in range(0, len(data), 4096):
            reader.feed(data[first : first + 4096])
            while not reader.hungry:
                reader.take(64 * 1024)
        reader.finish()
        assert data == DATA_FILE


READERS: dict[str, tuple[Callable[[bytes], None], bytes]] = {
    "record": (decode_stream, RECORD),
    "line": (decode_line, LINE),
    "body": (read_body, BODY),
    "summary": (read_summary, SUMMARY),
    "files": (read_files, FILES),
    "data file": (read_data_file, DATA_FILE),
}


def bounded(reader: Callable[[bytes], None], data: bytes) -> None:
    """Read, within time and memory."""
    tracemalloc.start()
    begun = time.monotonic()
    try:
        reader(data)
        taken = time.monotonic() - begun
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < SECONDS
    base_bytes = INFLATED_BYTES if reader is read_data_file else BASE_BYTES
    assert peak < base_bytes + TIMES_INPUT * len(data), f"{peak} bytes for {len(data)}"


fragments = st.sampled_from(
    [
        *(b"[" * 3000, b'{"M":' * 3000, b'{"L":[' * 40, b"]" * 50, b"}" * 50),
        *(b"9" * 6000, b"1e999999999", b"-0", b"1E-131", b"0." + b"0" * 5000 + b"1", b"NaN", b"Infinity"),
        *(
            b"\\ud800",
            b"\\u0000",
            b"\x00",
            b"\xff\xfe",
            b"\xc3\x28",
            b"\xf0\x9f\x98",
            b"\\",
            b'"',
            b"\r\n",
            b"\xef\xbb\xbf",
        ),
        *(b'{"S":"a"}', b'{"NULL":false}', b'{"B":"%%"}', b'{"NS":[]}', b'{"SS":["a","a"]}', b"null", b"{}", b"[]"),
        *(b'"Keys":{},', b'"tableName":"wide",', b'"NewImage":null,', b'"eventName":"REMOVE",', b'"x":' * 9),
    ]
)


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """Truncate, cut out, repeat, swap, insert, overwrite: a few times over."""
    data = valid
    for _ in range(draw(st.integers(1, 5))):
        first, last = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        data = draw(
            st.sampled_from(
                [
                    data[:first],
                    data[first:],
                    data[:first] + data[last:],
                    data[:first] + data[first:last] * 2 + data[last:],
                    data[:first] + data[first : first + 40] * 50 + data[first:],
                    data[:first] + valid[last:],
                    data[:last] + data[first:],
                    data[:first] + draw(fragments) + data[first:],
                    data[:first] + draw(fragments) + data[last:],
                    data[:first] + draw(st.binary(min_size=1, max_size=4)) + data[first + 1 :],
                ]
            )
        )[:200_000]
    return data


quick = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", READERS)
def test_t14_damaged_inputs_are_read_or_refused_in_time_and_memory(name: str) -> None:
    reader, valid = READERS[name]

    @quick
    @given(damaged(valid))
    def check(data: bytes) -> None:
        bounded(reader, data)

    check()


def inside(value: bytes) -> list[tuple[str, bytes]]:
    """A value of an attribute, where a record and a line of an export have one."""
    return [("record", RECORD.replace(b'{"B": "AAH/"}', value)), ("line", LINE.replace(b'{"B": "AAH/"}', value))]


MILLION = 1_000_000
HUGE: dict[str, list[tuple[str, bytes]]] = {
    "deep lists": inside(b'{"L":[' * 30_000 + b"]}" * 30_000),
    "deep maps": inside(b'{"M":{"a":' * 30_000 + b"}}" * 30_000),
    "deep nothing": [(name, b"[" * MILLION) for name in READERS],
    "deep objects": [(name, b'{"a":' * 200_000) for name in READERS],
    "a number of a million digits": inside(b'{"N":"' + b"9" * MILLION + b'"}'),
    "a number behind a million zeros": inside(b'{"N":"0.' + b"0" * MILLION + b'1"}'),
    "a bare number of a million digits": inside(b"9" * MILLION),
    "an exponent of a million digits": inside(b'{"N":"1E' + b"9" * MILLION + b'"}'),
    "a set of 50,000 numbers": inside(json.dumps({"NS": [str(n) for n in range(50_000)]}).encode()),
    "a set of equal texts": inside(json.dumps({"SS": ["x"] * 50_000}).encode()),
    "50,000 attributes": inside(b'{"NULL":true},' + b",".join(b'"a%d":{"N":"%d"}' % (n, n) for n in range(50_000))),
    "one name again and again": inside(b'{"N":"1"},' + b",".join([b'"again":{"N":"1"}'] * 50_000)),
    "a text of escapes": inside(b'{"S":"' + b"\\u00e9" * 200_000 + b'"}'),
    "a text of quotes": inside(b'{"S":"' + b'\\"' * 500_000 + b'"}'),
    "binary of a million signs": inside(b'{"B":"' + b"A" * MILLION + b'"}'),
    "a time of a million digits": [("record", RECORD.replace(b"%d" % VERSION, b"9" * MILLION))],
    "a million spaces": [
        (name, valid.replace(b":", b":" + b" " * 100_000, 10))
        for name, (_, valid) in READERS.items()
        if name != "data file"
    ],
    "a sequence number of a million digits": [("body", BODY.replace(b'"1000', b'"1000' + b"0" * MILLION))],
    "100,000 empty records": [
        ("body", b'{"Records":[' + b",".join([b'{"Data":"","SequenceNumber":"1"}'] * 100_000) + b"]}")
    ],
    "an item count of a million digits": [
        ("summary", SUMMARY.replace(b"30", b"9" * MILLION)),
        ("files", FILES.replace(b"10", b"9" * MILLION)),
    ],
    "a million empty lines": [("files", b"\n" * MILLION)],
    "50,000 files": [("files", b"\n".join([FILES] * 16_000))],
    "gzip members of nothing": [("data file", gzip.compress(b"", mtime=0) * 5000)],
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", HUGE)
def test_t13_huge_inputs_are_read_or_refused_in_time_and_memory(what: str) -> None:
    for name, data in HUGE[what]:
        assert data != READERS[name][1], "nothing was replaced"
        bounded(READERS[name][0], data)


def test_s7_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    """256 MiB in 256 KiB of gzip: a bomb must not be inflated as a whole."""
    compress = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(compress.compress(bytes(2**20)) for _ in range(256)) + compress.flush()
    assert len(bomb) < 2**19
    reader = GzipLines("f", b"", 1)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptSnapshotError, match="longer than any item"):
            for first in range(0, len(bomb), 65536):
                reader.feed(bomb[first : first + 65536])
                while not reader.hungry:
                    reader.take(2**20)
        assert tracemalloc.get_traced_memory()[1] < INFLATED_BYTES
    finally:
        tracemalloc.stop()
