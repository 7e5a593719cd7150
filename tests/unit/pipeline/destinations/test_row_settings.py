"""What a change of each setting does to rows that are there: decided one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyncdc.pipeline.destinations.row_settings import RecordedSettings, RowSettings, effects

BASE = RowSettings("orders", spill="_spill", deleted="_deleted", history="orders_history")
ONE_KEY, OTHER_KEY = (replace(BASE, mask=("a",), mask_key=key) for key in ("1", "2"))
CITY = ("city", "address.city", "S", "False", "")
TEXT = ("text", "text", "S", "False", "")
LISTED = replace(BASE, listed=True)
KEEP = replace(BASE, ttl_deletes="keep")


def found(*past: RowSettings, now: RowSettings = BASE, shown: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    noted = [RecordedSettings("u", settings, float(at)) for at, settings in enumerate(past)]
    return [(effect.setting, effect.repaired_by) for effect in effects(noted, "u", now, shown)]


def test_a_destination_that_was_never_noted_has_nothing_to_compare() -> None:
    assert effects([], "u", BASE) == []
    assert effects([RecordedSettings("another", replace(BASE, deletes="ignore"), 1.0)], "u", BASE) == []


def test_tables_without_uuids_are_told_apart_by_their_names() -> None:
    none = "00000000-0000-0000-0000-000000000000"
    past = [
        RecordedSettings(none, each, float(at)) for at, each in enumerate((BASE, replace(BASE, destination="other")))
    ]
    assert [effect.setting for effect in effects(past, none, BASE)] == ["clickhouse"]


def test_what_decides_the_same_rows_has_no_effect() -> None:
    assert found(BASE) == []
    assert found(replace(BASE, deletes="ignore"), BASE) == [], "the session after it has made it good"


@pytest.mark.parametrize(
    ("before", "now", "wanted"),
    [
        (replace(BASE, deletes="ignore"), BASE, [("deletes", "snapshot")]),
        (BASE, replace(BASE, deletes="ignore"), []),
        (replace(BASE, deleted="gone"), BASE, [("deletes", "snapshot")]),
        (BASE, replace(BASE, exclude=("a",)), [("exclude", "snapshot"), ("exclude", "nothing")]),
        (replace(BASE, exclude=("a",)), BASE, [("exclude", "snapshot"), ("exclude", "nothing")]),
        (BASE, replace(BASE, mask=("a",), mask_key="1"), [("mask", "snapshot"), ("mask", "nothing")]),
        (
            replace(BASE, mask=("a",), mask_key="1"),
            replace(BASE, mask=("a",), mask_key="2"),
            [("mask_key_env", "snapshot")],
        ),
        (replace(LISTED, columns=(CITY, TEXT)), replace(LISTED, columns=(CITY,)), [("columns", "snapshot")]),
        (replace(LISTED, columns=(CITY,)), replace(LISTED, columns=(CITY, TEXT)), [("columns", "snapshot")]),
        (BASE, replace(LISTED, columns=(CITY,)), [("columns", "snapshot")]),
        (replace(BASE, columns=(CITY,)), replace(LISTED, columns=(CITY,)), []),
        (replace(BASE, columns=(CITY,)), replace(BASE, columns=(CITY, TEXT)), []),
        (replace(BASE, columns=(CITY, TEXT)), replace(BASE, columns=(CITY,)), []),
        (replace(BASE, spill=""), BASE, [("metadata.spill", "snapshot")]),
        (replace(BASE, spill="other"), BASE, [("metadata.spill", "snapshot")]),
        (BASE, replace(BASE, spill=""), [("metadata.spill", "nothing")]),
        (KEEP, BASE, [("ttl_deletes", "nothing")]),
        (BASE, KEEP, []),
        (BASE, replace(BASE, history=""), []),
        (replace(BASE, history=""), BASE, []),
        (replace(BASE, destination="renamed"), BASE, []),
    ],
)
def test_each_setting_says_what_former_rows_are(
    before: RowSettings, now: RowSettings, wanted: list[tuple[str, str]]
) -> None:
    assert found(before, now=now) == wanted


def test_a_column_whose_default_shows_what_older_rows_hold_in_the_spill_needs_no_snapshot() -> None:
    listed, more = replace(LISTED, columns=(CITY,)), replace(LISTED, columns=(CITY, TEXT))
    assert found(listed, now=more, shown=("text",)) == []


def test_a_column_that_someone_added_beside_the_list_needs_no_snapshot_and_one_that_is_gone_does() -> None:
    listed = replace(LISTED, columns=(CITY,))
    more = replace(LISTED, columns=(CITY, TEXT), beside=("text",))
    assert found(listed, now=more) == []
    assert found(more, now=listed) == [("columns", "snapshot")], "what was in it is nowhere else"
    assert found(more, now=replace(more, beside=())) == [], "it is in the list now, and filled as before"


def gaps_begin(past: list[RecordedSettings], now: RowSettings) -> set[float]:
    """When the gaps begin that the members find, one after the other, each after the former ones have noted ``now``."""
    begins, notes = set(), list(past)
    for member in sorted({noted.member for noted in past}):
        own = [noted for noted in notes if noted.member == member]
        begins |= {effect.since for effect in effects(own, "u", now, (), notes) if effect.repaired_by == "snapshot"}
        notes.append(RecordedSettings("u", now, 100.0 + member, member))
    return begins


def test_a_change_that_several_members_note_has_one_begin() -> None:
    one, other = replace(BASE, exclude=("a",)), replace(BASE, exclude=("b",))
    assert gaps_begin([RecordedSettings("u", BASE, float(member), member) for member in (1, 2, 3)], one) == {1.0}
    later = [
        RecordedSettings("u", BASE, 1.0, 1),
        RecordedSettings("u", BASE, 2.0, 2),
        RecordedSettings("u", one, 11.0, 1),
        RecordedSettings("u", one, 12.0, 2),
    ]
    assert gaps_begin(later, other) == {11.0}
    swapped = [RecordedSettings("u", BASE, 2.0, 1, number=1), RecordedSettings("u", BASE, 1.0, 2, number=2)]
    assert gaps_begin(swapped, one) == {1.0}, "what began later has noted earlier"
    assert gaps_begin(later, BASE) == {11.0}


def test_a_change_begins_with_the_settings_and_not_with_the_last_column_that_came() -> None:
    notes = [RecordedSettings("u", BASE, 1.0, 1), RecordedSettings("u", replace(BASE, columns=(CITY,)), 2.0, 2)]
    assert gaps_begin(notes, replace(BASE, exclude=("a",))) == {1.0}
    ignored = [RecordedSettings("u", BASE, 1.0, 1), RecordedSettings("u", replace(BASE, deletes="ignore"), 5.0, 1)]
    assert gaps_begin(ignored, BASE) == {5.0}, "before that deletes were marked"


def test_rows_that_several_members_sent_elsewhere_are_one_gap() -> None:
    there = replace(BASE, destination="other")
    past = [
        RecordedSettings("u", BASE, 1.0, 1),
        RecordedSettings("u", BASE, 2.0, 2),
        RecordedSettings("v", there, 11.0, 1),
        RecordedSettings("v", there, 12.0, 2),
    ]
    assert gaps_begin(past, BASE) == {11.0}


def test_what_was_used_before_and_left_out_for_a_while_has_a_hole() -> None:
    assert found(BASE, replace(BASE, history=""), now=BASE) == [("history", "nothing")]
    assert found(KEEP, BASE, now=KEEP) == [("ttl_deletes", "nothing")]


def test_rows_that_went_to_another_destination_are_missing_since_then() -> None:
    past = [RecordedSettings("u", BASE, 1.0), RecordedSettings("v", replace(BASE, destination="other"), 2.0)]
    ((effect),) = effects(past, "u", BASE)
    assert (effect.setting, effect.repaired_by, effect.since) == ("clickhouse", "snapshot", 2.0)
    assert "other" in effect.words
    assert effects(past, "v", past[1].settings) == []


def test_settings_are_read_as_they_were_kept_by_whatever_version() -> None:
    settings = replace(LISTED, columns=(CITY, TEXT), exclude=("a", "b"))
    assert RowSettings.of_text(settings.text()) == settings
    assert RowSettings.of_text(settings.text().replace('"deletes"', '"later":[1],"deletes"')) == settings
