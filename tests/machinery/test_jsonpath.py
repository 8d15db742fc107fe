# ruff: noqa: E501
import pytest

from peavine.machinery.jsonpath import JsonPath, JsonPathError, relaxed

DATA = {
    "kind": "List",
    "items": [
        {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "h1"}}, "status": {"capacity": {"cpu": "4"}, "ready": True, "n": 5}},
        {"kind": "None", "metadata": {"name": "127.0.0.2"}, "status": {"capacity": {"cpu": "8"}, "ready": False, "n": 7}},
    ],
    "users": [{"name": "myself", "user": {}}, {"name": "e2e", "user": {"username": "admin", "password": "secret"}}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("kind is {.kind}", "kind is List"), ("{['kind']}", "List"), ("{$.kind}", "List"), ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}", '[127.0.0.1, {"cpu":"4"}] [127.0.0.2, {"cpu":"8"}] '),
        ("{.items[0]['metadata'].name}", "127.0.0.1"), ("{.users[?(@.name==\"e2e\")].user.password}", "secret"),
        ("{..cpu}", "4 8"), ("{.items[*]['metadata.name', 'status.capacity']}", ""), ("{.users[0:2].name}", "myself e2e"),
        ("{.users[-1:].name}", "e2e"), ("{.users[-1].name}", "e2e"), ("{range .items[*]}{.metadata.name}{'\\t'}{\"\\n\"}{end}", "127.0.0.1\t\n127.0.0.2\t\n"),
        ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", "h1"), ("{.items[0].metadata.labels['kubernetes\\.io/hostname']}", "h1"),
        ("{.items[?(@.status.n>5)].metadata.name}", "127.0.0.2"), ("{.items[?(@.status.ready==true)].metadata.name}", "127.0.0.1"),
        ("{.users[?(@.user.username)].name}", "e2e"), ("{.absent.field}", ""), ("{.users[0,1].name}", "myself e2e"), ("{.items[*].status.n}", "5 7"),
        ("{@.kind}", "List"), ("{.users}", '[{"name":"myself","user":{}},{"name":"e2e","user":{"password":"secret","username":"admin"}}]'),
        ("{.items[*].status['n','ready']}", "5 7 true false"), ("plain", "plain"), ("{.items[0:2:2].metadata.name}", "127.0.0.1"), ("{3}", "3"),
    ],
)  # fmt: skip
def test_templates_render_as_kubectls(template, text):
    assert JsonPath(template).render(DATA) == text


@pytest.mark.parametrize(
    "template", ["{", "{.a", "{end}", "{range .a}x", "{.a[}", "{.a['x}", "{.a[?(@.b]}", "{a}", "{.a[0:1:0]}"]
)
def test_what_cannot_be_parsed_is_refused(template):
    with pytest.raises(JsonPathError):
        JsonPath(template)


def test_missing_keys_may_be_errors():
    with pytest.raises(JsonPathError, match="absent is not found"):
        JsonPath("{.absent}", allow_missing_keys=False).render(DATA)
    with pytest.raises(JsonPathError, match="array index out of bounds: index 5, length 2"):
        JsonPath("{.users[5]}").render(DATA)


def test_short_forms():
    assert [relaxed(form) for form in (".a.b", "a.b", "{.a.b}", "{a.b}", "[0].a")] == ["{.a.b}"] * 4 + ["{[0].a}"]
    assert JsonPath(relaxed("metadata.name")).find({"metadata": {"name": "x"}}) == ["x"]


def test_find_gives_the_values_themselves():
    assert JsonPath("{.items[*].status.n}").find(DATA) == [5, 7]
