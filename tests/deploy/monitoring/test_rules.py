"""The rules of Prometheus: each alert for its fault, with its page, over metrics that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support.repository.tools import DEPLOY, ROOT, ran

from dyncdc.telemetry.metrics import Metrics

RULES = DEPLOY / "prometheus" / "dyncdc.rules.yml"
RULE_TESTS = RULES.with_name("dyncdc.rules.test.yml")
NAME = re.compile(r"\bdyncdc[_:][a-z0-9_]+")


def rules() -> list[dict[str, Any]]:
    """Every rule of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for rule in rules() if "alert" in rule]


def exposed() -> dict[str, set[str]]:
    """Names of the samples that a daemon can expose, each with its labels."""
    metrics = Metrics()
    names: dict[str, set[str]] = {}
    for name, kind, labels, _ in metrics.described():
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            names[name + suffix] = {*labels, *(("le",) if suffix == "_bucket" else ())}
    for line in metrics.render().decode().splitlines():
        if not line.startswith("#"):
            names.setdefault(re.split(r"[{ ]", line)[0], set())
    return names


def recorded() -> set[str]:
    """Names that the rules themselves make."""
    return {rule["record"] for rule in rules() if "record" in rule}


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric of an expression with the labels that it is selected by."""
    for found in re.finditer(r"(\bdyncdc[_:][a-z0-9_]+)(\{[^}]*\})?", re.sub(r'"dyncdc[^"]*"', '""', expression)):
        yield found[1], set(re.findall(r"([a-z_]+)\s*=?[~=!]", found[2] or ""))


def test_prometheus_takes_the_rules() -> None:
    ran("promtool", "check", "rules", RULES)


def test_each_alert_fires_for_its_fault_and_no_other_does() -> None:
    ran("promtool", "test", "rules", RULE_TESTS)


def test_prometheus_finds_no_fault_with_the_metrics() -> None:
    ran("promtool", "check", "metrics", stdin=Metrics().render().decode())


def test_every_metric_in_the_rules_exists_with_its_labels() -> None:
    known = exposed()
    scraped = {"job", "instance"}
    for rule in rules():
        for name, labels in selectors(rule["expr"]):
            assert name in known or name in recorded(), f"{name} in {rule.get('alert') or rule['record']}"
            assert labels <= known.get(name, {"stream", "shard"}) | scraped, f"{name}{labels}"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_every_alert_says_what_it_is_and_has_its_page(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert anchor == alert["alert"].lower()
    text = (ROOT / page).read_text()
    section = re.search(rf"^## {alert['alert']}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"{page} has no section {alert['alert']}"
    assert "**Meaning.**" in section[1]
    assert "**Action" in section[1] or "do |" in section[1]
    row = rf"^\| \[{alert['alert']}\]\(#{anchor}\) \| {alert['labels']['severity']} \|"
    assert re.search(row, text, re.MULTILINE), "the table at the top of the page does not have it"


def test_every_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    seen = {(test["alertname"], bool(test["exp_alerts"])) for case in tests for test in case.get("alert_rule_test", ())}
    assert seen >= {(alert["alert"], fires) for alert in alerts() for fires in (True, False)}


def test_the_page_has_no_section_of_an_alert_that_does_not_exist() -> None:
    page = (ROOT / "docs" / "operations" / "alerts.md").read_text()
    assert set(re.findall(r"^## (Dyncdc\w+)", page, re.MULTILINE)) == {alert["alert"] for alert in alerts()}
