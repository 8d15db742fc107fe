import pytest
from hypothesis import given
from hypothesis import strategies as st

from peavine.machinery.selectors import (
    EVERYTHING,
    NOTHING,
    SelectorError,
    parse_field_selector,
    parse_label_selector,
    selector_of,
)

LABELS = {"app": "web", "tier": "front", "weight": "4", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True), ("app=web", True), ("app==web", True), ("app!=web", False), ("absent!=x", True), ("app", True),
        ("!app", False), ("! absent", True), ("app in (web, api)", True), ("app notin (web)", False),
        ("absent notin (web)", True), ("weight>3", True), ("weight<3", False), ("tier>3", False), ("empty=", True),
        ("empty in ()", True), ("app=web,tier=back", False), (" app = web , tier in (front) ", True),
        ("in in (x)", False), ("notin", False), ("app in (,web)", True),
    ],
)  # fmt: skip
def test_label_selectors_match_as_upstream(text, matches):
    assert parse_label_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,", "found '', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value "
                "must be an integer"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_upstreams_words(text, message):
    with pytest.raises(SelectorError) as error:
        parse_label_selector(text)
    assert str(error.value) == message


def test_bad_keys_and_values_are_named():
    with pytest.raises(SelectorError, match='<nil>: Invalid value: "a/b/c": a qualified name must consist of'):
        parse_label_selector("a/b/c=d")
    with pytest.raises(SelectorError, match=r"values\[0\]\[a\]: Invalid value: \"-x\": a valid label must be"):
        parse_label_selector("a=-x")


def test_selector_objects():
    assert selector_of(None) == NOTHING and not NOTHING.matches({})
    assert selector_of({}) == EVERYTHING and EVERYTHING.matches(None)
    selector = selector_of(
        {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}]}
    )
    assert selector.matches(LABELS) and not selector.matches({"app": "web", "tier": "back"})
    assert str(selector) == "app=web,tier notin (back)"
    with pytest.raises(SelectorError, match='"Like" is not a valid label selector operator'):
        selector_of({"matchExpressions": [{"key": "a", "operator": "Like"}]})


def test_exact_names_what_an_index_can_be_asked_for():
    assert parse_label_selector("a=1,b in (2),c in (3,4),!d").exact() == {"a": "1", "b": "2"}


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        selector = parse_label_selector(text)
    except SelectorError:
        return
    assert parse_label_selector(str(selector)) == selector


def test_field_selectors():
    selector = parse_field_selector("metadata.name=x,status.phase!=Running,spec.a==b")
    values = {"metadata.name": "x", "status.phase": "Pending", "spec.a": "b"}
    assert selector.matches(lambda field: values.get(field, ""))
    assert selector.required_value("metadata.name") == "x" and selector.required_value("status.phase") is None
    assert parse_field_selector(r"a=b\,c\=d\\e").required_value("a") == r"b,c=d\e"
    with pytest.raises(SelectorError, match="invalid selector: 'a'; can't understand 'a'"):
        parse_field_selector("a")
