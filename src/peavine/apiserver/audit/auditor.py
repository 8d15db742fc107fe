"""Writing down one request: from its arrival to its answer, as `audit.k8s.io/v1` events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson

from peavine.apiserver.audit.backends import Backend
from peavine.apiserver.audit.policy import Policy, Verdict
from peavine.apiserver.authentication.user import User
from peavine.apiserver.requests import RequestInfo
from peavine.base.clock import REAL, Clock

# What is never written, whatever the policy says: a log is read by more people than a secret.
_SECRET_FIELDS = {
    "Secret": ("data", "stringData"),
    "TokenRequest": ("status",),
    "TokenReview": ("spec", "status"),
}


class Auditor:
    """`record = auditor.begin(info)` once the user is known; then the record's methods. None: nothing is written."""

    def __init__(self, policy: Policy, backends: Sequence[Backend], clock: Clock = REAL) -> None:
        self.policy, self.backends, self.clock = policy, list(backends), clock

    def begin(self, info: RequestInfo) -> Record | None:
        user: User | None = info.notes.get("impersonator") or info.user
        verdict = self.policy.verdict(info, user)
        if verdict.level == "None" or not self.backends:
            return None
        record = Record(self, verdict, info)
        record.stage("RequestReceived")
        return record

    def emit(self, event: dict[str, Any]) -> None:
        for backend in self.backends:
            backend.write(event)

    def close(self) -> None:
        for backend in self.backends:
            backend.close()


class Record:
    """One request that is written down. Bodies are JSON bytes; they are parsed only where the level asks for them."""

    __slots__ = ("auditor", "info", "request_body", "verdict")

    def __init__(self, auditor: Auditor, verdict: Verdict, info: RequestInfo) -> None:
        self.auditor, self.verdict, self.info = auditor, verdict, info
        self.request_body = b""

    @property
    def wants_request(self) -> bool:
        return self.verdict.bodies

    @property
    def wants_response(self) -> bool:
        return self.verdict.level == "RequestResponse"

    def started(self, code: int) -> None:
        """The head of a long answer (a watch, an exec) has been sent."""
        self.stage("ResponseStarted", code)

    def complete(self, code: int, response_body: bytes = b"") -> None:
        self.stage("ResponseComplete", code, response_body)

    def panic(self) -> None:
        self.stage("Panic", 500)

    def stage(self, stage: str, code: int = 0, response_body: bytes = b"") -> None:
        if stage in self.verdict.omit_stages:
            return
        info, now = self.info, self.auditor.clock.time()
        impersonator: User | None = info.notes.get("impersonator")
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": self.verdict.level,
            "auditID": info.audit_id,
            "stage": stage,
            "requestURI": info.raw_path + ("?" + info.query_string if info.query_string else ""),
            "verb": info.verb,
            "user": (impersonator or info.user).user_info() if info.user else {},
        }
        if impersonator is not None and info.user is not None:
            event["impersonatedUser"] = info.user.user_info()
        event["sourceIPs"] = [info.remote[0]]
        if info.headers.get("user-agent"):
            event["userAgent"] = info.headers["user-agent"][:1024]
        if info.is_resource:
            event["objectRef"] = self._object_ref()
        if code:
            status: dict[str, Any] = {"metadata": {}, "code": code}
            if code >= 400 and (body := _parsed(response_body)) and body.get("kind") == "Status":
                status.update({key: body[key] for key in ("status", "message", "reason") if key in body})
            event["responseStatus"] = status
        if self.verdict.bodies and stage != "RequestReceived" and (body := _parsed(self.request_body)):
            event["requestObject"] = self._shown(body)
        if self.wants_response and stage == "ResponseComplete" and (body := _parsed(response_body)):
            event["responseObject"] = self._shown(body)
        event["requestReceivedTimestamp"] = _micro(info.received)
        event["stageTimestamp"] = _micro(now)
        if info.audit_annotations:
            event["annotations"] = dict(info.audit_annotations)
        self.auditor.emit(event)

    def _object_ref(self) -> dict[str, str]:
        info = self.info
        ref = {
            "resource": info.resource,
            "namespace": info.namespace,
            "name": info.name,
            "apiGroup": info.group,
            "apiVersion": info.version,
            "subresource": info.subresource,
        }
        return {key: value for key, value in ref.items() if value}

    def _shown(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body without what no log may hold, and without managed fields where the policy omits them."""
        items = body.get("items")
        kind = str(body.get("kind", "")).removesuffix("List") if isinstance(items, list) else body.get("kind")
        if self.info.resource == "secrets":
            kind = "Secret"  # also for patches, which name no kind
        hidden = _SECRET_FIELDS.get(kind or "", ())
        if isinstance(items, list):
            return {**body, "items": [self._one(item, hidden) for item in items if isinstance(item, dict)]}
        return self._one(body, hidden)

    def _one(self, body: dict[str, Any], hidden: Sequence[str]) -> dict[str, Any]:
        shown = {key: value for key, value in body.items() if key not in hidden}
        metadata = body.get("metadata")
        if isinstance(metadata, dict):
            dropped = {"managedFields"} if self.verdict.omit_managed_fields else set()
            kept = {key: value for key, value in metadata.items() if key not in dropped}
            annotations = kept.get("annotations")
            if hidden and isinstance(annotations, dict):
                # kubectl apply keeps the whole object, data included, in an annotation.
                last = "kubectl.kubernetes.io/last-applied-configuration"
                kept["annotations"] = {key: value for key, value in annotations.items() if key != last}
            shown["metadata"] = kept
        return shown


def _parsed(body: bytes) -> dict[str, Any] | None:
    if not body.startswith(b"{"):
        return None
    try:
        found = orjson.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _micro(seconds: float) -> str:
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1e6):06}Z"
