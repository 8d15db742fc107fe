"""DNS messages: what is written can be read, and nothing that is received can do harm."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.wire import dns
from peavine.wire.dns import Malformed


def test_a_query_is_read_with_the_case_of_its_name() -> None:
    query = dns.parse_query(dns.query(7, dns.name("WWW.Example.com"), dns.AAAA))
    assert (query.identity, query.type, query.edns, query.recursion_desired) == (7, dns.AAAA, True, True)
    assert dns.text_of(query.name) == "WWW.Example.com."


def test_names_that_are_too_long_are_refused() -> None:
    with pytest.raises(ValueError):
        dns.name("a" * 64 + ".example")
    with pytest.raises(ValueError):
        dns.name(".".join(["a" * 60] * 5))


def test_reverse_names_of_both_families() -> None:
    assert dns.text_of(dns.reverse_name("10.1.2.3")) == "3.2.1.10.in-addr.arpa."
    assert dns.text_of(dns.reverse_name("fd00::1")).endswith(".d.f.ip6.arpa.")


def test_a_compressed_answer_is_read() -> None:
    name = dns.name("a.example")
    record = dns.record(dns.QUESTION_NAME, dns.A, 30, b"\1\2\3\4")
    data = dns.header(9, 0, counts=(1, 1, 0, 0)) + name + b"\0\1\0\1" + record
    answer = dns.parse_answer(data)
    assert answer.records[0].owner == name and answer.records[0].rdata == b"\1\2\3\4"
    assert answer.question == name + b"\0\1\0\1"


def test_a_pointer_to_itself_is_malformed() -> None:
    data = dns.header(9, 0, counts=(1, 1, 0, 0)) + dns.name("a") + b"\0\1\0\1" + b"\xc0\x13" + b"\0" * 10
    with pytest.raises(Malformed):
        dns.parse_answer(data)


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for parse in (dns.parse_query, dns.parse_answer):
        try:
            parse(data)
        except Malformed:
            pass


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_a_damaged_query_is_a_query_or_malformed(tail: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(dns.query(1, dns.name("kubernetes.default.svc.cluster.local"), dns.SRV) + tail)
    for at, value in damage:
        if at < len(data):
            data[at] = value
    try:
        query = dns.parse_query(bytes(data))
    except Malformed:
        return
    assert query.name.endswith(b"\0") and len(query.name) <= dns.name_bytes_max
