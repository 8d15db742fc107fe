"""Volumes, security contexts, namespaces, names: what a container sees, on a real containerd."""

from __future__ import annotations

import base64
import json
import os
import stat

import pytest

from tests.kubelet.node import IMAGE, NODE, TestNode
from tests.kubelet.test_pods_on_containerd import FOREVER, condition, sh, state

pytestmark = pytest.mark.root


def mounts(*pairs: tuple[str, str], **more: object) -> list[dict[str, object]]:
    return [{"name": name, "mountPath": path, **more} for name, path in pairs]


def test_config_maps_and_secrets_become_files_and_follow_changes(node: TestNode) -> None:
    binary = {"raw": base64.b64encode(b"\x00\xff").decode()}
    node.create(
        {"kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"a": "1", "b": "2"}, "binaryData": binary}
    )
    node.create({"kind": "Secret", "metadata": {"name": "key"}, "stringData": {"id": "private"}})
    volumes = [
        {"name": "all", "configMap": {"name": "files"}},
        {"name": "some", "configMap": {"name": "files", "items": [{"key": "b", "path": "deep/b", "mode": 0o400}]}},
        {"name": "key", "secret": {"secretName": "key", "defaultMode": 0o440}},
        {"name": "none", "configMap": {"name": "absent", "optional": True}},
    ]
    where = mounts(("all", "/all"), ("some", "/some"), ("key", "/key"), ("none", "/none"))
    pod = node.start_pod(node.pod("files", {**FOREVER, "volumeMounts": where}, volumes=volumes))
    assert node.exec(pod, "sh", "-c", "cat /all/a /all/b /some/deep/b /key/id; ls /none") == "122private"
    assert node.exec(pod, "sh", "-c", "stat -Lc %a /all/a /some/deep/b /key/id").split() == ["644", "400", "440"]
    assert node.exec(pod, "hexdump", "-C", "/all/raw").startswith("00000000  00 ff")
    assert "tmpfs" in node.exec(pod, "sh", "-c", "mount | grep ' /key '")
    maps = node.client.resource("v1", "configmaps")
    node.run(maps.patch("files", {"data": {"a": "changed", "b": None, "new": "x"}}, "default"))
    node.until(lambda: node.exec(pod, "cat", "/all/a"), lambda text: text == "changed", "the new value", 5)
    assert node.exec(pod, "ls", "/all").split() == ["a", "new", "raw"]
    node.delete("files", 0)


def test_the_downward_api_and_tokens_are_projected(node: TestNode) -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "limit", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
    ]
    volumes = [
        {
            "name": "p",
            "projected": {
                "sources": [
                    {"downwardAPI": {"items": items}},
                    {"serviceAccountToken": {"path": "token", "audience": "somebody", "expirationSeconds": 600}},
                    {"configMap": {"name": "kube-root-ca.crt"}},
                ]
            },
        }
    ]
    container = {**FOREVER, "volumeMounts": mounts(("p", "/p")), "resources": {"limits": {"memory": "32Mi"}}}
    pod = node.start_pod(
        node.pod("projected", container, volumes=volumes, metadata={"labels": {"one": "1", "two": 'a"b'[:1]}})
    )
    assert node.exec(pod, "cat", "/p/labels") == 'one="1"\ntwo="a"'
    assert node.exec(pod, "cat", "/p/limit") == "32" and node.exec(pod, "cat", "/p/ca.crt") == "the authority"
    claims = node.exec(pod, "cat", "/p/token").split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert found["aud"] == ["somebody"] and found["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"]
    pods = node.client.resource("v1", "pods")
    node.run(pods.patch("projected", {"metadata": {"labels": {"one": "uno"}}}, "default"))
    node.until(lambda: node.exec(pod, "cat", "/p/labels"), lambda text: 'one="uno"' in text, "the new label", 5)
    node.delete("projected", 0)


def test_empty_dirs_are_shared_and_live_on_disk_or_in_memory(node: TestNode) -> None:
    volumes = [{"name": "d", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
    where = mounts(("d", "/d"), ("m", "/m"))
    first = {**sh("echo shared > /d/f; exec sleep 1000"), "volumeMounts": where}
    pod = node.start_pod(node.pod("dirs", first, {**FOREVER, "volumeMounts": mounts(("d", "/other"))}, volumes=volumes))
    node.until(lambda: node.exec(pod, "cat", "/other/f", container="c1"), lambda t: t == "shared\n", "the file")
    assert "size=1024k" in node.exec(pod, "sh", "-c", "mount | grep ' /m '")
    assert node.exec(
        pod, "sh", "-c", "dd if=/dev/zero of=/m/x bs=1k count=2000 2>/dev/null; stat -c %s /m/x"
    ).strip() == ("1048576")
    node.delete("dirs", 0)


def test_host_paths_are_checked_by_type(node: TestNode) -> None:
    base = node.directory / "host"
    base.mkdir()
    (base / "file").write_text("there")
    volumes = [
        {"name": "made", "hostPath": {"path": f"{base}/made", "type": "DirectoryOrCreate"}},
        {"name": "file", "hostPath": {"path": f"{base}/file", "type": "File"}},
    ]
    container = {**FOREVER, "volumeMounts": [*mounts(("made", "/made")), *mounts(("file", "/file"), readOnly=True)]}
    pod = node.start_pod(node.pod("hostpath", container, volumes=volumes))
    node.exec(pod, "sh", "-c", "echo x > /made/y; ! echo z > /file 2>/dev/null")
    assert (base / "made" / "y").read_text() == "x\n"
    wrong = [{"name": "w", "hostPath": {"path": f"{base}/file", "type": "Directory"}}]
    node.create(node.pod("wrong-type", {**FOREVER, "volumeMounts": mounts(("w", "/w"))}, volumes=wrong))
    message = node.wait_event("wrong-type", "FailedMount")
    assert message == (
        f'MountVolume.SetUp failed for volume "w" : hostPath type check failed: {base}/file is not a directory'
    )
    node.delete("hostpath", 0)
    node.delete("wrong-type", 0)
    assert (base / "made" / "y").exists()


def test_sub_paths_cannot_leave_the_volume(node: TestNode) -> None:
    base = node.directory / "subpaths"
    (base / "in").mkdir(parents=True)
    (base / "in" / "f").write_text("inside")
    os.symlink("/etc", base / "escape")
    os.symlink("in", base / "link")
    volumes = [{"name": "v", "hostPath": {"path": str(base)}}]
    where = [
        {"name": "v", "mountPath": "/a", "subPath": "in"},
        {"name": "v", "mountPath": "/b", "subPath": "link"},
        {"name": "v", "mountPath": "/c", "subPath": "new/deep"},
        {"name": "v", "mountPath": "/d", "subPathExpr": "of-$(NAME)"},
        {"name": "v", "mountPath": "/f", "subPath": "in/f"},
    ]
    env = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    pod = node.start_pod(node.pod("subpath", {**FOREVER, "volumeMounts": where, "env": env}, volumes=volumes))
    assert node.exec(pod, "sh", "-c", "cat /a/f /b/f /f; echo -n x > /c/x; echo -n y > /d/y") == "inside" * 3
    assert (base / "new" / "deep" / "x").read_text() == "x" and (base / "of-subpath" / "y").read_text() == "y"
    bad = [{"name": "v", "mountPath": "/e", "subPath": "escape"}]
    node.create(node.pod("escape", {**FOREVER, "volumeMounts": bad}, volumes=volumes))
    pod = node.wait("escape", lambda p: (state(p)["state"].get("waiting") or {}).get("message"))
    assert state(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    assert "outside of the volume" in state(pod)["state"]["waiting"]["message"]
    node.delete("escape", 0)
    node.delete("subpath", 0)


def test_security_contexts_reach_the_process(node: TestNode) -> None:
    context = {
        "runAsUser": 1000,
        "runAsGroup": 2000,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = node.start_pod(
        node.pod(
            "secure",
            {**FOREVER, "securityContext": context, "volumeMounts": mounts(("v", "/v"))},
            {**FOREVER, "securityContext": {"privileged": True}},
            securityContext={
                "supplementalGroups": [3000],
                "fsGroup": 4000,
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}],
            },
            volumes=[{"name": "v", "emptyDir": {}}],
        )
    )
    identity = node.exec(pod, "id")
    assert "uid=1000" in identity and "gid=2000" in identity and "3000" in identity and "4000" in identity
    status = dict(line.split(":\t") for line in node.exec(pod, "cat", "/proc/1/status").splitlines() if ":\t" in line)
    assert int(status["CapBnd"], 16) == 1 << 10
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    node.exec(pod, "sh", "-c", "! touch /x 2>/dev/null && touch /v/x")
    assert node.exec(pod, "stat", "-c", "%g %a", "/v").split() == ["4000", "2777"]
    assert node.exec(pod, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start").strip() == "80"
    bounding = node.exec(pod, "grep", "CapBnd", "/proc/1/status", container="c1").split()[1]
    assert int(bounding, 16) & 1 << 21
    node.delete("secure", 0)


def test_run_as_non_root_refuses_an_image_that_runs_as_root(node: TestNode) -> None:
    node.create(node.pod("nonroot", {**FOREVER, "securityContext": {"runAsNonRoot": True}}))
    pod = node.wait("nonroot", lambda p: (state(p)["state"].get("waiting") or {}).get("message"))
    waiting = state(pod)["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert waiting["message"] == "container has runAsNonRoot and image will run as root (container: c)"
    node.delete("nonroot", 0)


def test_a_forbidden_sysctl_is_refused_at_the_door(node: TestNode) -> None:
    context = {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}
    pod = node.finish_pod(node.pod("sysctl", FOREVER, securityContext=context))
    assert pod["status"]["phase"] == "Failed" and pod["status"]["reason"] == "SysctlForbidden"
    node.delete("sysctl", 0)


def test_containers_share_network_ipc_and_names_and_processes_only_on_request(node: TestNode) -> None:
    listen = sh("httpd -f -p 8080 -h /www")
    pod = node.start_pod(
        node.pod("shared", listen, FOREVER, shareProcessNamespace=True, hostname="me", subdomain="team")
    )
    assert node.exec(pod, "wget", "-qO-", "http://127.0.0.1:8080/", container="c1") == "Peavine works.\n"
    assert node.exec(pod, "hostname").strip() == "me"
    assert "me.team.default.svc.cluster.local\tme" in node.exec(pod, "cat", "/etc/hosts")
    for namespace in ("net", "ipc", "uts", "pid"):
        one = node.exec(pod, "readlink", f"/proc/self/ns/{namespace}")
        assert one == node.exec(pod, "readlink", f"/proc/self/ns/{namespace}", container="c1")
    assert "catatonit" in node.exec(pod, "ps")
    node.delete("shared", 0)


def test_the_hosts_namespaces_and_names_can_be_used(node: TestNode) -> None:
    alias = [{"ip": "10.1.2.3", "hostnames": ["far", "away"]}]
    host = node.start_pod(
        node.pod("host", FOREVER, hostNetwork=True, hostPID=True, hostIPC=True, dnsPolicy="ClusterFirstWithHostNet")
    )
    for namespace in ("net", "pid", "ipc"):
        assert node.exec(host, "readlink", f"/proc/self/ns/{namespace}").strip() == os.readlink(
            f"/proc/self/ns/{namespace}"
        )
    assert host["status"]["podIP"] == node.address
    assert "nameserver 192.168.0.2" in node.exec(host, "cat", "/etc/resolv.conf")
    dns = {"nameservers": ["10.9.9.9"], "searches": ["example.test"], "options": [{"name": "ndots", "value": "2"}]}
    named = node.start_pod(node.pod("named", FOREVER, hostAliases=alias, dnsPolicy="None", dnsConfig=dns))
    assert "10.1.2.3\tfar\taway" in node.exec(named, "cat", "/etc/hosts")
    assert node.exec(named, "cat", "/etc/resolv.conf").split() == [
        "search", "example.test", "nameserver", "10.9.9.9", "options", "ndots:2",
    ]  # fmt: skip
    node.delete("host", 0)
    node.delete("named", 0)


def test_host_ports_lead_into_the_pod(node: TestNode) -> None:
    from tests.kubelet.node import free_port

    port = free_port()
    ports = [{"containerPort": 80, "hostPort": port, "hostIP": "127.0.0.1"}]
    node.start_pod(node.pod("hostport", {**sh("httpd -f -p 80 -h /www"), "ports": ports}))
    chains = os.popen("iptables-save -t nat 2>/dev/null; nft list ruleset 2>/dev/null").read()
    assert str(port) in chains
    node.delete("hostport")


def test_readiness_gates_hold_a_pod_back(node: TestNode) -> None:
    node.create(node.pod("gated", FOREVER, readinessGates=[{"conditionType": "example.com/open"}]))
    pod = node.wait("gated", lambda p: condition(p, "ContainersReady").get("status") == "True")
    assert condition(pod, "Ready")["reason"] == "ReadinessGatesNotReady"
    pods = node.client.resource("v1", "pods")
    gate = {"status": {"conditions": [{"type": "example.com/open", "status": "True"}]}}
    node.run(pods.patch("gated", gate, "default", type="strategic", subresource="status"))
    node.wait("gated", lambda p: condition(p, "Ready").get("status") == "True")
    node.delete("gated", 0)


def test_persistent_volumes_of_the_node_are_used_through_claims(node: TestNode) -> None:
    path = node.directory / "persistent"
    path.mkdir()
    affinity = {
        "required": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [NODE]}]}]
        }
    }
    node.create({"kind": "PersistentVolume", "metadata": {"name": "pv1"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
        "local": {"path": str(path)}, "nodeAffinity": affinity,
        "claimRef": {"namespace": "default", "name": "claim1"},
    }})  # fmt: skip
    node.create({"kind": "PersistentVolumeClaim", "metadata": {"name": "claim1"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "manual", "volumeName": "pv1",
        "resources": {"requests": {"storage": "1Gi"}},
    }})  # fmt: skip
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "claim1"}}]
    container = {**sh("echo kept > /v/f; sleep 1000"), "volumeMounts": mounts(("v", "/v"))}
    node.create(node.pod("claims", container, volumes=volumes))
    assert "is not bound" in node.wait_event("claims", "FailedMount")
    claims = node.client.resource("v1", "persistentvolumeclaims")
    node.run(claims.patch("claim1", {"status": {"phase": "Bound"}}, "default", subresource="status"))
    node.wait("claims", lambda p: condition(p, "Ready").get("status") == "True")
    node.until(lambda: (path / "f").exists(), bool, "the file in the volume")
    node.delete("claims", 0)
    assert stat.S_ISREG((path / "f").stat().st_mode)


def test_what_the_runtime_lacks_is_refused_by_name(node: TestNode) -> None:
    if node.run(node.cri.status()).get("runtime_handlers"):
        pytest.skip("this runtime has what the test is about")
    node.create(node.pod("userns", FOREVER, hostUsers=False))
    assert "does not support user namespaces" in node.wait_event("userns", "FailedCreatePodSandBox")
    strict = node.finish_pod(node.pod("strict", FOREVER, securityContext={"supplementalGroupsPolicy": "Strict"}))
    assert strict["status"]["reason"] == "SupplementalGroupsPolicyNotSupported"
    image = [{"name": "v", "image": {"reference": IMAGE}}]
    node.create(node.pod("imagevol", {**FOREVER, "volumeMounts": mounts(("v", "/v"))}, volumes=image))
    assert "image volumes need" in node.wait_event("imagevol", "FailedMount")
    only = [{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Enabled"}]
    node.create(node.pod("rro", {**FOREVER, "volumeMounts": only}, volumes=[{"name": "v", "emptyDir": {}}]))
    pod = node.wait("rro", lambda p: (state(p)["state"].get("waiting") or {}).get("message"))
    assert "recursive read-only" in state(pod)["state"]["waiting"]["message"]
    for name in ("userns", "strict", "imagevol", "rro"):
        node.delete(name, 0)
