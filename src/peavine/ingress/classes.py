"""Our IngressClass and GatewayClass, and the Gateway API's definitions: made at the start, where they are not there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.ingress.gateways import crds
from peavine.ingress.gateways.objects import CONTROLLER as GATEWAY_CONTROLLER
from peavine.ingress.ingresses import CONTROLLER, DEFAULT_CLASS_ANNOTATION
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)


async def ensure_class(client: Client, name: str, clock: Clock = REAL) -> None:
    """The IngressClass, the default unless there is another. What exists is left as it is."""

    async def make() -> None:
        classes = client.resource("networking.k8s.io/v1", "ingressclasses")
        listed = (await classes.list()).get("items") or []
        if any(entry["metadata"]["name"] == name for entry in listed):
            return
        default = not any(
            (entry["metadata"].get("annotations") or {}).get(DEFAULT_CLASS_ANNOTATION) == "true" for entry in listed
        )
        meta: dict[str, Any] = {"name": name, "annotations": {DEFAULT_CLASS_ANNOTATION: "true"} if default else {}}
        kind = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass"}
        await _create(classes, {**kind, "metadata": meta, "spec": {"controller": CONTROLLER}})

    await _until_done(make, f"IngressClass {name}", clock)


async def ensure_gateway_api(client: Client, name: str, clock: Clock = REAL) -> None:
    """The definitions and a GatewayClass (none if the name is empty); returns when they are served."""

    async def make() -> None:
        await crds.install(client)
        if name:
            spec = {"controllerName": GATEWAY_CONTROLLER}
            kind = {"apiVersion": f"{crds.GROUP}/v1", "kind": "GatewayClass"}
            classes = client.resource(kind["apiVersion"], "gatewayclasses")
            await _create(classes, {**kind, "metadata": {"name": name}, "spec": spec})

    await _until_done(make, "the Gateway API", clock)


async def _create(resource: Any, obj: dict[str, Any]) -> None:
    try:
        await resource.create(obj)
    except ApiError as error:
        if error.code != 409:
            raise


async def _until_done(make: Callable[[], Awaitable[None]], what: str, clock: Clock) -> None:
    """Tries until the API server has agreed."""
    backoff = Backoff(first=0.2, most=30.0)
    while True:
        try:
            return await make()
        except (ApiError, Unreachable) as error:
            log.warning("%s: %s", what, error)
            await clock.sleep(backoff.next())
