"""Violated constraints: their name and columns are told, their values never."""

from __future__ import annotations

import pytest
from asynch.errors import ServerException

from dyncdc.errors import RejectedRowsError
from dyncdc.sinks.client.error_codes import translate

# As ClickHouse 26.9 words them.
ONE = "DB::Exception: Constraint `adult` for table d.t (8d78) is violated at row 2. Expression: (age < 10). "
TWO = "DB::Exception: Constraint `two` for table d.t is violated at row 1. Expression: ((`od d` < 5) AND (a != 's3')). "
NONE = "DB::Exception: Constraint `never` for table d.t is violated at row 1. Expression: 0. "


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        (ONE + "Column values: age = 20", "age", "`adult` in column age"),
        (ONE + "Column values: age = 'x. Expression: (s3cret = 1). Column values: a'", "age", "`adult` in column age"),
        (TWO + "Column values: a = 1, `od d` = 7", "od d, a", "`two` in column od d, a"),
        (NONE + "Column values: ", "", "`never`"),
        ("DB::Exception: Constraint s3cret", "", "VIOLATED_CONSTRAINT"),
    ],
)
def test_c10_a_violated_constraint_is_named_with_its_columns_and_without_values(
    text: str, column: str, words: str
) -> None:
    raised = ServerException(text, 469)  # type: ignore[no-untyped-call]
    error = translate(raised, "inserting 1 rows into t", columns=("a", "age", "od d", "s3"))
    assert type(error) is RejectedRowsError
    assert error.column == column
    assert str(error).endswith(words)
    assert "s3cret" not in str(error) and "20" not in str(error)
