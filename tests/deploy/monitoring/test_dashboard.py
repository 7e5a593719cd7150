"""The dashboard of Grafana: what its generator writes, over metrics that exist, in queries that Prometheus takes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from support.repository.tools import DEPLOY, ROOT, ran

from .test_rules import exposed, selectors

DASHBOARD = DEPLOY / "grafana" / "dyncdc.json"
GRID = 24


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    """Every panel that shows something."""
    found = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_dashboard", ROOT / "tools" / "generate_dashboard.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while they are made
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def queries(panels: list[dict[str, Any]]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_the_dashboard_is_what_make_docs_would_write(generator: ModuleType) -> None:
    assert DASHBOARD.read_text() == generator.page(), "run `make docs`"


def test_every_metric_of_the_dashboard_exists_with_its_labels(panels: list[dict[str, Any]]) -> None:
    known = exposed()
    for query in queries(panels):
        for name, labels in selectors(query):
            assert name in known, f"{name} in {query}"
            assert labels <= known[name] | {"job", "instance"}, query


def test_every_metric_of_the_daemon_is_on_the_dashboard(panels: list[dict[str, Any]]) -> None:
    shown = {name for query in queries(panels) for name, _ in selectors(query)}
    aside = ("_bucket", "_sum", "_count")
    for name in exposed():
        if "_process_" not in name and not name.endswith(aside):
            assert name in shown, f"no one sees {name}"


def test_prometheus_takes_every_query(panels: list[dict[str, Any]], tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries(panels))
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    ran("promtool", "check", "rules", file)


def test_panels_do_not_overlap_and_say_what_they_show(panels: list[dict[str, Any]]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"] and panel["description"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= GRID, panel["title"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
