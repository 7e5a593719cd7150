"""What an export holds of its table: all of it, or what a filter lets through, or changes instead of items.

Source: AWS ExportTableToPointInTime (FilterSpecification, IncrementalExportSpecification), "Filtering a table export",
"DynamoDB table export output format".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dyncdc.emulator.aws.server.wire import Wire

from .conditions import condition, holds
from .expressions import Parser, project
from .items import Row

INCREMENTAL = "INCREMENTAL_EXPORT"


def exported(rows: Sequence[Row], request: Wire, key_names: Sequence[str]) -> list[Row]:
    """Return the rows that an export has, their attributes being a line of it. Every item counts as just changed."""
    names = ("KeyConditionExpression", "FilterExpression")
    asked: Wire = request.get("FilterSpecification") or {}
    conditions = [condition(asked.get(name), asked) for name in names]
    text = asked.get("ProjectionExpression")
    paths = Parser(text, asked.get("ExpressionAttributeNames"), None).paths() if text else []
    found: list[Row] = []
    for row in rows:
        if all(holds(one, row.attributes) for one in conditions):
            shown = project(paths, row.attributes) if paths else row.attributes
            found.append(replace(row, attributes=_line(request, shown, row.attributes, key_names)))
    return found


def _line(request: Wire, shown: Wire, item: Wire, key_names: Sequence[str]) -> Wire:
    if request.get("ExportType") != INCREMENTAL:
        return {"Item": shown}
    written = int(float(request["IncrementalExportSpecification"]["ExportFromTime"]) * 1_000_000)
    keys = {name: item[name] for name in key_names}
    return {"Metadata": {"WriteTimestampMicros": {"N": str(written)}}, "Keys": keys, "NewImage": shown}
