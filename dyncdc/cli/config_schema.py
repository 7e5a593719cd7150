"""``dyncdc config-schema``: what an editor needs to know the configuration."""

from __future__ import annotations

import click

from dyncdc.config.schema import config_schema_text

from .options import config_option, debug_option, json_option


@click.command(name="config-schema")
@config_option
@json_option
@debug_option
def config_schema(config_file: str | None, as_json: bool, debug: bool) -> None:
    """Print the JSON schema of the configuration, for editors."""
    del config_file, as_json, debug  # it is JSON, and the same whatever is configured
    click.echo(config_schema_text(), nl=False)
