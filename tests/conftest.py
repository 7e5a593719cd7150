"""What all tests share: their order, the time of the end-to-end ones, and processes without the compiled decoders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from support.servers.fixtures import aws, clickhouse, clickhouse_server, forking, interpreters, place, server_directory
from xdist.scheduler import LoadScopeScheduling

__all__ = ["aws", "clickhouse", "clickhouse_server", "forking", "interpreters", "place", "server_directory"]

TESTS = Path(__file__).parent

E2E_TIMEOUT_SECONDS = 120

ON_STAGE = tuple(f"integration/{concept}" for concept in ("status_page", "evolution", "destinations", "replication"))
"""Whole sessions of the daemon's code."""

FOLDERS = ("deploy", "e2e", *ON_STAGE, "simulation", "integration", "emulator", "property", "unit")
"""The longest tests first: with only short ones left, no worker ends long before another."""

ONE_BY_ONE = ("e2e", *ON_STAGE, "simulation")
"""Folders whose files make nothing that their tests share: what they do share is one for a whole worker."""

# Tests start hundreds of processes: each would compile all that it imports again, which takes longer than the test.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """AWS clients trust one certificate authority: to read all of them takes longer than most of what a client does.

    No endpoint of the tests has a certificate of any.
    """
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    bundle = tmp_path_factory.mktemp("authorities") / "one.pem"
    bundle.write_text(first + end)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_CA_BUNDLE", str(bundle))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, and give tests marked e2e their own time-out, unless they name one."""
    items.sort(key=_rank)
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(E2E_TIMEOUT_SECONDS))


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, folder in enumerate(FOLDERS) if item.path.is_relative_to(TESTS / folder)), 0)


class Scheduling(LoadScopeScheduling):
    """Gives a free worker the next file; of some folders the next test, as one of their files may take minutes."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if any(Path(file).is_relative_to(f"tests/{folder}") for folder in ONE_BY_ONE) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Take the place of ``--dist loadfile``."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return Scheduling(config, log)


REFUSING = """
import sys

class Refusing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("dyncdc.native._rows", "dyncdc.native._get_records"):
            raise ImportError(name)

sys.meta_path.insert(0, Refusing)
"""


@pytest.fixture
def without_compiler(tmp_path: Path) -> dict[str, str]:
    """The environment of processes in which it is as if no C compiler had been there."""
    place = tmp_path / "without-compiler"
    place.mkdir()
    (place / "sitecustomize.py").write_text(REFUSING)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    }
