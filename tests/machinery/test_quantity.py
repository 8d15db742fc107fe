import pytest
from hypothesis import given
from hypothesis import strategies as st

from peavine.machinery.quantity import Quantity, QuantityError, canonical, parse_quantity


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("0", "0"), ("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("1500", "1500"),
        ("12e6", "12e6"), ("1e3", "1e3"), ("0.1Gi", "107374182400m"), ("1.1n", "2n"), ("-1.5Gi", "-1536Mi"),
        ("+7", "7"), (".5", "500m"), ("5.", "5"), ("1E", "1E"), ("9Ei", "9223372036854775807"), ("1E6", "1e6"),
        ("1000000k", "1G"), ("100u", "100u"), ("0.000001", "1u"), ("512", "512"), ("1000Ki", "1000Ki"),
    ],
)  # fmt: skip
def test_canonical_form(text, form):
    assert canonical(text) == form


@pytest.mark.parametrize("text", ["", "abc", "1Xi", "1 Gi", "--1", "1.2.3", "1ee3", "1Gii", " 1", "１"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(QuantityError):
        parse_quantity(text)


def test_huge_exponents_cost_nothing():
    assert parse_quantity("1e-2000000000").nanos == 1
    assert parse_quantity("1e2000000000").value() == 2**63 - 1


def test_value_and_milli_round_away_from_zero():
    assert parse_quantity("1500m").value() == 2 and parse_quantity("1.0001").milli() == 1001
    assert parse_quantity("-1500m").value() == -2


def test_numbers_of_json_are_quantities_too():
    assert canonical(1) == "1" and canonical(0.5) == "500m"
    with pytest.raises(QuantityError):
        parse_quantity(True)


def test_order_and_arithmetic_are_exact():
    assert parse_quantity("1Gi") > parse_quantity("1G")
    assert str(parse_quantity("1Gi") + parse_quantity("512Mi")) == "1536Mi"
    assert str(parse_quantity("100m") - parse_quantity("1")) == "-900m"
    assert parse_quantity("1") == parse_quantity("1000m") and hash(parse_quantity("1")) == hash(parse_quantity("1000m"))


@given(st.integers(-(10**24), 10**24), st.sampled_from(["BinarySI", "DecimalSI", "DecimalExponent"]))
def test_the_canonical_form_reads_back_as_the_same_quantity(nanos, format):
    quantity = Quantity(nanos, format)
    assert parse_quantity(str(quantity)) == quantity
    assert canonical(str(quantity)) == str(quantity)
