"""The compiled reader as a piece of C: what it holds on to, callbacks that do harm, and memory that runs out."""

from __future__ import annotations

import gc
import importlib
import random
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import dyncdc.native
from dyncdc.decode.compiled.layout import CompiledTable
from dyncdc.decode.table_plan import compile_table
from dyncdc.native._rows import Reader
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.families.family import KindName

SPEC = TableSpec(
    "t",
    "t",
    (KeyAttribute("pk", "S"),),
    (
        ColumnSpec("pk", "String", ("pk",), ("S",), key=True),
        ColumnSpec("name", "Nullable(String)", ("name",), ("S",)),
        ColumnSpec("map", "Nullable(String)", ("map",), ("M",)),
        ColumnSpec("part", "Nullable(String)", ("parts", "a"), ("S",)),
    ),
)
TOLD = (CompiledTable(compile_table(SPEC)).told,)
WITH_HISTORY = (CompiledTable(compile_table(replace(SPEC, history="t_history"))).told,)
both = pytest.mark.parametrize("told", [TOLD, WITH_HISTORY], ids=["plain", "history"])
VERSION = 1_720_742_302_233_719


def record(key: str, item: str = "") -> bytes:
    found = f'{{"pk":{{"S":"{key}"}}{item}}}'
    body = f'"ApproximateCreationDateTime":{VERSION},"Keys":{{"pk":{{"S":"{key}"}}}},"NewImage":{found}'
    body += ',"ApproximateCreationDateTimePrecision":"MICROSECOND"'
    return f'{{"eventName":"MODIFY","tableName":"t","dynamodb":{{{body}}}}}'.encode()


def no_odd(table: int, number: int, name: str | None, raw: bytes) -> Any:
    return b'"image"' if name is None else ([], b'{"S":"x"}', 0)


def no_exact(_: int) -> None:
    return None


RECORDS = [
    record("a", ',"name":{"S":"x"},"map":{"M":{"b":{"N":"1.50"},"a":{"S":"\\n"}}}'),
    record("b", ',"other":{"SS":["x","y"]},"name":{"NULL":true},"parts":{"M":{"a":{"S":"x"}}},"also":{"M":{}}'),
    record("c", ',"name":{"N":"odd"}'),
    b"broken",
    record("d").replace(b'"t"', b'"stranger"'),
    record("e").replace(b'"NewImage"', b'"OldImage":{"b":{"S":"\\n"},"a":{"M":{}}},"NewImage"'),
    record("f").replace(b'{"eventName"', b'{"eventID":"1","eventName"'),
    record("g").replace(b"MODIFY", b"REMOVE"),
]


def test_a_callback_that_reads_again_changes_nothing_of_the_read_under_way() -> None:
    reader = Reader(TOLD)
    asked: list[int] = []

    def exact(number: int) -> None:
        asked.append(number)
        with pytest.raises(RuntimeError, match="in use"):
            reader.read([], 0, (False,), None, None, {})

    reader.read([b"1", b"2", record("a"), b"3"], 0, (False,), no_odd, exact, {})
    assert asked == [0, 1, 3]


@pytest.mark.parametrize("which", ["odd", "exact"])
def test_a_read_that_failed_leaves_nothing_to_the_next(which: str) -> None:
    def fail(*_: object) -> Any:
        raise LookupError(which)

    reader = Reader(TOLD)
    expected = Reader(TOLD).read(RECORDS, 0, (False,), no_odd, no_exact, {})
    callbacks: Any = (fail, no_exact) if which == "odd" else (no_odd, fail)
    for _ in range(2):
        with pytest.raises(LookupError):
            reader.read(RECORDS, 0, (False,), *callbacks, {})
        assert reader.read(RECORDS, 0, (False,), no_odd, no_exact, {}) == expected


def test_answers_of_another_shape_are_refused() -> None:
    reader = Reader(TOLD)
    for told in (1, (), ([(9, b"x")], None, 0), ([(-1, b"x")], None, 0), ([(1, "x")], None, 0), ([1], None, 0)):
        with pytest.raises((TypeError, IndexError, SystemError)):
            reader.read(RECORDS, 0, (False,), lambda *_, told=told: told, no_exact, {})
    with pytest.raises(TypeError, match="bytes"):
        Reader(WITH_HISTORY).read(RECORDS, 0, (False,), lambda *_: ([], None, 0), no_exact, {})
    width = len(TOLD[0][2])
    for row in (1, (), (9, [], b"", 1), (0, [b""], b"", 1), (0, [1] * width, b"", 1), (-1, [b""] * width, b"", 1)):
        with pytest.raises((TypeError, ValueError, SystemError)):
            reader.read([b"broken"], 0, (False,), no_odd, lambda _, row=row: row, {})


def test_a_field_without_a_column_is_refused() -> None:
    name, fields, *rest = TOLD[0]
    key, parts = fields[0], fields[-1]
    for wrong in ((*key[:1], 0, 0, -1, *key[4:]), (*parts[:-1], ((*parts[-1][0][:1], 0, 0, -1, *parts[-1][0][4:]),))):
        with pytest.raises(ValueError, match="cannot be"):
            Reader(((name, (wrong,), *rest),))


def test_the_reader_holds_no_sub_batch_once_it_is_told() -> None:
    """The budget counts blocks alone: what the reader keeps would be memory that no one counts."""
    reader = Reader(TOLD)
    texts = [f',"name":{{"S":"{"x" * 400_000}"}}', f',"map":{{"M":{{"a":{{"S":"{"x" * 400_000}"}}}}}}']
    texts += [f',"other":{{"S":"{"x" * 400_000}"}}', "".join(f',"a{n}":{{"N":"1"}}' for n in range(20_000, 0, -1))]
    tracemalloc.start()
    try:
        reader.read([record(str(number), text) for number, text in enumerate(texts)], 0, (False,), no_odd, no_exact, {})
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 600_000
    key = reader.read([record("k")], 0, (False,), no_odd, no_exact, {})[0][2][0]
    assert sys.getrefcount(key) == 2


@both
def test_reading_again_and_again_takes_no_more_memory(told: tuple[Any, ...]) -> None:
    reader = Reader(told)

    def fail(_: int) -> None:
        raise LookupError

    def some(times: int) -> None:
        for _ in range(times):
            for callback in (fail, no_exact):
                try:
                    reader.read(RECORDS, 0, (True,), no_odd, callback, {})
                except LookupError:
                    continue
            with pytest.raises((TypeError, ValueError)):
                Reader((*TOLD, ("x",)))

    gc.disable()
    tracemalloc.start()
    try:
        some(50)
        before, _ = tracemalloc.get_traced_memory()
        some(500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 200_000  # what Python's own free lists may hold; a leaked row is several times as much


@pytest.mark.parametrize("which", ["plain", "history"])
def test_memory_that_runs_out_anywhere_is_an_error_and_no_more(which: str) -> None:
    """In a process of its own: it runs out for all threads, also for one by which tests are handed out."""
    pytest.importorskip("_testcapi")
    done = subprocess.run([sys.executable, __file__, which], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run_out_of_memory(told: tuple[Any, ...]) -> None:
    """Every single allocation fails once; the read after that is right."""
    testcapi = importlib.import_module("_testcapi")
    expected = Reader(told).read(RECORDS, 0, (False,), no_odd, no_exact, {})
    failed, start, reader = 0, 0, Reader(told)
    while True:
        if random.Random(start).random() < 0.5:
            reader = Reader(told)
        others: dict[str, list[int]] = {}
        testcapi.set_nomemory(start, start + 1)
        try:
            found = reader.read(RECORDS, 0, (False,), no_odd, no_exact, others)
        except MemoryError:
            found = None
        finally:
            testcapi.remove_mem_hooks()
        assert found is None or found == expected
        assert reader.read(RECORDS, 0, (False,), no_odd, no_exact, {}) == expected
        failed += found is None
        start += 1
        if found is not None and start > failed + 50:
            break
    assert failed > 20


if __name__ == "__main__":
    run_out_of_memory(WITH_HISTORY if sys.argv[1] == "history" else TOLD)


def test_the_kinds_of_columns_are_those_of_the_compiled_module_in_its_order() -> None:
    header = (Path(dyncdc.native.__file__).parent / "rows/layout.h").read_text()
    (kinds,) = re.findall(r"enum Kind \{(.*?)\n\};", header, re.DOTALL)
    assert tuple(name.lower() for name in re.findall(r"\bK_(\w+),", kinds)) == get_args(KindName)
