"""What tests that follow a page leave behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.servers.aws import Aws


@pytest.fixture
def names_of_pages(aws: Aws) -> Iterator[None]:
    """The names of tables and streams on pages, which are the same on all of them: afterwards they are free again."""
    yield
    for table in aws.dynamodb.list_tables()["TableNames"]:
        if table.startswith("orders"):
            aws.dynamodb.delete_table(TableName=table)
    for stream in aws.kinesis.list_streams()["StreamNames"]:
        if stream.startswith("orders"):
            aws.kinesis.delete_stream(StreamName=stream)
