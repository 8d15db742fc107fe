"""Extenders: HTTP services that filter, rate, preempt or bind for the scheduler (upstream's extender/v1 messages)."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peavine.client import Client
from peavine.client.config import ClientConfig
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError
from peavine.scheduler.config import Extender
from peavine.scheduler.plugins.base import SCORE_MAX
from peavine.scheduler.preemption import Candidate, candidate_of
from peavine.scheduler.template import Object, Pod

log = logging.getLogger(__name__)

_SCORE_MAX = 10  # of an extender


class ExtenderError(Exception):
    """An extender that must be asked did not answer, or answered with an error."""


class Filtered:
    """What extenders left of some nodes, and why the others went."""

    def __init__(self, nodes: list[str]) -> None:
        self.nodes = nodes
        self.reasons: Counter[str] = Counter()
        self.hopeless: set[str] = set()


class HttpExtender:
    """Raises ExtenderError where its TLS files cannot be read."""

    def __init__(self, extender: Extender) -> None:
        self.about = extender
        self._client = Client(_connection(extender), user_agent="peavine-scheduler/v1.37.0")

    def is_interested(self, pod: Pod) -> bool:
        """Whether it manages a resource that the pod asks for; without managed resources, every pod is its business."""
        managed = self.about.managed_resources
        return not managed or any(name in pod.template.requests for name, _ in managed)

    async def _call(self, verb: str, body: Any) -> Any:
        try:
            async with asyncio.timeout(self.about.timeout_seconds):
                return await self._client.json("POST", f"/{verb}", body)
        except (ApiError, Unreachable, ConnectionError, TimeoutError, ValueError) as error:
            raise ExtenderError(f"extender {self.about.url_prefix}/{verb}: {error or 'timed out'}") from error

    def _args(self, pod: Pod, nodes: list[Object]) -> Object:
        args: Object = {"Pod": pod.object, "Nodes": None, "NodeNames": None}
        if self.about.node_cache_capable:
            args["NodeNames"] = [node["metadata"]["name"] for node in nodes]
        else:
            args["Nodes"] = {"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": nodes}
        return args

    async def filter(self, pod: Pod, nodes: list[Object], into: Filtered) -> None:
        answer = await self._call(self.about.filter_verb, self._args(pod, nodes))
        if answer.get("Error") or answer.get("error"):
            raise ExtenderError(answer.get("Error") or answer.get("error"))
        names = _get(answer, "NodeNames")
        if names is None:
            items = (_get(answer, "Nodes") or {}).get("items") or []
            names = [node["metadata"]["name"] for node in items]
        into.nodes = list(names)
        for field in ("FailedNodes", "FailedAndUnresolvableNodes"):
            for name, reason in (_get(answer, field) or {}).items():
                into.reasons[reason] += 1
                if field == "FailedAndUnresolvableNodes":
                    into.hopeless.add(name)

    async def prioritize(self, pod: Pod, nodes: list[Object]) -> dict[str, int]:
        """Scores by node, weighted and on the scheduler's scale."""
        answer = await self._call(self.about.prioritize_verb, self._args(pod, nodes))
        factor = self.about.weight * (SCORE_MAX // _SCORE_MAX)
        return {_get(entry, "Host"): int(_get(entry, "Score") or 0) * factor for entry in answer or ()}

    async def preempt(self, pod: Pod, candidates: dict[str, Candidate], nodes: set[str]) -> dict[str, Candidate]:
        """Those of the candidates (by node) that the extender leaves, with the victims that it leaves."""
        args: Object = {"Pod": pod.object}
        if self.about.node_cache_capable:
            args["NodeNameToMetaVictims"] = {
                node: {
                    "Pods": [{"UID": victim.uid} for victim in candidate.victims],
                    "NumPDBViolations": int(candidate.cost[0]),
                }
                for node, candidate in candidates.items()
            }
        else:
            args["NodeNameToVictims"] = {
                node: {
                    "Pods": [victim.object for victim in candidate.victims],
                    "NumPDBViolations": int(candidate.cost[0]),
                }
                for node, candidate in candidates.items()
            }
        answer = await self._call(self.about.preempt_verb, args)
        left = {}
        for node, victims in (_get(answer, "NodeNameToMetaVictims") or {}).items():
            if node not in nodes:
                raise ExtenderError(f"extender {self.about.url_prefix}: node {node} is not known")
            uids = [_get(victim, "UID") for victim in _get(victims, "Pods") or ()]
            known = {victim.uid: victim for victim in candidates[node].victims} if node in candidates else {}
            if unknown := [uid for uid in uids if uid not in known]:
                raise ExtenderError(
                    f"extender: {self.about.url_prefix} claims to preempt pod (UID: {unknown[0]}) on node: {node}, but "
                    "the pod is not found on that node"
                )
            remade = candidate_of(
                candidates[node].row, [known[uid] for uid in uids], int(_get(victims, "NumPDBViolations") or 0)
            )
            if remade is not None:
                left[node] = remade
        return left

    async def bind(self, pod: Pod, node: str) -> None:
        args = {"PodName": pod.name, "PodNamespace": pod.namespace, "PodUID": pod.uid, "Node": node}
        answer = await self._call(self.about.bind_verb, args)
        if error := _get(answer or {}, "Error"):
            raise ExtenderError(error)

    def close(self) -> None:
        self._client.close()


def _connection(extender: Extender) -> ClientConfig:
    tls = extender.tls
    if tls is None:
        return ClientConfig(server=extender.url_prefix)
    server = extender.url_prefix
    if server.startswith("http://"):
        server = "https://" + server.removeprefix("http://")

    def pem(name: str) -> str:
        if data := tls.get(f"{name}Data"):
            return base64.b64decode(data).decode()
        return Path(tls[f"{name}File"]).read_text() if tls.get(f"{name}File") else ""

    try:
        return ClientConfig(
            server=server,
            ca=pem("ca"),
            certificate=pem("cert"),
            key=pem("key"),
            tls_server_name=tls.get("serverName") or "",
            insecure=bool(tls.get("insecure")),
        )
    except (OSError, ValueError) as error:
        raise ExtenderError(f"extender {extender.url_prefix}: {error}") from error


def _get(answer: Object, name: str) -> Any:
    """Go matches field names without regard to case: extenders in other languages write them otherwise."""
    if name in answer:
        return answer[name]
    return next((value for key, value in answer.items() if key.lower() == name.lower()), None)


async def filtered(extenders: Iterable[HttpExtender], pod: Pod, nodes: dict[str, Object]) -> Filtered:
    """What all interested extenders leave of the nodes, each asked about what the one before left.

    Raises ExtenderError, unless the extender may be ignored."""
    result = Filtered(list(nodes))
    for extender in extenders:
        if not result.nodes:
            break
        if extender.about.filter_verb and extender.is_interested(pod):
            try:
                await extender.filter(pod, [nodes[name] for name in result.nodes if name in nodes], result)
            except ExtenderError as error:
                if not extender.about.ignorable:
                    raise
                log.warning("skipping extender: %s", error)
    return result


async def preempted(
    extenders: Iterable[HttpExtender], pod: Pod, candidates: dict[str, Candidate], nodes: set[str]
) -> dict[str, Candidate]:
    """What all interested extenders leave of the nodes that preemption could clear. Raises ExtenderError."""
    for extender in extenders:
        if not candidates:
            break
        if extender.about.preempt_verb and extender.is_interested(pod):
            try:
                candidates = await extender.preempt(pod, candidates, nodes)
            except ExtenderError as error:
                if not extender.about.ignorable:
                    raise
                log.warning("skipping extender: %s", error)
    return candidates


async def rated(extenders: Iterable[HttpExtender], pod: Pod, nodes: dict[str, Object]) -> Counter[str]:
    """The sum of the extenders' scores; one that does not answer counts for nothing."""
    total: Counter[str] = Counter()
    for extender in extenders:
        if extender.about.prioritize_verb and extender.is_interested(pod):
            try:
                total.update(await extender.prioritize(pod, list(nodes.values())))
            except ExtenderError as error:
                log.warning("skipping extender's scores: %s", error)
    return total
