"""The Deployment controller: finds or makes the new ReplicaSet, scales old and new, keeps history and status."""

from __future__ import annotations

from functools import partial
from typing import Any

from peavine.api.apps.revisions import deployment_revision, equal_ignore_hash, pod_template_hash
from peavine.api.core.podstate import condition, is_terminal
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.deployment.arithmetic import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    available_of,
    fenceposts,
    is_rolling,
    new_replica_set_size,
    old_replica_set_sizes,
    proportional_sizes,
    replicas_of,
)
from peavine.controllers.deployment.conditions import (
    counted_status,
    has_deadline,
    is_complete,
    new_condition,
    put_condition,
    rollout_status,
    seconds_until_deadline,
)
from peavine.controllers.ownership import (
    claim,
    controlled,
    controlled_by,
    index_by_controller,
    orphans,
    owner_reference,
    owners_of,
    still_alive,
)
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import controller_of
from peavine.machinery.selectors import selector_of

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
ROLLBACK_TO = "deprecated.deployment.rollback.to"
HASH_LABEL = "pod-template-hash"
HISTORY_LENGTH_MAX = 2000
# Annotations of the Deployment that its ReplicaSets do not inherit.
NOT_INHERITED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    ROLLBACK_TO,
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
}


class DeploymentController(Controller):
    name = "deployment-controller"
    account = "deployment-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.deployments = self.watch("apps/v1", "deployments")
        owners = owners_of("Deployment", "apps", self.deployments, lambda d: selector_of(d["spec"].get("selector")))
        self.replica_sets = self.watch("apps/v1", "replicasets", keys=owners)
        self.pods = self.watch("v1", "pods", keys=self._recreating_owner_of)
        index_by_controller(self.replica_sets)
        index_by_controller(self.pods)
        self.resource = self.client.resource("apps/v1", "deployments")
        self.sets = self.client.resource("apps/v1", "replicasets")

    def _recreating_owner_of(self, pod: Object) -> list[Key]:
        """A Recreate rollout waits for the last old pod to go: its end must wake the Deployment."""
        reference = controller_of(pod)
        if reference is None or reference["kind"] != "ReplicaSet":
            return []
        replica_set = self.replica_sets.get(pod["metadata"]["namespace"], reference["name"])
        owner = controller_of(replica_set) if replica_set else None
        if owner is None or owner["kind"] != "Deployment":
            return []
        deployment = self.deployments.get(pod["metadata"]["namespace"], owner["name"])
        if deployment is None or (is_rolling(deployment) and "deletionTimestamp" not in pod["metadata"]):
            return []
        return [key_of(deployment)]

    async def reconcile(self, key: Key) -> float | None:
        deployment = self.deployments.get(*key)
        if deployment is None:
            return None
        selector = selector_of(deployment["spec"].get("selector"))
        if selector.empty:
            self.recorder.event(
                deployment,
                "Warning",
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            )
            return None
        candidates = [*controlled(self.replica_sets, deployment), *orphans(self.replica_sets, key[0])]
        alive = partial(still_alive, self.resource, deployment)
        sets = await claim(deployment, candidates, selector.matches, self.sets, alive)
        rollout = Rollout(self, deployment, sorted(sets, key=_age))
        if "deletionTimestamp" in deployment["metadata"]:
            await rollout.sync_status_only()
        elif deployment["spec"].get("paused"):
            await rollout.scale()
        elif ROLLBACK_TO in (deployment["metadata"].get("annotations") or {}):
            await rollout.roll_back()
        elif rollout.scaling:
            await rollout.scale()
        elif is_rolling(deployment):
            await rollout.roll()
        else:
            await rollout.recreate()
        return rollout.again


class Rollout:
    """One reconcile of one Deployment. Its lists are the cache's view, updated by the writes made here."""

    def __init__(self, controller: DeploymentController, deployment: Object, sets: list[Object]) -> None:
        self.controller, self.deployment, self.sets = controller, deployment, sets
        self.now = controller.clock.time()
        self.again: float | None = None
        template = deployment["spec"]["template"]
        self.new = next((rs for rs in sets if equal_ignore_hash(rs["spec"]["template"], template)), None)

    @property
    def old(self) -> list[Object]:
        return [rs for rs in self.sets if rs is not self.new]

    @property
    def scaling(self) -> bool:
        """Some active ReplicaSet was sized for another number of replicas than is wanted now."""
        wanted = str(replicas_of(self.deployment))
        return any(
            (rs["metadata"].get("annotations") or {}).get(DESIRED_REPLICAS, wanted) != wanted
            for rs in self.sets
            if replicas_of(rs) > 0
        )

    def _pods(self) -> list[Object]:
        return [p for rs in self.sets for p in controlled(self.controller.pods, rs)]

    # strategies
    async def roll(self) -> None:
        await self._ensure_new()
        assert self.new is not None
        size = replicas_of(self.new)
        wanted = replicas_of(self.deployment)
        target = wanted if size >= wanted else new_replica_set_size(self.deployment, self.sets, size)
        if not await self._resize(self.new, target):
            changed = False
            for name, target in old_replica_set_sizes(self.deployment, self.new, self.old).items():
                changed |= await self._resize(next(rs for rs in self.old if rs["metadata"]["name"] == name), target)
            if not changed and is_complete(self.deployment, self.deployment.get("status") or {}):
                await self._clean_up()
        await self._sync_status()

    async def recreate(self) -> None:
        changed = False
        for rs in self.old:
            if replicas_of(rs) > 0:
                changed |= await self._resize(rs, 0)
        if not changed and not self._old_pods_running():
            await self._ensure_new()
            assert self.new is not None
            await self._resize(self.new, replicas_of(self.deployment))
            if is_complete(self.deployment, self.deployment.get("status") or {}):
                await self._clean_up()
        await self._sync_status()

    def _old_pods_running(self) -> bool:
        new_uid = self.new["metadata"]["uid"] if self.new else None
        return any(not is_terminal(pod) and controller_of(pod)["uid"] != new_uid for pod in self._pods())  # type: ignore[index]

    async def roll_back(self) -> None:
        """Put back the template of the revision that the annotation names (0: the one before the last)."""
        meta = self.deployment["metadata"]
        annotations = dict(meta["annotations"])
        text = annotations.pop(ROLLBACK_TO)
        wanted = int(text) if text.isdigit() else 0
        by_revision = sorted(self.sets, key=deployment_revision)
        before = by_revision[-2] if wanted == 0 and len(by_revision) > 1 else None
        target = next((rs for rs in by_revision if wanted and deployment_revision(rs) == wanted), before)
        type_, reason, message = "Warning", "RollbackRevisionNotFound", "Unable to find the revision to rollback to."
        if target is None and wanted == 0:
            message = "Unable to find last revision."
        spec = self.deployment["spec"]
        if target is not None and equal_ignore_hash(target["spec"]["template"], spec["template"]):
            reason = "RollbackTemplateUnchanged"
            message = f"The rollback revision contains the same template as current deployment {meta['name']!r}"
        elif target is not None:
            revision = deployment_revision(target)
            message = f'Rolled back deployment "{meta["name"]}" to revision {revision}'
            type_, reason = "Normal", "DeploymentRollback"
            spec = {**spec, "template": _without_hash(target["spec"]["template"])}
        self.controller.recorder.event(self.deployment, type_, reason, message)
        changed = {**self.deployment, "metadata": {**meta, "annotations": annotations}, "spec": spec}
        self.deployment = await self.controller.resource.update(changed)

    async def scale(self) -> None:
        """Change the number of replicas without moving the rollout on (scaled in its middle, or paused)."""
        await self._note_pause()
        wanted = replicas_of(self.deployment)
        active = [rs for rs in self.sets if replicas_of(rs) > 0]
        if len(active) <= 1:
            latest = active[0] if active else self.new or max(self.sets, key=deployment_revision, default=None)
            if latest is not None:
                await self._resize(latest, wanted)
        elif self.new is not None and self._saturated(self.new):
            for rs in [rs for rs in self.old if replicas_of(rs) > 0]:
                await self._resize(rs, 0)
        elif is_rolling(self.deployment):
            sizes = proportional_sizes(self.deployment, active)
            for rs in active:
                await self._resize(rs, sizes[rs["metadata"]["name"]])
        if self.deployment["spec"].get("paused"):
            await self._clean_up()
        await self.sync_status_only()

    def _saturated(self, rs: Object) -> bool:
        wanted = replicas_of(self.deployment)
        desired = (rs["metadata"].get("annotations") or {}).get(DESIRED_REPLICAS)
        return replicas_of(rs) == wanted and desired == str(wanted) and available_of(rs) == wanted

    async def _note_pause(self) -> None:
        """Progressing says Unknown while paused, so that the deadline does not run."""
        if not has_deadline(self.deployment):
            return
        current = condition(self.deployment, "Progressing")
        if current is not None and current.get("reason") == "ProgressDeadlineExceeded":
            return
        paused = bool(self.deployment["spec"].get("paused"))
        was = current is not None and current.get("reason") == "DeploymentPaused"
        if paused == was:
            return
        words = (
            ("DeploymentPaused", "Deployment is paused") if paused else ("DeploymentResumed", "Deployment is resumed")
        )
        status = {**(self.deployment.get("status") or {})}
        status["conditions"] = [dict(c) for c in status.get("conditions") or ()]
        put_condition(status, new_condition("Progressing", "Unknown", *words, self.now))
        await self._write_status(status)

    # ReplicaSets
    async def _ensure_new(self) -> None:
        await self._note_pause()
        revision = str(max((deployment_revision(rs) for rs in self.old), default=0) + 1)
        if self.new is None:
            await self._create_new(revision)
        else:
            meta = self.new["metadata"]
            annotations = self._annotations(self.new, revision)
            min_ready = self.deployment["spec"].get("minReadySeconds") or 0
            if annotations != (meta.get("annotations") or {}) or min_ready != (
                self.new["spec"].get("minReadySeconds") or 0
            ):
                spec = {**self.new["spec"], "minReadySeconds": min_ready}
                await self._write(
                    self.new, {**self.new, "metadata": {**meta, "annotations": annotations}, "spec": spec}
                )
            revision = annotations[REVISION]
            if has_deadline(self.deployment) and condition(self.deployment, "Progressing") is None:
                message = f'Found new replica set "{meta["name"]}"'
                await self._progress("True", "FoundNewReplicaSet", message)
        if (self.deployment["metadata"].get("annotations") or {}).get(REVISION) != revision:
            meta = self.deployment["metadata"]
            annotations = {**(meta.get("annotations") or {}), REVISION: revision}
            changed = {**self.deployment, "metadata": {**meta, "annotations": annotations}}
            self.deployment = await self.controller.resource.update(changed)

    def _annotations(self, rs: Object | None, revision: str) -> dict[str, str]:
        old = (rs["metadata"].get("annotations") or {}) if rs else {}
        of_deployment = self.deployment["metadata"].get("annotations") or {}
        new = {**old, **{k: v for k, v in of_deployment.items() if k not in NOT_INHERITED}}
        before = old.get(REVISION, "")
        if not before.isdigit() or int(before) < int(revision):
            new[REVISION] = revision
            if before:
                history = [h for h in old.get(REVISION_HISTORY, "").split(",") if h] + [before]
                while len(",".join(history)) > HISTORY_LENGTH_MAX:
                    history.pop(0)
                new[REVISION_HISTORY] = ",".join(history)
        return new

    async def _create_new(self, revision: str) -> None:
        deployment, controller = self.deployment, self.controller
        meta, spec = deployment["metadata"], deployment["spec"]
        status = deployment.get("status") or {}
        digest = pod_template_hash(spec["template"], status.get("collisionCount"))
        template_meta = spec["template"].get("metadata") or {}
        labels = {**(template_meta.get("labels") or {}), HASH_LABEL: digest}
        selector = {**spec["selector"]}
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}
        size = new_replica_set_size(deployment, self.old, 0)
        name = f"{meta['name']}-{digest}"
        replica_set = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": {**self._annotations(None, revision), **self._size_annotations()},
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": size,
                "minReadySeconds": spec.get("minReadySeconds") or 0,
                "selector": selector,
                "template": {**spec["template"], "metadata": {**template_meta, "labels": labels}},
            },
        }
        try:
            self.new = await controller.sets.create(replica_set)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                existing = await controller.sets.get(name, meta["namespace"])
                if controlled_by(existing, deployment) and equal_ignore_hash(
                    existing["spec"]["template"], spec["template"]
                ):
                    self.new = existing
                    self.sets.append(existing)
                    return
                collisions = (status.get("collisionCount") or 0) + 1
                await self._write_status({**status, "collisionCount": collisions})
                raise
            message = f'Failed to create new replica set "{name}": {error.message}'
            controller.recorder.event(deployment, "Warning", "ReplicaSetCreateError", message)
            if has_deadline(deployment):
                await self._progress("False", "ReplicaSetCreateError", message)
            raise
        self.sets.append(self.new)
        if size > 0:
            message = f"Scaled up replica set {name} from 0 to {size}"
            controller.recorder.event(deployment, "Normal", "ScalingReplicaSet", message)
        if has_deadline(deployment):
            await self._progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')

    async def _progress(self, status_value: str, reason: str, message: str) -> None:
        status = {**(self.deployment.get("status") or {})}
        status["conditions"] = [dict(c) for c in status.get("conditions") or ()]
        put_condition(status, new_condition("Progressing", status_value, reason, message, self.now))
        await self._write_status(status)

    def _size_annotations(self) -> dict[str, str]:
        wanted = replicas_of(self.deployment)
        return {DESIRED_REPLICAS: str(wanted), MAX_REPLICAS: str(wanted + fenceposts(self.deployment)[0])}

    async def _resize(self, rs: Object, size: int) -> bool:
        """Scale one ReplicaSet; True if its size changed. Its record of the sizes wanted is kept current."""
        meta, before = rs["metadata"], replicas_of(rs)
        annotations = {**(meta.get("annotations") or {}), **self._size_annotations()}
        if before == size and annotations == (meta.get("annotations") or {}):
            return False
        changed = {**rs, "metadata": {**meta, "annotations": annotations}, "spec": {**rs["spec"], "replicas": size}}
        await self._write(rs, changed)
        if before == size:
            return False
        word = "up" if size > before else "down"
        message = f"Scaled {word} replica set {meta['name']} from {before} to {size}"
        self.controller.recorder.event(self.deployment, "Normal", "ScalingReplicaSet", message)
        return True

    async def _write(self, rs: Object, changed: Object) -> None:
        written = await self.controller.sets.update(changed)
        self.sets = [written if s is rs else s for s in self.sets]
        if self.new is rs:
            self.new = written

    async def _clean_up(self) -> None:
        """Delete the oldest revisions beyond revisionHistoryLimit."""
        limit = self.deployment["spec"].get("revisionHistoryLimit", 10)
        if limit is None:
            return
        alive = [rs for rs in self.old if "deletionTimestamp" not in rs["metadata"]]
        for rs in sorted(alive, key=deployment_revision)[: max(0, len(alive) - limit)]:
            status, meta = rs.get("status") or {}, rs["metadata"]
            stale = meta.get("generation", 0) > status.get("observedGeneration", 0)
            if status.get("replicas") or replicas_of(rs) or stale:
                continue
            try:
                await self.controller.sets.delete(meta["name"], meta["namespace"], uid=meta["uid"])
            except ApiError as error:
                if error.code not in (404, 409):
                    raise

    # status
    async def sync_status_only(self) -> None:
        status = counted_status(self.deployment, self.new, self.sets, self._pods(), self.now)
        if status != (self.deployment.get("status") or {}):
            await self._write_status(status)

    async def _sync_status(self) -> None:
        status = rollout_status(self.deployment, self.new, self.sets, self._pods(), self.now)
        if status != (self.deployment.get("status") or {}):
            await self._write_status(status)
        self.again = seconds_until_deadline(self.deployment, status, self.now)

    async def _write_status(self, status: Object) -> None:
        self.deployment = await self.controller.resource.update({**self.deployment, "status": status}, "status")


def _without_hash(template: Object) -> Object:
    meta = template.get("metadata") or {}
    return {**template, "metadata": {**meta, "labels": {k: v for k, v in meta["labels"].items() if k != HASH_LABEL}}}


def _age(rs: Object) -> tuple[Any, ...]:
    return rs["metadata"].get("creationTimestamp", ""), rs["metadata"]["name"]
