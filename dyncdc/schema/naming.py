"""Names of columns for attributes: readable where they can be, never two the same, none that means something else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Final

import orjson

MAX_NAME_LENGTH: Final = 100
"""Characters kept of an attribute's name: ClickHouse makes file names of columns, DynamoDB allows 64 KB."""

ELEMENT: Final = "_dyncdc_element"
"""What DEFAULT expressions call an element of an array. A column of that name could not be added: ClickHouse takes it
for a reference to itself."""

VIRTUAL_NAMES: Final = frozenset(
    {
        *("_part", "_part_index", "_part_uuid", "_part_offset", "_part_starting_offset", "_part_data_version"),
        *("_part_granule_offset", "_partition_id", "_partition_value", "_sample_factor", "_row_exists"),
        *("_block_number", "_block_offset", "_table", "_database", "_shard_num", "_disk_name", "_distance"),
        "_is_deleted",
    }
)
"""ClickHouse's virtual columns. Source: ClickHouse documentation, MergeTree, virtual columns, and servers of 24 to 26;
a later one may have more, which it lists itself."""

RESERVED_NAMES: Final = VIRTUAL_NAMES | {ELEMENT, "_version", "_deleted", "_spill", "_expired"}
"""What no attribute's column may be called: ClickHouse's names, and dyncdc's own."""

_CLEAN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_UNCLEAN = re.compile(r"[^A-Za-z0-9_]+")


def column_name(path: tuple[str, ...], taken: Collection[str]) -> str:
    """Return a name that is not in ``taken``: the path joined by _, with a digest behind it where that is not safe.

    A dot would make ClickHouse treat the column as part of a Nested structure: only ASCII letters, digits and _ stay.
    None begins with _: ClickHouse has virtual columns of such names, more with each version, and a column of the same
    name as one may end the server with every SELECT *.
    """
    plain = "_".join(path)
    if len(plain) <= MAX_NAME_LENGTH and _CLEAN(plain) and not plain.startswith("_") and plain not in taken:
        return plain
    readable = _UNCLEAN.sub("_", plain).strip("_")[: MAX_NAME_LENGTH - 33] or "attribute"
    digest = hashlib.blake2b(orjson.dumps(path), digest_size=16).hexdigest()
    stem = readable if _CLEAN(readable) else f"a_{readable}"
    for length in range(8, len(digest) + 1):
        name = f"{stem}_{digest[:length]}"
        if name not in taken:
            return name
    number = 2
    while f"{stem}_{digest}_{number}" in taken:
        number += 1
    return f"{stem}_{digest}_{number}"
