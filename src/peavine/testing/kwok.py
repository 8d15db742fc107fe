"""Nodes and pods that live by Stages (kwok.x-k8s.io/v1alpha1), as kwok plays them.

A Stage says for which objects of a kind it holds (`selector`: labels, annotations, expressions of jq), how long after
an object came into that state it acts (`delay`), and what then (`next`: a patch from a Go template, finalizers, an
event, deletion). Of several that match, one is drawn by `weight`. Follows "Stages Configuration" of kwok's documents;
the functions in templates (`Now`, `NodeIPWith`, ...) are kwok's too. What is not understood is refused by name.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.cli.output.gotemplate import Template
from peavine.client import Client
from peavine.client.events import EventRecorder
from peavine.client.informer import Informer, Key, key_of
from peavine.client.rest import Object, Resource
from peavine.client.transport import Unreachable
from peavine.client.workqueue import WorkQueue
from peavine.machinery.duration import parse_duration
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now, now_micro, parse_time

log = logging.getLogger(__name__)

API_VERSION = "kwok.x-k8s.io/v1alpha1"
KINDS = {"Node": "nodes", "Pod": "pods"}
LEASES = "kube-node-lease"
HEARTBEAT_SECONDS = 10.0
LEASE_SECONDS = 40
FAKE = {"kwok.x-k8s.io/node": "fake"}
PATCHES = {"merge": "merge", "strategic": "strategic", "json": "json", "": "merge"}
NEXT_FIELDS = {
    "event", "finalizers", "delete", "statusTemplate", "statusSubresource", "statusPatchAs", "patches",
}  # fmt: skip
SPEC_FIELDS = {"resourceRef", "selector", "weight", "weightFrom", "delay", "next", "immediateNextStage"}


class Requirement(NamedTuple):
    """One of `matchExpressions`: what a jq program finds in the object, and whether that is as wanted."""

    program: Any
    operator: str
    values: tuple[str, ...]

    def holds(self, obj: Object) -> bool:
        found = _all(self.program, obj)
        if self.operator in ("Exists", "DoesNotExist"):
            return bool(found) == (self.operator == "Exists")
        among = any(_word(value) in self.values for value in found)
        return among == (self.operator == "In")


class Stage:
    """One document of kind Stage. Raises ValueError, with the Stage's name, for what is not understood."""

    def __init__(self, document: Object) -> None:
        self.name = (document.get("metadata") or {}).get("name", "")
        spec = document.get("spec") or {}
        self._refuse_unknown(spec, SPEC_FIELDS, "spec")
        self.kind = (spec.get("resourceRef") or {}).get("kind")
        if self.kind not in KINDS:
            raise ValueError(f"Stage {self.name}: a Stage of {self.kind or 'nothing'} is not implemented")
        selector = spec.get("selector") or {}
        self._labels = selector.get("matchLabels") or {}
        self._annotations = selector.get("matchAnnotations") or {}
        self._requirements = [self._requirement(r) for r in selector.get("matchExpressions") or ()]
        delay = spec.get("delay") or {}
        self._delay_ms, self._jitter_ms = delay.get("durationMilliseconds", 0), delay.get("jitterDurationMilliseconds")
        self._delay_from = self._from(delay, "durationFrom")
        self._jitter_from = self._from(delay, "jitterDurationFrom")
        self._weight, self._weight_from = spec.get("weight", 0), self._from(spec, "weightFrom")
        self.next: Object = spec.get("next") or {}
        self._refuse_unknown(self.next, NEXT_FIELDS, "next")
        self.patches = [*self.next.get("patches", ())]
        if self.next.get("statusTemplate"):
            subresource = self.next.get("statusSubresource", "status")
            self.patches.append({"subresource": subresource, "root": "status", "template": self.next["statusTemplate"]})

    def _refuse_unknown(self, found: Object, known: set[str], where: str) -> None:
        if beyond := set(found) - known:
            raise ValueError(f"Stage {self.name}: {where}.{min(beyond)} is not implemented")

    def _requirement(self, expression: Object) -> Requirement:
        operator = expression.get("operator")
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise ValueError(f"Stage {self.name}: unknown operator {operator!r}")
        return Requirement(self._program(expression["key"]), operator, tuple(expression.get("values") or ()))

    def _from(self, spec: Object, name: str) -> Any:
        return self._program(spec[name]["expressionFrom"]) if spec.get(name) else None

    def _program(self, text: str) -> Any:
        try:
            import jq
        except ImportError as error:
            raise ValueError(f"Stage {self.name} needs jq: pip install 'peavine[stages]'") from error
        try:
            return jq.compile(text)
        except ValueError as error:
            raise ValueError(f"Stage {self.name}: {text}: {error}") from error

    def matches(self, obj: Object) -> bool:
        """Whether it holds for an object of its kind."""
        meta = obj["metadata"]
        return (
            self._labels.items() <= (meta.get("labels") or {}).items()
            and self._annotations.items() <= (meta.get("annotations") or {}).items()
            and all(requirement.holds(obj) for requirement in self._requirements)
        )

    def weight(self, obj: Object) -> float:
        """How often it is drawn among those that match; all are 0: each as often as another."""
        found = _all(self._weight_from, obj) if self._weight_from else ()
        return max(0.0, float(found[0])) if found and found[0] is not None else float(self._weight)

    def delay(self, obj: Object, moment: float) -> float:
        """Seconds to wait: a random number between the duration and the jitter, if there is one."""
        least = _seconds(self._delay_from, obj, moment, self._delay_ms / 1000)
        jitter = None if self._jitter_ms is None else self._jitter_ms / 1000
        most = _seconds(self._jitter_from, obj, moment, jitter)
        return max(0.0, least if most is None else random.uniform(least, max(least, most)))


def _all(program: Any, obj: Object) -> list[Any]:
    """What a jq program finds; nothing where it fails (`.a.[]` of null), and no nulls."""
    try:
        return [value for value in program.input_value(obj).all() if value is not None]
    except ValueError:
        return []


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _seconds(program: Any, obj: Object, moment: float, default: Any) -> Any:
    """A duration (`5s`) or a moment found in the object; the default where there is none."""
    found = _all(program, obj) if program else ()
    if not found:
        return default
    try:
        return parse_duration(found[0])
    except ValueError:
        return parse_time(found[0]) - moment


def parse_stages(documents: Iterable[Object]) -> list[Stage]:
    """The Stages of some documents. Raises ValueError."""
    return [Stage(document) for document in documents]


class Kwok:
    """`run()` keeps `count` nodes (node-0, node-1, ...) with their Leases, and plays `stages` on them and their pods.

    Without a Stage of kind Node the nodes are simply ready, as with kwok's own `node-fast`.
    """

    def __init__(self, client: Client, stages: Iterable[Object], count: int, *, clock: Clock = REAL) -> None:
        self._client, self._clock = client, clock
        self._stages = parse_stages([*_node_ready(stages), *stages])
        self._names = [f"node-{n}" for n in range(count)]
        self._resources = {kind: client.resource("v1", plural) for kind, plural in KINDS.items()}
        self._informers = {kind: Informer(resource, clock=clock) for kind, resource in self._resources.items()}
        self._queue: WorkQueue[tuple[str, Key]] = WorkQueue(clock=clock)
        self._drawn: dict[tuple[str, Key], tuple[Stage, float]] = {}  # what comes next, and when
        self._recorder = EventRecorder(client, "kwok-controller", clock=clock)
        self._addresses: dict[str, str] = {}
        self._started = now(clock.time())

    async def run(self) -> None:
        for kind, informer in self._informers.items():
            self._follow(kind, informer)
        async with scope() as tasks:
            for informer in self._informers.values():
                tasks.start(informer.run(), name="kwok informer")
            tasks.start(self._queue.run(), name="kwok queue")
            tasks.start(self._recorder.run(), name="kwok events")
            for name in self._names:
                tasks.start(self._live(name), name=f"{name} heartbeat")
            while True:
                item = await self._queue.get()
                try:
                    await self._play(*item)
                    self._queue.forget(item)
                except (ApiError, Unreachable) as error:
                    log.info("%s %s: %s", *item, error)
                    self._queue.add_rate_limited(item)
                finally:
                    self._queue.done(item)

    def _follow(self, kind: str, informer: Informer) -> None:
        def changed(obj: Object) -> None:
            self._queue.add((kind, key_of(obj)))

        def gone(obj: Object) -> None:
            self._drawn.pop((kind, key_of(obj)), None)

        informer.add_handler(added=changed, updated=lambda _, obj: changed(obj), deleted=gone)

    async def _live(self, name: str) -> None:
        """The node exists, and its Lease is renewed."""
        leases = self._client.resource("coordination.k8s.io/v1", "leases")
        while True:
            spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS}
            spec["renewTime"] = now_micro(self._clock.time())
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
            try:
                if self._informers["Node"].get("", name) is None:
                    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": FAKE}}
                    await self._resources["Node"].patch(name, node, type="apply", field_manager="kwok", force=True)
                await leases.patch(name, lease, LEASES, type="apply", field_manager="kwok", force=True)
            except (ApiError, Unreachable) as error:
                log.info("node %s: %s", name, error)
            await self._clock.sleep(HEARTBEAT_SECONDS)

    async def _play(self, kind: str, key: Key) -> None:
        obj = self._informers[kind].get(*key)
        if obj is None or not self._ours(kind, obj):
            return
        drawn = self._drawn.get((kind, key))
        if drawn is None or not drawn[0].matches(obj):
            stage = self._draw(kind, obj)
            if stage is None:
                self._drawn.pop((kind, key), None)
                return
            due = self._clock.monotonic() + stage.delay(obj, self._clock.time())
            drawn = self._drawn[(kind, key)] = (stage, due)
        stage, due = drawn
        if (left := due - self._clock.monotonic()) > 0:
            self._queue.add_after((kind, key), left)
            return
        del self._drawn[(kind, key)]
        await self._act(stage, self._resources[kind], obj)

    def _ours(self, kind: str, obj: Object) -> bool:
        name = obj["spec"].get("nodeName") if kind == "Pod" else obj["metadata"]["name"]
        return name in self._names

    def _draw(self, kind: str, obj: Object) -> Stage | None:
        matching = [stage for stage in self._stages if stage.kind == kind and stage.matches(obj)]
        if not matching:
            return None
        weights = [stage.weight(obj) for stage in matching]
        return random.choices(matching, weights if any(weights) else None)[0]

    async def _act(self, stage: Stage, resource: Resource, obj: Object) -> None:
        namespace, name = key_of(obj)
        at = namespace or None
        if event := stage.next.get("event"):
            self._recorder.event(obj, event.get("type", "Normal"), event.get("reason", ""), event.get("message", ""))
        if finalizers := stage.next.get("finalizers"):
            kept = _finalizers(obj["metadata"].get("finalizers") or [], finalizers)
            await resource.patch(name, {"metadata": {"finalizers": kept or None}}, at)
        for patch in stage.patches:
            body = self._render(patch["template"], obj)
            if patch.get("type") != "json" and patch.get("root"):
                body = {patch["root"]: body}
            way = PATCHES[patch.get("type", "")]
            await resource.patch(name, body, at, type=way, subresource=patch.get("subresource") or None)
        if stage.next.get("delete"):
            await resource.delete(name, at, grace_period_seconds=0)

    def _render(self, template: str, obj: Object) -> Any:
        import yaml

        return yaml.safe_load(Template(template, self._functions()).render(obj)) or {}

    def _functions(self) -> dict[str, Any]:
        import yaml

        def indented(value: Any, levels: int = 0) -> str:
            text = yaml.safe_dump(value, sort_keys=False).rstrip("\n")
            return text.replace("\n", "\n" + " " * 2 * levels)

        return {
            "Now": lambda: now(self._clock.time()),
            "StartTime": lambda: self._started,
            "Quote": lambda value: json.dumps(value if isinstance(value, str) else _word(value)),
            "YAML": indented,
            "Version": lambda: "kwok-v0.7.0",
            "NodeIP": lambda: "10.0.0.1",
            "NodeName": lambda: "kwok-controller",
            "NodePort": lambda: 10247,
            "NodeIPWith": lambda node: self._address("10.0", node),
            "PodIPWith": lambda node, host, uid, *names: self._address("10.0" if host else "10.1", uid),
            "NodeConditions": self._conditions,
        }

    def _address(self, network: str, owner: str) -> str:
        known = self._addresses.setdefault(owner, str(len(self._addresses) + 2))
        return f"{network}.{int(known) // 256 % 256}.{int(known) % 256}"

    def _conditions(self) -> list[Object]:
        wanted = [("Ready", "True", "KubeletReady", "kubelet is posting ready status")]
        for what in ("Memory", "Disk", "PID"):
            reason = f"KubeletHasSufficient{what}" if what != "Disk" else "KubeletHasNoDiskPressure"
            wanted.append((f"{what}Pressure", "False", reason, f"kubelet has sufficient {what}"))
        times = dict.fromkeys(("lastHeartbeatTime", "lastTransitionTime"), now(self._clock.time()))
        return [{"type": t, "status": s, "reason": r, "message": m, **times} for t, s, r, m in wanted]


def _node_ready(stages: Iterable[Object]) -> list[Object]:
    """The Stage that makes nodes ready, where the file has none of its own."""
    if any(((stage.get("spec") or {}).get("resourceRef") or {}).get("kind") == "Node" for stage in stages):
        return []
    template = (
        "conditions:\n{{ YAML NodeConditions }}\n"
        "allocatable: {cpu: 1k, memory: 1Ti, pods: 1M}\ncapacity: {cpu: 1k, memory: 1Ti, pods: 1M}\n"
    )
    absent = {"key": '.status.conditions.[] | select( .type == "Ready" ) | .status', "operator": "NotIn"}
    selector = {"matchExpressions": [{**absent, "values": ["True"]}]}
    spec = {"resourceRef": {"kind": "Node"}, "selector": selector, "next": {"statusTemplate": template}}
    return [{"metadata": {"name": "node-ready"}, "spec": spec}]


def _finalizers(present: list[str], wish: Object) -> list[str]:
    kept = [] if wish.get("empty") else list(present)
    removed = {entry["value"] for entry in wish.get("remove") or ()}
    added = [entry["value"] for entry in wish.get("add") or () if entry["value"] not in kept]
    return [name for name in kept if name not in removed] + added
