"""The pytest plugin: a cluster, a namespace of the test's own, a kubeconfig; and what went wrong, in the report.

    def test_my_operator(peavine_cluster, namespace, kubeconfig): ...

    @pytest.mark.peavine(nodes=3, controllers=["deployment-controller", "replicaset-controller"])
    def test_with_a_cluster_of_its_own(peavine_cluster): ...

Without the marker all tests of a session share one cluster (`--peavine-nodes N` simulated nodes). When a test fails,
the objects and events of its namespace are added to its report.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHOWN_MAX = 50


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("peavine")
    group.addoption("--peavine-nodes", type=int, default=1, help="simulated nodes of the session's cluster")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "peavine(**options): run the test in a cluster of its own; options are those of peavine.testing.Cluster",
    )


@pytest.fixture(scope="session")
def _peavine_shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The session's cluster, started when the first test asks for it."""
    from peavine.testing import Cluster

    with Cluster(nodes=request.config.getoption("--peavine-nodes")) as cluster:
        yield cluster


@pytest.fixture
def peavine_cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A running cluster: the session's, or the test's own where it is marked `peavine(...)`."""
    marker = request.node.get_closest_marker("peavine")
    if marker is None:
        yield request.getfixturevalue("_peavine_shared")
        return
    from peavine.testing import Cluster

    with Cluster(**marker.kwargs) as cluster:
        yield cluster


@pytest.fixture
def kubeconfig(peavine_cluster: Any) -> Path:
    """The path of an administrator's kubeconfig."""
    return peavine_cluster.kubeconfig


@pytest.fixture
def namespace(request: pytest.FixtureRequest, peavine_cluster: Any) -> Iterator[str]:
    """The name of a namespace that only this test uses; deleted afterwards."""
    name = f"test-{secrets.token_hex(3)}"
    peavine_cluster.create_namespace(name)
    request.node.stash[_NAMESPACE] = (peavine_cluster, name)
    yield name
    peavine_cluster.delete_namespace(name)


_NAMESPACE = pytest.StashKey[tuple[Any, str]]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed and _NAMESPACE in item.stash:
        cluster, name = item.stash[_NAMESPACE]
        report.sections.append((f"namespace {name}", describe(cluster, name)))


def describe(cluster: Any, namespace: str) -> str:
    """The objects and the events of a namespace as text, for a person to read in a report."""
    objects = cluster.objects(namespace)
    events = cluster.get(f"/api/v1/namespaces/{namespace}/events")["items"]
    events.sort(key=lambda event: event.get("lastTimestamp") or event["metadata"]["creationTimestamp"])
    lines = [f"objects: {len(objects)}", *map(_object, objects[:SHOWN_MAX])]
    lines += [f"events: {len(events)}", *map(_event, events[-SHOWN_MAX:])]
    return "\n".join(lines)


def _event(event: dict[str, Any]) -> str:
    about = event["involvedObject"]
    return f"  {event['type']} {event['reason']} {about.get('kind', '')}/{about.get('name', '')}: {event['message']}"


def _object(obj: dict[str, Any]) -> str:
    """Kind and name, and what the status says: the phase, conditions that are not as wished, why containers wait."""
    meta, status = obj["metadata"], obj.get("status") or {}
    words = [f"{obj['kind']}/{meta['name']}", *(str(status[key]) for key in ("phase", "reason") if status.get(key))]
    words += [f"{key}={status[key]}" for key in ("replicas", "readyReplicas", "succeeded", "failed") if key in status]
    if meta.get("deletionTimestamp"):
        words.append("(being deleted)")
    for condition in status.get("conditions") or ():
        if condition.get("message") and condition.get("status") != "True":
            words.append(f"{condition['type']}={condition['status']}: {condition['message']}")
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        for state in (container.get("state") or {}).values():
            if state.get("reason"):
                words.append(f"{container['name']}: {state['reason']}")
    return "  " + " ".join(words)
