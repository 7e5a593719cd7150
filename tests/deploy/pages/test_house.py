"""``tools/check_house.py`` notices each kind of offence. That the repository has none, `make check` says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import check_house  # noqa: E402 - tools/ is no package


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Path]:
    """A repository without an offence."""
    (tmp_path / "dyncdc" / "cli").mkdir(parents=True)
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    (tmp_path / "dyncdc" / "__init__.py").write_text('"""The package."""\n')
    write(tmp_path, "dyncdc/good.py", '"""A dead letter, and the dead\nletters of a shard."""\n\nletters = 26\n')
    assert found(tmp_path) == []
    yield tmp_path


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def found(root: Path) -> list[str]:
    """Keys of the offences."""
    return [offence.key for offence in check_house.offences(root)]


@pytest.mark.parametrize(
    ("folder", "most"), [("dyncdc", 16), ("dyncdc/cli", 16), ("dyncdc/sinks", 12), ("tests/unit", 12)]
)
def test_a_folder_with_too_many_siblings(house: Path, folder: str, most: int) -> None:
    write(house, f"{folder}/__init__.py", "")
    write(house, f"{folder}/__pycache__/old.pyc", "")
    write(house, f"{folder}/_built.so", "")
    there = sum(entry.name[:2] != "__" and entry.suffix != ".so" for entry in (house / folder).iterdir())
    for number in range(most - there):
        write(house, f"{folder}/m{number}.py", "")
    assert found(house) == []
    write(house, f"{folder}/one_more.py", "")
    assert found(house) == [f"{folder}::siblings"]


def test_a_module_that_is_too_long(house: Path) -> None:
    write(house, "dyncdc/long.py", "x = 1\n" * 300)
    assert found(house) == []
    write(house, "dyncdc/long.py", "x = 1\n" * 301)
    assert found(house) == ["dyncdc/long.py::lines"]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def f(a, b, c, d, e, g): ...", None),
        ("def f(a, b, c, d, e, g, h): ...", "f"),
        ("async def f(a, b, /, c, d, *, e, g, h): ...", "f"),
        ("def f(a, b, c, d, e, *more, **named): ...", "f"),
        ("if True:\n    def f(a, b, c, d, e, g, h): ...", "f"),
        ("def outer():\n    with x:\n        def f(a, b, c, d, e, g, h): ...", "outer.f"),
        ("class C:\n    def f(self, a, b, c, d, e, g): ...", None),
        ("class C:\n    def f(self, a, b, c, d, e, g, h): ...", "C.f"),
        ("class C:\n    @classmethod\n    def f(cls, a, b, c, d, e, g): ...", None),
        ("class C:\n    @staticmethod\n    def f(a, b, c, d, e, g, h): ...", "C.f"),
    ],
)
def test_a_function_with_too_many_parameters(house: Path, code: str, name: str | None) -> None:
    write(house, "dyncdc/wide.py", f"{code}\n")
    assert found(house) == ([f"dyncdc/wide.py::{name}"] if name else [])


@pytest.mark.parametrize(
    ("code", "name"),
    [("def f():\n{}", "f"), ("@g(\n    1\n)\nasync def f():\n{}", "f"), ("class C:\n  def f(self):\n{}", "C.f")],
)
def test_a_function_that_is_too_long(house: Path, code: str, name: str) -> None:
    write(house, "dyncdc/long.py", code.format("    x = 1\n" * 49))
    assert found(house) == []
    write(house, "dyncdc/long.py", code.format("    x = 1\n" * 50))
    assert found(house) == [f"dyncdc/long.py::{name}"]


FIELDS = "".join(f"    f{number}: int\n" for number in range(12))
ASSIGNED = "".join(f"        self.f{number} = 0\n" for number in range(12))


@pytest.mark.parametrize(
    ("code", "is_over"),
    [
        (f"class C:\n{FIELDS}", False),
        (f"class C:\n{FIELDS}    one_more: int = 0\n", True),
        (f"class C:\n{FIELDS}    constant: ClassVar[int] = 0\n    other: Final = 1\n", False),
        (f"class C:\n    def __init__(self):\n{ASSIGNED}", False),
        (f"class C:\n    def __init__(self):\n{ASSIGNED}        self.one_more: int = 0\n", True),
        (f"class C:\n{FIELDS}    def __init__(self):\n{ASSIGNED}", False),
        (f"class C:\n{FIELDS}    def later(self):\n        if True:\n            self.a, self.f1 = 1, 2\n", True),
        (f"class C:\n{FIELDS}    def later(self):\n        with x as self.a: ...\n", True),
        (f"class C:\n{FIELDS}    def later(self, other):\n        other.a = self.f1.b = 1\n", False),
    ],
)
def test_a_class_with_too_many_attributes(house: Path, code: str, is_over: bool) -> None:
    write(house, "dyncdc/wide.py", code)
    assert found(house) == (["dyncdc/wide.py::C"] if is_over else [])


@pytest.mark.parametrize(
    "line", ["from dyncdc.a.c import x", "from .c import x", "import dyncdc.a.c", "from . import c"]
)
def test_modules_that_import_each_other(house: Path, line: str) -> None:
    write(house, "dyncdc/a/__init__.py", "")
    write(house, "dyncdc/a/b.py", f"def f():\n    {line}\n")
    write(house, "dyncdc/a/c.py", "from dyncdc.a.d import y\n")
    write(house, "dyncdc/a/d.py", "z = 1\n")
    assert found(house) == []
    write(house, "dyncdc/a/d.py", "from ..a import b\n")
    assert found(house) == ["dyncdc/a/b.py::imports"]


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("dyncdc/said.py", "# for whoever reads it\n", "whoever"),
        ("dyncdc/said.py", '"""It is Buried."""\n', "buried"),
        ("dyncdc/said.py", "def f():\n    raise E('a letter is open')\n", "letter"),
        ("dyncdc/said.py", '"""It waits for\n    ever."""\n', "for ever"),
        ("dyncdc/said.py", "# a shard of\n# which nothing is known\n", "of which"),
        ("dyncdc/said.py", 'x = f"{letters} letters"\n', "letters"),
        ("dyncdc/said.c", "/* ghosts */\n", "ghosts"),
        ("docs/page.md", "A follower reads.\n", "follower"),
        ("dyncdc/said.py", "ghosts = newcomers(letters)  # orphan rows\n", None),
        ("dyncdc/said.py", '"""``patient``: whether to wait. Dead letters, an ASCII letter."""\n', None),
        ("dyncdc/said.py", "x = f\"{f'; {trouble.hint}' if trouble else ''}\"\n", None),
        ("dyncdc/said.c", "int letters;\n", None),
        ("docs/decisions/001.md", "Nobody mends it.\n", None),
    ],
)
def test_a_word_that_is_not_said_here(house: Path, path: str, text: str, word: str | None) -> None:
    write(house, path, text)
    assert found(house) == ([f"{path}::word {word}"] if word else [])


def test_an_exception_needs_a_reason_and_an_offence(house: Path) -> None:
    write(house, "dyncdc/long.py", "x = 1\n" * 301)
    offences = list(check_house.offences(house))
    (wrong,) = check_house.check(offences, {})
    assert wrong.startswith("dyncdc/long.py:1: the module has 301 lines")
    assert check_house.check(offences, {"dyncdc/long.py::lines": "generated"}) == []
    (wrong,) = check_house.check(offences, {"dyncdc/long.py::lines": " "})
    assert "no reason" in wrong
    (wrong,) = check_house.check([], {"dyncdc/long.py::lines": "generated"})
    assert "not needed any more" in wrong
