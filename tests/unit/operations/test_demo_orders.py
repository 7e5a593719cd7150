"""The demo's items: the same seed gives the same shop, and between them they hold everything DynamoDB can hold."""

from collections.abc import Iterator

from dyncdc.operations.demo.workload.sample_data import TTL_ATTRIBUTE, OrderSystem
from dyncdc.schema.types.dynamodb_values import canonical_item


def _tags(value: dict[str, object]) -> Iterator[str]:
    for tag, payload in value.items():
        yield tag
        if tag == "M" and isinstance(payload, dict):
            for inner in payload.values():
                yield from _tags(inner)
        if tag == "L" and isinstance(payload, list):
            for inner in payload:
                yield from _tags(inner)


def test_same_seed_makes_the_same_items() -> None:
    one, other = OrderSystem(7), OrderSystem(7)
    assert [one.order(1, n, 2) for n in range(50)] == [other.order(1, n, 2) for n in range(50)]
    assert [one.customer(n) for n in range(50)] == [other.customer(n) for n in range(50)]


def test_another_seed_or_revision_makes_other_items() -> None:
    system = OrderSystem(7)
    assert system.order(1, 1, 0) != OrderSystem(8).order(1, 1, 0)
    assert system.order(1, 1, 0) != system.order(1, 1, 1)


def test_key_does_not_change_with_the_revision() -> None:
    system = OrderSystem(7)
    first, later = system.order(3, 4, 0), system.order(3, 4, 9)
    assert {name: first[name] for name in ("customer_id", "order_number")} == {
        name: later[name] for name in ("customer_id", "order_number")
    }


def test_items_hold_every_dynamodb_type_and_are_valid() -> None:
    system = OrderSystem(7)
    items = [system.order(1, n) for n in range(500)] + [system.customer(n) for n in range(100)]
    assert all(canonical_item(item) for item in items)
    tags = {tag for item in items for value in item.values() for tag in _tags(value)}
    assert tags == {"S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M"}


def test_note_is_absent_empty_null_and_text() -> None:
    notes = [OrderSystem(7).order(1, n).get("note") for n in range(200)]
    assert None in notes
    assert {"S": ""} in notes
    assert {"NULL": True} in notes


def test_some_ledgers_have_38_digits() -> None:
    ledgers = [item["ledger"]["N"] for n in range(200) if "ledger" in (item := OrderSystem(7).order(1, n))]
    assert ledgers
    assert all(isinstance(text, str) and len(text) == 38 and text[-1] == "1" for text in ledgers)


def test_draft_says_when_it_expires() -> None:
    assert OrderSystem(7).draft(1, 2, 1_800_000_000)[TTL_ATTRIBUTE] == {"N": "1800000000"}
