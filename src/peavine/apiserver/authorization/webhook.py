"""An authorizer outside the cluster, asked by SubjectAccessReview; the file that says which authorizers there are."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peavine.apiserver.authentication.remote import KubeconfigSender, RemoteError
from peavine.apiserver.authentication.webhook import Asker
from peavine.apiserver.authorization.attributes import Attributes, Authorizer, Decision
from peavine.apiserver.authorization.build import Union
from peavine.base.clock import REAL, Clock

ALLOWED_SECONDS, REFUSED_SECONDS = 300.0, 30.0
DECISIONS_REMEMBERED_MAX = 8192
KEY_CHARS_MAX = 10_000  # questions longer than this are not remembered
RELOAD_SECONDS = 10.0
API_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1")


log = logging.getLogger(__name__)


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where and why."""


class WebhookAuthorizer:
    def __init__(
        self,
        sender: Asker,
        *,
        name: str = "webhook",
        allowed_seconds: float = ALLOWED_SECONDS,
        refused_seconds: float = REFUSED_SECONDS,
        deny_on_failure: bool = False,
        conditions: Sequence[Any] = (),
        clock: Clock = REAL,
    ) -> None:
        """`conditions`: compiled expressions over `request`; the webhook is asked only where all are true."""
        self.sender, self.name, self.clock = sender, name, clock
        self.allowed_seconds, self.refused_seconds = allowed_seconds, refused_seconds
        self.failed = Decision(denied=deny_on_failure, reason=f"webhook {name} cannot be asked")
        self.conditions = list(conditions)
        self._known: dict[str, tuple[float, Decision]] = {}

    def authorize(self, attributes: Attributes) -> Decision:
        spec = review_spec(attributes)
        key = repr(spec)
        known = self._known.get(key)
        if known is not None and known[0] > self.clock.monotonic():
            return known[1]
        matched = self._matches(spec)
        if matched is None:
            return self.failed
        if not matched:
            return Decision()

        async def ask() -> Decision:
            return await self._ask(spec, key)

        return Decision(ask=ask)

    async def _ask(self, spec: dict[str, Any], key: str) -> Decision:
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            status = (await self.sender.ask(review)).get("status") or {}
        except RemoteError as error:
            return Decision(denied=self.failed.denied, reason=str(error))
        if status.get("allowed") and status.get("denied"):
            return Decision(denied=True, reason=f"webhook {self.name} both allowed and denied")
        allowed = status.get("allowed") is True
        decision = Decision(allowed, status.get("denied") is True, status.get("reason") or "")
        if len(key) <= KEY_CHARS_MAX:
            if len(self._known) >= DECISIONS_REMEMBERED_MAX:
                self._known.clear()
            seconds = self.allowed_seconds if allowed else self.refused_seconds
            self._known[key] = (self.clock.monotonic() + seconds, decision)
        return decision

    def _matches(self, spec: dict[str, Any]) -> bool | None:
        """False wins over an error; None for an error."""
        from peavine.machinery.cel import CelError, CostExceeded

        failed = False
        for condition in self.conditions:
            try:
                if condition.evaluate({"request": spec})[0] is not True:
                    return False
            except (CelError, CostExceeded):
                failed = True
        return None if failed else True


def review_spec(attributes: Attributes) -> dict[str, Any]:
    """The SubjectAccessReviewSpec of a question."""
    user = attributes.user
    spec: dict[str, Any] = {"user": user.name, "groups": list(user.groups)}
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = user.extra
    if not attributes.is_resource:
        return {**spec, "nonResourceAttributes": {"path": attributes.path, "verb": attributes.verb}}
    asked = {
        "namespace": attributes.namespace,
        "verb": attributes.verb,
        "group": attributes.group,
        "version": attributes.version,
        "resource": attributes.resource,
        "subresource": attributes.subresource,
        "name": attributes.name,
    }
    resource: dict[str, Any] = {key: value for key, value in asked.items() if value}
    if attributes.field_selector:
        resource["fieldSelector"] = {"rawSelector": attributes.field_selector}
    if attributes.label_selector:
        resource["labelSelector"] = {"rawSelector": attributes.label_selector}
    return {**spec, "resourceAttributes": resource}


def load_authorization(path: str | os.PathLike[str], clock: Clock = REAL) -> tuple[list[str], dict[str, Authorizer]]:
    """Modes in order, and the webhooks among them by mode name, for `build_authorizer`. Raises ConfigError, OSError."""
    import yaml

    try:
        document = yaml.load(Path(path).read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from None
    return parse_authorization(document, clock)


async def follow(union: Union, path: str | os.PathLike[str], clock: Clock = REAL) -> None:
    """Take a changed file into use; one that cannot be used leaves the last good one. Ends by cancellation."""
    stamp = os.stat(path).st_mtime_ns
    while True:
        await clock.sleep(RELOAD_SECONDS)
        try:
            changed = os.stat(path).st_mtime_ns
            if changed != stamp:
                stamp = changed
                union.use(*load_authorization(path, clock))
        except (ValueError, OSError) as error:
            log.error("authorization configuration %s not taken into use: %s", path, error)


def parse_authorization(document: Any, clock: Clock = REAL) -> tuple[list[str], dict[str, Authorizer]]:
    if not isinstance(document, dict) or document.get("kind") != "AuthorizationConfiguration":
        raise ConfigError("want kind AuthorizationConfiguration")
    if document.get("apiVersion") not in API_VERSIONS:
        raise ConfigError(f"unknown apiVersion {document.get('apiVersion')!r}: want {API_VERSIONS[0]}")
    modes: list[str] = []
    webhooks: dict[str, Authorizer] = {}
    for position, raw in enumerate(document.get("authorizers") or ()):
        where = f"authorizers[{position}]"
        kind, name = raw.get("type", ""), raw.get("name", "")
        if not name:
            raise ConfigError(f"{where}.name: Required value")
        mode = f"Webhook:{name}" if kind == "Webhook" else kind
        if mode in modes:
            raise ConfigError(f'{where}: Duplicate value: "{mode}"')
        if kind == "Webhook":
            webhooks[mode] = _webhook(raw.get("webhook") or {}, name, f"{where}.webhook", clock)
        elif kind not in ("Node", "RBAC", "AlwaysAllow", "AlwaysDeny"):
            raise ConfigError(f'{where}.type: Unsupported value: "{kind}"')
        modes.append(mode)
    if not modes:
        raise ConfigError("authorizers: Required value: at least one authorization mode must be defined")
    return modes, webhooks


def _webhook(raw: dict[str, Any], name: str, where: str, clock: Clock) -> WebhookAuthorizer:
    connection = raw.get("connectionInfo") or {}
    if connection.get("type") != "KubeConfigFile" or not connection.get("kubeConfigFile"):
        raise ConfigError(f"{where}.connectionInfo: want type KubeConfigFile with a kubeConfigFile")
    policy = raw.get("failurePolicy")
    if policy not in ("NoOpinion", "Deny"):
        raise ConfigError(f'{where}.failurePolicy: Unsupported value: "{policy}": want "NoOpinion" or "Deny"')
    seconds = _seconds(raw.get("timeout", "3s"), f"{where}.timeout")
    if not 0 < seconds <= 30:
        raise ConfigError(f"{where}.timeout: must be more than 0 and at most 30s")
    return WebhookAuthorizer(
        KubeconfigSender(connection["kubeConfigFile"], seconds),
        name=name,
        allowed_seconds=_seconds(raw.get("authorizedTTL", "5m"), f"{where}.authorizedTTL"),
        refused_seconds=_seconds(raw.get("unauthorizedTTL", "30s"), f"{where}.unauthorizedTTL"),
        deny_on_failure=policy == "Deny",
        conditions=[_condition(c.get("expression", ""), where) for c in raw.get("matchConditions") or ()],
        clock=clock,
    )


def _condition(source: str, where: str) -> Any:
    from peavine.machinery.cel import CompileError, Environment
    from peavine.machinery.cel.types import DYN

    try:
        return Environment({"request": DYN}).compile(source, "bool")
    except CompileError as error:
        raise ConfigError(f'{where}.matchConditions: Invalid value: "{source}": {error}') from None


def _seconds(text: str, where: str) -> float:
    from peavine.machinery.duration import parse_duration

    try:
        return parse_duration(text)
    except (ValueError, TypeError):
        raise ConfigError(f'{where}: Invalid value: "{text}": no duration') from None
