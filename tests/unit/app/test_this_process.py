"""This process: another one is said to be gone only when that is certain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dyncdc.app.process import this_process as module
from dyncdc.app.process.this_process import is_gone, this_process


def mark_of(pid: int, began: str) -> str:
    place = this_process().mark.rsplit("/", 2)[0]
    return f"{place}/{pid}/{began}"


def began(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[19]


def test_a_process_is_gone_once_it_has_ended_even_before_its_parent_knows() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    mark = mark_of(child.pid, began(child.pid))
    assert not is_gone(mark)
    child.kill()
    with open(f"/proc/{child.pid}/stat") as stat:
        while stat.read().rpartition(")")[2].split()[0] != "Z":
            stat.seek(0)
    assert is_gone(mark)
    child.communicate()
    assert is_gone(mark)


def test_a_process_that_has_another_ones_number_is_not_that_one() -> None:
    mine = this_process()
    assert not is_gone(mine.mark)
    place, pid, ticks = mine.mark.rsplit("/", 2)
    assert is_gone(f"{place}/{pid}/{int(ticks) - 1}")


def test_of_a_process_that_cannot_be_seen_from_here_nothing_is_known() -> None:
    boot, namespace, pid, ticks = this_process().mark.split("/")
    for mark in (
        f"another-boot/{namespace}/{pid}/1",
        f"{boot}/pid:[1]/{pid}/1",
        f"{boot}/{namespace}/x/{ticks}",
        "",
        "/",
        "a/b",
    ):
        assert not is_gone(mark)


def test_without_a_boot_id_the_mark_is_empty_since_it_would_be_that_of_a_process_elsewhere_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BOOT", Path("/nowhere"))
    assert this_process().mark == ""
