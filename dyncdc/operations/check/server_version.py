"""What is known of a server's version. ``make matrix`` is where it is known from."""

from __future__ import annotations

from .findings import Finding

OLDEST_USABLE = (23, 8)
"""Source: the deleted column of ReplacingMergeTree and its use by FINAL are settled from 23.8 on."""

OLDEST_TRIED = (24, 5)


def version_findings(version: str) -> list[Finding]:
    """What is to be said of it: nothing from the oldest version on that was tried."""
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers >= OLDEST_TRIED:
        return []
    if numbers >= OLDEST_USABLE:
        text = f"version {version} was never tried with dyncdc, 24.5 is the oldest that was"
        return [Finding("warning", "clickhouse", text, "upgrade to 24.5 or newer, or compare by `dyncdc verify`")]
    text = f"version {version} is too old: the deleted column of ReplacingMergeTree is settled from 23.8 on"
    return [Finding("error", "clickhouse", text, "upgrade to 24.5 or newer")]
