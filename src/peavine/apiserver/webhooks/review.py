"""AdmissionReview: what a webhook is asked about a write, and how its answer is read."""

from __future__ import annotations

import base64
import binascii
import logging
import uuid
from typing import Any

import orjson

from peavine.apiserver.admission.request import AdmissionRequest
from peavine.apiserver.lister import Lister
from peavine.apiserver.webhooks.client import WebhookError, ask
from peavine.apiserver.webhooks.matching import Match, is_exempt, match
from peavine.machinery.errors import ApiError, bad_request, internal
from peavine.machinery.names import GVK, GVR

log = logging.getLogger(__name__)

Object = dict[str, Any]


class Webhook:
    """One webhook of one configuration. `uid` tells it from all others for as long as the configuration stands."""

    def __init__(self, configuration: Object, webhook: Object) -> None:
        self.configuration, self.webhook = configuration["metadata"]["name"], webhook
        self.name: str = webhook["name"]
        self.uid = f"{self.configuration}/{self.name}"
        self.ignores_failure = webhook.get("failurePolicy") == "Ignore"
        self.seconds = float(webhook.get("timeoutSeconds") or 10)
        self.reinvocable = webhook.get("reinvocationPolicy") == "IfNeeded"
        self.conditions: Any = None  # compiled at first use

    def match(self, req: AdmissionRequest, lister: Lister, registry: Any) -> Match | None:
        webhook = self.webhook
        return match(
            req,
            webhook.get("rules") or (),
            (),
            webhook.get("matchPolicy") or "Equivalent",
            webhook.get("namespaceSelector"),
            webhook.get("objectSelector"),
            lister,
            registry,
        )


class Configurations:
    """All webhooks of one kind of configuration, in the order in which they are asked: by configuration's name."""

    def __init__(self, lister: Lister, resource: str) -> None:
        self._lister, self._resource = lister, resource
        self._webhooks: list[Webhook] | None = None
        lister.on_change("admissionregistration.k8s.io", resource, self._changed)

    def _changed(self, event: str, obj: Object, old: Object | None) -> None:
        self._webhooks = None

    def webhooks(self) -> list[Webhook]:
        if self._webhooks is None:
            found = self._lister.list("admissionregistration.k8s.io", self._resource)
            found = sorted(found, key=lambda obj: obj["metadata"]["name"])
            self._webhooks = [Webhook(obj, webhook) for obj in found for webhook in obj.get("webhooks") or ()]
        return self._webhooks

    def concerning(self, req: AdmissionRequest) -> list[Webhook]:
        webhooks = self.webhooks()
        return [] if not webhooks or is_exempt(req) else webhooks


async def call(hook: Webhook, req: AdmissionRequest, found: Match, lister: Lister) -> Object | None:
    """Ask a webhook: its response when it allows, None when it failed and may. Raises ApiError.

    Warnings and audit annotations of the answer are added to the request.
    """
    if req.dry_run and (hook.webhook.get("sideEffects") or "") not in ("None", "NoneOnDryRun"):
        raise bad_request(f"admission webhook {_quoted(hook.name)} does not support dry run")
    versions = hook.webhook.get("admissionReviewVersions") or ["v1"]
    version = next((v for v in versions if v in ("v1", "v1beta1")), "v1")
    uid = str(uuid.uuid4())
    review = {
        "kind": "AdmissionReview",
        "apiVersion": f"admission.k8s.io/{version}",
        "request": request_of(req, found, uid),
    }
    try:
        answer = await ask(lister, hook.webhook.get("clientConfig") or {}, review, hook.seconds)
        response = _response(answer, version, uid)
    except WebhookError as error:
        if hook.ignores_failure:
            log.warning("failed calling webhook, failing open %s: %s", hook.name, error)
            return None
        raise internal(f"failed calling webhook {_quoted(hook.name)}: {error}") from error
    for key, value in (response.get("auditAnnotations") or {}).items():
        req.annotations[f"{hook.name}/{key}"] = value
    for text in response.get("warnings") or ():
        if text not in req.warnings:
            req.warnings.append(text)
    if not response.get("allowed"):
        raise denied(hook.name, response.get("status"))
    return response


def denied(name: str, status: Object | None) -> ApiError:
    """What a client is told that a webhook refused."""
    status = dict(status or {})
    words = f"admission webhook {_quoted(name)} denied the request"
    why = status.get("message") or status.get("reason")
    message = f"{words}: {why}" if why else f"{words} without explanation"
    code = status.get("code") or 0
    details = status.get("details")
    return ApiError(code if code >= 400 else 400, status.get("reason") or "", message, details=details)


def _quoted(name: str) -> str:
    return orjson.dumps(name).decode()


def request_of(req: AdmissionRequest, found: Match, uid: str) -> Object:
    """The request part of a review; CEL sees the same as `request`."""
    user: Object = {"username": req.user.name}
    if req.user.uid:
        user["uid"] = req.user.uid
    if req.user.groups:
        user["groups"] = list(req.user.groups)
    if req.user.extra:
        user["extra"] = {key: list(values) for key, values in req.user.extra.items()}
    request: Object = {
        "uid": uid,
        "kind": _gvk(found.gvk),
        "resource": _gvr(found.gvr),
        "requestKind": _gvk(req.gvk),
        "requestResource": _gvr(req.gvr),
        "name": req.object_name,
        "namespace": req.namespace,
        "operation": req.operation,
        "userInfo": user,
        "object": found.obj,
        "oldObject": found.old,
        "dryRun": req.dry_run,
        "options": _options(req),
    }
    if req.subresource:
        request["subResource"] = request["requestSubResource"] = req.subresource
    for name in ("name", "namespace"):
        if not request[name]:
            del request[name]
    return request


_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def _options(req: AdmissionRequest) -> Object | None:
    kind = _OPTIONS.get(req.operation)
    if kind is None:
        return None
    if req.operation == "UPDATE" and "force" in req.options:
        kind = "PatchOptions"
    return {"kind": kind, "apiVersion": "meta.k8s.io/v1", **req.options}


def _gvk(gvk: GVK) -> Object:
    return {"group": gvk.group, "version": gvk.version, "kind": gvk.kind}


def _gvr(gvr: GVR) -> Object:
    return {"group": gvr.group, "version": gvr.version, "resource": gvr.resource}


def _response(answer: Object, version: str, uid: str) -> Object:
    """Raises WebhookError for an answer that is none to our question."""
    expected = f"admission.k8s.io/{version}, Kind=AdmissionReview"
    if answer.get("apiVersion") != f"admission.k8s.io/{version}" or answer.get("kind") != "AdmissionReview":
        got = f"{answer.get('apiVersion') or ''}, Kind={answer.get('kind') or ''}"
        raise WebhookError(f"received invalid webhook response: expected webhook response of {expected}, got {got}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise WebhookError("received invalid webhook response: webhook response was absent")
    if version == "v1" and response.get("uid") != uid:
        got = _quoted(str(response.get("uid") or ""))
        raise WebhookError(f"received invalid webhook response: expected response.uid={_quoted(uid)}, got {got}")
    patch, kind = response.get("patch"), response.get("patchType")
    if patch and version == "v1" and kind != "JSONPatch":
        raise WebhookError(
            "received invalid webhook response: webhook returned response.patch but not response.patchType"
            if not kind
            else f"received invalid webhook response: invalid patchType {kind}"
        )
    if kind and not patch:
        words = "webhook returned response.patchType but not response.patch"
        raise WebhookError(f"received invalid webhook response: {words}")
    return response


def patch_of(response: Object) -> Any:
    """The JSON patch of a response. Raises ValueError."""
    try:
        return orjson.loads(base64.b64decode(response["patch"], validate=True))
    except (binascii.Error, orjson.JSONDecodeError) as error:
        raise ValueError(str(error)) from error
