"""Where no C compiler was found: dyncdc installs all the same, and the exact decoders do all the work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dyncdc.decode.backend import IS_COMPILED, snapshot_decoder, stream_decoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec

ROOT = Path(__file__).parents[3]
WHICH = "from dyncdc.decode import backend; print(backend.IS_COMPILED, backend.__file__)"

BODY = """from dyncdc.sources.kinesis import get_records; print(get_records.split(b'{"Records":[]}'))"""


def decoded() -> str:
    """What becomes of rows, odd values, a dead letter and a stranger."""
    columns = (ColumnSpec("pk", "String", ("pk",), ("S",), key=True), ColumnSpec("age", "Int8", ("age",), ("N",)))
    plan = compile_table(TableSpec("t", "t", (KeyAttribute("pk", "S"),), columns))
    items = [{"pk": {"S": "a"}, "age": {"N": "7"}}, {"pk": {"S": "b"}, "age": {"N": "300"}}, {"pk": {"N": "1"}}]
    bodies = [
        {"ApproximateCreationDateTime": 1_720_742_302_233, "Keys": {"pk": item["pk"]}, "NewImage": item}
        for item in items
    ]
    changes = [{"eventName": "MODIFY", "tableName": "t", "dynamodb": body} for body in bodies]
    changes.append(changes[0] | {"tableName": "stranger"})
    lines = [{"Item": item} for item in items]
    said = []
    for decoder, documents in (
        (stream_decoder({"t": plan}, pipeline="p"), changes),
        (snapshot_decoder(plan, 1_720_742_302_233_000, pipeline="p"), lines),
    ):
        records = [json.dumps(each, separators=(",", ":")).encode() for each in documents]
        places = [Position(str(number)) for number in range(len(records))]
        found = RawChunk(Shard(SourceId("s"), ShardId("x")), records, places, Position("end"), 1, 0.0)
        said += list(decoder.decode(found))
    return repr(said)


def python(code: str, environment: dict[str, str], where: Path) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, cwd=where, check=True, capture_output=True, text=True).stdout


def test_without_the_extension_the_exact_decoders_give_the_same(
    without_compiler: dict[str, str], tmp_path: Path
) -> None:
    environment = without_compiler | {"HERE": str(Path(__file__).parent)}
    assert IS_COMPILED
    assert python(WHICH, environment, tmp_path).split()[0] == "False"
    assert python(BODY, environment, tmp_path) == "None\n"
    alone = "import os, sys; sys.path.append(os.environ['HERE']); import test_without_compiler as it"
    assert python(f"{alone}; print(it.IS_COMPILED, it.decoded())", environment, tmp_path) == f"False {decoded()}\n"


@pytest.mark.parametrize("compiler", ["/bin/false", "/no/such/compiler"])
def test_an_install_whose_compiler_fails_succeeds_without_the_extension(compiler: str, tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "dyncdc", source / "dyncdc", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index"]
    pip += ["--no-build-isolation", "--no-deps", "--no-compile", "--target", str(site), str(source)]
    subprocess.run(pip, env=os.environ | {"CC": compiler}, cwd=tmp_path, check=True, capture_output=True)
    assert not list(site.rglob("*.so"))
    found = python(WHICH, os.environ | {"PYTHONPATH": str(site)}, tmp_path)
    assert found.split() == ["False", str(site / "dyncdc/decode/backend.py")]
