"""``python -m matrix``: runs scenarios on several versions of ClickHouse, one at a time, and prints a table of them.

Exit 0 only if each ended equal, was refused where that is right, or was skipped for what this machine lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.processes.harness import die_with_parent

from . import scenarios
from .cluster import require_cluster
from .engines import ENGINES, REPLICATED, NotHere, fetch
from .outcome import Outcome, table
from .running import run_scenario
from .trial import Refused, local_aws

LONGEST_SECONDS = 400.0
"""One scenario, at most: then it is killed, with everything it started, and counts as failed."""

OUTCOME = "outcome.json"
MESSAGE_CHARS = 600


def main() -> int:
    """Run what the arguments say."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process compiles all that it imports
    arguments = _arguments()
    if arguments.directory:
        return _one(arguments.engines[0], arguments.scenarios[0], Path(arguments.directory))
    if arguments.fetch:
        return _fetch(arguments.engines)
    root = Path(tempfile.mkdtemp(prefix="dyncdc-matrix-"))
    began, outcomes = time.monotonic(), _read(arguments.results)
    done = {(outcome.engine, outcome.scenario) for outcome in outcomes}
    for engine, scenario in _cells(arguments.engines, arguments.scenarios):
        if (engine, scenario) in done:
            continue
        outcome = _run(engine, scenario, root, keep=arguments.keep)
        outcomes.append(outcome)
        _write(arguments.results, outcome)
        print(f"{engine:>6}  {scenario:<20}  {outcome.cell}  {outcome.message}", flush=True)
    if not any(root.iterdir()):
        root.rmdir()
    text = "\n".join(table(outcomes))
    seconds = time.monotonic() - began
    changes = sum(outcome.changes for outcome in outcomes)
    print(f"\n{text}\n\n{len(outcomes)} scenarios, {changes:,} changes, in {seconds:,.0f} s")
    if arguments.into:
        arguments.into.write_text(text + "\n")
    failed = [outcome for outcome in outcomes if outcome.result == "FAILED"]
    print(f"\nFAILED: {len(failed)}" if failed else "\nEQUAL: no differences")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="matrix", description=__doc__)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="these versions only")
    parser.add_argument(
        "--scenarios", nargs="+", choices=scenarios.SCENARIOS, default=scenarios.SCENARIOS, help="these only"
    )
    parser.add_argument("--into", type=Path, help="file that the table is written to")
    parser.add_argument(
        "--results", type=Path, help="file that outcomes are added to; scenarios that it holds are not run again"
    )
    parser.add_argument("--keep", action="store_true", help="keep the directories of scenarios that went well, too")
    parser.add_argument("--fetch", action="store_true", help="only fetch the engines")
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    return parser.parse_args()


def _read(file: Path | None) -> list[Outcome]:
    if file is None or not file.exists():
        return []
    return [Outcome(**json.loads(line)) for line in file.read_text().splitlines()]


def _write(file: Path | None, outcome: Outcome) -> None:
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps(outcome.document()) + "\n")


def _fetch(engines: Sequence[str]) -> int:
    for name in engines:
        try:
            fetch(ENGINES[name])
        except NotHere as missing:
            print(f"matrix: {missing}: what needs it is skipped", file=sys.stderr)
    return 0


def _cells(engines: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    if scenarios.SINGLE in names:
        yield from ((engine, scenarios.SINGLE) for engine in engines)
    if REPLICATED in engines:
        yield from ((REPLICATED, name) for name in names if name in scenarios.REPLICATED)


def _run(engine: str, scenario: str, root: Path, *, keep: bool) -> Outcome:
    """Run one scenario in a child; what it has started dies with it."""
    try:
        fetch(ENGINES[engine])
        if scenario in scenarios.REPLICATED:
            require_cluster(ENGINES[engine])
    except NotHere as missing:
        return Outcome(engine, scenario, "skipped", message=str(missing))
    directory = root / f"{engine}-{scenario.replace(' ', '-')}"
    directory.mkdir()
    began = time.monotonic()
    with (directory / "output.txt").open("wb") as output:
        arguments = ["--engines", engine, "--scenarios", scenario, "--directory", str(directory)]
        child = subprocess.Popen(
            [sys.executable, "-m", "matrix", *arguments],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        try:
            child.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGABRT)  # faulthandler says where every thread is
            child.wait()
    seconds = time.monotonic() - began
    try:
        outcome = Outcome(**json.loads((directory / OUTCOME).read_text()))
    except FileNotFoundError:
        message = f"it ended with {child.returncode} and without an outcome"
        outcome = Outcome(engine, scenario, "FAILED", seconds=seconds, message=message)
    if outcome.result == "FAILED":
        outcome.message += f" (logs: {directory})"
    elif not keep:
        shutil.rmtree(directory, ignore_errors=True)
    return outcome


def _one(engine: str, scenario: str, directory: Path) -> int:
    """Run one scenario in this process."""
    outcome = Outcome(engine, scenario, "EQUAL")
    began = time.monotonic()
    try:
        with local_aws() as aws:
            run_scenario(aws, scenario, directory, outcome)
    except Refused as refused:
        outcome.result, outcome.message = "refused", _shortened(refused)
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        outcome.result, outcome.message = "FAILED", f"{type(cause).__name__}: {_shortened(cause)}"
        traceback.print_exc()
    outcome.seconds = time.monotonic() - began
    (directory / OUTCOME).write_text(json.dumps(outcome.document()))
    return 0


def _shortened(error: BaseException) -> str:
    return " ".join(str(error).split())[:MESSAGE_CHARS]


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()
    sys.exit(main())
