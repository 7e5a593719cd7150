"""README.md, CONTRIBUTING.md and docs/: links lead somewhere; the README's configuration and figures hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyncdc.config import load_config
from dyncdc.schema.types.reject_reasons import LIMIT_REACHED, REASONS, REFUSED_BY_CLICKHOUSE

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]

_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        found.add(text.replace(" ", "-"))
    return found


def links(page: Path) -> Iterator[str]:
    """Links of a page that lead to files of the repository."""
    for target in _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page))):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(README)}
    pages = {page for page in DOCS if page.parent.name != "decisions" and page.name != "index.md"}
    assert pages <= linked, pages - linked


def test_the_overview_leads_to_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    pages = {page for page in DOCS if page.parent.name != "decisions" and page != index}
    assert pages <= linked, pages - linked


def test_pages_name_no_page_that_does_not_exist() -> None:
    """Catches: a page that was moved and is still named in the text, in code or in deploy/."""
    files = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "dyncdc").rglob("*.py"), *(ROOT / "deploy").rglob("*.yml")]
    for file in files:
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{file.relative_to(ROOT)}: {name}"


def test_the_configuration_of_the_readme_loads(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(text.splitlines()) <= 10
    (tmp_path / "config.toml").write_text(text)
    config = load_config(tmp_path / "config.toml", {"CLICKHOUSE_PASSWORD": "x"})
    assert [table.dynamodb for table in config.tables] == ["orders"]


def test_every_figure_of_the_readme_is_on_the_page_that_it_links() -> None:
    section = README.read_text(encoding="utf-8").partition("## Figures\n")[2].partition("\n## ")[0]
    figures = [figure for figure in section.split("\n- ") if figure.strip()]
    assert len(figures) == 3
    for figure in figures:
        (target,) = _LINK.findall(figure)
        page = (ROOT / target.partition("#")[0]).read_text(encoding="utf-8")
        numbers = re.findall(r"\d[\d,.]*\d", re.sub(r"\]\([^)]*\)", "", figure))
        assert numbers
        for number in numbers:
            assert number in page, f"{number} is not in {target}"


def test_every_reason_of_a_dead_letter_is_on_its_page() -> None:
    page = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")
    table = page.partition("| reason |")[2].partition("\n\n")[0]
    listed = [
        name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1] if line else "")
    ]
    assert sorted(listed) == sorted([*REASONS, REFUSED_BY_CLICKHOUSE, LIMIT_REACHED])


def test_every_path_that_contributing_names_exists() -> None:
    """A path is below the root, below dyncdc/, or below a folder that the same line names before it."""
    checked, gone = 0, []
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        below = [ROOT, ROOT / "dyncdc"]
        for name in re.findall(r"(?:`|\b(?=(?:tests|tools|docs)/))([\w./-]+)", line):
            if "/" in name or name.endswith((".py", ".md", ".toml")):
                found = [folder / name for folder in below if (folder / name).exists()]
                below += [path for path in found if path.is_dir()]
                gone += [] if found else [name]
                checked += 1
    assert gone == []
    assert checked > 100


STILTED = re.compile(r"\b(for ever|anew|whoever|nobody|somebody|of which|mend(s|ed|ing)?)\b", re.IGNORECASE)
"""Words that a native engineer would not write here: without limit, again, the owner, no one, others, whose, fix."""


WRITTEN = [
    page for page in PAGES if page.parent.name != "decisions" and not page.read_text().startswith("<!-- generated")
]
"""Pages that are neither generated in the words of the code, nor decisions, which stay as they were written."""


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_in_plain_english(page: Path) -> None:
    """The tables of docs/reliability.md are a program's output."""
    lines = [line for line in prose(page).splitlines() if page.name != "reliability.md" or not line.startswith("|")]
    assert [line for line in lines if STILTED.search(line)] == []
