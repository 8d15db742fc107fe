"""What must hold for every kind alike: rules that survive any input, rows as wide as their columns."""

import copy
import json
import os
import random
from pathlib import Path

import pytest

from peavine.api import kind as kind_module
from peavine.api.catalogue import CATALOGUE
from peavine.api.kind import Kind
from peavine.machinery.decode import decode
from peavine.machinery.errors import ApiError, FieldError
from peavine.machinery.schema import Schema
from tests.api.generate import value

KINDS = sorted(CATALOGUE._by_gvk.values(), key=repr)


def walk(kind: Kind, obj: dict, other: dict) -> None:
    """Everything that the registry does with an object, in its order."""
    for each in (obj, other):
        kind.default(each)
    hub = kind.hub
    obj, other = kind.to_storage(obj), kind.to_storage(other)
    hub.prepare_create(obj)
    errors = hub.validate_create(obj)
    assert all(isinstance(error, FieldError) and str(error) for error in errors)
    assert all(isinstance(text, str) for text in hub.warnings(obj, None) + hub.warnings(obj, other))
    assert len(hub.row(obj)) == len(list(hub.columns))
    for label, read in hub.field_labels.items():
        assert isinstance(read(obj), str), label
    for subresource in ["", *(s for s in hub.subresources if hub.subresources[s].kind == hub.kind and s != "log")]:
        new, old = copy.deepcopy(other), copy.deepcopy(obj)
        hub.prepare_update(new, old, subresource)
        errors = hub.validate_update(new, old, subresource)
        assert all(isinstance(error, FieldError) and str(error) for error in errors)
    hub.canonicalize(obj)
    back = kind.from_storage(obj)
    assert back["kind"] == kind.kind and back["apiVersion"] == kind.api_version


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_rules_survive_an_empty_object(kind: Kind) -> None:
    type_ = Schema.load().definition(kind.definition)
    empty = {"apiVersion": kind.api_version, "kind": kind.kind}
    walk(kind, dict(empty), dict(empty))
    decoded, _ = decode({**empty, "spec": {}, "status": {}}, type_, validation="Ignore")
    walk(kind, decoded, copy.deepcopy(decoded))


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_rules_survive_wild_objects_of_the_right_types(kind: Kind) -> None:
    type_ = Schema.load().definition(kind.definition)
    rng = random.Random(repr(kind))
    for _ in range(12):
        made = []
        while len(made) < 2:
            raw = {**value(type_, rng), "apiVersion": kind.api_version, "kind": kind.kind}
            try:
                made.append(decode(raw, type_, validation="Ignore")[0])
            except ApiError:
                continue  # a wild string where bytes were wanted
        walk(kind, *made)


def test_every_kind_that_is_stored_has_a_module_of_rules() -> None:
    assert [k for k in KINDS if k.storage_prefix and not k._hooks().__dict__.get("__file__")] == []


def test_descriptions_of_columns_are_those_of_the_schema() -> None:
    """Refresh the copy with PEAVINE_REFRESH=1."""
    document = Schema.load().document()
    wanted = {}
    for column in (c for k in KINDS for c in k.columns):
        if column.description.startswith("@"):
            type_name, _, field = column.description[1:].rpartition(".")
            wanted[column.description[1:]] = document[f"io.k8s.api.{type_name}"]["properties"][field]["description"]
    path = Path(kind_module.__file__).with_name("descriptions.json")
    if os.environ.get("PEAVINE_REFRESH"):
        path.write_text(json.dumps(dict(sorted(wanted.items())), indent=1, ensure_ascii=False) + "\n")
    assert json.loads(path.read_text()) == wanted
    assert [(k, c.name) for k in KINDS for c in k.columns if not c.text()] == []
