"""Bugs planted into the source of the compiled reader, one at a time: ``compiled`` must notice each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyncdc.decode.compiled import decoder

from .building import build_reader


def mutant(name: str, says: str, file: str, right: str, wrong: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Return what plants one bug."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(decoder, "Reader", build_reader((file, right, wrong)).Reader)

    plant.__name__, plant.__doc__ = name, says
    return plant


ALL = (
    mutant(
        "range_not_looked_at",
        "An integer of any size goes into a column.",
        "scalars.h",
        "if (number.fraction || !within(digits, number.whole, limit))",
        "if (number.fraction)",
    ),
    mutant(
        "shortest_text_of_a_compiled_float",
        "A float travels as its shortest text, which older servers often read as its neighbour.",
        "scalars.h",
        "PyOS_double_to_string(value, 'g', FLOAT64_DIGITS, 0, NULL)",
        "PyOS_double_to_string(value, 'r', 0, 0, NULL)",
    ),
    mutant(
        "quick_float_of_fewer_digits",
        "The fraction of a float is rounded so that older servers read its neighbour.",
        "scalars.h",
        "int places = FLOAT64_DIGITS - (int)number->whole;",
        "int places = EXACT_DIGITS - (int)number->whole;",
    ),
    mutant(
        "seconds_are_a_compiled_time",
        "A creation time in seconds becomes a version of 1970.",
        "envelope.h",
        "return time >= MIN_VERSION && time < MAX_VERSION ? time : 0;",
        "return time < MAX_VERSION ? time : 0;",
    ),
    mutant(
        "fraction_not_looked_at",
        "A fraction goes into an integer column.",
        "scalars.h",
        "if (number.fraction || !within(digits, number.whole, limit))",
        "if (!within(digits, number.whole, limit))",
    ),
    mutant(
        "unknown_attributes_dropped",
        "What has no column is passed over.",
        "items.h",
        "int put = keep_value(reader, name, cursor);\n        if (put == 1)\n            table->row_outside",
        "int put = skip_value(cursor, MAX_NESTING);\n        if (put == 1)\n            table->row_outside",
    ),
    mutant(
        "exact_rows_forgotten",
        "Rows of the reference path have no place.",
        "records.h",
        "if (told == NULL || told == Py_None) {",
        "if (told != NULL) {",
    ),
    mutant(
        "key_taken_from_the_image",
        "A key that is not its image's goes unnoticed.",
        "items.h",
        "if (put == 1 && keyed && !text_is(&field->keyed, start, cursor->at - start))",
        "if (0)",
    ),
    mutant(
        "null_is_absent",
        "NULL leaves no trace in the spill.",
        "scalars.h",
        "*keep = table->spill >= 0 && !(field->nullable && field->lossy);",
        "*keep = 0;",
    ),
    mutant(
        "default_is_absent",
        "A value that looks like an absent one is not told apart.",
        "scalars.h",
        "*keep = !field->key && !field->lossy",
        "*keep = 0 && !field->lossy",
    ),
    mutant(
        "set_inside_a_map_believed",
        "A set inside plain JSON is taken for a list.",
        "nested_values.h",
        "return writing->typed ? put_text_set(cursor, out, writing->quote) : 0;",
        "return put_text_set(cursor, out, writing->quote);",
    ),
    mutant(
        "map_keys_as_they_come",
        "The keys of a map are not sorted.",
        "nested_values.h",
        "sorted = text_order(&first[place - 1].name, &first[place].name) < 0;",
        "sorted = 1;",
    ),
    mutant(
        "zeros_kept",
        "A number keeps the zeros behind its last digit.",
        "values.h",
        "while (end > fraction && end[-1] == '0')",
        "while (0)",
    ),
    mutant(
        "unused_bits_kept",
        "Base64 may have bits that stand for nothing.",
        "values.h",
        "return padding == 0 || (last & (padding == 2 ? 15 : 3)) == 0;",
        "return 1;",
    ),
    mutant(
        "escapes_copied",
        "A text keeps the escapes that it came with.",
        "json_strings.h",
        "if (!text->escaped)\n        return put_between",
        "if (1)\n        return put_between",
    ),
    mutant(
        "escaped_once",
        "A text inside of a document is escaped once, not twice.",
        "json_strings.h",
        "if (put == 0 && quote == &inner_quote)",
        "if (0)",
    ),
    mutant(
        "refused_after_its_image",
        "The row of a record that is refused behind its image stays.",
        "records.h",
        "if (read == 0 && taking.table != NULL)",
        "if (0)",
    ),
    mutant(
        "new_image_for_the_old",
        "A history has the new image twice.",
        "history.h",
        "image_cell(reader, table, change->old_image, &old)",
        "image_cell(reader, table, change->image, &old)",
    ),
    mutant(
        "deleted_by_the_service",
        "An identity that is spelled otherwise is a user's.",
        "records.h",
        "(table->has_history && !is_ttl(change))",
        "0",
    ),
    mutant(
        "events_without_their_ids",
        "A history tells events apart by where they are, although they have ids.",
        "history.h",
        "start == NULL || text.size == 0 ?",
        "1 ?",
    ),
    mutant(
        "taken_back_in_part",
        "Cells of a record that turns out to be odd stay.",
        "layout.h",
        "found->cells.used = found->before;",
        "",
    ),
    mutant(
        "repeated_attribute_believed",
        "An attribute may come twice.",
        "items.h",
        "} else if (field->seen == table->row) {",
        "} else if (0) {",
    ),
    mutant(
        "tombstone_not_marked",
        "A tombstone looks like an item.",
        "items.h",
        'deleted ? "1" : "0", 1)',
        '"0", 1)',
    ),
    mutant(
        "milliseconds_rounded_up",
        "A millisecond counts as its last microsecond.",
        "envelope.h",
        "        time *= 1000;",
        "        time = time * 1000 + 999;",
    ),
)
