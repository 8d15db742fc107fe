"""Recorded exchanges with a real kube-apiserver (v1.20), replayed against a server and compared.

Every field of a recorded answer must stand in the new one (more may); of an error, code, reason and causes (by field
and reason) must agree. Values that differ from run to run stand as `*`, TIME, AGE, IP and UID.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXCHANGES = Path(__file__).with_name("exchanges.jsonl.gz")
VOLATILE = {
    "uid", "creationTimestamp", "resourceVersion", "time", "deletionTimestamp", "selfLink", "clusterIP", "clusterIPs",
    "lastTransitionTime", "serverAddress", "continue", "buildDate", "gitCommit", "gitVersion", "minor", "goVersion",
    "compiler", "platform", "gitTreeState", "storageVersionHash", "hash",
}  # fmt: skip


def recorded() -> list[dict[str, Any]]:
    with gzip.open(EXCHANGES, "rt") as lines:
        return [json.loads(line) for line in lines]


class Api:
    """One kept connection with a client certificate."""

    def __init__(self, host: str, port: int, ca: str, cert: str, key: str) -> None:
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = False
        context.load_cert_chain(cert, key)
        self.connection = http.client.HTTPSConnection(host, port, context=context, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        sent = {"Accept": "application/json", **(headers or {})}
        data = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        if data is not None and "Content-Type" not in sent:
            sent["Content-Type"] = "application/json"
        for last in (False, True):
            try:
                self.connection.request(method, path, data, sent)
                response = self.connection.getresponse()
                raw = response.read()
                break
            except (http.client.HTTPException, OSError):
                self.connection.close()
                if last:
                    return 0, "no answer"
        try:
            return response.status, json.loads(raw)
        except ValueError:
            return response.status, raw.decode("utf-8", "replace")[:2000]


def normal(value: Any) -> Any:
    """A value with what differs from run to run replaced."""
    if isinstance(value, dict):
        return {
            key: "*"
            if key in VOLATILE and not (key.startswith("clusterIP") and item in ("None", ["None"]))
            else normal(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [normal(item) for item in value]
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"\d+[smhd]|<invalid>", value):
        return "AGE"
    if not value.startswith("2020-"):
        value = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", value)
    if value.startswith(("10.9", "10.1", "192.168")) and value not in ("10.1.2.3", "10.1.2.4"):
        value = re.sub(r"\b(10|192|172)\.\d+\.\d+\.\d+(?!/|\d)", "IP", value)
    value = re.sub(r"gen-[a-z0-9]{5}\b", "gen-*****", value)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID", value)


def run(api: Api, requests: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int, Any]]:
    """(request, code, body); `$RV` in a request is filled from the last answer about the same object."""
    versions: dict[str, str] = {}
    for request in requests:
        body = request.get("body")
        key = request["path"].split("?")[0]
        if body is not None and "$RV" in json.dumps(body):
            body = json.loads(json.dumps(body).replace("$RV", versions.get(key, "1")))
        code, answer = api(request["method"], request["path"], body, request.get("headers"))
        meta = answer.get("metadata") if isinstance(answer, dict) else None
        if isinstance(meta, dict) and "resourceVersion" in meta and meta.get("name"):
            versions[key if key.endswith("/" + meta["name"]) else f"{key}/{meta['name']}"] = meta["resourceVersion"]
        yield request, code, answer
        if code == 201 and request["path"].rsplit("/", 1)[-1] in SETTLING:
            settle(api, f"{request['path']}/{answer['metadata']['name']}")


# Resources whose status the server fills in by itself soon after they are made -> how many conditions it then has.
SETTLING = {"customresourcedefinitions": 2, "apiservices": 1}


def settle(api: Api, path: str) -> None:
    """Wait until the server has said what it thinks of an object: so it was recorded."""
    wanted = SETTLING[path.rsplit("/", 2)[-2]]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        _, answer = api("GET", path)
        if len((answer.get("status") or {}).get("conditions") or ()) >= wanted:
            return
        time.sleep(0.02)


def difference(want: Any, got: Any, path: str = "") -> list[str]:
    """What is recorded and not in the answer, one line each."""
    if want == "*":
        return []
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return [f"{path}: want object, got {str(got)[:80]!r}"]
        found = []
        for key, value in want.items():
            if key in got:
                found += difference(value, got[key], f"{path}.{key}")
            elif value not in (None, "*", {}, []):
                found.append(f"{path}.{key}: missing, want {json.dumps(value)[:80]}")
        return found
    if isinstance(want, list):
        if not isinstance(got, list):
            return [f"{path}: want list, got {str(got)[:80]!r}"]
        if path in (".resources", ".groups"):  # a newer server serves more, and not all of the old
            have = {entry.get("name"): entry for entry in got}
            named = [entry for entry in want if entry["name"] in have]
            return [d for e in named for d in difference(e, have[e["name"]], f"{path}[{e['name']}]")]
        if len(want) != len(got):
            return [f"{path}: want {len(want)} items, got {len(got)}"]
        return [d for i, (a, b) in enumerate(zip(want, got)) for d in difference(a, b, f"{path}[{i}]")]
    return [] if want == got else [f"{path}: want {json.dumps(want)[:100]}, got {json.dumps(got)[:100]}"]


def compare(record: dict[str, Any], code: int, answer: Any) -> list[str]:
    """The differences of one exchange; empty where it agrees."""
    want, got = record["response"], normal(answer)
    problems = [] if record["code"] == code else [f"code: want {record['code']}, got {code}"]
    if isinstance(want, dict) and want.get("kind") == "Status" and want.get("status") == "Failure":
        if not isinstance(got, dict):
            return [*problems, "body is no Status"]
        problems += difference({k: want.get(k) for k in ("reason", "code")}, got)
        if causes(want) != causes(got):
            problems.append(f"causes: want {causes(want)}, got {causes(got)}")
        return problems
    return problems + difference(want, got)


def causes(status: dict[str, Any]) -> list[tuple[str, str]]:
    found = (status.get("details") or {}).get("causes") or ()
    return sorted({(cause.get("reason", ""), cause.get("field", "")) for cause in found})
