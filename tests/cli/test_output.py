# ruff: noqa: E501
import io

import pytest

from peavine.cli.failures import CliError, printable, shown_api_error
from peavine.cli.output.documents import to_json, to_yaml
from peavine.cli.output.gotemplate import Template
from peavine.cli.output.printers import CustomColumns, sort_key
from peavine.cli.output.tables import TablePrinter, align
from peavine.machinery.errors import ApiError
from peavine.machinery.jsonpath import JsonPath


def test_json_escapes_what_go_escapes():
    assert to_json({"b": "<a&b>", "a": {}}) == '{\n    "a": {},\n    "b": "\\u003ca\\u0026b\\u003e"\n}\n'


def test_yaml_reads_like_kubectls():
    value = {
        "n10": 1, "n9": 2, "text": "one\ntwo\n", "yes": "true", "ip": "10.0.0.1", "time": "2020-01-01T00:00:00Z", "empty": "",
        "list": [{"a": None}], "none": [], "map": {}, "quoted": "a: b", "float": 1.5, "y": "plain words",
    }  # fmt: skip
    assert to_yaml(value) == (
        'empty: ""\nfloat: 1.5\nip: 10.0.0.1\nlist:\n- a: null\nmap: {}\nn9: 2\nn10: 1\nnone: []\n'
        'quoted: \'a: b\'\ntext: |\n  one\n  two\ntime: "2020-01-01T00:00:00Z"\n"y": plain words\n"yes": "true"\n'
    )


def test_tables_have_upstreams_widths():
    columns = [{"name": "Name"}, {"name": "Ready"}, {"name": "Extra", "priority": 1}, {"name": "Age"}]
    row = {"cells": ["web", "1/1", "x", "5m"], "object": {"metadata": {"namespace": "d", "labels": {"app": "web"}}}}

    def shown(**options):
        out = io.StringIO()
        TablePrinter(out, **options).show({"columnDefinitions": columns, "rows": [row]})
        return out.getvalue()

    assert shown() == "NAME   READY   AGE\nweb    1/1     5m\n"
    assert shown(wide=True, no_headers=True) == "web   1/1   x     5m\n"
    assert shown(with_namespace=True, show_labels=True).endswith("\nd           web    1/1     5m    app=web\n")
    assert shown(label_columns=("a/app", "app"), with_kind="pod") == (
        "NAME      READY   AGE   APP   APP\npod/web   1/1     5m          web\n"
    )


def test_columns_align_in_runs_of_neighbours():
    assert (
        align([["a", "b"], ["long cell", "c"], ["no cells"], ["x", "y"]])
        == "a          b\nlong cell  c\nno cells\nx  y\n"
    )


def test_custom_columns():
    out = io.StringIO()
    CustomColumns("NAME:.metadata.name,N:.n,M:.m", no_headers=False)({"metadata": {"name": "a"}, "m": {"b": [1]}}, out)
    assert out.getvalue() == "NAME   N        M\na      <none>   map[b:[1]]\n"
    with pytest.raises(CliError, match="expected <header>:<json-path-expr>"):
        CustomColumns("bad", no_headers=False)


def test_sorting_knows_numbers_and_quantities():
    objects = [{"v": "10"}, {"v": "9"}, {"v": "1Gi"}, {"v": "5Mi"}, {}]
    assert [o.get("v") for o in sorted(objects, key=sort_key("{.v}"))] == [None, "9", "10", "5Mi", "1Gi"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.a.b}}", "1"), ("{{range .l}}<{{.}}>{{end}}", "<x><y>"), ("{{range $i, $v := .l}}{{$i}}={{$v}};{{end}}", "0=x;1=y;"),
        ("{{if eq .s \"t\"}}yes{{else}}no{{end}}", "yes"), ("{{if .nope}}a{{else if .s}}b{{end}}", "b"), ("{{with .a}}{{.b}}{{end}}", "1"),
        ("{{index .l 1}}", "y"), ("{{.s | printf \"%q\"}}", '"t"'), ("{{len .l}}", "2"), ("{{.nope}}", "<no value>"), ("a {{- .s -}} b", "atb"),
        ("{{range .none}}x{{else}}empty{{end}}", "empty"), ("{{$x := .s}}{{$x}}", "t"), ("{{.a}}", "map[b:1]"), ("{{and .s .a.b}}", "1"),
    ],
)  # fmt: skip
def test_go_templates(template, text):
    assert Template(template).render({"a": {"b": 1}, "l": ["x", "y"], "s": "t", "none": []}) == text


@pytest.mark.parametrize("template", ["{{", "{{end}}", "{{if .a}}", "{{nope .a}}"])
def test_broken_templates_are_refused(template):
    with pytest.raises(CliError):
        Template(template).render({})


def test_data_cannot_drive_the_terminal():
    assert printable("a\x1b[31mb\x07") == "a^[[31mb^G"


def test_refusals_are_worded_as_kubectl_does():
    causes = [{"field": "spec.a", "message": "Required value"}, {"field": "spec.b", "message": 'Invalid value: "x"'}]
    invalid = ApiError(422, "Invalid", "long", details={"kind": "Pod", "name": "p", "causes": causes})
    assert (
        shown_api_error(invalid) == 'The Pod "p" is invalid: \n* spec.a: Required value\n* spec.b: Invalid value: "x"'
    )
    assert (
        shown_api_error(ApiError(404, "NotFound", 'pods "p" not found'))
        == 'Error from server (NotFound): pods "p" not found'
    )
    assert shown_api_error(ApiError(401, "Unauthorized", "Unauthorized")).startswith("error: You must be logged in")


def test_jsonpath_of_printers_prints_maps_as_json():
    assert JsonPath("{.m}").render({"m": {"a": 1}}) == '{"a":1}'
