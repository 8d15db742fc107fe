"""CBOR as upstream writes it; examples of RFC 8949, Appendix A."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peavine.machinery.codecs import cbor
from peavine.machinery.schema import Schema

HEAD = cbor.SELF_DESCRIBED
INTEGERS, FLOATS = st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_every_json_value_comes_back_as_it_was(value):
    assert cbor.decode(cbor.encode(value)) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("00", 0), ("17", 23), ("1818", 24), ("1903e8", 1000), ("1b000000e8d4a51000", 1000000000000), ("20", -1),
        ("3903e7", -1000), ("f90000", 0.0), ("f93c00", 1.0), ("fb3ff199999999999a", 1.1), ("fa47c35000", 100000.0),
        ("f4", False), ("f5", True), ("f6", None), ("f7", None), ("60", ""), ("6449455446", "IETF"), ("62c3bc", "ü"),
        ("4449455446", "IETF"), ("80", []), ("83010203", [1, 2, 3]), ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]), ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("7f657374726561646d696e67ff", "streaming"), ("5f42010243030405ff", "\x01\x02\x03\x04\x05"),
        ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
        ("c11a514b67b0", "2013-03-21T20:04:00Z"), ("d64401020304", "AQIDBA=="), ("d74401020304", "01020304"),
        ("d9d9f7a0", {}), ("d818456449455446", "dIETF"),
    ],
)  # fmt: skip
def test_documents_of_others_are_understood(data, value):
    found = cbor.decode(bytes.fromhex(data))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "unexpected EOF"), ("19", "unexpected EOF"), ("a161", "unexpected EOF"), ("0000", "extraneous"),
        ("a1f600", "key of a map"), ("a2616101616102", "duplicate map key"), ("62c328", "invalid UTF-8"),
        ("f97e00", "NaN"), ("f97c00", "infinity"), ("1bffffffffffffffff", "overflows"), ("f0", "simple value"),
        ("c249010000000000000000", "big number"), ("1c", "additional information"), ("81" * 100 + "00", "nested"),
        ("9b7fffffffffffffff00", "EOF"), ("5b7fffffffffffffff00", "EOF"), ("c1f5", "tag number 1"),
    ],
)  # fmt: skip
def test_what_has_no_json_form_is_refused(data, says):
    with pytest.raises(cbor.CborError, match=says):
        cbor.decode(bytes.fromhex(data))


@given(st.binary(max_size=60))
def test_no_bytes_do_worse_than_to_be_refused(data):
    try:
        cbor.decode(data)
    except cbor.CborError:
        pass


def test_strings_are_byte_strings_and_bytes_are_marked_for_base64():
    secret = {"apiVersion": "v1", "kind": "Secret", "data": {"a": "AQID"}, "type": "x"}
    assert cbor.encode(secret, Schema.load()) == HEAD + (
        b"\xa4\x4aapiVersion\x42v1\x44kind\x46Secret\x44data\xa1\x41a\xd6\x43\x01\x02\x03\x44type\x41x"
    )
    assert cbor.decode(cbor.encode(secret, Schema.load())) == secret
    assert cbor.watch_event("ADDED", {}) == HEAD + b"\xa2\x44type\x45ADDED\x46object" + HEAD + b"\xa0"
