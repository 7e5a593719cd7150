"""What dyncdc knows of each ClickHouse type: one object per family, by the names of its types."""

from __future__ import annotations

from typing import Final

from dyncdc.schema.types.type_parser import TypeNode

from . import datetimes, identifiers, numbers, strings
from .collections import with_collections
from .family import Families

FAMILIES: Final[Families] = with_collections(
    {**strings.FAMILIES, **identifiers.FAMILIES, **numbers.FAMILIES, **datetimes.FAMILIES}
)


def shown_default(node: TypeNode) -> str:
    """Return what a column that cannot be NULL shows for no value, "" where that does not look like a value."""
    return FAMILIES[node.name].shown_default
