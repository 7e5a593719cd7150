"""The steps of ``init``: look, infer or match, write the text, and read that text back as every other command will."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dyncdc.app.assembly.table_plans import TablePlanned, check_clickhouse, plan_table
from dyncdc.app.context import AppContext, open_aws, open_clickhouse
from dyncdc.app.startup_retry import StartupRetry, limited
from dyncdc.config import ClickHouseUrl, Config, parse_config
from dyncdc.emulator.clickhouse import DEFAULT_DATABASE
from dyncdc.errors import DyncdcError
from dyncdc.operations.ddl import granted_table
from dyncdc.operations.permissions.iam_policy import Resources, Statement, required_statements
from dyncdc.schema.mapping import new_table_spec
from dyncdc.schema.sql.ddl import create_table, create_view
from dyncdc.sinks.client.cluster import cluster_in_use
from dyncdc.sinks.state.tables import own_statements
from dyncdc.sinks.tables.grants import grant_statements
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.scan.read_capacity import UNIT_BYTES

from .document import PASSWORD_VARIABLE, Draft, config_text, toml_text, url_text
from .draft import STREAM_PLACEHOLDER, make_draft
from .introspect import ExistingDestination, Source, look_at_clickhouse, look_at_source

CLICKHOUSE_PATIENCE_SECONDS = 5.0
"""ClickHouse need not be there; AWS must."""

DEFAULT_URL = ClickHouseUrl("native", host="localhost")
LOCAL_TIMES = "margin_seconds = 2.0, settle_seconds = 1.0"
"""A local AWS's times are exact to the second: nothing need be waited for."""

_UNFIT_FOR_PIPELINE = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class InitRequest:
    """What the user gave; "" and None where nothing was given. ``items``: how many to look at, at most."""

    table: str
    stream: str = ""
    url: ClickHouseUrl | None = None
    into: str = ""
    region: str = ""
    endpoint_url: str = ""
    bucket: str = ""
    cluster: str = ""
    snapshot: bool = True
    items: int = 1000


@dataclass(frozen=True, slots=True)
class Proposal:
    """The text of the configuration and what goes with it. ``offers`` are statements that are up to the user."""

    text: str
    statements: tuple[str, ...]
    offers: tuple[str, ...]
    grants: tuple[str, ...]
    policy: tuple[Statement, ...]
    todo: tuple[str, ...]
    notes: tuple[str, ...]
    config: Config = field(repr=False)


async def propose(asked: InitRequest, environ: Mapping[str, str]) -> Proposal:
    """Look at everything and propose. Changes nothing.

    Raises ConfigError (no such table, refused credentials), FatalError (AWS does not answer).
    """
    first, environ = _first_config(asked, environ)
    with limited(first, "init") as startup_retry, limited(first, "init") as short:
        short.seconds = CLICKHOUSE_PATIENCE_SECONDS
        async with open_aws(first) as aws:
            source = await look_at_source(aws, startup_retry, asked.table, asked.stream, asked.items, asked.bucket)
            standing = await look_at_clickhouse(first, short)
            draft = make_draft(first, source, standing, aws.region, local_snapshot(asked, first, source))
            text = config_text(draft)
            config = parse_config(text, environ, name="the proposal")
            planned = await _statements(config, aws, source, standing, short)
    policy = required_statements(config, _resources(config, source, draft))
    notes = (*draft.notes, *planned.notes)
    return Proposal(text, planned.statements, planned.offers, planned.grants, tuple(policy), draft.todo, notes, config)


def _first_config(asked: InitRequest, environ: Mapping[str, str]) -> tuple[Config, Mapping[str, str]]:
    """The options as a configuration, checked like any other, and the environment for what is written later."""
    environ = dict(environ)
    if asked.url is not None:
        environ.pop("DYNCDC_CLICKHOUSE__URL", None)
        if asked.url.password:
            environ[PASSWORD_VARIABLE] = asked.url.password
    if asked.cluster:
        environ.pop("DYNCDC_CLICKHOUSE__CLUSTER", None)
    lines = [f"pipeline = {toml_text(_pipeline(asked.table))}", "[aws]"]
    lines += [f"region = {toml_text(asked.region)}"] if asked.region else []
    lines += [f"endpoint_url = {toml_text(asked.endpoint_url)}"] if asked.endpoint_url else []
    lines += ["[clickhouse]", f"url = {toml_text(url_text(asked.url or DEFAULT_URL))}"]
    lines += [f"cluster = {toml_text(asked.cluster)}"] if asked.cluster else []
    if PASSWORD_VARIABLE in environ and (asked.url or DEFAULT_URL).kind == "native":
        lines.append(f"password_env = {toml_text(PASSWORD_VARIABLE)}")
    lines += ["[kinesis]", f"stream = {toml_text(asked.stream or STREAM_PLACEHOLDER)}"]
    lines += ["[[tables]]", f"dynamodb = {toml_text(asked.table)}", f"clickhouse = {toml_text(asked.into)}"]
    lines += [f"snapshot = {_snapshot_text(asked, settle=False)}"]
    return parse_config("\n".join(lines), environ, name="the options"), environ


def _pipeline(table: str) -> str:
    return _UNFIT_FOR_PIPELINE.sub("-", table.lower()).strip("-")[:64] or "dyncdc"


def _snapshot_text(asked: InitRequest, *, settle: bool) -> str:
    if not asked.snapshot:
        return '{ method = "none" }'
    if asked.bucket:
        keys = f'method = "export", bucket = {toml_text(asked.bucket)}'
    else:
        keys = 'method = "scan", segments = 4, read_capacity_units = 200.0'
    return f"{{ {keys}{f', {LOCAL_TIMES}' if settle else ''} }}"


def local_snapshot(asked: InitRequest, config: Config, source: Source) -> tuple[str, str]:
    """The snapshot's line and its comment."""
    text = _snapshot_text(asked, settle=config.aws.local and asked.snapshot)
    table = source.table
    if not asked.snapshot:
        return text, "Changes only: items that do not change never arrive."
    if asked.bucket:
        return text, "A point-in-time export through S3: takes no read capacity."
    minutes = table.size_bytes / UNIT_BYTES / config.tables[0].snapshot.read_capacity_units / 60
    return text, (
        f"A scan: about {table.item_count:,} items, {table.size_bytes:,} bytes, {minutes:,.0f} min at this rate."
        " `init --bucket NAME` proposes an export\nthrough S3 instead, which takes no read capacity."
    )


@dataclass(frozen=True, slots=True)
class _Planned:
    statements: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def _statements(
    config: Config, aws: AwsClients, source: Source, standing: ExistingDestination, startup_retry: StartupRetry
) -> _Planned:
    """What ``dyncdc ddl`` will say of the written configuration."""
    table, cluster = config.tables[0], config.clickhouse.cluster
    if standing.unseen:
        spec = new_table_spec(table, source.table.keys, (), version_type=source.version_type)
        statements = (*own_statements(cluster), create_table(spec, cluster), create_view(spec, cluster))
        return _Planned(statements, grants=_grants(config, TablePlanned(table, spec, None), cluster))
    try:
        async with open_clickhouse(config, startup_retry) as clickhouse:
            cluster = await startup_retry(lambda: cluster_in_use(clickhouse, config.clickhouse.cluster))
            context = AppContext(config, aws, clickhouse, startup_retry, cluster=cluster)
            await check_clickhouse(context)
            plan = await plan_table(context, table)
    except DyncdcError as error:
        return _Planned(notes=(f"`dyncdc ddl` cannot do it as it stands: {error}; {error.hint}",))
    refused = tuple(f"{each.reason}; {each.todo}" for each in plan.refused)
    statements = (*own_statements(cluster), *plan.statements)
    return _Planned(statements, tuple(plan.offers), _grants(config, plan, cluster), refused)


def _grants(config: Config, plan: TablePlanned, cluster: str | None) -> tuple[str, ...]:
    url = config.clickhouse.url
    database = DEFAULT_DATABASE if url.kind == "local" else url.database
    return tuple(grant_statements(url.user, database, [granted_table(plan)], cluster=cluster))


def _resources(config: Config, source: Source, draft: Draft) -> Resources:
    table = source.table
    # without a stream, the ARN that it will have in the table's own account and region
    head = table.arn.partition(":table/")[0].replace(":dynamodb:", ":kinesis:")
    arn = source.stream.arn if source.stream is not None else f"{head}:stream/{draft.stream}"
    keys = [source.stream.key] if source.stream is not None and source.stream.key else []
    return Resources({table.name: table.arn}, {config.stream_of(config.tables[0]): arn}, keys)
