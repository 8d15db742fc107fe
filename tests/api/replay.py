"""Replays recorded creates in process: decode, default, prepare, validate; no server, no store.

python -m tests.api.replay [SUBSTRING] [-v]      prints what differs from the recorded answers
"""

from __future__ import annotations

import copy
import gzip
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from peavine.api.catalogue import CATALOGUE
from peavine.machinery.errors import ApiError, invalid
from peavine.machinery.meta import fill_system_fields, generate_name

Object = dict[str, Any]
# What admission plugins and allocators add, and what the store does: not the business of the kinds.
ADMITTED = (
    ".spec.tolerations",
    ".spec.priority",
    ".spec.preemptionPolicy",
    ".spec.clusterIP",
    ".spec.storageClassName",
)
VOLATILE = {"uid", "creationTimestamp", "resourceVersion", "managedFields", "selfLink", "generation"}


def golden() -> Path:
    return Path(os.environ.get("PEAVINE_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))


def exchanges() -> list[Object]:
    with gzip.open(golden() / "exchanges.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def create(path: str, body: Object) -> Object:
    """What a POST of `body` to `path` would store. Raises ApiError."""
    from peavine.machinery.decode import decode
    from peavine.machinery.schema import Schema

    parts = path.split("?")[0].strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    kind = CATALOGUE.resource(group, version, rest[0])
    assert kind is not None, path
    obj = copy.deepcopy(body)
    obj, _ = decode(obj, Schema.load().definition(kind.definition), validation="Ignore")
    kind.default(obj)
    obj = kind.to_storage(obj)
    hub = kind.hub
    meta = obj.setdefault("metadata", {})
    if namespace:
        meta["namespace"] = namespace
    fill_system_fields(meta)
    hub.prepare_create(obj)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generate_name(meta["generateName"])
    errors = hub.validate_create(obj)
    if errors:
        raise invalid(kind.kind, meta.get("name", ""), errors, kind.group)
    hub.canonicalize(obj)
    return kind.from_storage(obj)


def missing(want: Any, got: Any, path: str = "") -> list[str]:
    """Where `got` lacks something of `want`."""
    if want == "*":
        return []
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return [f"{path}: want object, got {got!r}"]
        return [
            line
            for key, value in want.items()
            if key not in VOLATILE and not (key not in got and value in (None, "*", {}, []))
            for line in missing(value, got.get(key), f"{path}.{key}")
        ]
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            return [f"{path}: want {json.dumps(want)[:150]}, got {json.dumps(got)[:150]}"]
        return [line for i, value in enumerate(want) for line in missing(value, got[i], f"{path}[{i}]")]
    return [] if want == got else [f"{path}: want {want!r}, got {got!r}"]


def causes(status: Object) -> set[tuple[str, str]]:
    found = (status.get("details") or {}).get("causes") or []
    return {(c.get("reason", ""), c.get("field", "")) for c in found}


def compare(exchange: Object) -> list[str]:
    """How the answer in process differs from the recorded one: [] where it agrees."""
    want = exchange["response"]
    try:
        got = create(exchange["path"], exchange["body"])
    except ApiError as error:
        status = error.status()
        if exchange["code"] != error.code:
            return [f"want {exchange['code']} {want.get('message', '')!r}, got {error.code} {error.message!r}"[:600]]
        if error.code == 422 and causes(want) != causes(status):
            return [f"want causes {want['message']!r}, got {status['message']!r}"[:1500]]
        return []
    if exchange["code"] not in (200, 201):
        return [f"want {exchange['code']} {want.get('message', '')!r}, got success"[:600]]
    return [line for line in missing(want, got) if not line.startswith(ADMITTED)]


def replayable(exchange: Object) -> bool:
    scenario, method = exchange["scenario"], exchange["method"]
    if method != "POST" or not isinstance(exchange.get("body"), dict) or exchange["code"] == 409:
        return False
    if any(word in scenario for word in ("/sar", "/ssar", "/tokenreview")):
        return False
    return scenario.startswith(("invalid/", "kind/")) and len(exchange["path"].split("?")[0].split("/")) < 9


def main() -> None:
    only = next((a for a in sys.argv[1:] if not a.startswith("-")), "")
    tally: Counter[str] = Counter()
    for exchange in exchanges():
        if not replayable(exchange) or only not in exchange["scenario"]:
            continue
        try:
            differences = compare(exchange)
        except Exception as error:
            if "-x" in sys.argv:
                raise
            differences = [f"CRASH {type(error).__name__}: {error}"]
        tally["agrees" if not differences else "differs"] += 1
        if differences:
            print(exchange["scenario"], *differences[:6], sep="\n    ")
    print(dict(tally))


if __name__ == "__main__":
    main()
