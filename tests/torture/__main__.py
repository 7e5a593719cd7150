"""``python -m torture``: runs seeds, each in a process of its own, and prints the fault matrix.

Exit 0 only if every history ended without a difference and, in a long run, every fault was injected often enough.
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from matrix.cluster import require_cluster
from matrix.engines import NotHere
from support.processes.harness import die_with_parent

from . import kinds, matrix
from .history import Outcome, run
from .plan import Plan, make_plan
from .replicas import kinds as replicated
from .replicas.plan import make_replicated_plan

LONGEST_SECONDS = 400.0
"""One history, at most: then it is killed, with everything it started, and counts as failed."""

OUTCOME = "outcome.json"


def main() -> int:
    """Run what the arguments say."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process compiles all that it imports
    arguments = _arguments()
    if arguments.directory:
        return _one(_plan(arguments.seed, arguments.replicas), Path(arguments.directory))
    if arguments.replicas:
        try:
            require_cluster()
        except NotHere as missing:
            print(f"no replicas: {missing}; `make tools` fetches what they need")
            return 2
    seeds = list(range(arguments.first, arguments.first + arguments.seeds))
    if arguments.seed is not None:
        seeds = [arguments.seed]
    root = Path(tempfile.mkdtemp(prefix="dyncdc-torture-"))
    began = time.monotonic()
    outcomes = _read(arguments.into)
    done = {outcome.seed for outcome in outcomes}
    seeds = [seed for seed in seeds if seed not in done]
    interrupted = False
    try:
        for outcome in _run_all(seeds, arguments, root):
            outcomes.append(outcome)
            _write(arguments.into, outcome)
            print(_said(outcome, root, arguments.replicas), flush=True)
    except KeyboardInterrupt:
        interrupted = True
    if not any(root.iterdir()):
        root.rmdir()
    seconds, new = time.monotonic() - began, len(outcomes) - len(done)
    print(f"\n{len(outcomes)} histories, {new} of them now, in {seconds:,.0f} s, {arguments.jobs} at a time\n")
    required = replicated.REQUIRED if arguments.replicas else kinds.REQUIRED
    print("\n".join(matrix.lines(outcomes, required)))
    code = _verdict(outcomes, replicas=arguments.replicas > 0)
    if interrupted:
        sys.stdout.flush()
        os._exit(code or 130)  # histories under way end with this process
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--jobs", type=int, default=2, help="histories at a time (default 2)")
    parser.add_argument("--replicas", type=int, default=0, help="of ClickHouse, over ZooKeeper (default: one server)")
    parser.add_argument("--keep", action="store_true", help="keep the directories of histories that went well, too")
    parser.add_argument(
        "--into", type=Path, help="file that outcomes are added to; seeds that it holds are not run again"
    )
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    return parser.parse_args()


def _plan(seed: int, replicas: int) -> Plan:
    return make_replicated_plan(seed, replicas) if replicas else make_plan(seed)


def _one(plan: Plan, directory: Path) -> int:
    """Run one history in this process."""
    outcome = run(plan, directory)
    (directory / OUTCOME).write_text(json.dumps(outcome.document()))
    return 1 if outcome.failure else 0


def _run_all(seeds: Sequence[int], arguments: argparse.Namespace, root: Path) -> Iterator[Outcome]:
    # its threads outlive their children: these die with the thread that started them
    pool = ThreadPoolExecutor(arguments.jobs)
    running = [pool.submit(_spawn, seed, root, arguments.replicas, keep=arguments.keep) for seed in seeds]
    for done in as_completed(running):
        yield done.result()
    pool.shutdown()


def _spawn(seed: int, root: Path, replicas: int, *, keep: bool) -> Outcome:
    """Run one history in a child; what it has started dies with it."""
    directory = root / f"seed-{seed}"
    directory.mkdir()
    with (directory / "output.txt").open("wb") as output:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "torture", "--seed", str(seed), "--directory", str(directory)),
                *("--replicas", str(replicas)),
            ],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
        try:
            child.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGABRT)  # faulthandler says where every thread is
            child.wait()
    try:
        outcome = Outcome(**json.loads((directory / OUTCOME).read_text()))
    except FileNotFoundError:
        outcome = Outcome(seed, failure=f"it ended with {child.returncode} and without an outcome")
    if not outcome.failure and not keep:
        shutil.rmtree(directory, ignore_errors=True)
    return outcome


def _read(file: Path | None) -> list[Outcome]:
    if file is None or not file.exists():
        return []
    return [Outcome(**json.loads(line)) for line in file.read_text().splitlines()]


def _write(file: Path | None, outcome: Outcome) -> None:
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps(outcome.document()) + "\n")


def _said(outcome: Outcome, root: Path, replicas: int) -> str:
    text = (
        f"seed {outcome.seed:>4}  {outcome.seconds:>5.1f} s  {outcome.changes:>6,} changes  {outcome.items:>5,} items  "
    )
    if not outcome.failure:
        return text + "equal"
    where = root / f"seed-{outcome.seed}"
    again = f"make torture SEED={outcome.seed}" + (f' ARGS="--replicas {replicas}"' if replicas else "")
    return f"{text}FAILED: {outcome.failure}\n    {again}; its logs are in {where}"


def _verdict(outcomes: Sequence[Outcome], *, replicas: bool) -> int:
    failed = sorted(outcome.seed for outcome in outcomes if outcome.failure)
    demanded = (replicated.FAULTS, replicated.LONG_RUN) if replicas else (kinds.REQUIRED, kinds.LONG_RUN)
    missing = matrix.too_few(outcomes, *demanded)
    if failed:
        print(f"\nFAILED: seeds {', '.join(map(str, failed))}")
    for kind in missing:
        print(f"\nTOO FEW: {kind}")
    if not failed and not missing:
        print("\nEQUAL: no differences")
    return 1 if failed or missing else 0


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()
    sys.exit(main())
