"""Changing kubeconfig files: each stanza where it came from, what is new in the first file that exists.

Follows client-go's `clientcmd.ModifyConfig`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

from peavine.cli.flags import Parsed
from peavine.cli.kubeconfig import paths, read, write

Object = dict[str, Any]
SECTIONS = (("clusters", "cluster"), ("contexts", "context"), ("users", "user"))
_ALWAYS = {"clusters": ("server",), "contexts": ("cluster", "user"), "users": ()}


def default_file(flags: Parsed) -> str:
    """Where new stanzas go: the first file that exists, else the last that is named."""
    named = paths(flags)
    return next((path for path in named if os.path.exists(path)), named[-1])


def modify(flags: Parsed, change: Callable[[Object], None]) -> str:
    """Apply `change` to all files as one document, and write what it changed. Returns the default file.

    Paths in stanzas are as they are in their files. Of equal names the first file's is seen.
    """
    files = list(dict.fromkeys(paths(flags)))
    target = default_file(flags)
    documents = {path: _loaded(path) for path in files}
    merged: Object = {"apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": ""}
    origin: dict[tuple[str, str], str] = {}
    for section, _ in SECTIONS:
        merged[section] = []
        for path in files:
            for entry in documents[path][section]:
                if (section, entry["name"]) not in origin:
                    origin[section, entry["name"]] = path
                    merged[section].append(copy.deepcopy(entry))
    for path in files:
        merged["current-context"] = merged["current-context"] or documents[path]["current-context"]
        merged["preferences"] = merged["preferences"] or copy.deepcopy(documents[path]["preferences"])
    before = copy.deepcopy(merged)
    change(merged)
    touched: set[str] = set()
    for section, part in SECTIONS:
        was = {entry["name"]: entry for entry in before[section]}
        now = {entry["name"]: entry for entry in merged[section]}
        for name, entry in now.items():
            if was.get(name) != entry:
                where = origin.get((section, name), target)
                others = [e for e in documents[where][section] if e["name"] != name]
                documents[where][section] = [*others, {part: entry.get(part) or {}, "name": name}]
                touched.add(where)
        for name in was.keys() - now.keys():
            where = origin[section, name]
            documents[where][section] = [e for e in documents[where][section] if e["name"] != name]
            touched.add(where)
    if merged.get("current-context", "") != before["current-context"]:
        touched.add(_set_context(documents, files, target, merged.get("current-context") or ""))
    if merged.get("preferences") != before["preferences"]:
        documents[files[0]]["preferences"] = merged.get("preferences") or {}
        touched.add(files[0])
    for path in touched:
        write(path, _shown(documents[path]))
    return target


def _set_context(documents: dict[str, Object], files: list[str], target: str, name: str) -> str:
    if not name:
        target = next((path for path in files if documents[path]["current-context"]), target)
    documents[target]["current-context"] = name
    return target


def _loaded(path: str) -> Object:
    document = read(path) if os.path.exists(path) else {}
    found = {section: list(document.get(section) or ()) for section, _ in SECTIONS}
    rest = {key: value for key, value in document.items() if key not in found}
    return {
        **rest,
        **found,
        "current-context": document.get("current-context") or "",
        "preferences": document.get("preferences") or {},
    }


def _shown(document: Object) -> Object:
    """A whole Config, sorted by name, as client-go writes it."""
    found = {"apiVersion": "v1", "kind": "Config", **document}
    for section, part in SECTIONS:
        entries = sorted(document[section], key=lambda entry: entry["name"])
        found[section] = [{**e, part: whole(section, e.get(part) or {})} for e in entries] or None
    return found


def whole(section: str, part: Object) -> Object:
    """A stanza with the fields that are always written."""
    found = {**dict.fromkeys(_ALWAYS[section], ""), **part}
    if isinstance(found.get("exec"), dict):
        found["exec"] = {"args": None, "env": None, "provideClusterInfo": False, **found["exec"]}
    return found
