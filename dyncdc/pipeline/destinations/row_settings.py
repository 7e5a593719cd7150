"""The settings that decide the rows of a destination, and what a change of each does to rows that are there. Pure.

A setting that was changed and taken back leaves rows of both kinds behind, and nothing else would tell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import orjson

ColumnSetting = tuple[str, ...]
"""Column, attribute path, the DynamoDB types it takes, lossy, encoding; as text."""


@dataclass(frozen=True, slots=True)
class RowSettings:
    """Of one table, in one session. Paths and columns are sorted; ``listed``: the configuration lists the columns.

    ``beside``: names of the columns that the destination has beside the list. ``mask_key``: a digest that tells keys
    apart, and nothing else about them. ``spill`` and ``deleted``: the columns that the destination has for that, ""
    for none.
    """

    destination: str = ""
    deletes: str = "tombstone"
    ttl_deletes: str = "delete"
    exclude: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    mask_key: str = ""
    columns: tuple[ColumnSetting, ...] = ()
    listed: bool = False
    beside: tuple[str, ...] = ()
    history: str = ""
    spill: str = ""
    deleted: str = ""

    def text(self) -> str:
        """As it is kept."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def of_text(cls, text: str) -> RowSettings:
        """Read what was kept; what a later version has added is left out."""
        kept: dict[str, Any] = orjson.loads(text)
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {name: _frozen(value) for name, value in kept.items() if name in known}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class RecordedSettings:
    """Settings as a session noted them. ``uuid``: of the destination; ``at``: in seconds since the epoch."""

    uuid: str
    settings: RowSettings
    at: float
    member: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class SettingChange:
    """What a change of ``setting`` did to rows that are there: ``words``.

    ``repaired_by``: "snapshot" makes them right; "nothing" does, and it is only to be known. ``since``: when what they
    are under began.
    """

    setting: str
    words: str
    repaired_by: Literal["snapshot", "nothing"]
    since: float = 0.0


def tells_apart(uuid: str) -> bool:
    """Whether a UUID is one: in some databases of ClickHouse all tables have the same, of zeros."""
    return bool(uuid.strip("0-"))


def effects(
    past: Sequence[RecordedSettings],
    uuid: str,
    now: RowSettings,
    shown: Collection[str] = (),
    everyone: Sequence[RecordedSettings] | None = None,
) -> list[SettingChange]:
    """Return what rows of the destination ``uuid`` are under other settings than ``now``.

    ``past``: what sessions of the table have noted, the oldest first. ``shown``: columns whose DEFAULT reads the spill,
    so that older rows show their values. ``everyone``: what all members have noted, ``past`` among it: a change begins
    with the first of them that noted the settings, so that all members find the same change.
    """
    everyone = past if everyone is None else everyone
    own = [index for index, noted in enumerate(past) if _is_of(noted, uuid, now)]
    if not own:
        return []
    last = past[own[-1]]
    found = list(_elsewhere(past[own[-1] + 1 :], uuid, now, everyone))
    changed = list(_changed([past[index].settings for index in own], now, shown))
    if changed:

        def same(noted: RecordedSettings) -> bool:
            rows_differ = _loads(noted.settings, now, shown)
            return _is_of(noted, uuid, now) and rows_differ and not _loads(noted.settings, last.settings, shown)

        since = _began(everyone, last, same)
        found += [replace(effect, since=since) for effect in changed]
    return found


def first_noted(everyone: Sequence[RecordedSettings], uuid: str, now: RowSettings) -> float:
    """Since when there are rows of the destination ``uuid``, as far as was noted; 0 if nothing was."""
    return min((noted.at for noted in everyone if _is_of(noted, uuid, now)), default=0.0)


def _is_of(noted: RecordedSettings, uuid: str, now: RowSettings) -> bool:
    return noted.uuid == uuid and (tells_apart(uuid) or noted.settings.destination == now.destination)


def _began(
    everyone: Sequence[RecordedSettings], last: RecordedSettings, same: Callable[[RecordedSettings], bool]
) -> float:
    """Return when what ``last`` stands for was noted first: by whichever member, and without others in between.

    In the order of time: members that begin at once may note in another order than that of their sessions.
    """
    at = last.at
    for noted in sorted(everyone, key=lambda noted: noted.at, reverse=True):
        if noted.at < last.at:
            if not same(noted):
                break
            at = noted.at
    return at


def _elsewhere(
    later: Sequence[RecordedSettings], uuid: str, now: RowSettings, everyone: Sequence[RecordedSettings]
) -> Iterator[SettingChange]:
    others = [noted for noted in later if noted.settings.destination != now.destination]
    if others:
        words = f"its rows went to {others[-1].settings.destination} for a while, and not to {now.destination}"
        since = _began(everyone, others[0], lambda noted: not _is_of(noted, uuid, now))
        yield SettingChange("clickhouse", words, "snapshot", since)


def _loads(before: RowSettings, now: RowSettings, shown: Collection[str]) -> bool:
    """Whether a change loads the table again."""
    return any(effect.repaired_by == "snapshot" for effect in _changed([before], now, shown))


def _changed(past: Sequence[RowSettings], now: RowSettings, shown: Collection[str]) -> Iterator[SettingChange]:
    before = past[-1]
    yield from _of_deletes(past, now)
    yield from _of_hidden(before, now)
    if (before.listed or now.listed) and not _only_more(before, now, shown):
        words = "its list of columns was another: attributes are in other columns, or in none"
        yield SettingChange("columns", words, "snapshot")
    if before.spill != now.spill:
        if now.spill:
            which = "another" if before.spill else "no"
            words = f"there was {which} spill column: what had no fitting column is not in {now.spill}"
            yield SettingChange("metadata.spill", words, "snapshot")
        else:
            yield SettingChange("metadata.spill", f"what was in the spill column {before.spill} is gone", "nothing")
    if now.history and before.history != now.history and any(each.history == now.history for each in past):
        yield SettingChange("history", f"the history {now.history} has no changes of the time without it", "nothing")


def _of_deletes(past: Sequence[RowSettings], now: RowSettings) -> Iterator[SettingChange]:
    before = past[-1]
    if now.deletes == "tombstone" and (before.deletes == "ignore" or before.deleted not in ("", now.deleted)):
        words = "deletes were ignored" if before.deletes == "ignore" else f"deletes were marked in {before.deleted}"
        yield SettingChange("deletes", f"{words}: items that DynamoDB has no more are still there", "snapshot")
    if before.ttl_deletes == now.ttl_deletes:
        return
    if now.ttl_deletes == "delete":
        words = "items that expired were kept: they stay, marked as expired"
        yield SettingChange("ttl_deletes", words, "nothing")
    elif any(each.ttl_deletes == "keep" for each in past):
        words = "items that expired were deleted for a while, and are not kept"
        yield SettingChange("ttl_deletes", words, "nothing")


def _of_hidden(before: RowSettings, now: RowSettings) -> Iterator[SettingChange]:
    for setting, old, new in (("exclude", before.exclude, now.exclude), ("mask", before.mask, now.mask)):
        if old == new:
            continue
        more, less = ", ".join(sorted({*new} - {*old})), ", ".join(sorted({*old} - {*new}))
        shows = f"rows still hold {more} as DynamoDB does" if more else ""
        hides = f"rows do not hold {less} as DynamoDB does" if less else ""
        yield SettingChange(setting, "; ".join(filter(None, (shows, hides))), "snapshot")
        if now.history:
            words = f"the history {now.history} keeps its images as they were made"
            yield SettingChange(setting, words, "nothing")
    if before.mask and now.mask and before.mask_key != now.mask_key:
        yield SettingChange("mask_key_env", "the key of mask is another: equal values have other hashes", "snapshot")


def _only_more(before: RowSettings, now: RowSettings, shown: Collection[str]) -> bool:
    """Whether all columns are as they were, but for new ones that show what older rows hold in the spill.

    Or that no one has listed: the DEFAULT of an added column decides what older rows show there.
    """
    added = {*now.columns} - {*before.columns}
    return {*before.columns} <= {*now.columns} and all(column[0] in {*shown, *now.beside} for column in added)


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
