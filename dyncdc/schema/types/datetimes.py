"""Dates and times into cells: ISO 8601 text, or seconds since the epoch, that a column holds exactly.

The canonical text of a DateTime64(p) has exactly p fractional digits and ends in Z; of a DateTime none. A cell is that
text: it names UTC itself, so the time zones of column, session and server do not matter. Inserts must set
``date_time_input_format = 'best_effort'``, the default only since ClickHouse 26. Before 1970 a cell has whole seconds
only: servers before 26.1 read a fraction there up to a second off, and in no notation do all of them read it right.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, Literal

from .dynamodb_values import canonical_number, text
from .scalars import Encoder, Inexact, Rounded, quoted

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


UNIT_PLACES: Final[Mapping[str, int]] = {"epoch_ms": 3, "epoch_us": 6}
"""Digits below the second, by encoding."""


def epoch_unit(numbers: Iterable[str]) -> Literal["", "epoch_ms", "epoch_us"]:
    """Return the encoding of numbers that can only be milliseconds or microseconds: as seconds they end after 5000."""
    sizes = [abs(Decimal(number)) for number in numbers if number != "0"]
    for encoding, low, high in (("epoch_ms", 10**11, 10**14), ("epoch_us", 10**14, 10**17)):
        if sizes and all(low <= size < high for size in sizes):
            return "epoch_ms" if encoding == "epoch_ms" else "epoch_us"
    return ""


def datetime_default(digits: int) -> bytes:
    """Return the cell of the epoch."""
    return _cell(0, "", digits)


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
