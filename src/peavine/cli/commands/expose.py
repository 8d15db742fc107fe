# ruff: noqa: E501
"""Take a replication controller, service, deployment or pod and expose it as a new Kubernetes service."""

from __future__ import annotations

from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.commands.run import overridden
from peavine.cli.commands.set import pod_spec
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, PRINTING, Parsed, boolean, string
from peavine.cli.resources import Target, targets
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING, *FILES, DRY_RUN, FIELD_MANAGER,
    string("selector", help="A label selector to use for this service. Only equality-based ones are supported."),
    string("overrides", help="An inline JSON override for the generated object."),
    string("override-type", default="merge", help="The method used to override the generated object: json, merge, or strategic."),
    string("port", help="The port that the service should serve on."),
    string("target-port", help="Name or number for the port on the container that the service should direct traffic to."),
    string("protocol", help="The network protocol for the service to be created."),
    string("name", help="The name for the newly created object."),
    string("type", help="Type for this service: ClusterIP, NodePort, LoadBalancer, or ExternalName."),
    string("labels", "l", help="Labels to apply to the service created by this call."),
    string("cluster-ip", help="ClusterIP to be assigned to the service."),
    string("external-ip", help="Additional external IP address to accept for the service."),
    string("load-balancer-ip", help="IP to assign to the LoadBalancer."),
    string("session-affinity", help="If non-empty, set the session affinity for the service to this."),
    boolean("save-config", help="If true, the configuration of current object will be saved in its annotation."),
)  # fmt: skip
Object = dict[str, Any]


async def run(session: Session, flags: Parsed) -> int:
    changes = Changes(session, flags, "kubectl-expose")
    changes.typed = True
    service = await session.mapping("services")
    chosen, flags.values["selector"] = flags["selector"], ""
    async for target in targets(session, flags, command="expose"):
        obj = _service(target, flags, chosen)
        if flags["overrides"]:
            obj = overridden(obj, flags)
        made = Target(service, target.namespace, obj["metadata"]["name"], obj)
        if session.flags.get("namespace"):
            obj["metadata"]["namespace"] = target.namespace
        try:
            if changes.dry_run != "client":
                made.object = await changes.create(made)
            changes.report(made, "exposed", made.object)
        except ApiError as error:
            changes.fail(error)
    return changes.code


def _service(target: Target, flags: Parsed, chosen: str) -> Object:
    obj = target.object or {}
    kind, spec, meta = obj.get("kind"), obj.get("spec") or {}, obj["metadata"]
    if chosen:
        selector = dict(part.split("=", 1) for part in chosen.split(","))
    elif kind == "Pod":
        selector = meta.get("labels") or {}
        if not selector:
            raise CliError(
                "couldn't retrieve selectors via --selector flag or introspection: the pod has no labels and cannot be exposed"
            )
    elif kind in ("Service", "ReplicationController"):
        selector = spec.get("selector") or {}
    else:
        selector = (spec.get("selector") or {}).get("matchLabels") or {}
    numbers = [flags["port"]] if flags["port"] else []
    protocols = {}
    if not numbers and kind == "Service":
        numbers = [str(port["port"]) for port in spec.get("ports") or ()]
    elif not numbers:
        for container in pod_spec(obj).get("containers") or ():
            for port in container.get("ports") or ():
                numbers.append(str(port["containerPort"]))
                protocols[str(port["containerPort"])] = port.get("protocol", "TCP")
    if not numbers:
        raise CliError(
            "couldn't find port via --port flag or introspection\nSee 'kubectl expose -h' for help and examples"
        )
    numbers = [part for number in numbers for part in number.split(",")]
    ports = []
    for at, number in enumerate(numbers):
        aim = flags["target-port"] or number
        entry: Object = {"port": int(number), "protocol": flags["protocol"] or protocols.get(number, "TCP"),
                         "targetPort": int(aim) if aim.isdigit() else aim}  # fmt: skip
        ports.append({"name": f"port-{at + 1}", **entry} if len(numbers) > 1 else entry)
    body: Object = {"ports": ports, "selector": selector}
    for flag, field in (
        ("type", "type"),
        ("cluster-ip", "clusterIP"),
        ("load-balancer-ip", "loadBalancerIP"),
        ("session-affinity", "sessionAffinity"),
    ):
        if flags[flag]:
            body[field] = flags[flag]
    if flags["external-ip"]:
        body["externalIPs"] = [flags["external-ip"]]
    labels = dict(part.split("=", 1) for part in flags["labels"].split(",")) if flags["labels"] else meta.get("labels")
    metadata: Object = {"name": flags["name"] or meta["name"]}
    if labels:
        metadata["labels"] = {k: v for k, v in labels.items() if k != "pod-template-hash"} if kind != "Pod" else labels
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": body, "status": {"loadBalancer": {}}}
