"""Keeps ClickHouse tables equal to DynamoDB tables: first by a snapshot, then by every change, forever."""

__version__ = "0.1.0"
