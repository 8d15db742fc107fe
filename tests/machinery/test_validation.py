# ruff: noqa: E501
import pytest

from peavine.machinery import validation as v


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (v.is_dns1123_label, ["a", "a-b", "1a"], ["", "A", "-a", "a-", "a.b", "a\n", "a" * 64]),
        (v.is_dns1123_subdomain, ["a.b-c", "1.2"], ["a..b", ".a", "a.", "a_b", "a" * 254]),
        (v.is_dns1035_label, ["a1"], ["1a", ""]),
        (v.is_wildcard_dns1123_subdomain, ["*.a.b"], ["*", "a.b", "*.*.a"]),
        (v.is_label_value, ["", "A_b.c"], ["-a", "a b", "a" * 64]),
        (v.is_qualified_name, ["a", "a.b/C_d"], ["", "/a", "a/", "a/b/c", "A/b", "a b"]),
        (v.is_config_map_key, ["a_B.c", ".hidden"], ["", ".", "..", "..a", "a/b"]),
        (v.is_env_var_name, ["A", "a b", "1"], ["", "a=b", "é", "a\tb"]),
        (v.is_strict_env_var_name, ["A_b.c-d"], ["1", "a b"]),
        (v.is_port_name, ["http", "a-1"], ["", "1", "a--b", "-a", "a" * 16, "A"]),
        (v.is_ip, ["10.9.8.7", "::1", "010.1.1.1"], ["", "10.9.8", "a", "1.2.3.4/8", "fe80::1%eth0", "1.2.3.256"]),
        (v.is_cidr, ["10.0.0.0/8", "10.1.2.3/8", "::/0"], ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1"]),
        (v.is_percent, ["0%", "120%"], ["%", "1.5%", "-1%", "5"]),
        (v.is_http_header_name, ["X-Forwarded"], ["", "X_Y", "a:b"]),
        (v.is_path_segment, ["A:b", "..."], [".", "..", "a/b", "a%b"]),
        (v.is_c_identifier, ["_a1"], ["1a", "a-b"]),
    ],
)  # fmt: skip
def test_what_is_valid_and_what_is_not(check, good, bad):
    assert [value for value in good if check(value)] == []
    assert [value for value in bad if not check(value)] == []


def test_messages_show_the_pattern_and_examples():
    assert v.is_label_value("-a") == [
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
        "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    ]
    assert v.is_port_number(0) == ["must be between 1 and 65535, inclusive"]
    assert v.is_qualified_name("/") == [
        "prefix part must be non-empty",
        "name part must be non-empty",
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
        "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    ]


def test_label_selectors_name_the_place():
    selector = {
        "matchLabels": {"a": "b c"},
        "matchExpressions": [{"key": "k", "operator": "In"}, {"key": "k", "operator": "Exists", "values": ["x"]}, {"operator": "Is"}],
    }  # fmt: skip
    found = [
        str(error).split(": a valid")[0].split(": name part")[0] for error in v.validate_label_selector(selector, "s")
    ]
    assert found[:4] == [
        's.matchLabels: Invalid value: "b c"',
        "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        "s.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        's.matchExpressions[2].operator: Invalid value: "Is": not a valid selector operator',
    ]


def test_domains_and_paths():
    assert v.validate_fully_qualified_domain_name("f", "a.b.") == []
    assert v.validate_fully_qualified_domain_name("f", "a")[0].detail.startswith("should be a domain with at least two")
    assert v.validate_domain_prefixed_path("f", "acme.io/foo") == []
    assert str(v.validate_domain_prefixed_path("f", "foo")[0]) == (
        'f: Invalid value: "foo": must be a domain-prefixed path (such as "acme.io/foo")'
    )


def test_absent_and_empty_are_equal_but_zero_is_a_value():
    assert v.validate_immutable(None, [], "f") == []
    assert v.validate_immutable(0, None, "f") != []
    assert v.validate_immutable("a", "a", "f") == []


def test_conditions():
    good = {
        "type": "Ready",
        "status": "True",
        "reason": "Ok",
        "message": "",
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    }
    assert v.validate_conditions([good], "c") == []
    found = [
        str(error) for error in v.validate_conditions([good, {**good, "status": "Yes", "reason": "not a reason"}], "c")
    ]
    assert found[0] == 'c[1].type: Duplicate value: "Ready"'
    assert found[1] == 'c[1].status: Unsupported value: "Yes": supported values: "False", "True", "Unknown"'
    assert found[2].startswith('c[1].reason: Invalid value: "not a reason": a condition reason must start with')
