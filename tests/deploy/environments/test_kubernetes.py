"""The Kubernetes manifests: built by kustomize, valid by the API's schemas, hardened, and members by their ordinals."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.repository.tools import DEPLOY, ROOT, ran, ran_python

from dyncdc.cli.run import run
from dyncdc.config import load_config

MANIFESTS = DEPLOY / "kubernetes"
VERSIONS = ("1.28", "1.33")
"""The oldest whose pods carry their ordinal as a label, and a recent one."""

OPERATORS = "monitoring.coreos.com/"
MINIMUM_GRACE_SECONDS = 30
Document = dict[str, Any]


@pytest.fixture(scope="module", params=["one", "members"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example makes, as it is and with the component for several members."""
    place = tmp_path_factory.mktemp(request.param)
    shutil.copytree(MANIFESTS, place, dirs_exist_ok=True)
    if request.param == "members":
        file = place / "example" / "kustomization.yaml"
        text = file.read_text().replace("  # - ../members", "  - ../members")
        assert "\n  - ../members" in text
        file.write_text(text)
    made = place / "built.yaml"
    made.write_text(ran("kubectl", "kustomize", place / "example"))
    return made


@pytest.fixture
def documents(built: Path) -> dict[str, Document]:
    """The objects by kind; config maps left out."""
    return {one["kind"]: one for one in yaml.safe_load_all(built.read_text()) if one["kind"] != "ConfigMap"}


def pod(documents: dict[str, Document]) -> Document:
    found: Document = documents["StatefulSet"]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_takes_every_object(built: Path, documents: dict[str, Document], version: str, tmp_path: Path) -> None:
    known = [one for one in yaml.safe_load_all(built.read_text()) if not one["apiVersion"].startswith(OPERATORS)]
    file = tmp_path / "known.yaml"
    file.write_text(yaml.safe_dump_all(known))
    said = ran_python("-m", "kubernetes_validate", "--strict", "--kubernetes-version", version, file)
    assert said.count(" passed for ") == len(known)


def test_the_pod_satisfies_the_restricted_standard(documents: dict[str, Document]) -> None:
    assert documents["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    whole = pod(documents)
    assert whole["securityContext"]["runAsNonRoot"] is True
    assert whole["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert whole["automountServiceAccountToken"] is False
    (container,) = whole["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert f"USER {whole['securityContext']['runAsUser']}\n" in (ROOT / "Dockerfile").read_text()


def test_probes_ask_for_what_they_are_for(documents: dict[str, Document]) -> None:
    (container,) = pod(documents)["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert "startupProbe" not in container, "a start waits for ClickHouse for as long as it takes"
    assert container["ports"] == [{"containerPort": 9108, "name": "http"}]


def test_secrets_are_referred_to_and_nowhere_written(built: Path, documents: dict[str, Document]) -> None:
    (container,) = pod(documents)["containers"]
    (password,) = [one for one in container["env"] if one["name"] == "CLICKHOUSE_PASSWORD"]
    assert set(password["valueFrom"]) == {"secretKeyRef"}
    assert "Secret" not in documents
    assert not container.get("command"), "the entry point of the image is the program"


def test_members_start_at_once_and_have_time_to_drain(documents: dict[str, Document]) -> None:
    assert documents["StatefulSet"]["spec"]["podManagementPolicy"] == "Parallel"
    assert pod(documents)["terminationGracePeriodSeconds"] > MINIMUM_GRACE_SECONDS
    assert documents["StatefulSet"]["spec"]["serviceName"] == documents["Service"]["metadata"]["name"]
    assert documents["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_the_ordinal_of_a_pod_is_its_member(documents: dict[str, Document]) -> None:
    spec = documents["StatefulSet"]["spec"]
    (container,) = pod(documents)["containers"]
    if spec["replicas"] == 1:
        assert container["args"] == ["run"]
        return
    assert container["args"] == ["run", "--member", "$(ORDINAL)/$(MEMBERS)"]
    environment = {one["name"]: one for one in container["env"]}
    assert environment["MEMBERS"]["value"] == str(spec["replicas"])
    assert environment["ORDINAL"]["valueFrom"]["fieldRef"]["fieldPath"].endswith("['apps.kubernetes.io/pod-index']")
    assert any("--member" in option.opts for option in run.params)


def test_what_selects_pods_selects_these(documents: dict[str, Document]) -> None:
    labels = documents["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    chosen = [
        documents["StatefulSet"]["spec"]["selector"]["matchLabels"],
        documents["Service"]["spec"]["selector"],
        documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ]
    assert all(one and one.items() <= labels.items() for one in chosen)
    wanted = documents["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= documents["Service"]["metadata"]["labels"].items()
    ports = {port["name"] for port in documents["Service"]["spec"]["ports"]}
    assert {one["port"] for one in documents["ServiceMonitor"]["spec"]["endpoints"]} <= ports


def test_the_rules_and_the_dashboard_in_the_cluster_are_the_same() -> None:
    spec = importlib.util.spec_from_file_location("generate_deploy", ROOT / "tools" / "generate_deploy.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.files().items():
        assert path.read_text() == text, f"{path.name}: run `make docs`"
    rules = yaml.safe_load((DEPLOY / "prometheus" / "dyncdc.rules.yml").read_text())
    assert yaml.safe_load((MANIFESTS / "monitoring" / "prometheusrule.yaml").read_text())["spec"] == rules


def test_the_configuration_of_the_example_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "secret")
    assert load_config(MANIFESTS / "example" / "config.toml").pipeline == "orders"
