"""The whole configuration and what must hold between its parts."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

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
    Section,
)
from .snapshots import AWS_EXPORT_FUZZ_SECONDS
from .tables import TableConfig

OWN_TABLE_PREFIX = "dyncdc_"
VIEW_SUFFIX = "_current"


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Config(Section):
    """Everything the daemon is told. Make it with ``load_config``."""

    pipeline: str = Field(pattern=r"^[a-z0-9_-]{1,64}\z", description="name of the checkpoints: 1 to 64 of a-z 0-9 _ -")
    aws: AwsConfig = AwsConfig()
    clickhouse: ClickHouseConfig
    kinesis: KinesisConfig = KinesisConfig()
    batch: BatchConfig = BatchConfig()
    limits: LimitsConfig = LimitsConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    run: RunConfig = RunConfig()
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    tables: Annotated[tuple[TableConfig, ...], BeforeValidator(_tuple), Field(min_length=1)]

    @model_validator(mode="after")
    def _combinations(self) -> Config:
        self._check_names()
        for index, table in enumerate(self.tables):
            if self.stream_of(table) == "":
                raise ValueError(f"tables[{index}] has no stream: set kinesis.stream or tables[{index}].stream")
            self._check_region(index, table)
            for key in ("margin_seconds", "settle_seconds"):
                if getattr(table.snapshot, key) < AWS_EXPORT_FUZZ_SECONDS and not self.aws.local:
                    raise ValueError(
                        f"tables[{index}].snapshot.{key} must be at least 60: AWS's export time is exact to a minute"
                    )
        return self

    def _check_names(self) -> None:
        sources: set[str] = set()
        destinations: set[str] = set()
        for index, table in enumerate(self.tables):
            if table.dynamodb in sources:
                raise ValueError(f"tables[{index}].dynamodb: {table.dynamodb} is named twice")
            if table.destination in destinations:
                raise ValueError(f"tables[{index}].clickhouse: {table.destination} is the destination of two tables")
            if table.destination.startswith(OWN_TABLE_PREFIX):
                raise ValueError(f"tables[{index}].clickhouse: names with {OWN_TABLE_PREFIX} are kept for dyncdc's own")
            sources.add(table.dynamodb)
            destinations.add(table.destination)
        for index, table in enumerate(self.tables):
            if table.history is not None:
                self._check_history(index, table.history, destinations)
                destinations.add(table.history)
        for name in sorted(destinations):
            if name + VIEW_SUFFIX in destinations:
                raise ValueError(f"the destination {name}{VIEW_SUFFIX} is also the name of the view over {name}")

    def _check_region(self, index: int, table: TableConfig) -> None:
        """One region for all: DynamoDB would call an export of another one unknown."""
        arn = table.snapshot.export_arn
        region = arn.split(":")[3] if arn is not None else ""
        if region and self.aws.region and region != self.aws.region:
            raise ValueError(
                f"tables[{index}].snapshot.export_arn is in region {region}, aws.region is {self.aws.region}"
            )

    @staticmethod
    def _check_history(index: int, history: str, taken: set[str]) -> None:
        if history in taken:
            raise ValueError(f"tables[{index}].history: {history} is already the name of another table")
        if history.startswith(OWN_TABLE_PREFIX):
            raise ValueError(f"tables[{index}].history: names with {OWN_TABLE_PREFIX} are kept for dyncdc's own")

    def stream_of(self, table: TableConfig) -> str:
        """The stream, name or ARN, that carries a table's changes."""
        return table.stream or self.kinesis.stream or ""
