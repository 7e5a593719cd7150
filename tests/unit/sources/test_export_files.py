"""Manifests and gzip lines: what is accepted, and what is named when it is not."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tracemalloc

import pytest

from dyncdc.errors import ConfigError, CorruptSnapshotError
from dyncdc.sources.export import manifest
from dyncdc.sources.export.gzip_lines import INFLATE_BYTES, LINE_MAX_BYTES, GzipLines

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/t/export/0169-abc"
SUMMARY = manifest.Summary(ARN, "b", "p/AWSDynamoDB/0169-abc/manifest-files.json", 3)


def line(key: str, count: int) -> dict[str, object]:
    return {"itemCount": count, "md5Checksum": base64.b64encode(b"m" * 16).decode(), "etag": "e", "dataFileS3Key": key}


def listing(*lines: dict[str, object]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def summary(**changes: object) -> bytes:
    return json.dumps(
        {"exportArn": ARN, "s3Bucket": "b", "manifestFilesS3Key": "k", "itemCount": 3, "s3SseKmsKeyId": None} | changes
    ).encode()


def inflate(data: bytes, lines: GzipLines, piece_bytes: int = 1000, want_bytes: int = 10_000) -> list[bytes]:
    found: list[bytes] = []
    for first in range(0, len(data), piece_bytes):
        lines.feed(data[first : first + piece_bytes])
        while not lines.hungry:
            found += lines.take(want_bytes)
    return found + lines.finish()


def reader(data: bytes, count: int, md5: bytes | None = None) -> GzipLines:
    return GzipLines("s3://b/f", md5 or hashlib.md5(data).digest(), count)


def test_a_summary_names_bucket_and_list_of_files() -> None:
    assert manifest.parse_summary("s", summary(), ARN) == manifest.Summary(ARN, "b", "k", 3)


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff\xfe", summary(itemCount=-1), summary(s3Bucket="")])
def test_a_summary_that_is_none_is_named(body: bytes) -> None:
    with pytest.raises(CorruptSnapshotError, match=r"^reading p/manifest-summary\.json"):
        manifest.parse_summary("p/manifest-summary.json", body, ARN)


def test_s14_the_summary_of_another_export_is_refused() -> None:
    with pytest.raises(CorruptSnapshotError, match="another export"):
        manifest.parse_summary("s", summary(exportArn=ARN + "d"), ARN)


@pytest.mark.parametrize(
    "change",
    [
        {"outputFormat": "ION"},
        {"exportType": "INCREMENTAL_EXPORT", "itemCount": None},
        {"filterSpecification": {"filterExpression": "a = b"}},
        {"FILTEREXPRESSION": "a = b"},
        {"filtered": True},
    ],
)
def test_an_export_of_another_kind_is_a_config_error(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        manifest.parse_summary("s", summary(**change), ARN)


@pytest.mark.parametrize("nothing", [None, "", {}, []])
def test_a_summary_that_says_that_there_is_no_filter_is_a_snapshots(nothing: object) -> None:
    body = summary(filterSpecification=nothing, incrementalExportSpecification=nothing, exportType=nothing)
    assert manifest.parse_summary("s", body, ARN).item_count == 3


def test_s7_a_file_listed_twice_counts_once() -> None:
    files = manifest.parse_files(SUMMARY, listing(line("a", 1), line("a", 1), line("b", 2)))
    assert [file.key for file in files] == ["a", "b"]


def test_s7_a_file_listed_twice_differently_is_named() -> None:
    with pytest.raises(CorruptSnapshotError, match="line 2: a is listed twice"):
        manifest.parse_files(SUMMARY, listing(line("a", 1), line("a", 2)))


def test_s7_items_of_all_files_add_up_to_the_summary() -> None:
    with pytest.raises(CorruptSnapshotError, match="hold 4 items, the summary says 3"):
        manifest.parse_files(SUMMARY, listing(line("a", 4)))


@pytest.mark.parametrize("bad", [b"{", b"{}", b"7", b'{"itemCount":3,"md5Checksum":"?","dataFileS3Key":"a"}', b"\xff"])
def test_a_line_of_the_list_that_is_no_file_is_named(bad: bytes) -> None:
    with pytest.raises(CorruptSnapshotError, match=r"manifest-files.json line 2"):
        manifest.parse_files(SUMMARY, listing(line("a", 3)) + bad)


def test_an_empty_export_has_no_files() -> None:
    assert manifest.parse_files(manifest.Summary(ARN, "b", "k", 0), b"") == ()


@pytest.mark.parametrize("digest", [hashlib.md5(b"x").digest(), hashlib.sha256(b"x").digest()])
def test_a_checksum_may_be_base64_or_hexadecimal(digest: bytes) -> None:
    manifest.verify_checksum("k", b"x", base64.b64encode(digest) + b"\n")
    manifest.verify_checksum("k", b"x", digest.hex().encode())


@pytest.mark.parametrize("checksum", [b"", b"AAAA", base64.b64encode(hashlib.md5(b"y").digest())])
def test_s7_a_manifest_that_does_not_match_its_checksum_is_named(checksum: bytes) -> None:
    with pytest.raises(CorruptSnapshotError, match="verifying k"):
        manifest.verify_checksum("k", b"x", checksum)


def test_the_summary_is_found_without_being_told() -> None:
    assert manifest.summary_key("/p/", ARN) == "p/AWSDynamoDB/0169-abc/manifest-summary.json"
    assert manifest.summary_key("", ARN) == "AWSDynamoDB/0169-abc/manifest-summary.json"


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000, 10**6])
def test_lines_come_out_whole_however_the_bytes_arrive(piece_bytes: int) -> None:
    wanted = [b'{"Item":{"n":%d}}' % n for n in range(500)]
    data = gzip.compress(b"\n".join(wanted[:200]) + b"\n") + gzip.compress(b"\n".join(wanted[200:]))
    assert inflate(data, reader(data, 500), piece_bytes) == wanted


def test_blank_lines_are_not_items() -> None:
    data = gzip.compress(b"a\n\n\nb\n\n", mtime=0)
    assert inflate(data, reader(data, 2)) == [b"a", b"b"]


def test_s7_a_file_without_items_is_fine() -> None:
    data = gzip.compress(b"", mtime=0)
    assert inflate(data, reader(data, 0)) == []


GOOD = gzip.compress(b"a\nb\nc\n", mtime=0)


def test_an_empty_partitions_file_may_have_no_bytes() -> None:
    assert inflate(b"", reader(b"", 0)) == []


@pytest.mark.parametrize(
    ("data", "count", "md5", "says"),
    [
        (GOOD, 4, None, "holds 3 items, the manifest says 4"),
        (GOOD, 3, b"0" * 16, "md5 differs"),
        (GOOD[:-4], 3, None, "cut short"),
        (GOOD[:-4], 3, hashlib.md5(GOOD).digest(), "md5 differs.*cut short"),
        (b"", 3, None, "holds 0 items, the manifest says 3"),
        (b"", 0, hashlib.md5(GOOD).digest(), "md5 differs"),
        (b"not gzip at all", 3, None, "not valid gzip"),
        (GOOD + b"tail", 3, None, "not valid gzip"),
        (GOOD[:12] + b"\x00" + GOOD[13:], 3, None, "not valid gzip"),
    ],
)
def test_s7_a_bad_file_is_named_with_what_disagrees(data: bytes, count: int, md5: bytes | None, says: str) -> None:
    with pytest.raises(CorruptSnapshotError, match=f"s3://b/f.*{says}"):
        inflate(data, reader(data, count, md5))


def test_a_line_longer_than_any_item_is_refused_in_bounded_memory() -> None:
    data = gzip.compress(b"x" * (64 * 2**20))
    lines = reader(data, 1)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptSnapshotError, match="longer than any item"):
            inflate(data, lines, piece_bytes=10**9, want_bytes=10**9)
        assert tracemalloc.get_traced_memory()[1] < 4 * LINE_MAX_BYTES
    finally:
        tracemalloc.stop()


def test_one_step_inflates_a_bounded_amount_whatever_the_ratio() -> None:
    data = gzip.compress((b"y" * 99 + b"\n") * 200_000, 9)
    lines = reader(data, 200_000)
    lines.feed(data)
    most = 0
    while not lines.hungry:
        most = max(most, sum(map(len, lines.take(10**9))))
    assert most <= INFLATE_BYTES
    assert lines.finish() == []
    assert lines.lines == 200_000
