"""Exports of every kind, described and summed up as DynamoDB does and as a later one may: what leaves anything out.

A snapshot that lacks items makes their rows look deleted, so an export counts as one only if both of its documents say
nothing else. The judge made the export, and knows.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import orjson

from dyncdc.errors import ConfigError
from dyncdc.sources.export import manifest
from simulation.process_run import Violation

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/orders/export/01"
FILTERS: tuple[dict[str, Any], ...] = (
    {"FilterSpecification": {"FilterExpression": "x < :x"}},
    {"FilterSpecification": {"ProjectionExpression": "id"}},
    {"FilterExpression": "x < :x"},
    {"FilterRules": ["x"]},
)
"""The first two as AWS has them since 2026; the others as it may some day."""
INCREMENTAL: tuple[dict[str, Any], ...] = (
    {"ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": {"ExportFromTime": 1.0}},
    {"ExportType": "INCREMENTAL_EXPORT"},
    {"IncrementalExportSpecification": {"ExportFromTime": 1.0}},
)
WHOLE: tuple[dict[str, Any], ...] = (
    {},
    {"ExportType": "FULL_EXPORT"},
    {"FilterSpecification": None},
    {"FilterSpecification": {}, "ExportType": "FULL_EXPORT"},
)


def run(seed: int) -> Counter[str]:
    """Judge one export by its description and by its summary. Raises Violation."""
    rng = random.Random(f"partial {seed}")
    kind, choices = rng.choice((("filtered", FILTERS), ("incremental", INCREMENTAL), ("whole", WHOLE)))
    said = rng.choice(choices)
    description = {"ExportArn": ARN, "ExportStatus": "COMPLETED", "ExportFormat": "DYNAMODB_JSON"} | said
    summary = {
        "version": "2020-06-30",
        "exportArn": ARN,
        "itemCount": rng.randrange(9),
        "s3Bucket": "b",
        "manifestFilesS3Key": "k",
        "outputFormat": "DYNAMODB_JSON",
    } | {name[0].lower() + name[1:]: value for name, value in said.items()}
    for document, taken in (
        ("description", _is_taken_as_described(description)),
        ("summary", _is_taken_as_summed_up(orjson.dumps(summary))),
    ):
        if taken != (kind == "whole"):
            raise Violation(f"an export that is {kind} is {'taken' if taken else 'refused'} by its {document}: {said}")
    return Counter({kind: 1})


def _is_taken_as_described(description: dict[str, Any]) -> bool:
    try:
        manifest.refuse_other_exports("describing", description)
    except ConfigError:
        return False
    return True


def _is_taken_as_summed_up(body: bytes) -> bool:
    try:
        manifest.parse_summary("summary", body, ARN)
    except ConfigError:
        return False
    return True
