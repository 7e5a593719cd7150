"""``python -m cloud``: smoke scenarios over a ClickHouse service, each compared with DynamoDB item by item.

Exit 0 only if all ended equal, 2 if the environment does not name a service. DynamoDB and Kinesis are the local ones.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from matrix.running import finished, trial_of
from matrix.trial import Trial, local_aws
from support.servers.aws import Aws
from support.servers.place import Place

from dyncdc.emulator.clickhouse import LocalClickHouse

from .service import PASSWORD, Service, missing, service

READY_SECONDS = 120.0
"""An idle service wakes up first, and every table is made there."""

LOAD_SECONDS = 5.0


def smoke(trial: Trial) -> None:
    """A snapshot, ``check`` with the grants of the user, changes, the daemon killed and started again under load."""
    trial.start(READY_SECONDS)
    found = trial.place.command("check", "-c", str(trial.daemon.config), seconds=READY_SECONDS)
    assert found.code == 0, f"check: {found.out[-2000:]}{found.err[-500:]}"
    with trial.load():
        time.sleep(LOAD_SECONDS)
        trial.restart()
        time.sleep(LOAD_SECONDS)
    trial.write_places("second")


SCENARIOS: Final[Mapping[str, Callable[[Trial], None]]] = {"smoke": smoke}


def main() -> int:
    """Run all of them."""
    lacking = missing(os.environ)
    if lacking:
        print("cloud: nothing was run; these are missing in the environment:", file=sys.stderr)
        print("".join(f"  {line}\n" for line in lacking), end="", file=sys.stderr)
        return 2
    return run(service(os.environ))


def run(target: Service) -> int:
    """Run all scenarios on a service."""
    failed = 0
    version = target.queries("default").value("SELECT version()")
    print(f"{target.host}: ClickHouse {version}", flush=True)
    with local_aws() as aws:
        for name, scenario in SCENARIOS.items():
            began = time.monotonic()
            try:
                with on_service(aws, name, target) as trial:
                    scenario(trial)
                    finished(trial)
                    engines = _engines(trial, target)
                result = f"EQUAL, {trial.changes:,} changes; engines: {engines}"
            except AssertionError as error:
                failed += 1
                result = f"FAILED: {error}"
            print(f"{name}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


def _engines(trial: Trial, target: Service) -> str:
    """What the service has made of the engines that were named."""
    sql = f"SELECT DISTINCT engine FROM system.tables WHERE database = '{trial.database}' ORDER BY engine"
    return ", ".join(str(engine) for (engine,) in target.queries(trial.database).rows(sql))


@contextlib.contextmanager
def on_service(aws: Aws, name: str, target: Service) -> Iterator[Trial]:
    """A trial in a database of its own, which is dropped at the end."""
    database = f"dyncdc_cloud_{secrets.token_hex(4)}"
    options = {"password_env": PASSWORD, "insert_timeout_seconds": 60.0}
    if target.ca_file:
        options["ca_file"] = str(Path(target.ca_file).resolve())
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dyncdc-cloud-")))
        target.queries("default").run(f"CREATE DATABASE {database}")
        stack.callback(target.queries("default").run, f"DROP DATABASE {database} SYNC")
        place = Place(name, directory, aws, LocalClickHouse(directory / "unused"))
        yield trial_of(place, [target], target.address, stack, database=database, options=options)


if __name__ == "__main__":
    sys.exit(main())
