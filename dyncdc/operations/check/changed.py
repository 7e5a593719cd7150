"""What ``check`` says of settings and columns that are not what rows were written by. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dyncdc.app.assembly.row_settings import of_member, row_settings, shown_columns, unrepeatable
from dyncdc.app.assembly.table_plans import TablePlanned
from dyncdc.app.context import AppContext
from dyncdc.pipeline.destinations.row_settings import RecordedSettings, SettingChange, effects
from dyncdc.sinks.state.mappings import mapping_news
from dyncdc.sinks.state.row_settings import ClickHouseRowSettings
from dyncdc.timestamps import timestamp

from .findings import Finding


async def changed_findings(context: AppContext, planned: TablePlanned) -> list[Finding]:
    """Return a finding for each thing that a destination holds otherwise than its configuration says."""
    if planned.existing is None:
        return []
    store = ClickHouseRowSettings(context.clickhouse, context.config.pipeline)
    past = await context.retry(lambda: store.load(planned.spec.source_table))
    return [*_of_columns(planned), *_of_settings(planned, of_member(past, context.assignment.member))]


def _of_columns(planned: TablePlanned) -> Iterator[Finding]:
    table, spec = planned.existing, planned.spec
    if table is None:
        return
    subject, news = f"destination {table.name}", mapping_news(table, spec)
    snapshot = f"`dyncdc snapshot {spec.source_table}` makes the rows right"
    if news.spill and planned.config.metadata.spill:
        todo = f'run: ALTER TABLE {table.name} ADD COLUMN {news.spill} String, or set metadata.spill = ""'
        yield Finding("warning", subject, f"its spill column {news.spill} is gone, and what was in it", todo)
    for name in news.dropped:
        yield Finding("warning", subject, f"its column {name} was dropped, and the values in it", snapshot)
    for words in news.narrowed:
        yield Finding("warning", subject, f"{words}: ALTER may have changed values", "the next start loads it again")
    for column in news.comments:
        todo = "the next start restores it; rows do not depend on it"
        yield Finding("warning", subject, f"someone took the comment of its column {column.name}", todo)


def _of_settings(planned: TablePlanned, past: Sequence[RecordedSettings]) -> Iterator[Finding]:
    table, spec = planned.existing, planned.spec
    if table is None:
        return
    shown = shown_columns(table, spec)
    why_not = unrepeatable(planned.config)
    for effect in effects(past, table.uuid, row_settings(planned.config, spec), shown):
        todo = why_not or "the next start loads it again" if effect.repaired_by == "snapshot" else ""
        yield _finding(planned, effect, effect.words, todo)
    for index in range(1, len(past)):
        if past[index].uuid != table.uuid:
            continue
        for effect in effects(past[:index], table.uuid, past[index].settings, shown):
            if effect.repaired_by == "nothing" or why_not:
                words = f"{effect.words} (changed at {timestamp(past[index].at)})"
                yield _finding(planned, effect, words, why_not if effect.repaired_by == "snapshot" else "")


def _finding(planned: TablePlanned, effect: SettingChange, words: str, todo: str) -> Finding:
    return Finding("warning", f"table {planned.spec.source_table} {effect.setting}", words, todo)
