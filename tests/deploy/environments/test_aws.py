"""The AWS side: policies that hold what the code calls and no more, a stack and a module that grant just these."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.repository.tools import DEPLOY, ROOT, ran, ran_python

AWS = DEPLOY / "aws"
POLICIES = {path.stem: json.loads(path.read_text()) for path in sorted((AWS / "policies").glob("*.json"))}
STACK = AWS / "cloudformation" / "dyncdc.yaml"
TERRAFORM = AWS / "terraform"

CALL = re.compile(
    r"\b_?(kinesis|dynamodb|s3)\.((?:describe|list|get|batch_get|head|scan|export|subscribe|put)[a-z_]*)\("
)
ANOTHER_NAME = {"s3:HeadBucket": "s3:ListBucket"}
"""Actions that are not named as their call is. Source: AWS Service Authorization Reference."""

ON_BEHALF = {"s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"}
"""What DynamoDB does with the caller's permissions while it exports. Source: AWS, requesting a table export."""

PLACEHOLDERS = {"${table_arn}", "${stream_arn}", "${partition}", "${bucket}", "${prefix}"}


def statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def actions(*names: str) -> set[str]:
    return {action for name in names for one in statements(POLICIES[name]) for action in one["Action"]}


def called() -> set[str]:
    """The actions behind every call of AWS in the sources."""
    found = set()
    for path in (ROOT / "dyncdc" / "sources").rglob("*.py"):
        for service, operation in CALL.findall(path.read_text()):
            action = f"{service}:{''.join(word.capitalize() for word in operation.split('_'))}"
            found.add(ANOTHER_NAME.get(action, action))
    return found


def test_the_policies_together_allow_what_the_code_calls_and_nothing_else() -> None:
    assert actions(*POLICIES) == called() | ON_BEHALF


def test_nothing_is_allowed_everywhere_and_nothing_writes_to_the_table() -> None:
    for name, policy in POLICIES.items():
        assert policy["Version"] == "2012-10-17"
        for one in statements(policy):
            assert one["Effect"] == "Allow" and "*" not in one["Resource"], name
            assert not any("*" in action for action in one["Action"]), name
            writes = {action for action in one["Action"] if re.search("Put|Delete|Update|BatchWrite|Create", action)}
            assert writes <= ON_BEHALF, f"{name}: {writes}"
            assert set(re.findall(r"\$\{\w+\}", str(one["Resource"]))) <= PLACEHOLDERS


def test_looking_at_a_table_needs_nothing_that_running_does_not() -> None:
    assert actions("init") <= actions("stream", "sample", "export")


def test_the_readme_lists_every_policy() -> None:
    assert set(re.findall(r"`policies/([\w-]+)\.json`", (AWS / "README.md").read_text())) == set(POLICIES)


def test_the_command_of_the_readme_fills_a_policy_in() -> None:
    command = re.search(r"^sed .*?> (\S+)$", (AWS / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert command is not None
    filled = json.loads(ran("sh", "-c", command[0].rpartition(">")[0]))
    assert "${" not in json.dumps(filled)
    assert statements(filled)[0]["Resource"][0].startswith("arn:aws:kinesis:")


def test_cloudformation_takes_the_stack() -> None:
    ran("cfn-lint", STACK)


class Tags(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions as their arguments."""


Tags.add_multi_constructor(  # type: ignore[no-untyped-call]
    "!",
    lambda loader, _, node: getattr(loader, f"construct_{node.id}")(
        node, **({} if node.id == "scalar" else {"deep": True})
    ),
)


def test_the_stack_grants_what_the_policies_say_and_asks_for_microseconds() -> None:
    resources = yaml.load(STACK.read_text(), Tags)["Resources"]
    granted = {one["PolicyName"]: one["PolicyDocument"] for one in resources["Role"]["Properties"]["Policies"]}
    assert set(granted) == {"stream", "sample", "export", "verify"}
    for name, document in granted.items():
        given = [(one["Sid"], sorted(one["Action"])) for one in statements(document)]
        assert given == [(one["Sid"], sorted(one["Action"])) for one in statements(POLICIES[name])]
    table = resources["Table"]["Properties"]
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["KinesisStreamSpecification"]["ApproximateCreationDateTimePrecision"] == "MICROSECOND"


@pytest.fixture
def module() -> dict[str, Any]:
    """Every block of the module; text carries its quotes."""
    read = "import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1]))))"
    found: dict[str, Any] = json.loads(ran_python("-c", read, TERRAFORM / "main.tf"))
    resources: dict[str, Any] = {}
    for block in found["resource"]:
        for kind, named in block.items():
            resources[kind.strip('"')] = next(iter(named.values()))
    return resources


def test_terraform_would_not_format_the_module_otherwise() -> None:
    ran("terraform", "fmt", "-check", "-diff", "-recursive", TERRAFORM)


def test_the_module_asks_for_what_replication_needs(module: dict[str, Any]) -> None:
    precision = module["aws_dynamodb_kinesis_streaming_destination"]["approximate_creation_date_time_precision"]
    assert precision.strip('"') == "MICROSECOND"
    assert module["aws_dynamodb_table"]["point_in_time_recovery"][0]["enabled"] is True
    given = module["aws_iam_role_policy"]
    assert set(re.findall(r"\w+", given["for_each"])) - {"toset"} <= set(POLICIES)
    filled = set(re.findall(r"\b(table_arn|stream_arn|partition|bucket|prefix)\b *[:=]", str(given["policy"])))
    assert {f"${{{name}}}" for name in filled} == PLACEHOLDERS


def test_every_variable_of_the_module_is_used_and_declared() -> None:
    text = "".join(path.read_text() for path in TERRAFORM.glob("*.tf"))
    declared = set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))
    assert declared == set(re.findall(r"\bvar\.(\w+)", text))
    assert Path(TERRAFORM, "versions.tf").exists()
