# ruff: noqa: E501
"""Creates an autoscaler that automatically chooses and sets the number of pods that run in a Kubernetes cluster."""

from __future__ import annotations

from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, PRINTING, Parsed, boolean, integer, string
from peavine.cli.resources import Target, targets
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING, *FILES, DRY_RUN, FIELD_MANAGER,
    integer("min", default=-1, help="The lower limit for the number of pods that can be set by the autoscaler."),
    integer("max", default=-1, help="The upper limit for the number of pods that can be set by the autoscaler. Required."),
    integer("cpu-percent", default=-1, help="The target average CPU utilization over all the pods."),
    string("name", help="The name for the newly created object."),
    boolean("save-config", help="If true, the configuration of current object will be saved in its annotation."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    if "max" not in flags.given:
        raise CliError('required flag(s) "max" not set')
    if flags["max"] < 1:
        raise CliError("--max=MAXPODS is required and must be at least 1, max: " + str(flags["max"]))
    if flags["min"] > flags["max"]:
        raise CliError(
            f"--max=MAXPODS must be larger or equal to --min=MINPODS, max: {flags['max']}, min: {flags['min']}"
        )
    changes = Changes(session, flags, "kubectl-autoscale")
    changes.typed = True
    mapping = await session.mapping_of("autoscaling/v2", "HorizontalPodAutoscaler")
    if mapping is None:
        raise CliError("the server has no autoscaling/v2")
    async for target in targets(session, flags, command="autoscale"):
        reference = {"apiVersion": target.mapping.api_version, "kind": target.mapping.kind, "name": target.name}
        spec: dict[str, Any] = {"maxReplicas": flags["max"], "scaleTargetRef": reference}
        if flags["min"] > 0:
            spec["minReplicas"] = flags["min"]
        if flags["cpu-percent"] >= 0:
            aim = {"averageUtilization": flags["cpu-percent"], "type": "Utilization"}
            spec["metrics"] = [{"resource": {"name": "cpu", "target": aim}, "type": "Resource"}]
        name = flags["name"] or target.name
        obj = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": spec,
               "status": {"currentMetrics": None, "desiredReplicas": 0}}  # fmt: skip
        made = Target(mapping, target.namespace, name, obj)
        try:
            if changes.dry_run != "client":
                made.object = await changes.create(made)
            changes.report(made, "autoscaled", made.object)
        except ApiError as error:
            changes.fail(error)
    return changes.code
