"""UUID, IPv4 and IPv6: each value has one canonical text."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from dyncdc.schema.types.cells import Encoders, Inexact, quoted
from dyncdc.schema.types.dynamodb_values import text
from dyncdc.schema.types.type_parser import TypeNode

from .expressions import same_text
from .family import CompiledKind, Family, text_matching

_UUID: Final = "-".join(f"[0-9a-f]{{{length}}}" for length in (8, 4, 4, 4, 12))
_BYTE: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = r"\.".join([_BYTE] * 4)

_is_uuid = re.compile(_UUID).fullmatch


class Uuid(Family):
    """UUID."""

    def encoders(self, node: TypeNode) -> Encoders:
        """Take S."""
        return {"S": uuid_cell}

    def default(self, node: TypeNode) -> bytes:
        """The UUID of zeros."""
        return b'"00000000-0000-0000-0000-000000000000"'

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From S, in either case."""
        return same_text(f"toUUIDOrNull({x})", f"lower({x})") if tag == "S" else None

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For S in lower case."""
        return text_matching(_UUID) if tag == "S" else None


class Ipv4(Family):
    """IPv4."""

    def encoders(self, node: TypeNode) -> Encoders:
        """Take S."""
        return {"S": ipv4_cell}

    def default(self, node: TypeNode) -> bytes:
        """The address of zeros."""
        return b'"0.0.0.0"'

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From S."""
        return same_text(f"toIPv4OrNull({x})", x) if tag == "S" else None

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For S."""
        return text_matching(_IPV4) if tag == "S" else None


class Ipv6(Family):
    """IPv6. Its one canonical text is no matter of a pattern, so there is no compiled kind."""

    def encoders(self, node: TypeNode) -> Encoders:
        """Take S."""
        return {"S": ipv6_cell}

    def default(self, node: TypeNode) -> bytes:
        """The address of zeros."""
        return b'"::"'

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From S, in either case, without embedded IPv4."""
        if tag != "S":
            return None
        return f"if(position({x}, '.') = 0, {same_text(f'toIPv6OrNull({x})', f'lower({x})')}, NULL)"


def uuid_cell(payload: object) -> bytes | None:
    """S into a UUID: exact in lower case, with hyphens always."""
    found = text(payload)
    return _spelled(found.lower(), found) if _is_uuid(found.lower()) else None


def ipv4_cell(payload: object) -> bytes | None:
    """S into an IPv4: dotted decimal without leading zeros."""
    found = text(payload)
    try:
        return quoted(found) if str(ipaddress.IPv4Address(found)) == found else None
    except ValueError:
        return None


def ipv6_cell(payload: object) -> bytes | None:
    """S into an IPv6: exact as RFC 5952 spells it. Embedded IPv4 is left out, as it has several accepted forms."""
    found = text(payload)
    try:
        address = ipaddress.IPv6Address(found)
    except ValueError:
        return None
    plain = address.scope_id is None and address.ipv4_mapped is None and "." not in found
    return _spelled(str(address), found) if plain else None


def _spelled(canonical: str, given: str) -> bytes:
    """The cell of a value that has one canonical text: another spelling of it is not told by the column."""
    return quoted(canonical) if canonical == given else Inexact(quoted(canonical))


FAMILIES: Final = {"UUID": Uuid(), "IPv4": Ipv4(), "IPv6": Ipv6()}
