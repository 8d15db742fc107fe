"""What the controllers of Endpoints and EndpointSlices share: a Service's pods, and who must look when one changes."""

from __future__ import annotations

from peavine.client.informer import key_of
from peavine.controllers import service_endpoints as rules
from peavine.controllers.controller import Context, Controller, Object


class ServicePodsController(Controller):
    """Keys are Services; a change of a pod that endpoints show enqueues the Services that select it."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = self.watch("v1", "services")
        self.pods = self.read("v1", "pods")
        self.pods.add_handler(self._pod_changed, self._pod_updated, self._pod_changed)

    def pods_of(self, service: Object) -> list[Object]:
        """The pods that the Service selects, ready or not."""
        selector = service["spec"]["selector"].items()
        pods = self.pods.list(service["metadata"]["namespace"])
        return [pod for pod in pods if selector <= (pod["metadata"].get("labels") or {}).items()]

    def _pod_changed(self, pod: Object) -> None:
        labels = (pod["metadata"].get("labels") or {}).items()
        for service in self.services.list(pod["metadata"]["namespace"]):
            if rules.selects_pods(service) and service["spec"]["selector"].items() <= labels:
                self.queue.add(key_of(service))

    def _pod_updated(self, old: Object, new: Object) -> None:
        if rules.concerns_endpoints(old, new):
            self._pod_changed(old)
            self._pod_changed(new)
