"""Our IngressClass: made once, and the default unless there is another."""

from __future__ import annotations

import logging

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.ingress.ingresses import CONTROLLER, DEFAULT_CLASS_ANNOTATION
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)


async def ensure_class(client: Client, name: str, clock: Clock = REAL) -> None:
    """Tries until the API server has answered. What exists is left as it is."""
    classes = client.resource("networking.k8s.io/v1", "ingressclasses")
    backoff = Backoff(first=0.2, most=30.0)
    while True:
        try:
            listed = (await classes.list()).get("items") or []
            if any(entry["metadata"]["name"] == name for entry in listed):
                return
            defaults = [
                entry
                for entry in listed
                if (entry["metadata"].get("annotations") or {}).get(DEFAULT_CLASS_ANNOTATION) == "true"
            ]
            await classes.create(
                {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "IngressClass",
                    "metadata": {
                        "name": name,
                        "annotations": {} if defaults else {DEFAULT_CLASS_ANNOTATION: "true"},
                    },
                    "spec": {"controller": CONTROLLER},
                }
            )
            log.info("made IngressClass %s", name)
            return
        except (ApiError, Unreachable) as error:
            if isinstance(error, ApiError) and error.code == 409:
                return
            log.warning("IngressClass %s: %s", name, error)
            await clock.sleep(backoff.next())
