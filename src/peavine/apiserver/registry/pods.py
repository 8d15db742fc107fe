"""Eviction: the write on a pod that is a request of its own. The other one is in `bindings.py`."""

from __future__ import annotations

from peavine.api.conditions import set_condition
from peavine.apiserver.admission.request import CREATE
from peavine.apiserver.registry.delete import delete
from peavine.apiserver.registry.registry import Registry
from peavine.apiserver.registry.request import Object, WriteRequest
from peavine.apiserver.registry.update import modify
from peavine.machinery import errors
from peavine.machinery.meta import now
from peavine.machinery.selectors import SelectorError, selector_of

BUDGET_TRIES = 20
# Evictions that a disruption controller has not accounted for yet.
DISRUPTED_PODS_MAX = 2000


def _inner(request: WriteRequest) -> WriteRequest:
    """The write that follows from a request which admission has already seen."""
    from dataclasses import replace

    return replace(request, admit=False, object_gvk=None)


async def evict(registry: Registry, request: WriteRequest, eviction: Object) -> None:
    """Delete a pod if its disruption budget allows. Raises ApiError 429 where it does not (now)."""
    options = dict(eviction.get("deleteOptions") or {})
    if options.get("dryRun"):
        request.dry_run = True
    if request.admit:
        review = request.admission(CREATE, eviction, None)
        await registry.chain.admit(review)
        await registry.chain.validate(review)
    entry = await registry.read(request.kind, request.namespace, request.name)
    pod = await registry.read_object(request.kind, entry)
    removal = _inner(request)
    removal.subresource, removal.options = "", options
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed", "Pending") or pod["metadata"].get("deletionTimestamp"):
        await _mark_disrupted(registry, request)
        await delete(registry, removal)
        return
    budgets = _budgets(registry, pod)
    if len(budgets) > 1:
        words = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise errors.ApiError(500, "InternalError", words)
    if budgets:
        healthy = _ready(pod)
        spec = budgets[0].get("spec") or {}
        always = spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
        status = budgets[0].get("status") or {}
        enough = (status.get("currentHealthy") or 0) >= (status.get("desiredHealthy") or 0) > 0
        if healthy or not (always or enough):
            await _spend(registry, request, budgets[0], pod)
    removal.options = {**options}
    removal.options.setdefault("preconditions", {"uid": pod["metadata"]["uid"]})
    await _mark_disrupted(registry, request)
    await delete(registry, removal)


async def _mark_disrupted(registry: Registry, request: WriteRequest) -> None:
    """Say on the pod why it ends, for its owners (a Job's podFailurePolicy, say)."""
    if request.dry_run:
        return
    inner = _inner(request)
    inner.subresource = "status"

    def change(pod: Object | None) -> Object:
        assert pod is not None
        status = pod.setdefault("status", {})
        moment = now(registry.clock.time())
        set_condition(status, "DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: evicting", moment)
        return pod

    await modify(registry, inner, change)


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _budgets(registry: Registry, pod: Object) -> list[Object]:
    resource = registry.named("policy", "poddisruptionbudgets")
    if resource is None:
        return []
    found = []
    for entry in resource.cache.entries(pod["metadata"]["namespace"]):
        budget = resource.cache.form.load(entry)
        try:
            selector = selector_of((budget.get("spec") or {}).get("selector"))
        except SelectorError:
            continue
        if selector.matches(pod["metadata"].get("labels")):
            found.append(budget)
    return found


async def _spend(registry: Registry, request: WriteRequest, budget: Object, pod: Object) -> None:
    """Take one disruption from a budget, or refuse."""
    resource = registry.named("policy", "poddisruptionbudgets")
    assert resource is not None
    name = budget["metadata"]["name"]
    inner = _inner(request)
    inner.kind, inner.name, inner.subresource = resource.hub, name, "status"

    def change(live: Object | None) -> Object:
        assert live is not None
        status = live.setdefault("status", {})
        generation = live["metadata"].get("generation") or 0
        if (status.get("observedGeneration") or 0) < generation:
            raise _refused(f"The disruption budget {name} is still being processed by the server.", 10)
        allowed = status.get("disruptionsAllowed") or 0
        if allowed < 0:
            raise errors.forbidden("poddisruptionbudgets", name, "pdb disruptions allowed is negative", "policy")
        if len(status.get("disruptedPods") or {}) > DISRUPTED_PODS_MAX:
            words = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
            raise errors.forbidden("poddisruptionbudgets", name, words, "policy")
        if allowed == 0:
            words = (
                f"The disruption budget {name} needs {status.get('desiredHealthy') or 0} healthy pods and has "
                f"{status.get('currentHealthy') or 0} currently"
            )
            raise _refused(words, 0)
        status["disruptionsAllowed"] = allowed - 1
        status.setdefault("disruptedPods", {})[pod["metadata"]["name"]] = now(registry.clock.time())
        return live

    await modify(registry, inner, change)


def _refused(why: str, retry_after_seconds: int) -> errors.ApiError:
    details: Object = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if retry_after_seconds:
        details["retryAfterSeconds"] = retry_after_seconds
    words = "Cannot evict pod as it would violate the pod's disruption budget."
    headers = {"Retry-After": str(retry_after_seconds)} if retry_after_seconds else {}
    return errors.ApiError(429, "TooManyRequests", words, details=details, headers=headers)
