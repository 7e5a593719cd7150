"""Numbers of the local AWS, for every number that DynamoDB takes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncdc.emulator.aws.dynamodb.updates import actions, apply
from dyncdc.emulator.aws.dynamodb.values import canonical_number
from dyncdc.emulator.aws.server.wire import AwsError

NUMBERS = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(map(int, str(digits))), exponent - len(str(digits)) + 1)),
    st.integers(0, 1),
    st.integers(1, 10**38 - 1),
    st.integers(-130, 125),
)


@given(NUMBERS)
def test_the_canonical_text_is_the_same_number_in_one_spelling(number: Decimal) -> None:
    text = canonical_number(str(number))
    assert Decimal(text) == number
    assert "E" not in text
    assert canonical_number(text) == text
    assert canonical_number(f"{number:e}") == text
    assert canonical_number(f"00{number:f}" if number > 0 else f"{number:f}") == text


@given(NUMBERS)
def test_one_digit_more_than_38_is_refused(number: Decimal) -> None:
    digits = str(abs(int(number.scaleb(-number.adjusted() + 37)))) + "1"
    with pytest.raises(AwsError):
        canonical_number(digits)


@given(st.integers(-(10**37), 10**37), st.integers(-(10**37), 10**37))
def test_an_update_adds_without_rounding(left: int, right: int) -> None:
    steps = actions({"UpdateExpression": "ADD n :n", "ExpressionAttributeValues": {":n": {"N": str(right)}}})
    assert apply(steps, {"n": {"N": str(left)}}, ("pk",)) == {"n": {"N": str(left + right)}}
