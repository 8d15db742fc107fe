"""What a newer runtime than Debian's is asked for: user namespaces, image volumes, strict groups, stop signals.

The kubelet, its cgroups and mounts are real; the runtime behind the socket writes down what it is told.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.node import NODE, TestNode
from tests.kubelet.test_pods_on_containerd import FOREVER

pytestmark = pytest.mark.root
Object = dict[str, Any]


@pytest.fixture(scope="module")
def modern(node: TestNode) -> Iterator[Path]:
    """The state directory of a modern runtime, which the node's kubelet uses meanwhile."""
    where = node.directory / "modern"
    where.mkdir()
    socket = where / "cri.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kubelet.modern", str(socket), str(where)], cwd=Path(__file__).resolve().parents[2]
    )
    try:
        node.until(socket.exists, bool, "the runtime's socket")
        node.restart_kubelet(f"--container-runtime-endpoint={socket}")
        version = "containerd://2.1.4"
        nodes = node.client.resource("v1", "nodes")
        node.until(
            lambda: node.run(nodes.get(NODE))["status"],
            lambda s: s["nodeInfo"]["containerRuntimeVersion"] == version,
            "the node says what it runs",
            40,
        )
        yield where
    finally:
        node.restart_kubelet()
        process.kill()
        process.wait()


def asked(where: Path, call: str, pod: str) -> Object:
    """The last request of a kind about a pod."""
    found = [json.loads(line) for line in (where / "calls").read_text().splitlines()]
    for name, request in reversed(found):
        config = request.get("sandbox_config") or request.get("config") or {}
        if name == call and (config.get("metadata") or {}).get("name") == pod:
            return request
    raise AssertionError(f"no {call} for {pod}")


def test_the_node_says_what_its_runtime_can(node: TestNode, modern: Path) -> None:
    status = node.run(node.client.resource("v1", "nodes").get(NODE))["status"]
    able = {"recursiveReadOnlyMounts": True, "userNamespaces": True}
    assert {"name": "runc", "features": able} in status["runtimeHandlers"]
    assert status["features"] == {"supplementalGroupsPolicy": True}


def test_every_pod_with_users_of_its_own_gets_its_own_range(node: TestNode, modern: Path) -> None:
    first = node.start_pod(node.pod("users1", FOREVER, hostUsers=False))
    node.start_pod(node.pod("users2", FOREVER, hostUsers=False))
    node.start_pod(node.pod("hosts-users", FOREVER))
    ranges = []
    for name in ("users1", "users2"):
        sandbox = asked(modern, "sandbox", name)["config"]["linux"]["security_context"]["namespace_options"]
        container = asked(modern, "container", name)["config"]["linux"]["security_context"]["namespace_options"]
        assert sandbox["userns_options"] == container["userns_options"]
        ((mapping,), (groups,)) = (sandbox["userns_options"][kind] for kind in ("uids", "gids"))
        assert mapping == groups and mapping["length"] == 65536 and mapping["host_id"] >= 65536
        assert mapping["host_id"] % 65536 == 0 and "container_id" not in mapping
        ranges.append(mapping["host_id"])
    assert len(set(ranges)) == 2
    options = asked(modern, "sandbox", "hosts-users")["config"]["linux"]["security_context"]["namespace_options"]
    assert "userns_options" not in options
    kept = json.loads((node.pods_dir / first["metadata"]["uid"] / "userns").read_text())
    assert kept["uidMappings"] == [{"hostId": ranges[0], "containerId": 0, "length": 65536}]
    # A kubelet that is killed gives nothing twice; what is given back is given again.
    node.restart_kubelet(f"--container-runtime-endpoint={modern / 'cri.sock'}")
    node.start_pod(node.pod("users3", FOREVER, hostUsers=False))

    def range_of(name: str) -> int:
        config = asked(modern, "sandbox", name)["config"]
        return int(config["linux"]["security_context"]["namespace_options"]["userns_options"]["uids"][0]["host_id"])

    assert range_of("users3") not in ranges
    node.delete("users1", 0)
    node.until(lambda: (node.pods_dir / first["metadata"]["uid"]).exists(), lambda e: not e, "its directory is gone")
    node.start_pod(node.pod("users4", FOREVER, hostUsers=False))
    assert range_of("users4") == ranges[0]
    for name in ("users2", "users3", "users4", "hosts-users"):
        node.delete(name, 0)


def test_images_groups_signals_and_deep_read_only_mounts_are_asked_for(node: TestNode, modern: Path) -> None:
    volumes = [
        {"name": "files", "image": {"reference": "example.com/files:1"}},
        {"name": "deep", "emptyDir": {}},
    ]
    mounts = [
        {"name": "files", "mountPath": "/files", "subPath": "part"},
        {"name": "deep", "mountPath": "/enabled", "readOnly": True, "recursiveReadOnly": "Enabled"},
        {"name": "deep", "mountPath": "/possible", "readOnly": True, "recursiveReadOnly": "IfPossible"},
        {"name": "deep", "mountPath": "/shallow", "readOnly": True},
    ]
    lifecycle = {"stopSignal": "SIGUSR1"}
    pod = node.start_pod(
        node.pod(
            "newest",
            {**FOREVER, "volumeMounts": mounts, "lifecycle": lifecycle},
            volumes=volumes,
            os={"name": "linux"},
            securityContext={"supplementalGroups": [7], "supplementalGroupsPolicy": "Strict"},
        )
    )
    config = asked(modern, "container", "newest")["config"]
    by_path = {mount["container_path"]: mount for mount in config["mounts"]}
    assert by_path["/files"]["image"]["image"] == "sha256:1" and by_path["/files"]["image_sub_path"] == "part"
    assert "host_path" not in by_path["/files"] and by_path["/files"]["readonly"]
    deep = {path for path, mount in by_path.items() if mount.get("recursive_read_only")}
    assert deep == {"/enabled", "/possible"}
    # SIGUSR1 in CRI's own numbers.
    assert config["stop_signal"] == 29
    assert config["linux"]["security_context"]["supplemental_groups_policy"] == 1
    sandbox = asked(modern, "sandbox", "newest")["config"]["linux"]["security_context"]
    assert sandbox["supplemental_groups_policy"] == 1
    status = pod["status"]["containerStatuses"][0]
    assert status["stopSignal"] == "SIGUSR1"
    shown = {m["mountPath"]: m.get("recursiveReadOnly") for m in status["volumeMounts"]}
    assert shown == {"/files": None, "/enabled": "Enabled", "/possible": "Enabled", "/shallow": "Disabled"}
    node.delete("newest", 0)


def test_a_checkpoint_is_written_below_the_kubelets_directory(node: TestNode, modern: Path) -> None:
    node.start_pod(node.pod("frozen", FOREVER))
    answer = json.loads(node.kubelet_post("/checkpoint/default/frozen/c"))
    (path,) = answer["items"]
    assert Path(path).parent == node.directory / "kubelet" / "checkpoints"
    assert Path(path).name.startswith("checkpoint-frozen_default-c-") and path.endswith(".tar")
    assert Path(path).read_bytes() == b"a checkpoint"
    node.delete("frozen", 0)


def test_proc_is_unmasked_only_for_who_asks(node: TestNode, modern: Path) -> None:
    open_ = {**FOREVER, "name": "open", "securityContext": {"procMount": "Unmasked"}}
    node.start_pod(node.pod("procs", open_, hostUsers=False))
    node.start_pod(node.pod("masked", FOREVER))
    unmasked = asked(modern, "container", "procs")["config"]["linux"]["security_context"]
    assert "masked_paths" not in unmasked and "readonly_paths" not in unmasked
    masked = asked(modern, "container", "masked")["config"]["linux"]["security_context"]
    assert "/proc/kcore" in masked["masked_paths"] and "/proc/sys" in masked["readonly_paths"]
    for name in ("procs", "masked"):
        node.delete(name, 0)
