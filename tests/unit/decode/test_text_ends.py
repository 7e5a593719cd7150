"""Texts are read a block of bytes at a time: what ends them, or is odd in them, may be anywhere in a block."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from simulation.decode import compiled
from simulation.decode.building import PORTABLE, build_bodies, build_reader

from dyncdc.decode.compiled import decoder
from dyncdc.decode.compiled.decoder import CompiledStreamDecoder
from dyncdc.decode.decoder import StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.sources.kinesis import get_records

from .test_compiled_reader import SPEC, TOLD, no_odd, record

LONGEST = 70
"""Characters: more than any block that is read at once."""


@pytest.fixture(params=["as installed", "without vector instructions"])
def which(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways there are in the C source."""
    if request.param != "as installed":
        monkeypatch.setattr(decoder, "Reader", build_reader(None, PORTABLE).Reader)
        monkeypatch.setattr(get_records, "split", build_bodies(PORTABLE).split)
    return str(request.param)


def alike(found: list[bytes], spec: TableSpec = SPEC) -> None:
    """Decode in both ways; every record must have become a row, or a dead letter, the same in both."""
    positions = [Position(str(number)) for number in range(len(found))]
    chunk = RawChunk(Shard(SourceId("s"), ShardId("x")), found, positions, Position("end"), 1, 0.0)
    plans = {"t": compile_table(spec)}
    exact = list(StreamDecoder(plans, pipeline="p").decode(chunk))
    assert list(CompiledStreamDecoder(plans, pipeline="p").decode(chunk)) == exact


ODD = [b'\\"', b"\\\\", b"\\n", b"\\u00e9", "é".encode(), b"\xff", b"\x01", b"\x1f", b"\x7f", b'"', b"\\", b""]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_odd_in_a_text_is_found_wherever_it_is(which: str, odd: bytes) -> None:
    texts = ["a" * place + "?" + "a" * (length - place) for length in range(LONGEST) for place in range(length + 1)]
    items = [f',"name":{{"S":"{text}"}},"map":{{"M":{{"{text}":{{"S":"{text}"}}}}}}' for text in texts]
    items += [f',"{text}":{{"S":"{text}"}}' for text in texts]
    alike([record("k", item).replace(b"?", odd) for item in items])


def test_names_that_differ_in_one_letter_are_told_apart(which: str) -> None:
    """Of any length, and whichever dead letter it is."""
    found = [record("k", f',"{name}":{{"S":"x"}}') for name in ("name", "nam", "name_", "nbme", "namf", "Name", "map")]
    for length in range(1, 40):
        names = ["a" * place + "b" + "a" * (length - place - 1) for place in range(length)]
        found.append(record("k", "".join(f',"{name}":{{"S":"x"}}' for name in names)))
    alike(found)


@pytest.mark.parametrize("length", range(1, 26))
def test_a_column_is_found_by_all_letters_of_its_name(which: str, length: int) -> None:
    """Two names in four places: every few wrong names are compared with the right one."""
    name = "abcdefghijklmnopqrstuvwxyz"[:length]
    spec = replace(SPEC, columns=(SPEC.columns[0], ColumnSpec("column", "Nullable(String)", (name,), ("S",))))
    wrong = [name[:place] + letter + name[place + 1 :] for place in range(length) for letter in "ABCDEFGHIJKLMNOP"]
    alike([record("k", f',"{each}":{{"S":"x"}}') for each in (name, *wrong)], spec)


@pytest.mark.parametrize("flags", [(), (PORTABLE,)])
def test_nothing_behind_a_record_is_read(flags: tuple[str, ...]) -> None:
    """Built so that the last byte of what it is given is behind the record."""
    end = "PyBytes_AS_STRING(record) + PyBytes_GET_SIZE(record)"
    shorter = build_reader(("rows.c", f"{end}}};", f"{end} - 1}};"), *flags).Reader(TOLD)
    for length in range(LONGEST):
        whole = record("k", f',"name":{{"S":"{"a" * length}"}},"map":{{"M":{{"a":{{"N":"1"}}}}}}')
        found = [whole + bytes([behind]) for behind in b'\0\xff"}\\,0']
        read = shorter.read(found, 0, (False,), no_odd, lambda _: pytest.fail("it was refused"), {})
        assert len(read[0][4]) == len(found)
        refused: list[int] = []
        cut = [whole[: last + 1] for last in range(len(whole))]
        assert shorter.read(cut, 0, (False,), no_odd, refused.append, {}) == []
        assert len(refused) == len(cut)


def test_both_ways_give_what_the_exact_path_gives(which: str) -> None:
    for seed in range(300):
        compiled.run(seed)


def test_base64_is_judged_wherever_the_letter_is(which: str) -> None:
    """Of any length; a dead letter that is none, and any value of a byte."""
    for length in (*range(100), 1000):
        data = bytes((number * 37 + length) % 256 for number in range(length))
        assert split(base64.b64encode(data)) == data
    whole = base64.b64encode(bytes(range(90)))
    for place in range(len(whole)):
        for letter in range(256):
            text = whole[:place] + bytes([letter]) + whole[place + 1 :]
            assert split(text) == judged(text), (place, letter)


def split(text: bytes) -> bytes | None:
    found = get_records.split(b'{"Records":[{"Data":"%b","SequenceNumber":"1"}]}' % text)
    return None if found is None else found[0][0]


def judged(text: bytes) -> bytes | None:
    """What the text stands for by Python's own judgement; None unless it is the one text that stands for it."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data) == text else None


def test_a_record_that_is_refused_behind_its_image_leaves_nothing_of_it(which: str) -> None:
    """The image is read on the way. What comes behind it may still be wrong."""
    whole = record("a", ',"name":{"S":"x"},"map":{"M":{"b":{"S":"y"}}},"parts":{"M":{"a":{"S":"z"}}},"more":{"S":"w"}')
    body = json.loads(whole)["dynamodb"]
    image = json.dumps(body["NewImage"], separators=(",", ":")).encode()
    refused = [
        whole[:-1],
        whole[:-2],
        whole + b"}",
        whole[:-1] + b',"tableName":"t"}',
        whole[:-1] + b',"eventName":"MODIFY"}',
        whole[:-1] + b',"eventName":"REMOVE"}',
        whole[:-1] + b',"tableName":"stranger"}',
        whole[:-1] + b',"dynamodb":{}}',
        whole.replace(b'"MICROSECOND"', b'"SECOND"'),
        whole.replace(b'"MICROSECOND"}', b'"MICROSECOND","NewImage":' + image + b"}"),
        whole.replace(b'"MICROSECOND"}', b'"MICROSECOND","OldImage":{"pk":}}'),
        whole.replace(b'"MICROSECOND"}', b'"MICROSECOND","ApproximateCreationDateTime":1}'),
    ]
    assert all(each != whole for each in refused)
    for each in refused:
        alike([each, record("b"), whole, each, record("c", ',"parts":{"M":{"a":{"S":"1"}}}')])


def test_an_image_may_come_before_what_is_needed_to_read_it(which: str) -> None:
    key, image = b'"Keys":{"pk":{"S":"a"}}', b'"NewImage":{"pk":{"S":"a"},"name":{"S":"x"}}'
    time = b'"ApproximateCreationDateTime":1720742302233719'
    name, table = b'"eventName":"INSERT"', b'"tableName":"t"'
    found = []
    for parts in ([image, time, key], [time, key, image], [key, image, time], [image, image, key, time], [image, time]):
        inner = b'"dynamodb":{%b}' % b",".join(parts)
        orders = ([inner, name, table], [name, inner, table], [table, inner, name], [name, table, inner])
        found += [b"{%b}" % b",".join(order) for order in orders]
    found += [each.replace(b"INSERT", event) for each in found for event in (b"REMOVE", b"OTHER")]
    found += [each.replace(b'"t"', b'"stranger"') for each in found]
    alike(found)
