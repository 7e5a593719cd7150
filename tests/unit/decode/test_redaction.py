"""Attributes left out and masked: what is left of items, of records in dead letters, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import orjson
import pytest

from dyncdc.decode.dead_letters.redacted_records import is_withheld, masked_paths
from dyncdc.decode.dead_letters.rows import DEAD_LETTER_TABLE
from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.errors import ConfigError
from dyncdc.model.blocks import Decoded
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.redaction import Redaction
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.reject_reasons import UndecodableRecord

KEY = b"a key of more than sixteen bytes"
HIDDEN = Redaction((("notes",), ("card", "cvc")), (("email",), ("card", "number"), ("people", "name")), KEY)
ID = (KeyAttribute("id", "S"),)
COLUMNS = (
    ColumnSpec("id", "String", ("id",), ("S",), key=True),
    ColumnSpec("email", "Nullable(String)", ("email",), ("S",)),
    ColumnSpec("card", "Nullable(String)", ("card",), ("M",)),
)
SPEC = TableSpec("t", "t", ID, COLUMNS, redaction=HIDDEN)
SECRET = "s3cr3t"
ITEM: dict[str, Any] = {
    "id": {"S": "a"},
    "email": {"S": SECRET},
    "notes": {"L": [{"S": SECRET}]},
    "card": {"M": {"number": {"N": "4000123412341234"}, "cvc": {"S": SECRET}, "year": {"N": "2030"}}},
    "people": {"L": [{"M": {"name": {"S": SECRET}, "age": {"N": "4"}}}, {"L": [{"M": {"name": {"SS": [SECRET]}}}]}]},
}


def hashed(value: Any) -> dict[str, str]:
    return {"S": hmac.new(KEY, orjson.dumps(value), hashlib.sha256).hexdigest()}


def record(image: Any, **fields: Any) -> bytes:
    body = {"Keys": {"id": {"S": "a"}}, "ApproximateCreationDateTime": 1_720_742_302_233_719, "NewImage": image}
    return json.dumps({"eventName": "INSERT", "tableName": "t", "dynamodb": body, **fields}).encode()


def decoded(*records: bytes, spec: TableSpec = SPEC) -> Decoded:
    positions = [Position(str(index)) for index in range(len(records))]
    chunk = RawChunk(Shard(SourceId("s"), ShardId("x")), records, positions, Position("end"), 1, 0.0)
    [found] = StreamDecoder({"t": compile_table(spec)}, pipeline="p").decode(chunk)
    return found


def dead_letter(raw: bytes) -> bytes:
    """What the dead letter of a record keeps."""
    [block] = decoded(raw).blocks
    assert block.table == DEAD_LETTER_TABLE
    kept = base64.b64decode(orjson.loads(block.cells[block.columns.index("raw")]))
    assert SECRET.encode() not in kept and SECRET.encode() not in b"".join(block.cells)
    return kept


def test_what_is_hidden_is_gone_and_what_is_masked_is_its_hash() -> None:
    left = HIDDEN.apply(ITEM)
    assert left == {
        "id": {"S": "a"},
        "email": hashed({"S": SECRET}),
        "card": {"M": {"number": hashed({"N": "4000123412341234"}), "year": {"N": "2030"}}},
        "people": {
            "L": [
                {"M": {"name": hashed({"S": SECRET}), "age": {"N": "4"}}},
                {"L": [{"M": {"name": hashed({"SS": [SECRET]})}}]},
            ]
        },
    }
    assert "notes" in ITEM and "cvc" in ITEM["card"]["M"]


def test_equal_values_have_equal_hashes_and_types_do_not_blur() -> None:
    def email(value: Any) -> Any:
        return HIDDEN.apply({"email": value})["email"]

    assert email({"N": "1.0"}) == email({"N": "1"}) != email({"S": "1"})
    assert email({"SS": ["b", "a"]}) == email({"SS": ["a", "b", "a"]})
    assert email({"NULL": True}) == {"NULL": True}
    other = Redaction((), (("email",),), KEY + b"!")
    assert other.apply({"email": {"S": "1"}})["email"] != email({"S": "1"})


def test_a_row_and_its_spill_hold_only_hashes() -> None:
    [block] = decoded(record(ITEM)).blocks
    cells = dict(zip(block.columns, block.cells, strict=True))
    assert SECRET.encode() not in b"".join(block.cells) and b"4000123412341234" not in b"".join(block.cells)
    assert orjson.loads(cells["email"]) == hashed({"S": SECRET})["S"]
    assert "people" in orjson.loads(orjson.loads(cells["_spill"]))


@pytest.mark.parametrize(
    "raw",
    [
        record(ITEM)[:-1],
        b'{"tableName":"t","x":"' + SECRET.encode() + b'"}',
        record(ITEM, tableName=5),
        b"not JSON: " + SECRET.encode(),
        b'{"eventName":"INSERT","tableName":"t","dynamodb":["' + SECRET.encode() + b'"]}',
    ],
)
def test_nothing_is_kept_of_a_record_in_which_nothing_can_be_found(raw: bytes) -> None:
    kept = dead_letter(raw)
    assert is_withheld(kept) and orjson.loads(kept) == {"dyncdc_withheld": {"bytes": len(raw)}}


@pytest.mark.parametrize(
    "raw",
    [
        record(ITEM, eventName="UPSERT"),
        record(ITEM, eventName={"a": SECRET}),
        record(ITEM, extra=SECRET),
        record(ITEM | {"zz": {"X": 1}}),
        record(ITEM | {"email": {"X": SECRET}}),
        record(ITEM | {"card": {"M": [SECRET], "S": SECRET}}),
        record(ITEM | {"people": {"L": SECRET}}),
        record([SECRET]),
        json.dumps({"eventName": "REMOVE", "tableName": "t", "dynamodb": {"OldImage": ITEM, "Keys": ITEM}}).encode(),
    ],
)
def test_a_letter_keeps_its_record_without_what_is_hidden_and_stays_a_letter(raw: bytes) -> None:
    if b'"extra"' in raw:  # harmless as it stands: make it a dead letter
        raw = raw.replace(b'"INSERT"', b'"NONE"')
    kept = dead_letter(raw)
    assert masked_paths(kept) == HIDDEN.mask and b"4000123412341234" not in kept
    assert DEAD_LETTER_TABLE in {block.table for block in decoded(kept).blocks}


def test_a_kept_record_becomes_the_same_row_later() -> None:
    kept = compile_table(SPEC).keepable(record(ITEM))
    plan = compile_table(SPEC).of_masked(masked_paths(kept))
    chunk = RawChunk(Shard(SourceId("s"), ShardId("x")), [kept], [Position("0")], Position("end"), 1, 0.0)
    [again] = StreamDecoder({"t": plan}, pipeline="p").decode(chunk)
    assert again.blocks == decoded(record(ITEM)).blocks


def test_a_line_of_an_export_is_kept_without_what_is_hidden() -> None:
    line = json.dumps({"Item": ITEM | {"zz": {"X": 1}}}).encode()
    chunk = RawChunk(Shard(SourceId("s"), ShardId("x")), [line], [Position("0")], Position("end"), 1, 0.0)
    [found] = SnapshotDecoder(compile_table(SPEC), 1_720_742_302_233_719, pipeline="p").decode(chunk)
    [block] = found.blocks
    kept = orjson.loads(base64.b64decode(orjson.loads(block.cells[block.columns.index("raw")])))
    assert kept["Item"]["email"] == hashed({"S": SECRET}) and SECRET not in json.dumps(kept)


def test_masking_again_is_for_newly_masked_paths_only() -> None:
    left = HIDDEN.without_masks([("email",), ("gone",)])
    assert left.mask == (("card", "number"), ("people", "name")) and left.exclude == HIDDEN.exclude


def test_a_masked_value_that_is_none_is_a_dead_letter() -> None:
    with pytest.raises(UndecodableRecord):
        HIDDEN.apply({"email": {"X": 1}})


@pytest.mark.parametrize(
    ("redaction", "column", "expected"),
    [
        (Redaction((("id",),)), None, "'id' can be neither left out nor masked"),
        (Redaction((), (("id",),), KEY), None, "'id' can be neither left out nor masked"),
        (Redaction((), (("x",),), b"short"), None, "no key"),
        (Redaction((), (("x",),), KEY), ColumnSpec("x", "Int64", ("x",), ("N",)), "it is masked, and Int64 takes N"),
    ],
)
def test_what_cannot_be_hidden_is_refused(redaction: Redaction, column: ColumnSpec | None, expected: str) -> None:
    columns = (COLUMNS[0], *([column] if column else []))
    with pytest.raises(ConfigError, match=expected):
        compile_table(TableSpec("t", "t", ID, columns, redaction=redaction))


def test_the_key_is_in_no_text_of_it() -> None:
    assert "sixteen" not in repr(SPEC) + repr(HIDDEN)
