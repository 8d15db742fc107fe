"""What the two sorts of policies share: which bindings and parameters concern a write, and the expressions compiled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import AdmissionRequest
from peavine.apiserver.lister import Lister
from peavine.apiserver.policies.variables import environment, variables_of
from peavine.apiserver.registry.conversions import settled
from peavine.apiserver.webhooks.matching import Match, is_exempt, match, selects
from peavine.machinery.cel import CelError, CompileError, CostExceeded, Program
from peavine.machinery.names import GVK, split_group_version

Object = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
call_budget = 10_000_000  # of one policy's expressions for one write


class PolicyError(Exception):
    """A policy could not be evaluated: what its failurePolicy is about."""


class Policy:
    """A policy with its expressions compiled; `error` where one does not compile."""

    def __init__(self, obj: Object) -> None:
        self.obj, self.spec = obj, obj.get("spec") or {}
        self.name: str = obj["metadata"]["name"]
        self.fails_open = self.spec.get("failurePolicy") == "Ignore"
        self.param_kind: Object | None = self.spec.get("paramKind")
        self.conditions: Any = None  # set by Conditions
        self._programs: dict[tuple[str, str], Program | CompileError] = {}

    def program(self, text: str, result: str = "") -> Program:
        """Raises PolicyError for an expression that does not compile."""
        found = self._programs.get((text, result))
        if found is None:
            try:
                found = environment(params=self.param_kind is not None, variables=True).compile(text, result)
            except CompileError as error:
                found = error
            self._programs[text, result] = found
        if isinstance(found, CompileError):
            raise PolicyError(f"compilation error: {found}")
        return found


class Variables:
    """`variables` of an expression: each evaluated when first asked for."""

    cel_type = "kubernetes.variables"

    def __init__(self, policy: Policy, context: Evaluation) -> None:
        self._policy, self._context = policy, context
        self._texts = {v["name"]: v["expression"] for v in policy.spec.get("variables") or []}
        self._values: dict[str, Any] = {}

    def cel_member(self, name: str) -> Any:
        if name not in self._texts:
            raise CelError(f"no such key: {name}")
        if name not in self._values:
            try:
                self._values[name] = self._context.evaluate(self._texts[name])
            except PolicyError as error:
                raise CelError(f"composited variable {name!r} fails to compile: {error}") from error
        return self._values[name]

    def cel_has(self, name: str) -> bool:
        return name in self._texts


class Evaluation:
    """One policy evaluated for one write with one parameter; its budget."""

    def __init__(self, policy: Policy, variables: Object, params: Object | None) -> None:
        self.policy, self._left = policy, call_budget
        self.variables = dict(variables)
        if policy.param_kind is not None:
            self.variables["params"] = params
        self.variables["variables"] = Variables(policy, self)

    def evaluate(self, text: str, result: str = "") -> Any:
        """Raises PolicyError (does not compile), CelError (no value), CostExceeded."""
        value, cost = self.policy.program(text, result).evaluate(self.variables, max(self._left, 0))
        self._left -= cost
        return value


class Policies:
    """All policies of one sort and their bindings."""

    def __init__(self, context: PluginContext, policies: str, bindings: str) -> None:
        self.context = context
        self._lister: Lister = context.lister
        self._resource, self._bindings = policies, bindings
        self._policies: dict[str, Policy] = {}
        self._bound: dict[str, list[Object]] | None = None
        context.lister.on_change(GROUP, policies, self._policy_changed)
        context.lister.on_change(GROUP, bindings, self._binding_changed)

    def _policy_changed(self, event: str, obj: Object, old: Object | None) -> None:
        self._policies.pop(obj["metadata"]["name"], None)
        self._bound = None

    def _binding_changed(self, event: str, obj: Object, old: Object | None) -> None:
        self._bound = None

    def _by_policy(self) -> dict[str, list[Object]]:
        if self._bound is None:
            bound: dict[str, list[Object]] = {}
            for binding in self._lister.list(GROUP, self._bindings):
                bound.setdefault((binding.get("spec") or {}).get("policyName") or "", []).append(binding)
            self._bound = dict(sorted(bound.items()))
        return self._bound

    async def concerning(self, req: AdmissionRequest) -> AsyncIterator[tuple[Policy, Object, Match]]:
        """Each policy and binding that mean this write."""
        bound = self._by_policy()
        if not bound or is_exempt(req):
            return
        for name, bindings in bound.items():
            policy = self._policy(name)
            if policy is None:
                continue
            found = await settled(partial(self._match, req, policy.spec.get("matchConstraints") or {}))
            if found is None:
                continue
            for binding in bindings:
                narrowed = (binding.get("spec") or {}).get("matchResources")
                if narrowed is None or await settled(partial(self._match, req, narrowed, every=True)) is not None:
                    yield policy, binding, found

    def _policy(self, name: str) -> Policy | None:
        found = self._policies.get(name)
        if found is None:
            obj = self._lister.get(GROUP, self._resource, None, name)
            if obj is None or obj["metadata"].get("deletionTimestamp"):
                return None
            found = self._policies[name] = Policy(obj)
        return found

    def _match(self, req: AdmissionRequest, spec: Object, every: bool = False) -> Match | None:
        rules = spec.get("resourceRules") or ()
        if every and not rules:
            rules = (_ANYTHING,)
        return match(
            req,
            rules,
            spec.get("excludeResourceRules") or (),
            spec.get("matchPolicy") or "Equivalent",
            spec.get("namespaceSelector"),
            spec.get("objectSelector"),
            self._lister,
            self.context.registry,
        )

    def variables(self, req: AdmissionRequest, found: Match) -> Object:
        return variables_of(self.context, req, found)

    def params(self, policy: Policy, binding: Object, req: AdmissionRequest) -> list[Object | None]:
        """The parameter objects of a binding: [None] where the policy takes none. Raises PolicyError when missing."""
        kind, reference = policy.param_kind, (binding.get("spec") or {}).get("paramRef")
        if kind is None or reference is None:
            return [None]
        group, version = split_group_version(kind.get("apiVersion") or "")
        served = self._served(GVK(group, version, kind.get("kind") or ""))
        if served is None:
            shown = f"{group}/{version}, Kind={kind.get('kind')}"
            raise PolicyError(f"failed to find resource referenced by paramKind: '{shown}'")
        namespace = ""
        if served.namespaced:
            namespace = reference.get("namespace") or req.namespace
            if not namespace:
                words = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                raise PolicyError(words)
        elif reference.get("namespace"):
            raise PolicyError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        found: list[Object]
        if reference.get("name"):
            one = self._lister.get(served.hub.group, served.hub.plural, namespace, reference["name"])
            found = [one] if one is not None else []
        else:
            listed = self._lister.list(served.hub.group, served.hub.plural, namespace or None)
            selector = reference.get("selector")
            found = [o for o in listed if selects(selector, o["metadata"].get("labels") or {})]
        if not found:
            if reference.get("parameterNotFoundAction") == "Allow":
                return []
            raise PolicyError("no params found for policy binding with `Deny` parameterNotFoundAction")
        return list(found)

    def _served(self, gvk: GVK) -> Any:
        registry = self.context.registry
        kinds = registry.kinds() if registry is not None else ()
        return next((kind for kind in kinds if kind.gvk == gvk and kind.plural), None)


_ANYTHING: Object = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*", "*/*"]}
ERRORS: tuple[type[Exception], ...] = (PolicyError, CelError, CostExceeded)
