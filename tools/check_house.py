"""Check that the package stays easy to find one's way in: small folders, modules, signatures and classes, no import
circle, standard words.

What is over a limit for a good reason stands in ``[tool.dyncdc.house]`` of pyproject.toml, ``"path::name" = "reason"``.
An exception that is no longer needed is an error too, so that table can only shrink.
"""

from __future__ import annotations

import ast
import gc
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

PACKAGE = "dyncdc"
TESTS = "tests"
"""Held to the number of siblings alone."""
MAX_SIBLINGS = 12
WIDE_FOLDERS = {PACKAGE: 16, f"{PACKAGE}/cli": 16}
"""The root of the package, and the commands: one file each."""
MAX_LINES = 300
MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 6
MAX_ATTRIBUTES = 12

WORDS = {
    r"whoever": "name the actor",
    r"nobody": "no one",
    r"somebody": "someone",
    r"for ever": "without limit, indefinitely",
    r"anew": "again",
    r"of which": "whose, or two sentences",
    r"(?:told|tells?|telling) of": "report",
    r"who (?:was|were|is)": "that was",
    r"ghosts?": "orphan row",
    r"burials?|bury|buries|buried|burying": "dead letter, reject",
    r"letters?": "dead letter",
    r"newcomers?": "unmapped attribute",
    r"strays?": "record without a table",
    r"hurry|hurries|hurried|hurrying": "flush soon",
    r"life|lives": "session",
    r"followers?": "stream reader",
    r"pumps?": "shard reader",
    r"cadences?": "flush rate",
    r"diversions?": "dead-letter limit",
    r"stragglers?": "task that ignored its cancellation",
    r"divisions?": "assignment",
    r"strangers?": "foreign member",
    r"patience|patient": "retry, wait",
    r"troubles?": "error, problem",
    r"mend|mends|mended|mending": "fix, repair",
    r"halts?": "limit stop",
    r"crowds?": "many readers, many batches",
    r"whom": "name the actor",
    r"farewell": "summary",
    r"advice": "hint",
}
"""What is not said here, as a regular expression, and what is said instead."""

_ALLOWED = r"dead-letters?|(?:dead|ascii) letters?"
_WORD = re.compile(rf"\b(?:{_ALLOWED}|{'|'.join(f'({word})' for word in WORDS)})\b".replace(" ", r"\s+(?:[#*/]+\s+)?"))
_INSTEAD = tuple(WORDS.values())

_STRING = r"(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
_PYTHON = re.compile(rf"#[^\n]*|\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|{_STRING}", re.DOTALL)
_C = re.compile(rf"/\*.*?\*/|//[^\n]*|{_STRING}", re.DOTALL)
_PROSE = {".py": _PYTHON, ".pyi": _PYTHON, ".c": _C, ".h": _C}
_NAMES = re.compile(r"\{(?:[^{}]|\{[^{}]*\})*\}|``[^`]*``")
"""Expressions inside f-strings, and names that a docstring quotes: code, not prose."""


@dataclass(frozen=True, slots=True)
class Offence:
    """``key`` is what an exception in pyproject.toml is found by: path, then the name of what offends."""

    path: str
    line: int
    name: str
    message: str

    @property
    def key(self) -> str:
        return f"{self.path}::{self.name}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message} [{self.key}]"


def siblings(root: Path) -> Iterator[Offence]:
    """Folders that hold more files and folders than one can take in."""
    for folder in sorted(folder for top in (PACKAGE, TESTS) for folder in (root / top).rglob("")):
        if folder.name == "__pycache__" or not folder.is_dir():
            continue
        held = [entry for entry in folder.iterdir() if not entry.name.startswith(("__", ".")) and entry.suffix != ".so"]
        path = folder.relative_to(root).as_posix()
        limit = WIDE_FOLDERS.get(path, MAX_SIBLINGS)
        if len(held) > limit:
            yield Offence(path, 1, "siblings", f"the folder holds {len(held)} files and folders, over {limit}")


def lines(path: str, text: str) -> Iterator[Offence]:
    """A module that is too long to read in one go."""
    count = text.count("\n")
    if count > MAX_LINES:
        yield Offence(path, 1, "lines", f"the module has {count} lines, over {MAX_LINES}")


def prose(path: str, text: str) -> str:
    """Comments, docstrings and other strings of a file, each where it stands; all else is blank. Pages are whole."""
    pattern = _PROSE.get(Path(path).suffix)
    if pattern is None:
        return text
    parts, end = [], 0
    for found in pattern.finditer(text):
        said = _NAMES.sub(_blank, found.group()) if found.group().endswith(('"', "'")) else found.group()
        parts += [_blank(text[end : found.start()]), said]
        end = found.end()
    return "".join([*parts, _blank(text[end:])])


def _blank(code: str | re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", code if isinstance(code, str) else code.group())


def words(path: str, text: str) -> Iterator[Offence]:
    """Words outside the glossary, or that a native engineer would not write."""
    for found in _WORD.finditer(text.lower()):
        if found.lastindex is not None:
            word = " ".join(re.findall(r"[a-z]+", found.group()))
            line = text.count("\n", 0, found.start()) + 1
            yield Offence(path, line, f"word {word}", f"{word!r}: say {_INSTEAD[found.lastindex - 1]!r}")


def statements(parent: ast.AST) -> Iterator[ast.stmt]:
    """All statements inside a node, at any depth. Expressions, which are most of a tree, are left alone."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from statements(node)


def shapes(path: str, parent: ast.AST, prefix: str = "") -> Iterator[Offence]:
    """Functions that are too long or take too many parameters, and classes with too many instance attributes, nested
    ones included."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = prefix + node.name
            if isinstance(node, ast.ClassDef):
                sizes = [(len(attributes(node)), MAX_ATTRIBUTES, "instance attributes")]
            else:
                count = parameters(node, is_method=isinstance(parent, ast.ClassDef))
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                sizes = [(count, MAX_PARAMETERS, "parameters"), (length, MAX_FUNCTION_LINES, "lines")]
            for size, limit, what in sizes:
                if size > limit:
                    yield Offence(path, node.lineno, name, f"{name} has {size} {what}, over {limit}")
            yield from shapes(path, node, f"{name}.")
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from shapes(path, node, prefix)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool) -> int:
    """How many it takes, without the receiver of a method."""
    given = function.args
    count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) + bool(given.vararg) + bool(given.kwarg)
    is_static = any(isinstance(item, ast.Name) and item.id == "staticmethod" for item in function.decorator_list)
    return count - (is_method and not is_static)


def attributes(owner: ast.ClassDef) -> set[str]:
    """Names of its fields, and of what its methods assign to ``self``."""
    held = {
        node.target.id
        for node in owner.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not _is_class_var(node.annotation)
    }
    for method in owner.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
            held |= {name for statement in statements(method) for name in _assigned(statement)}
    return held


def _assigned(statement: ast.stmt) -> Iterator[str]:
    """Attributes of ``self`` that a statement sets."""
    targets = [*getattr(statement, "targets", []), getattr(statement, "target", None)]
    targets += [item.optional_vars for item in getattr(statement, "items", [])]
    for node in (node for target in targets if target is not None for node in ast.walk(target)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr


def _is_class_var(annotation: ast.expr) -> bool:
    named = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return (named.id if isinstance(named, ast.Name) else getattr(named, "attr", "")) in ("ClassVar", "Final")


def _is_self(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id == "self"


def circles(trees: dict[str, ast.Module]) -> Iterator[Offence]:
    """Modules that import each other, through whatever other modules, also from within functions."""
    paths = {_dotted(path): path for path in trees}
    graph = {name: sorted(_imports(name, path, trees[path], paths)) for name, path in paths.items()}
    for circle in _components(graph):
        path = paths[circle[0]]
        yield Offence(path, 1, "imports", f"modules import each other: {', '.join(circle)}")


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(name: str, path: str, tree: ast.Module, known: dict[str, str]) -> set[str]:
    """Modules of the package that this one names in its imports."""
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    found: set[str] = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return {module for module in found if module in known} - {name}


def _components(graph: dict[str, list[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module, each sorted (Tarjan's algorithm, without recursion)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    for start in sorted(graph):
        work = [(start, iter(graph[start]))] if start not in order else []
        while work:
            name, rest = work[-1]
            if name not in order:
                order[name] = low[name] = len(order)
                stack.append(name)
            for other in rest:
                if other not in order:
                    work.append((other, iter(graph[other])))
                    break
                if other in stack:
                    low[name] = min(low[name], low[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == order[name]:
                    at = stack.index(name)
                    if len(stack) - at > 1:
                        found.append(sorted(stack[at:]))
                    del stack[at:]
    return sorted(found)


def offences(root: Path) -> Iterator[Offence]:
    """All of a repository, excepted or not."""
    yield from siblings(root)
    trees: dict[str, ast.Module] = {}
    for file in sorted((root / PACKAGE).rglob("*")):
        if file.suffix not in _PROSE:
            continue
        path, text = file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")
        if _WORD.search(text.lower()):  # most have none, and what is prose takes longer to find
            yield from words(path, prose(path, text))
        if file.suffix == ".py":
            trees[path] = tree = ast.parse(text)
            yield from lines(path, text)
            yield from shapes(path, tree)
    yield from circles(trees)
    for file in sorted((root / "docs").rglob("*.md")):
        path = file.relative_to(root).as_posix()
        if not path.startswith("docs/decisions/"):  # they stay as they were written
            yield from words(path, file.read_text(encoding="utf-8"))


def check(found: Iterable[Offence], excepted: dict[str, str]) -> list[str]:
    """What is wrong: offences without an exception, exceptions without a reason or without an offence."""
    found = list(found)
    keys = {offence.key for offence in found}
    wrong = [str(offence) for offence in found if offence.key not in excepted]
    wrong += [f"pyproject.toml: the exception {key!r} is not needed any more" for key in excepted if key not in keys]
    wrong += [
        f"pyproject.toml: the exception {key!r} has no reason" for key, why in excepted.items() if not why.strip()
    ]
    return wrong


def exceptions(root: Path) -> dict[str, str]:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    table: dict[str, str] = settings["tool"]["dyncdc"]["house"]
    return table


def main(arguments: Sequence[str]) -> int:
    gc.disable()  # trees are large and short-lived: a third of the time goes to collections that find nothing
    root = Path(arguments[0]) if arguments else ROOT
    wrong = check(offences(root), exceptions(root))
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
