"""Pure parts of the kubelet: what to do next, what to report, names, numbers, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peavine.kubelet.containerd import Layout, render_config
from peavine.kubelet.images import archive, credentials
from peavine.kubelet.images.collector import choose
from peavine.kubelet.images.puller import ImageError, default_policy, with_default_tag
from peavine.kubelet.logs.files import Wanted, read_log, tail_offset
from peavine.kubelet.node import eviction
from peavine.kubelet.node.node import HEALTHY, Node, changed, node_status
from peavine.kubelet.options import Options
from peavine.kubelet.pods import dns, resources, security
from peavine.kubelet.pods.actions import Verdicts, container_hash, init_failed, next_actions
from peavine.kubelet.pods.crashes import Crashes
from peavine.kubelet.pods.environment import ConfigError, expand, service_variables
from peavine.kubelet.pods.records import Container, PodRecord, Sandbox
from peavine.kubelet.pods.status import Look, pod_status, status_patch
from peavine.kubelet.rpc import Codec
from peavine.kubelet.volumes import payload
from peavine.kubelet.volumes.payload import File

Object = dict[str, Any]
READY = Sandbox("s", True, 1, 0, ["10.0.0.1"])


def pod(**spec: Any) -> Object:
    spec.setdefault("containers", [{"name": "c", "image": "i:1"}])
    return {"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3}, "spec": spec}


def ran(name: str, state: str = "exited", code: int = 0, **more: Any) -> Container:
    spec = {"name": name, "image": "i:1"}
    return Container(f"id-{name}", name, "s", state, created_at=5, exit_code=code, hash=container_hash(spec), **more)


def record(*containers: Container, sandbox: Sandbox | None = READY) -> PodRecord:
    return PodRecord("u", "p", "n", [sandbox] if sandbox else [], list(containers))


def names(specs: list[Object]) -> list[str]:
    return [spec["name"] for spec in specs]


# ---- what to do next
def test_a_new_pod_gets_a_sandbox_and_its_first_container() -> None:
    plan = next_actions(pod(), record(sandbox=None), Verdicts())
    assert plan.create_sandbox and plan.attempt == 0 and names(plan.start) == ["c"]
    plan = next_actions(pod(initContainers=[{"name": "i"}, {"name": "j"}]), record(sandbox=None), Verdicts())
    assert names(plan.start_init) == ["i"] and not plan.start


def test_init_containers_follow_one_another() -> None:
    subject = pod(initContainers=[{"name": "i", "image": "i:1"}, {"name": "j", "image": "i:1"}])
    assert next_actions(subject, record(ran("i", "running")), Verdicts()).start_init == []
    assert names(next_actions(subject, record(ran("i")), Verdicts()).start_init) == ["j"]
    plan = next_actions(subject, record(ran("j"), ran("i")), Verdicts())
    assert names(plan.start) == ["c"] and not plan.start_init


def test_once_a_container_runs_init_containers_are_over() -> None:
    subject = pod(initContainers=[{"name": "i", "image": "i:1"}])
    plan = next_actions(subject, record(ran("c", "running")), Verdicts())
    assert not plan.start_init and not plan.kill_pod


def test_a_sidecar_must_have_started_before_the_next() -> None:
    side = {"name": "side", "image": "i:1", "restartPolicy": "Always"}
    subject = pod(initContainers=[side])
    waiting = Verdicts(started=lambda identity: False)
    assert not next_actions(subject, record(ran("side", "running")), waiting).start
    assert names(next_actions(subject, record(ran("side", "running")), Verdicts()).start) == ["c"]
    again = next_actions(subject, record(ran("c", "running"), ran("side")), Verdicts())
    assert names(again.start_init) == ["side"]


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policies(policy: str, code: int, again: bool) -> None:
    plan = next_actions(pod(restartPolicy=policy), record(ran("c", code=code)), Verdicts())
    assert bool(plan.start) is again and plan.kill_pod is not again


def test_a_containers_own_rules_win_over_the_pods_policy() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    container = {"name": "c", "image": "i:1", "restartPolicy": "Never", "restartPolicyRules": rules}
    subject = pod(containers=[container], restartPolicy="Never")
    assert names(next_actions(subject, record(ran("c", code=42)), Verdicts()).start) == ["c"]
    assert not next_actions(subject, record(ran("c", code=1)), Verdicts()).start


def test_failed_probes_and_changed_images_kill() -> None:
    plan = next_actions(pod(), record(ran("c", "running")), Verdicts(failed_liveness={"id-c"}))
    assert plan.kill[0].message == "Container c failed liveness probe, will be restarted"
    changed_image = pod(containers=[{"name": "c", "image": "i:2"}])
    plan = next_actions(changed_image, record(ran("c", "running")), Verdicts())
    assert plan.kill[0].message == "Container c definition changed, will be restarted" and names(plan.start) == ["c"]
    plan = next_actions(pod(restartPolicy="Never"), record(ran("c", "running")), Verdicts(failed_liveness={"id-c"}))
    assert plan.kill[0].message == "Container c failed liveness probe" and not plan.start


def test_a_dead_sandbox_is_replaced_unless_the_pod_is_done() -> None:
    dead = Sandbox("s", False, 1, 4, [])
    plan = next_actions(pod(), record(ran("c", code=1), sandbox=dead), Verdicts())
    assert plan.kill_pod and plan.create_sandbox and plan.attempt == 5
    plan = next_actions(pod(restartPolicy="Never"), record(ran("c"), sandbox=dead), Verdicts())
    assert not plan.create_sandbox


def test_a_failed_init_container_fails_only_pods_that_never_restart() -> None:
    inits = [{"name": "i", "image": "i:1"}]
    assert init_failed(pod(initContainers=inits, restartPolicy="Never"), record(ran("i", code=1)))
    assert not init_failed(pod(initContainers=inits), record(ran("i", code=1)))


# ---- what to report
def test_status_of_a_running_pod_and_its_patch() -> None:
    subject = pod()
    running = ran("c", "running", started_at=10**9, image="i:1", image_ref="sha256:x")
    status = pod_status(subject, record(running), Look(now=100.0, host_ips=["1.2.3.4"]))
    assert status["phase"] == "Running" and status["observedGeneration"] == 3
    assert [c["type"] for c in status["conditions"]] == [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
    ]
    assert status["containerStatuses"][0]["state"] == {"running": {"startedAt": "1970-01-01T00:00:01Z"}}
    patch = status_patch(subject, status)
    assert patch is not None and patch["metadata"] == {"uid": "u"}


def test_an_unchanged_status_is_not_written_again() -> None:
    subject = pod()
    status = pod_status(subject, record(ran("c", "running", started_at=10**9)), Look(now=100.0))
    # As the server gives it back: nulls and empty values are gone.
    stored = json.loads(json.dumps({k: v for k, v in status.items() if v}))
    for entry in stored["conditions"]:
        entry.pop("lastProbeTime")
    assert status_patch({**subject, "status": stored}, status) is None


def test_a_reason_that_holds_no_longer_is_taken_out_of_the_condition() -> None:
    old = {"conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "x"}]}
    wanted = {"conditions": [{"type": "Ready", "status": "True"}]}
    patch = status_patch({**pod(), "status": old}, wanted)
    assert patch is not None
    assert patch["status"]["conditions"] == [{"type": "Ready", "status": "True", "reason": None, "message": None}]


def test_phases_follow_upstream() -> None:
    two = [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]

    def phase(policy: str, *containers: Container) -> str:
        subject = pod(containers=two, restartPolicy=policy)
        return str(pod_status(subject, record(*containers), Look(now=1.0))["phase"])

    assert phase("Always") == "Pending"
    assert phase("Always", ran("a", "running"), ran("b")) == "Running"
    assert phase("Always", ran("a"), ran("b")) == "Running"
    assert phase("OnFailure", ran("a"), ran("b", code=1)) == "Running"
    assert phase("Never", ran("a"), ran("b")) == "Succeeded"
    assert phase("Never", ran("a"), ran("b", code=1)) == "Failed"


def test_a_container_whose_record_is_lost_counts_as_unknown() -> None:
    before = {"name": "c", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "restartCount": 2}
    subject = {**pod(), "status": {"containerStatuses": [before]}}
    status = pod_status(subject, record(), Look(now=1.0))["containerStatuses"][0]
    assert status["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert status["lastState"]["terminated"]["exitCode"] == 137 and status["restartCount"] == 3


# ---- numbers
def test_shares_quotas_and_oom_scores() -> None:
    assert [resources.milli_to_shares(m) for m in (0, 1, 100, 1000)] == [2, 2, 102, 1024]
    assert resources.milli_to_quota(500) == 50_000 and resources.milli_to_quota(1) == 1000
    burstable = {"name": "c", "resources": {"requests": {"memory": "1Gi"}}}
    subject = pod(containers=[burstable])
    assert resources.oom_score(subject, burstable, 4 << 30) == 750
    assert resources.oom_score(pod(), {"name": "c"}, 4 << 30) == 1000
    both = {"cpu": "1", "memory": "1Gi"}
    guaranteed = {"name": "c", "resources": {"requests": both, "limits": both}}
    assert resources.oom_score(pod(containers=[guaranteed]), guaranteed, 4 << 30) == -997
    assert resources.pod_group("/r", pod(containers=[guaranteed])) == "/r/kubepods/podu"
    assert resources.pod_group("/r", pod()) == "/r/kubepods/besteffort/podu"


def test_back_off_doubles_and_is_forgiven() -> None:
    crashes = Crashes()
    assert crashes.wait("k", 0, 0) == 0
    crashes.count("k", 0)
    assert crashes.wait("k", 100, 100) == 10 and crashes.wait("k", 100, 111) < 0
    for ended in (100, 200, 300, 400, 500, 600):
        crashes.count("k", ended)
    assert crashes.delay("k") == 300
    assert crashes.wait("k", 1300, 1300) == 0


def test_eviction_ranks_by_excess_priority_and_amount() -> None:
    thrifty = eviction.Candidate("thrifty", 0, 50, 100)
    greedy = eviction.Candidate("greedy", 0, 300, 100)
    greedier = eviction.Candidate("greedier", 0, 900, 100)
    important = eviction.Candidate("important", 1000, 5000, 0)
    ranked = [c.worker for c in eviction.rank([thrifty, important, greedy, greedier])]
    assert ranked == ["greedier", "greedy", "important", "thrifty"]
    hard = eviction.Threshold("memory.available", "10%", True)
    assert eviction.met([hard], {"memory.available": eviction.Observation(9, 100)}) == [hard]
    assert eviction.met([hard], {"memory.available": eviction.Observation(11, 100)}) == []


def test_a_node_status_is_written_only_when_it_says_something_new() -> None:
    node = Node("n", ["1.2.3.4"], "n", {"cpu": "1"}, {"cpu": "1"})
    status = node_status(node, {}, 100.0)
    assert {c["type"]: c["status"] for c in status["conditions"]} == {t: v[0] for t, v in HEALTHY.items()}
    assert not changed(status, node_status(node, status, 200.0))
    node.pressures = {"DiskPressure"}
    later = node_status(node, status, 200.0)
    assert changed(status, later)
    assert [c["lastTransitionTime"] for c in later["conditions"] if c["type"] == "MemoryPressure"] == [
        "1970-01-01T00:01:40Z"
    ]


# ---- names and text
def test_references_expand_and_unknown_ones_stay() -> None:
    values = {"A": "1", "B": "$(A)"}
    assert expand("$(A) $$(A) $(C) $ $(B) $(", values) == "1 $(A) $(C) $ $(A) $("


def test_service_variables_are_dockers() -> None:
    ports = [{"name": "http-x", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    service = {"metadata": {"name": "my-svc", "namespace": "n"}, "spec": {"clusterIP": "10.0.0.9", "ports": ports}}
    found = service_variables([service], "n", True)
    assert found["MY_SVC_SERVICE_PORT_HTTP_X"] == "80" and found["MY_SVC_PORT_53_UDP_PROTO"] == "udp"
    assert service_variables([service], "n", False) == {} and service_variables([service], "other", True) == {}


def test_image_names_get_their_tag_and_policy() -> None:
    assert with_default_tag("busybox") == "busybox:latest"
    assert with_default_tag("localhost:5000/a/b") == "localhost:5000/a/b:latest"
    assert default_policy("a:1") == "IfNotPresent" and default_policy("a") == "Always" == default_policy("a:latest")
    with pytest.raises(ImageError, match="invalid reference format"):
        with_default_tag("UPPER/case")


def test_pull_secrets_match_by_registry_and_path() -> None:
    config = {"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "*.example.com/team": {"username": "x"}}}
    found = credentials.parse_docker_config(json.dumps(config).encode())
    assert credentials.select(found, "busybox:1") == [{"username": "u", "password": "p"}]
    assert credentials.select(found, "reg.example.com/team/app:1") == [{"username": "x"}]
    assert credentials.select(found, "reg.example.com/other/app:1") == []
    assert credentials.select(found, "example.com/team/app:1") == []


def test_the_nodes_docker_configuration_counts_too(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        directory.mkdir()
    assert credentials.of_node([one, two]) == {}
    (one / ".dockercfg").write_text(json.dumps({"reg.example": {"username": "old", "password": "p"}}))
    assert credentials.of_node([one, two]) == {"reg.example": {"username": "old", "password": "p"}}
    auths = {"auths": {"reg.example": {"identitytoken": "t"}, "other.example": {"registrytoken": "r"}}}
    (two / "config.json").write_text(json.dumps(auths))
    found = credentials.of_node([one, two])
    assert found == {"reg.example": {"identity_token": "t"}, "other.example": {"registry_token": "r"}}


def test_dns_follows_policy_and_limits() -> None:
    host = dns.Resolver(["9.9.9.9"], ["corp.example"], ["edns0"])
    settings: Object = {"cluster_dns": ["10.0.0.2"], "cluster_domain": "cluster.local", "host": lambda: host}
    found = dns.pod_resolver(pod(), **settings)
    assert found.servers == ["10.0.0.2"] and found.options == ["ndots:5"]
    assert found.searches == ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]
    assert dns.pod_resolver(pod(hostNetwork=True), **settings).servers == ["9.9.9.9"]
    warned: list[str] = []
    many = pod(dnsPolicy="None", dnsConfig={"nameservers": [f"1.1.1.{n}" for n in range(5)]})
    found = dns.pod_resolver(many, **settings, warn=lambda reason, message: warned.append(reason))
    assert len(found.servers) == 3 and warned == ["DNSConfigForming"]
    with pytest.raises(ValueError, match="FQDN"):
        dns.sandbox_hostname(pod(hostname="a" * 40, subdomain="b" * 40, setHostnameAsFQDN=True), "cluster.local", "n")


def test_non_root_is_checked_against_the_image() -> None:
    container = {"name": "c", "securityContext": {"runAsNonRoot": True}}
    settings: Object = {"target": "", "volume_groups": [], "default_seccomp": True, "root": Path("/")}
    found = security.container_context(pod(), container, image_user={"uid": {"value": 5}}, **settings)
    assert found["run_as_user"] == {"value": 5}
    with pytest.raises(ConfigError, match="non-numeric user"):
        security.container_context(pod(), container, image_user={"username": "app"}, **settings)


# ---- bytes and files
def test_messages_survive_encoding() -> None:
    codec = Codec("Inner: n=1:int64\nOuter: s=1:string l=2:Inner* m=3:map<string,Inner> b=4:bool p=5:int64* e=6:enum")
    message = {"s": "ä", "l": [{"n": -1}, {}], "m": {"k": {"n": 7}}, "b": True, "p": [1, 300], "e": 2}
    assert codec.decode("Outer", codec.encode("Outer", message)) == message
    with pytest.raises(KeyError):
        codec.encode("Outer", {"typo": 1})
    with pytest.raises(ValueError):
        codec.decode("Outer", b"\x0a\xff")


def test_the_same_files_make_the_same_image() -> None:
    recipe = archive.Recipe("x/y:1", {"bin/a": (b"content", 0o755)}, links={"bin/b": "a"}, command=["a"])
    assert archive.build(recipe) == archive.build(recipe)
    config = json.loads(archive.blobs(recipe)[1])
    assert config["config"]["Cmd"] == ["a"] and config["os"] == "linux"


def test_volume_files_change_all_at_once(tmp_path: Path) -> None:
    assert payload.write(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)})
    assert (tmp_path / "a").read_bytes() == b"1" and (tmp_path / "d" / "b").read_bytes() == b"2"
    assert not payload.write(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)})
    assert payload.write(tmp_path, {"a": File(b"3", 0o644)})
    assert (tmp_path / "a").read_bytes() == b"3" and not (tmp_path / "d").exists()
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("..2")]) == 1
    for bad in ("../x", "/x", "..x"):
        with pytest.raises(ValueError, match="invalid path"):
            payload.write(tmp_path, {bad: File(b"", 0o644)})


def test_logs_are_read_from_their_end(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    lines = [f"2026-01-01T00:00:0{n}.123456789Z stdout F line {n}\n" for n in range(5)]
    log.write_text("".join(lines) + "2026-01-01T00:00:09Z stderr P part\n2026-01-01T00:00:09Z stderr F  whole\n")
    assert b"".join(read_log(log, Wanted(tail=1))) == b" whole\n"
    assert b"".join(read_log(log, Wanted(stream="Stderr"))) == b"part whole\n"
    assert b"".join(read_log(log, Wanted(limit=8))) == b"line 0\nl"
    assert b"".join(read_log(log, Wanted(since=1767225604.0, stream="Stdout"))) == b"line 4\n"
    assert tail_offset(log, 100) == 0 and tail_offset(log, 0) == log.stat().st_size


def test_unused_images_go_oldest_first() -> None:
    images = [{"id": name} for name in ("old", "older", "used", "new")] + [{"id": "pinned", "pinned": True}]
    last = {"old": 50.0, "older": 10.0, "used": 0.0, "new": 990.0}
    assert [i["id"] for i in choose(images, {"used"}, last, 1000.0, 100.0)] == ["older", "old"]


def test_containerds_configuration_stays_below_the_data_directory() -> None:
    import tomllib

    text = render_config(Layout(Path("/data")), restrict_oom_score=True)
    config = tomllib.loads(text)
    assert config["root"] == "/data/containerd/root" and config["grpc"]["address"] == "/data/containerd/containerd.sock"
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is True and cri["cni"]["conf_dir"] == "/data/cni/net.d"


def test_credential_providers_are_asked_and_their_answers_kept(tmp_path: Path) -> None:
    import asyncio

    from peavine.kubelet.images import providers
    from peavine.kubelet.options import Options

    answer = {"kind": "CredentialProviderResponse", "cacheKeyType": "Registry", "cacheDuration": "1h"}
    answer["auth"] = {"reg.example.com": {"username": "robot", "password": "pw"}}  # type: ignore[assignment]
    program = tmp_path / "helper"
    program.write_text(f"#!/bin/sh\ncat >> {tmp_path}/asked\necho >> {tmp_path}/asked\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    config = tmp_path / "config.yaml"
    config.write_text(
        "kind: CredentialProviderConfig\napiVersion: kubelet.config.k8s.io/v1\nproviders:\n"
        "- {name: helper, apiVersion: credentialprovider.kubelet.k8s.io/v1, matchImages: ['*.example.com']}\n"
    )
    options = Options("n", tmp_path, tmp_path)
    options.image_credential_provider_config = str(config)
    options.image_credential_provider_bin_dir = str(tmp_path)

    async def ask() -> None:
        for _ in range(2):
            found = await providers.credentials("reg.example.com/a/b:1", options)
            assert found == [{"username": "robot", "password": "pw"}]
        assert await providers.credentials("elsewhere.test/a:1", options) == []

    asyncio.run(ask())
    (line,) = (tmp_path / "asked").read_text().splitlines()
    assert json.loads(line)["image"] == "reg.example.com/a/b:1"


def test_admission_follows_the_schedulers_predicates(tmp_path: Path) -> None:
    from peavine.kubelet.node.admission import held, is_critical, refusal, victims

    options = Options(node_name="n", root_dir=tmp_path, pod_logs_dir=tmp_path)
    room = {"cpu": "1", "memory": "1Gi", "pods": "10"}
    node = Node("n", ["1.2.3.4"], "n", room, room)

    def asking(name: str, cpu: str = "100m", ports: tuple[dict, ...] = (), **spec: object) -> dict:
        container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}, "ports": list(ports)}
        return {"metadata": {"name": name, "uid": name}, "spec": {"containers": [container], **spec}}

    def refused(pod: dict, *others: dict, known: dict | None = None) -> tuple[str, str] | None:
        return refusal(pod, node, known, [held(other) for other in others], options)

    web = {"containerPort": 80, "hostPort": 8080}
    assert refused(asking("a", ports=(web,)), asking("b", ports=({**web, "protocol": "UDP"},))) is None
    assert refused(asking("a", ports=(web,)), asking("b", ports=({**web, "hostIP": "127.0.0.1"},))) == (
        "NodePorts",
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
    )
    taint = {"key": "away", "effect": "NoExecute"}
    known = {"metadata": {"name": "n", "labels": {}}, "spec": {"taints": [taint]}}
    assert refused(asking("a"), known=known)[0] == "TaintToleration"
    assert refused(asking("a", tolerations=[{"key": "away", "operator": "Exists"}]), known=known) is None
    assert refused(asking("a", nodeSelector={"x": "y"}), known=known)[0] == "NodeAffinity"
    assert refused(asking("a", os={"name": "windows"}))[0] == "PodOSNotSupported"
    assert refused(asking("a", cpu="950m"), asking("b")) == (
        "OutOfcpu",
        "Node didn't have enough resource: cpu, requested: 950, used: 100, capacity: 1000",
    )
    critical = asking("critical", cpu="500m", priority=2_000_001_000)
    assert is_critical(critical)
    crowd = {
        p["metadata"]["uid"]: (p, held(p)) for p in (asking("small"), asking("big", cpu="600m"), asking("mid", "300m"))
    }
    assert victims(critical, node, crowd) == ["big"]
    others = {"k": ((kept := asking("kept", "800m", priority=2_000_001_000)), held(kept))}
    assert victims(critical, node, others) == []


def test_a_condition_that_somebody_else_changed_is_said_again_at_once() -> None:
    from peavine.kubelet.node.registrar import Registrar

    class Nobody:
        def resource(self, *_: str) -> None:
            return None

    room = {"cpu": "1"}
    registrar = Registrar(Nobody(), Node("n", [], "n", room, room), Options("n", Path("/"), Path("/")))  # type: ignore[arg-type]
    registrar._object = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    registrar.seen({"Ready": "True", "NetworkUnavailable": "False"}, {})
    assert registrar._object is not None
    registrar.seen({"Ready": "Unknown"}, {})
    assert registrar._object is None and registrar._nudge.is_set()


def test_a_long_pull_tells_how_far_it_has_come() -> None:
    import asyncio

    from peavine.base.clock import SimulatedClock
    from peavine.kubelet.cri.simulated import SimulatedRuntime
    from peavine.kubelet.images.puller import Puller

    clock, told = SimulatedClock(), []

    class Slow(SimulatedRuntime):
        pulling = most = 0

        async def image_status(self, image: str):
            return self._images.get(image)

        async def pull_image(self, image: str, auth=None, sandbox=None) -> str:
            self.pulling += 1
            self.most = max(self.most, self.pulling)
            await clock.sleep(25)
            self.pulling -= 1
            return await super().pull_image(image, auth, sandbox)

        async def pull_progress(self) -> list[tuple[str, int, int]]:
            return [("layer-a", 5 << 20, 10 << 20), ("layer-b", 0, 1 << 20)]

    runtime = Slow()
    puller = Puller(runtime, parallel_max=2, clock=clock)

    async def main() -> None:
        def record(type_: str, reason: str, message: str) -> None:
            told.append((reason, message))

        pulls = [asyncio.ensure_future(puller.ensure(f"x/{n}:1", "Always", owner="u", record=record)) for n in range(3)]
        while not all(pull.done() for pull in pulls):
            await clock.advance(1)

    asyncio.run(main())
    assert runtime.most == 2
    assert ("Pulling", 'Still pulling image "x/0:1" after 10s: 5.0 of 11.0 MiB in 2 layers') in told
    assert any(
        message.startswith('Successfully pulled image "x/2:1" in 25s (50s including waiting)') for _, message in told
    )


def test_burstable_containers_swap_in_proportion_to_their_memory() -> None:
    gib = 1 << 30

    def swap(behavior: str, requests: dict[str, str], limits: dict[str, str], **spec: object) -> int:
        container = {"name": "c", "resources": {"requests": requests, "limits": limits}}
        described = {"metadata": {"name": "p"}, "spec": {"containers": [container], **spec}}
        return resources.swap_bytes(described, container, behavior, memory_capacity=8 * gib, swap_capacity=4 * gib)

    half = {"memory": "2Gi"}
    assert swap("LimitedSwap", half, {}) == gib
    assert swap("NoSwap", half, {}) == swap("", half, {}) == 0
    assert swap("LimitedSwap", half, half) == 0
    assert swap("LimitedSwap", {}, {}) == 0
    assert swap("LimitedSwap", half, {}, priority=2_000_000_000) == 0


def test_pods_of_low_priority_end_first_when_the_machine_goes_down() -> None:
    import asyncio
    from types import SimpleNamespace

    from peavine.base.clock import SimulatedClock
    from peavine.kubelet.node.shutdown import ShutdownManager

    order: list[tuple[str, float]] = []

    class Worker:
        def __init__(self, name: str, priority: int) -> None:
            self.pod = {"metadata": {"name": name}, "spec": {"priority": priority}}
            self.finished, self.more_conditions = False, []

        def end(self, grace: float, forced: object) -> None:
            order.append((self.pod["metadata"]["name"], grace))
            self.finished = True

    steps = [
        {"priority": 100000, "shutdownGracePeriodSeconds": 10},
        {"priority": 0, "shutdownGracePeriodSeconds": 25},
        {"priority": 2000000000, "shutdownGracePeriodSeconds": 5},
    ]
    everyone = [Worker("critical", 2000001000), Worker("negative", -5), Worker("high", 100001), Worker("plain", 0)]
    kubelet = SimpleNamespace(
        nodes={},
        options=SimpleNamespace(shutdown_by_priority=steps),
        workers={str(i): worker for i, worker in enumerate(everyone)},
        clock=SimulatedClock(),
    )
    asyncio.run(ShutdownManager(kubelet).shut_down())  # type: ignore[arg-type]
    assert order == [("negative", 25.0), ("plain", 25.0), ("high", 10.0), ("critical", 5.0)]


def test_every_field_of_the_configuration_counts_or_is_refused(tmp_path: Path) -> None:
    from peavine.kubelet.configuration import ConfigurationError, load

    def loaded(text: str) -> Options:
        options = Options(node_name="n", root_dir=tmp_path, pod_logs_dir=tmp_path)
        (tmp_path / "config").write_text(
            f"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{text}"
        )
        load(options, str(tmp_path / "config"), "", [])
        return options

    options = loaded(
        "topologyManagerPolicy: restricted\ntopologyManagerScope: pod\nmemoryManagerPolicy: Static\n"
        "reservedMemory: [{numaNode: 0, limits: {memory: 1Gi}}]\nmemorySwap: {swapBehavior: LimitedSwap}\n"
        "failSwapOn: true\nuserNamespaces: {idsPerPod: 131072}\nimageMaximumGCAge: 12h\nregistryPullQPS: 5\n"
        "shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 3}]\n"
        "evictionHard: {memory.available: 5%}\nmergeDefaultEvictionSettings: true\n"
    )
    assert (options.topology_manager_policy, options.topology_manager_scope) == ("restricted", "pod")
    assert options.swap_behavior == "LimitedSwap" and options.fail_swap_on and options.user_ids_per_pod == 131072
    assert options.image_maximum_age_seconds == 43200
    assert options.eviction_hard["memory.available"] == "5%" and options.eviction_hard["nodefs.available"] == "10%"
    assert loaded("evictionHard: {memory.available: 5%}\n").eviction_hard == {"memory.available": "5%"}
    for text, words in (
        ("readOnlyPort: 10255\n", "readOnlyPort: only 0 is supported, not 10255"),
        ("staticPodURL: http://x\n", "staticPodURL: only '' is supported"),
        ("nonsense: 1\n", 'unknown field "nonsense"'),
    ):
        with pytest.raises(ConfigurationError, match=words):
            loaded(text)


def test_a_threshold_is_left_only_with_the_minimum_reclaim(tmp_path: Path) -> None:
    options = Options(node_name="n", root_dir=tmp_path, pod_logs_dir=tmp_path)
    options.eviction_hard = {"nodefs.available": "1Gi"}
    options.eviction_minimum_reclaim = {"nodefs.available": "500Mi"}
    limits = eviction.thresholds(options)

    def seen(mebibytes: int) -> dict[str, eviction.Observation]:
        return {"nodefs.available": eviction.Observation(mebibytes << 20, 10 << 30)}

    assert eviction.met(limits, seen(1000)) and not eviction.met(limits, seen(1100))
    assert eviction.met(limits, seen(1500), with_reclaim=True)
    assert not eviction.met(limits, seen(1600), with_reclaim=True)


def test_eviction_goes_on_until_the_minimum_is_reclaimed(tmp_path: Path) -> None:
    import asyncio
    from types import SimpleNamespace

    from peavine.base.clock import SimulatedClock

    options = Options(node_name="n", root_dir=tmp_path, pod_logs_dir=tmp_path)
    options.eviction_hard, options.eviction_minimum_reclaim = {"pid.available": "100"}, {"pid.available": "50"}
    node = SimpleNamespace(pressures=set())
    kubelet = SimpleNamespace(
        options=options,
        clock=SimulatedClock(),
        nodes={"n": node},
        registrars={"n": SimpleNamespace(nudge=lambda: None)},
        recorder=SimpleNamespace(event=lambda *_: None),
    )
    free = [90, 120, 160, 120]
    evicted: list[int] = []
    evictor = eviction.Evictor(kubelet, lambda _: {"pid.available": eviction.Observation(free[0], 1000)})  # type: ignore[arg-type]
    evictor._evict_one = lambda threshold, seen: evicted.append(seen.available)  # type: ignore[method-assign]
    while free:
        asyncio.run(evictor.look())
        free.pop(0)
    assert evicted == [90, 120]


def test_cdi_devices_become_environment_nodes_and_mounts(tmp_path: Path) -> None:
    from peavine.kubelet.plugins.cdi import CdiError, resolve

    spec = {
        "cdiVersion": "0.6.0",
        "kind": "vendor.example/gpu",
        "containerEdits": {"env": ["ALL=1"]},
        "devices": [
            {"name": "a", "containerEdits": {"env": ["GPU=a"], "deviceNodes": [{"path": "/dev/a"}]}},
            {"name": "b", "containerEdits": {"mounts": [{"hostPath": "/h", "containerPath": "/c", "options": ["ro"]}]}},
            {"name": "c", "containerEdits": {"hooks": [{"hookName": "prestart", "path": "/x"}]}},
        ],
    }
    (tmp_path / "vendor.json").write_text(json.dumps(spec))
    edits = resolve(["vendor.example/gpu=a", "vendor.example/gpu=b"], [tmp_path])
    assert edits.environment == {"ALL": "1", "GPU": "a"}
    assert edits.devices == [{"container_path": "/dev/a", "host_path": "/dev/a", "permissions": "rwm"}]
    assert edits.mounts == [{"container_path": "/c", "host_path": "/h", "readonly": True}]
    with pytest.raises(CdiError, match=r"unresolvable CDI devices .*gpu=z"):
        resolve(["vendor.example/gpu=z"], [tmp_path])
    with pytest.raises(CdiError, match="needs hooks"):
        resolve(["vendor.example/gpu=c"], [tmp_path])


def test_stop_signals_have_cris_numbers_and_linux_own() -> None:
    import signal

    from peavine.kubelet.cri.signals import CRI_NUMBERS, linux_number

    assert (CRI_NUMBERS["SIGABRT"], CRI_NUMBERS["SIGTERM"], CRI_NUMBERS["SIGXFSZ"], len(CRI_NUMBERS)) == (1, 23, 34, 65)
    assert linux_number("SIGUSR1") == signal.SIGUSR1 and linux_number("SIGRTMIN+3") == signal.SIGRTMIN + 3
    assert linux_number("SIGRTMAX-2") == signal.SIGRTMAX - 2
    with pytest.raises(ValueError, match="unknown stop signal"):
        linux_number("SIGNOTHING")
