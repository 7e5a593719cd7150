"""Dates and times into cells: ISO 8601 text, or seconds since the epoch, that a column holds exactly.

The canonical text of a DateTime64(p) has exactly p fractional digits and ends in Z; of a DateTime none. A cell is that
text: it names UTC itself, so the time zones of column, session and server do not matter. Inserts must set
``date_time_input_format = 'best_effort'``, the default only since ClickHouse 26. Before 1970 a cell has whole seconds
only: servers before 26.1 read a fraction there up to a second off, and in no notation do all of them read it right.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Final

from dyncdc.schema.sql.quoting import quote_text
from dyncdc.schema.types.cells import Encoder, Encoders, Inexact, Rounded, quoted
from dyncdc.schema.types.dynamodb_values import canonical_number, text
from dyncdc.schema.types.type_parser import TypeNode

from .expressions import same_text
from .family import CompiledKind, Family, text_matching

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,18}))?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):?([0-5][0-9]))"
).fullmatch
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

DATE_RANGE: Final = (datetime.date(1970, 1, 1), datetime.date(2149, 6, 6))
DATE32_RANGE: Final = (datetime.date(1900, 1, 1), datetime.date(2299, 12, 31))
"""Source: ClickHouse documentation, Date and Date32."""

DATETIME_RANGE: Final = (0, 2**32 - 1)
DATETIME64_RANGE: Final = (-2_208_988_800, 10_413_791_999)
NANOSECOND_RANGE: Final = (-2_208_988_800, 9_214_646_399)
"""Whole seconds: 1900 to 2299; with nine digits 64 bits end in 2262, so only the years before it. Source: as above."""

_DAYS: Final = "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_TIMES: Final = "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_DATE_YEARS: Final = "(?:19[7-9][0-9]|20[0-9]{2}|21[0-3][0-9]|214[0-8])"
_DATE32_YEARS: Final = "(?:19[0-9]{2}|2[0-2][0-9]{2})"
_DATETIME_YEARS: Final = "(?:19[7-9][0-9]|20[0-9]{2}|210[0-5])"
_DATETIME64_YEARS: Final = "(?:19[7-9][0-9]|2[0-2][0-9]{2})"
_NANOSECOND_YEARS: Final = "(?:19[7-9][0-9]|2[01][0-9]{2}|22[0-5][0-9])"
"""For compiled code: years that lie within the type's range from their first to their last second, and of a DateTime64
not before 1970."""

_CANONICAL: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,18})?Z\\z"
"""For ClickHouse: the spelling that ``datetime_encoder`` takes, without an offset."""


class Date(Family):
    """Date, from 1970 to 2149."""

    shown_default = "1970-01-01"

    def encoders(self, node: TypeNode) -> Encoders:
        """Take S."""
        return {"S": date_encoder(DATE_RANGE)}

    def default(self, node: TypeNode) -> bytes:
        """The first day."""
        return quoted(self.shown_default)

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From S."""
        return same_text(f"toDateOrNull({x})", x) if tag == "S" else None

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For S."""
        return text_matching(f"{_DATE_YEARS}-{_DAYS}") if tag == "S" else None


class Date32(Date):
    """Date32, from 1900 to 2299."""

    shown_default = "1900-01-01"

    def encoders(self, node: TypeNode) -> Encoders:
        """Take S."""
        return {"S": date_encoder(DATE32_RANGE)}

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From S, in the years of the range."""
        if tag != "S":
            return None
        return f"if(substring({x}, 1, 4) BETWEEN '1900' AND '2299', {same_text(f'toDate32OrNull({x})', x)}, NULL)"

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For S."""
        return text_matching(f"{_DATE32_YEARS}-{_DAYS}") if tag == "S" else None


class DateTime(Family):
    """DateTime, from 1970 to 2106, in whole seconds."""

    shown_default = "1970-01-01"

    def encoders(self, node: TypeNode) -> Encoders | None:
        """Take S, and N as seconds since the epoch."""
        digits = fraction_digits(node)
        if not 0 <= digits <= 9:
            return None
        return {"S": datetime_encoder(digits, _range(node)), "N": self.epoch_encoder(node)}

    def epoch_encoder(self, node: TypeNode, places: int = 0) -> Encoder:
        """N as seconds since the epoch, or as the unit ``places`` digits below them."""
        return epoch_encoder(fraction_digits(node), _range(node), places)

    def default(self, node: TypeNode) -> bytes:
        """The epoch."""
        return _cell(0, "", fraction_digits(node))

    def expression(self, node: TypeNode, tag: str, x: str) -> str | None:
        """From both."""
        return self._of_text(node, x) if tag == "S" else self._of_seconds(node, x) if tag == "N" else None

    def _of_text(self, node: TypeNode, x: str) -> str:
        return _checked_text(node, x, f"parseDateTimeBestEffortOrNull({x}, 'UTC')", f"{_whole_seconds(x)})")

    def _of_seconds(self, node: TypeNode, x: str) -> str:
        seconds = f"toUInt32OrNull({x})"
        return f"if(toString({seconds}) = {x}, toDateTime({seconds}, 'UTC'), NULL)"

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For S."""
        return text_matching(f"{_DATETIME_YEARS}-{_DAYS}{_TIMES}Z") if tag == "S" else None


class DateTime64(DateTime):
    """DateTime64(p), from 1900 to 2299, with nine digits to 2262."""

    def _of_text(self, node: TypeNode, x: str) -> str:
        digits = fraction_digits(node)
        # before 1970 a column has whole seconds only
        known = f"replaceRegexpOne({x}, '^(19[0-6].{{16}})[.][0-9]+Z\\\\z', '\\\\1Z')"
        fraction = f"rightPad(substring(replaceOne({known}, 'Z', ''), 21, {digits}), {digits}, '0')"
        text = f"{_whole_seconds(x)}, '.', {fraction})" if digits else f"{_whole_seconds(x)})"
        return _checked_text(node, x, f"parseDateTime64BestEffortOrNull({known}, {digits}, 'UTC')", text)

    def _of_seconds(self, node: TypeNode, x: str) -> str:
        digits, (low, high) = fraction_digits(node), _range(node)
        value = f"toDecimal64OrNull({x}, {digits})"
        fraction = f"([.][0-9]{{1,{digits}}})?" if digits else ""
        form = f"match({x}, '^-?(0|[1-9][0-9]{{0,11}}){fraction}\\\\z')"
        fits = f"{form} AND {value} >= {low} AND {value} < {high + 1}"
        value = f"if({value} < 0, floor({value}), {value})" if digits else value  # before 1970, whole seconds only
        return f"if({fits}, CAST({value} AS Nullable(DateTime64({digits}, 'UTC'))), NULL)"

    def compiled_kind(self, node: TypeNode, tag: str) -> CompiledKind | None:
        """For S."""
        if tag != "S":
            return None
        digits = fraction_digits(node)
        years = _NANOSECOND_YEARS if digits > 8 else _DATETIME64_YEARS
        fraction = rf"\.[0-9]{{{digits}}}" if digits else ""
        return text_matching(f"{years}-{_DAYS}{_TIMES}{fraction}Z")


def fraction_digits(node: TypeNode) -> int:
    """Return the digits below the second of a DateTime or DateTime64."""
    return 0 if node.name == "DateTime" else node.numbers[0] if node.numbers else 3


def _range(node: TypeNode) -> tuple[int, int]:
    """The first and the last second."""
    if node.name == "DateTime":
        return DATETIME_RANGE
    return NANOSECOND_RANGE if fraction_digits(node) > 8 else DATETIME64_RANGE


def _whole_seconds(x: str) -> str:
    """The beginning of a ``concat`` that spells a moment as ClickHouse does."""
    return f"concat(substring({x}, 1, 10), ' ', substring({x}, 12, 8)"


def _checked_text(node: TypeNode, x: str, value: str, text: str) -> str:
    """A value only if it shows ``text``, which is what ``x`` says, in a spelling that the encoder takes."""
    digits = fraction_digits(node)
    rest = f"match(substring({x}, {21 + digits}), '^[.]?0*Z?\\\\z')"
    years = f"substring({x}, 1, 4) BETWEEN '1900' AND '{2261 if digits > 8 else 2299}'"
    form = f"match({x}, {quote_text(_CANONICAL)})"
    return f"if({form} AND {years} AND {rest} AND toString({value}) = {text}, {value}, NULL)"


def date_encoder(limits: tuple[datetime.date, datetime.date]) -> Encoder:
    """S into a Date or Date32: a day that exists, as YYYY-MM-DD."""

    def encode(payload: object) -> bytes | None:
        found = text(payload)
        if not _DATE(found):
            return None
        try:
            day = datetime.date.fromisoformat(found)
        except ValueError:  # February 31: ClickHouse would make it March 2
            return None
        return quoted(found) if limits[0] <= day <= limits[1] else None

    return encode


def datetime_encoder(digits: int, limits: tuple[int, int]) -> Encoder:
    """S into a DateTime (no digits) or DateTime64: other spellings of the instant, with an offset, say, blur its text.

    More digits than the column has are cut off, for those that allow it.
    """

    def encode(payload: object) -> bytes | None:
        found = text(payload)
        match = _MOMENT(found)
        if match is None:
            return None
        whole, fraction, sign, hours, minutes = match.groups(default="")
        seconds = _seconds(whole)
        if seconds is None:
            return None
        if sign:
            seconds -= int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60)
        if not limits[0] <= seconds <= limits[1]:
            return None
        cell = _cell(seconds, fraction[:digits], digits)
        if fraction[digits:].strip("0"):
            return Rounded(cell)
        return cell if found[10] == "T" and not sign and len(fraction) == digits else Inexact(cell)

    return encode


def epoch_encoder(digits: int, limits: tuple[int, int], places: int = 0) -> Encoder:
    """N into a DateTime or DateTime64: seconds since the epoch, or the unit ``places`` digits below them."""

    def encode(payload: object) -> bytes | None:
        number = canonical_number(payload)
        whole, _, fraction = number.partition(".")
        if places:
            sign, digits_above = number[: number.startswith("-")], whole.lstrip("-").zfill(places + 1)
            whole, fraction = sign + digits_above[:-places], (digits_above[-places:] + fraction).rstrip("0")
        if len(whole) > 12:
            return None
        seconds = int(whole)
        if fraction and number.startswith("-"):  # -1.25 s is 0.75 s after the second before
            seconds, fraction = seconds - 1, str(10 ** len(fraction) - int(fraction)).zfill(len(fraction))
        if not limits[0] <= seconds <= limits[1]:
            return None
        cell = _cell(seconds, fraction[:digits], digits)
        return Rounded(cell) if len(fraction) > digits else cell

    return encode


def _cell(seconds: int, fraction: str, digits: int) -> bytes:
    """A moment's cell; ``fraction`` of a second counts forward, and is at most ``digits`` long."""
    whole = (_EPOCH + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    if seconds < 0 and fraction.strip("0"):
        return Inexact(quoted(f"{whole}.{'0' * digits}Z"))
    return quoted(f"{whole}.{fraction:0<{digits}}Z" if digits else f"{whole}Z")


def _seconds(whole: str) -> int | None:
    """Seconds since the epoch, None for a moment that does not exist."""
    try:
        moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
    return (moment - _EPOCH) // datetime.timedelta(seconds=1)


FAMILIES: Final[Mapping[str, Family]] = {
    "Date": Date(),
    "Date32": Date32(),
    "DateTime": DateTime(),
    "DateTime64": DateTime64(),
}
