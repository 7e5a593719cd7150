"""The configuration: TOML and environment into checked, frozen values. Never connects, never reads a clock."""

from __future__ import annotations

from .attribute_paths import format_attribute_path, parse_attribute_path
from .config import Config
from .load import load_config, parse_config
from .sections import (
    AwsConfig,
    BatchConfig,
    CheckpointConfig,
    ClickHouseConfig,
    DeadLettersConfig,
    HttpConfig,
    KinesisConfig,
    LimitsConfig,
    LogConfig,
    RunConfig,
)
from .snapshots import SnapshotConfig
from .tables import ColumnConfig, MetadataConfig, TableConfig
from .urls import ClickHouseUrl, HttpAddress

__all__ = [
    "AwsConfig",
    "BatchConfig",
    "CheckpointConfig",
    "ClickHouseConfig",
    "ClickHouseUrl",
    "ColumnConfig",
    "Config",
    "DeadLettersConfig",
    "HttpAddress",
    "HttpConfig",
    "KinesisConfig",
    "LimitsConfig",
    "LogConfig",
    "MetadataConfig",
    "RunConfig",
    "SnapshotConfig",
    "TableConfig",
    "format_attribute_path",
    "load_config",
    "parse_attribute_path",
    "parse_config",
]
