"""The sections of the configuration, tables aside: keys, types, defaults, bounds. Each default is written here only."""

from __future__ import annotations

import re
from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from .urls import ClickHouseUrlField, HttpAddress, HttpAddressField

MINIMUM_MEMORY_BYTES = 16 * 1024 * 1024
"""A GetRecords answer can be 10 MiB (AWS, GetRecords, 2026); below this one answer and its insert would not fit."""

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_STREAM = re.compile(
    r"[a-zA-Z0-9_.-]{1,128}|arn:[a-z-]+:kinesis:[a-z0-9-]+:\d{12}:stream/[a-zA-Z0-9_.-]{1,128}", re.ASCII
)

Seconds = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """What every part of the configuration has in common: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True, validate_by_name=False
    )


def check_stream(value: str | None) -> str | None:
    """A stream's name or its ARN. Raises ValueError."""
    if value is not None and ":dynamodb:" in value:
        raise ValueError("must be a Kinesis data stream that the table sends its changes to, not a DynamoDB stream")
    if value is not None and not _STREAM.fullmatch(value):
        raise ValueError("must be the name or the ARN of a Kinesis stream")
    return value


def _parse_start(value: object) -> object:
    if value in ("TRIM_HORIZON", "LATEST"):
        return value
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise ValueError('must be "TRIM_HORIZON", "LATEST" or a time with its zone, as "2026-01-31T00:00:00Z"')


Start = Annotated[
    Literal["TRIM_HORIZON", "LATEST"] | datetime, BeforeValidator(_parse_start), WithJsonSchema({"type": "string"})
]


class AwsConfig(Section):
    """How to reach AWS. Credentials come from the SDK's own chain, never from here."""

    region: Text | None = Field(
        default=None, description="AWS region; default: what the SDK finds (AWS_REGION, profile)"
    )
    endpoint_url: str | None = Field(
        default=None, description="another endpoint for all services: LocalStack, the local AWS"
    )
    role_arn: Text | None = Field(default=None, description="role to assume")
    external_id: Text | None = Field(default=None, description="external id for the role")

    @model_validator(mode="after")
    def _combinations(self) -> AwsConfig:
        if self.external_id and not self.role_arn:
            raise ValueError("external_id means nothing without role_arn")
        return self

    @field_validator("endpoint_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        if value is not None and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be an http:// or https:// URL")
        return value

    @property
    def local(self) -> bool:
        """Whether the endpoint is on this machine: there export times are exact, and need not be waited for.

        Any other name may lead to AWS, through a proxy or a private link.
        """
        host = urlsplit(self.endpoint_url or "").hostname or ""
        if host == "localhost" or host.endswith((".localhost", ".localstack.cloud")):
            return True
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return False


class ClickHouseConfig(Section):
    """How to reach ClickHouse."""

    # whatever the way it was given, the password ends up in url.password
    url: ClickHouseUrlField = Field(
        description="clickhouse://user@host:9000/database; clickhouses:// for TLS (port 9440); several replicas of a "
        "cluster as host1:9000,host2:9000; "
        "local:///directory starts a ClickHouse of its own as a child process"
    )
    password_env: Text | None = Field(
        default=None, description="name of the environment variable that holds the password"
    )
    password_file: Text | None = Field(default=None, description="file that holds the password")
    cluster: Text | None = Field(
        default=None, description="cluster of one shard: tables are made ON CLUSTER, with Replicated engines"
    )
    compression: Literal["lz4", "none"] = Field(
        default="lz4", description="compression of data blocks, lz4 or none; the text of inserts travels as it is"
    )
    ca_file: Text | None = Field(
        default=None, description="CA certificates (PEM) to trust instead of the system's; TLS only"
    )
    cert_file: Text | None = Field(
        default=None, description="client certificate (PEM), with those between it and its CA; TLS only"
    )
    key_file: Text | None = Field(
        default=None,
        description="key of the client certificate (PEM, not encrypted); without it, the key is in cert_file",
    )
    insert_timeout_seconds: Seconds = Field(
        default=60.0, description="an insert that takes longer is given up and sent again"
    )
    insert_quorum: Literal["auto", "off"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="replicas that must have an insert before it counts: auto (a majority: both of two), a number, or "
        "off (one; what another has not fetched is read again after a failover, as far as replay_after_restart_seconds "
        "reaches)",
    )
    insert_fsync: bool = Field(
        default=False, description="true: tables are made so that an insert is on disk before it is acknowledged"
    )
    replay_after_restart_seconds: float = Field(
        default=300.0,
        ge=0,
        le=1800,
        description="what was acknowledged so shortly before a restart of ClickHouse is read again: it may have been "
        "lost with the power; 0: nothing is",
    )

    @model_validator(mode="after")
    def _combinations(self) -> ClickHouseConfig:
        passwords = [bool(self.url.password), self.password_env is not None, self.password_file is not None]
        if sum(passwords) > 1:
            raise ValueError("the password is given twice: keep one of url, password_env and password_file")
        if self.url.kind == "local" and any((*passwords, self.ca_file, self.cert_file)):
            raise ValueError("a local:// ClickHouse takes neither password nor certificates")
        if self.url.others and not self.cluster:
            raise ValueError(
                "several hosts in url must be replicas of one cluster: name it as clickhouse.cluster (`dyncdc init`:"
                " --cluster)"
            )
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs clickhouse.cert_file, the certificate that the key is of")
        for key in ("ca_file", "cert_file"):
            if getattr(self, key) and not self.url.secure:
                raise ValueError(f"{key} needs TLS: write url as clickhouses://")
        return self


class KinesisConfig(Section):
    """The change stream."""

    stream: str | None = Field(default=None, description="name or ARN; needed unless every table names its own stream")
    start: Start = Field(
        default="TRIM_HORIZON",
        description="TRIM_HORIZON, LATEST or an RFC 3339 time; only for a stream without checkpoints",
    )
    poll_interval_seconds: Seconds = Field(
        default=0.25, description="shortest pause between reads of a shard; grows by itself while a shard is idle"
    )
    fan_out: bool = Field(default=False, description="true: enhanced fan-out (SubscribeToShard); not in this version")
    on_lost_position: Literal["resnapshot", "stop"] = Field(
        default="resnapshot",
        description="when changes were lost unread: resnapshot (loads the tables concerned again) or stop (exits 1)",
    )

    _stream = field_validator("stream")(check_stream)

    @field_validator("fan_out")
    @classmethod
    def _is_off(cls, value: bool) -> bool:
        if value:
            raise ValueError("is not available in this version")  # so that no one believes it is in force
        return value


class BatchConfig(Section):
    """When a table's open batch is flushed, whichever comes first."""

    max_rows: int = Field(default=100_000, gt=0, description="rows in one insert")
    max_bytes: int = Field(default=33_554_432, gt=0, description="bytes in one batch")
    max_age_seconds: Seconds = Field(default=1.0, description="longest wait of a row; over 20 tables: up to 10 s")


class LimitsConfig(Section):
    """What the process may use."""

    memory_bytes: int = Field(
        default=100_663_296,
        ge=MINIMUM_MEMORY_BYTES,
        description="bytes fetched and not yet durable, plus batches; the process stays within 1.25 times this above "
        "its idle size",
    )
    workers: int = Field(default=1, ge=1, description="processes on this machine; they share memory_bytes")


class CheckpointConfig(Section):
    """Saving of positions."""

    interval_seconds: Seconds = Field(default=1.0, description="pause between two saves of changed positions")


class RunConfig(Section):
    """Time limits of the daemon."""

    startup_timeout_seconds: Seconds = Field(
        default=30.0, description="how long commands other than run keep trying an endpoint that does not answer"
    )
    shutdown_seconds: Seconds = Field(default=25.0, description="drain after SIGTERM")
    stuck_after_seconds: Seconds = Field(default=60.0, description="a task that has not moved for so long is stuck")


class HttpConfig(Section):
    """The HTTP server for metrics and health."""

    listen: HttpAddressField = Field(
        default=HttpAddress("127.0.0.1", 9108),
        description="host:port of /metrics /livez /healthz /readyz and the page at /",
    )
    allowed_hosts: tuple[Text, ...] = Field(
        default=(),
        description="names by which clients may ask for these pages, beside addresses and localhost; without any, all "
        "names are good, but none where listen is a loopback address",
    )


class LogConfig(Section):
    """Logs, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto (colours on a terminal, JSON otherwise), json or console"
    )


class DeadLettersConfig(Section):
    """When too many dead letters stop the daemon: it exits 1, and a restart stops at the same record again."""

    max_ratio: float = Field(
        default=0.05, gt=0, le=1, description="most dead letters among the last 10,000 records, once there were so many"
    )
    max_consecutive: int = Field(
        default=1000, gt=0, description="most dead letters in a row, of one shard or refused by one destination"
    )
