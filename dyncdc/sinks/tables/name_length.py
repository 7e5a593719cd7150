"""How long the name of a table may be: ClickHouse makes the name of a file of it, in which most characters count three.

Looked at before anything is made: a table that is there, and its view that cannot be, would be half of a start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from dyncdc.schema.existing.compatibility import Incompatibility
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse

_LIMIT: Final = "getMaxTableNameLengthForDatabase"
"""Since 25.1; before it, CREATE was the only one to know."""
_PLAIN: Final = re.compile(rb"\w", re.ASCII)


async def refuse_long_names(clickhouse: ClickHouse, names: Mapping[str, str]) -> Iterator[Incompatibility]:
    """Find names that the server cannot give to a table of our database.

    ``names``: each with the key of the configuration that would shorten it.
    """
    doing = "looking at how long names may be"
    if not names or not await clickhouse.fetch(
        f"SELECT 1 FROM system.functions WHERE name = {quote_text(_LIMIT)}", doing=doing
    ):
        return iter(())
    ((limit,),) = await clickhouse.fetch(f"SELECT {_LIMIT}(currentDatabase())", doing=doing)
    return (
        Incompatibility(
            f"{name} would be a file name of {stored_length(name)} characters; ClickHouse takes {limit} at most",
            f"give {key} a shorter name",
        )
        for name, key in names.items()
        if stored_length(name) > limit
    )


def stored_length(name: str) -> int:
    """Length of a name on disk: %XX for each byte that is no ASCII letter, digit or underscore.

    Source: ClickHouse, escapeForFileName.
    """
    return sum(1 if _PLAIN.match(bytes((byte,))) else 3 for byte in name.encode())
