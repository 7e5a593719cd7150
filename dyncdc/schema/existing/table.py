"""An existing table, as the server describes it. Values only: ``sinks/tables/introspection`` reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dyncdc.schema.sql.column_comments import Origin, read_comment
from dyncdc.schema.stored_mapping import StoredColumn

from .hazards import Hazards, find_hazards

_NAME: Final = r"(?:[A-Za-z_]\w*|`(?:[^`\\]|\\.)*`)"
_NAMES: Final = re.compile(rf"{_NAME}(?: DESC)?(?:, {_NAME}(?: DESC)?)*", re.ASCII)
_ARGUMENT: Final = re.compile(rf"'(?:[^'\\]|\\.)*'|{_NAME}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExistingColumn:
    """One column as ``system.columns`` shows it. ``computed``: MATERIALIZED, ALIAS or EPHEMERAL."""

    name: str
    type: str
    comment: str = ""
    computed: bool = False
    in_partition_key: bool = False
    in_sorting_key: bool = False
    default: str = ""
    """The expression of its DEFAULT, "" for none."""
    stored: Origin | None = None
    """What it was made for, where that is kept and counts for more than its comment."""

    @property
    def origin(self) -> Origin | None:
        """The attribute that it was made for; None where only its name can tell."""
        return self.stored or read_comment(self.comment)


@dataclass(frozen=True, slots=True)
class ExistingTable:
    """One table as ``system.tables`` shows it. ``engine_full`` begins with the engine's name and arguments."""

    name: str
    uuid: str
    engine: str
    engine_full: str
    sorting_key: str
    partition_key: str
    columns: tuple[ExistingColumn, ...]
    create_query: str = ""
    stored: Mapping[str, StoredColumn] = field(default_factory=dict)
    """What is kept of its mapping by column: see ``stored_mapping``."""

    @property
    def hazards(self) -> Hazards:
        """What the definition holds that takes rows away or shows old ones."""
        return find_hazards(self.engine_full, self.create_query)

    def column(self, name: str) -> ExistingColumn | None:
        """Return the column of that name, None when there is none."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def sorting_columns(self) -> tuple[str, ...] | None:
        """Columns of ORDER BY, None when it holds anything but plain columns."""
        if not self.sorting_key:
            return ()
        # 26.9 shows ORDER BY (a) as "(a)", and ORDER BY (a, b) as "a, b"
        listed = self.sorting_key[1:-1] if re.fullmatch(rf"\({_NAME}\)", self.sorting_key) else self.sorting_key
        if not _NAMES.fullmatch(listed):
            return None
        found = re.findall(rf"({_NAME})(?: DESC)?(?:, |$)", listed, re.ASCII)
        return tuple(map(unquoted, found))

    @property
    def engine_columns(self) -> tuple[str, ...]:
        """Columns that the engine is given: of ReplacingMergeTree the version's, then that of deleted rows."""
        arguments = self.engine_full.removeprefix(self.engine)
        if not arguments.startswith("("):
            return ()
        found: list[str] = []
        at = 1
        while (argument := _ARGUMENT.match(arguments, at)) is not None:
            if not argument[0].startswith("'"):  # of a replicated table: its path and the name of the replica
                found.append(unquoted(argument[0]))
            if arguments.startswith(")", argument.end()):  # what follows is ORDER BY
                break
            at = argument.end() + len(", ")
        return tuple(found)


def unquoted(name: str) -> str:
    """Return the name that ClickHouse shows in backquotes where it needs them."""
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if name.startswith("`") else name


def is_replicated(engine: str) -> bool:
    """Whether every server of a cluster has the rows of a table of this engine."""
    return engine.startswith(("Replicated", "Shared"))
