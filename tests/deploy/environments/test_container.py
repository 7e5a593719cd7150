"""The container image without an engine: linted, its build steps executed, what they make run as the image would."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.repository.tools import ROOT, ran

DOCKERFILE = ROOT / "Dockerfile"
INSTALLED = "/opt/dyncdc"
HEALTH_PORT = "9108"


def instructions() -> Iterator[tuple[str, str]]:
    """Yield each instruction with its arguments, continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        yield word, " ".join(rest.split())


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage."""
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def last(word: str) -> str:
    """The arguments of an instruction in the last stage."""
    (found,) = [rest for name, rest in stages()[-1] if name == word]
    return found


def test_hadolint_finds_nothing() -> None:
    assert ran("hadolint", DOCKERFILE) == ""


def test_the_image_runs_as_a_number_and_drains_on_sigterm() -> None:
    assert last("USER").isdigit() and int(last("USER")) > 0, "Kubernetes can check runAsNonRoot for numbers only"
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["dyncdc"], "a shell as process 1 would swallow the signal"
    assert json.loads(last("CMD")) == ["run"]


def test_the_last_stage_copies_the_installation_and_nothing_else() -> None:
    assert last("COPY") == f"--from=build {INSTALLED} {INSTALLED}"
    assert not any(word == "ADD" for word, _ in instructions())


def test_the_build_context_holds_what_is_copied_and_little_else() -> None:
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {path for word, rest in stages()[0] if word == "COPY" for path in rest.split()[:-1]}
    assert {re.sub(r"requirements/\w+\.lock", "requirements/*.lock", path) for path in copied} == let_in


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first stage leaves behind, in another place than the image has it."""
    place = tmp_path_factory.mktemp("image")
    source, installed, base = place / "src", place / "opt", place / "base"
    source.mkdir()
    subprocess.run([sys.executable, "-m", "venv", base], check=True)
    # a cache spares the registry: the steps are the same
    environment = {**os.environ, "PATH": f"{base}/bin:{os.environ['PATH']}", "UV_LINK_MODE": "copy"}
    for word, rest in stages()[0]:
        if word == "COPY":
            *paths, into = rest.split()
            for path in paths:
                copy_into(ROOT / path, source / into, many=len(paths) > 1 or into.endswith("/"))
        if word == "RUN":
            command = rest.replace(INSTALLED, str(installed)).replace("uv pip install", "uv --quiet pip install")
            command = command.replace("--no-cache ", "")
            done = subprocess.run(
                ["/bin/sh", "-ec", command], cwd=source, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return installed


def copy_into(path: Path, into: Path, *, many: bool) -> None:
    """What COPY does with one of its sources. Source: Dockerfile reference, COPY."""
    if path.is_dir():
        shutil.copytree(path, into, ignore=shutil.ignore_patterns("__pycache__"))
    elif many:
        into.mkdir(exist_ok=True, parents=True)
        shutil.copy(path, into)
    else:
        shutil.copy(path, into)


@pytest.mark.timeout(180)
def test_the_build_steps_leave_a_program_that_runs_and_no_build_tools(image: Path) -> None:
    said = subprocess.run([image / "bin" / "dyncdc", "--version"], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"dyncdc, version \S+\n", said)
    left = {path.name.partition("-")[0] for path in (image / "lib").glob("python*/site-packages/*.dist-info")}
    assert "dyncdc" in left
    assert not left & {"pip", "setuptools", "wheel", "uv", "chdb_core", "moto", "pytest"}, left


@pytest.mark.timeout(180)
def test_the_image_without_a_configuration_says_so_and_is_not_restarted(image: Path, tmp_path: Path) -> None:
    environment = {"PATH": f"{image}/bin", "DYNCDC_CONFIG": str(tmp_path / "config.toml")}
    done = subprocess.run(["dyncdc", "run"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "config.toml" in done.stderr and done.stderr.count("\n") == 1


class Answers(BaseHTTPRequestHandler):
    """Answers /livez with the status that the server carries."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/livez" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_is_what_livez_says(status: int, code: int) -> None:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    server.status = status  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    command = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    assert f":{HEALTH_PORT}/livez" in command[-1]
    command[-1] = command[-1].replace(HEALTH_PORT, str(server.server_port))
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, check=False)
    thread.join()
    server.server_close()
    assert done.returncode == code


def test_the_health_check_and_the_port_are_those_that_the_image_listens_on() -> None:
    environment = dict(pair.split("=", 1) for pair in shlex.split(last("ENV")))
    assert environment["DYNCDC_HTTP__LISTEN"] == f"0.0.0.0:{last('EXPOSE')}" == f"0.0.0.0:{HEALTH_PORT}"
