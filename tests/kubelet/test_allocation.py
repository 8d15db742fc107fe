"""CPUs, memory and devices of NUMA nodes: choices and refusals, on machines that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peavine.kubelet.allocation import cpus as cpu_manager
from peavine.kubelet.allocation import numa
from peavine.kubelet.allocation.cpus import CpuManager, NotEnough, exclusive_count, take
from peavine.kubelet.allocation.managers import OptionsError, reserved_cpus, reserved_memory
from peavine.kubelet.allocation.memory import MemoryManager
from peavine.kubelet.allocation.numa import Cpu, Topology, format_cpus, parse_cpus
from peavine.kubelet.allocation.topology import ANY, Hint, Merger, Refused, TopologyManager
from peavine.kubelet.options import Options

GIB = 1 << 30
Object = dict


def machine(nodes: int = 2, cores: int = 2, threads: int = 2, memory: int = 4 * GIB) -> Topology:
    """Threads of a core follow one another: 0,1 are core 0; each node is a socket with a cache of its own."""
    per_node = cores * threads
    cpus = [Cpu(i, i // threads, i // per_node, i // per_node, i // per_node) for i in range(nodes * per_node)]
    return Topology(tuple(cpus), {n: {"memory": memory, "hugepages-2Mi": GIB} for n in range(nodes)})


def guaranteed(uid: str, *cpus: str, memory: str = "1Gi", inits: tuple[str, ...] = (), **more: str) -> Object:
    def container(name: str, cpu: str) -> Object:
        amounts = {"cpu": cpu, "memory": memory, **more}
        return {"name": name, "image": "x", "resources": {"requests": amounts, "limits": amounts}}

    containers = [container(f"c{i}", cpu) for i, cpu in enumerate(cpus)]
    init = [container(f"i{i}", cpu) for i, cpu in enumerate(inits)]
    meta = {"name": uid, "namespace": "d", "uid": uid}
    return {"metadata": meta, "spec": {"containers": containers, "initContainers": init}}


def given(manager: CpuManager, pod: Object, container: int = 0) -> str:
    chosen = pod["spec"]["containers"][container]
    manager.allocate(pod, chosen, Hint(None, False))
    return manager.of(pod["metadata"]["uid"], chosen["name"])


def test_whole_cpus_are_given_once_and_remembered(tmp_path: Path) -> None:
    assert parse_cpus("0-2,5") == {0, 1, 2, 5} and format_cpus({0, 1, 2, 5}) == "0-2,5"
    manager = CpuManager(tmp_path / "state", {0}, machine(1, 2, 2))
    assert given(manager, guaranteed("u", "2")) == "2-3" and manager.shared == "0-1"
    again = CpuManager(tmp_path / "state", {0}, machine(1, 2, 2))
    assert given(again, guaranteed("u", "2")) == "2-3"
    with pytest.raises(NotEnough):
        given(again, guaranteed("v", "2"))
    assert again.release("u") and again.shared == "0-3" and not again.release("u")
    assert exclusive_count(guaranteed("x", "1500m"), guaranteed("x", "1500m")["spec"]["containers"][0]) == 0


def test_whole_nodes_and_cores_are_taken_before_pieces() -> None:
    topology = machine(2, 2, 2)
    everything = set(range(8))
    assert take(everything, 4, topology) == {0, 1, 2, 3}
    assert take(everything - {1}, 2, topology) == {2, 3}
    assert take(everything - {1, 2}, 1, topology) in ({0}, {3})
    assert take(everything, 5, topology) >= {0, 1, 2, 3}
    spread = frozenset((cpu_manager.SPREAD_NODES,))
    assert take(everything, 6, topology, spread) == {0, 1, 2, 4, 5, 6}
    assert take(everything, 2, topology, frozenset((cpu_manager.SPREAD_CORES,))) == {0, 2}
    caches = Topology(tuple(Cpu(i, i, 0, 0, i // 4) for i in range(8)))
    assert take({2, 3, 4, 5, 6, 7} - {4}, 3, caches, frozenset((cpu_manager.CACHES,))) == {5, 6, 7}


def test_policy_options_refuse_what_they_cannot_keep(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path / "state", {0}, machine(1, 2, 2), [cpu_manager.FULL_CORES])
    with pytest.raises(
        Refused, match="SMT Alignment Error: requested 1 cpus not multiple cpus per core = 2"
    ) as refused:
        given(manager, guaranteed("u", "1"))
    assert refused.value.reason == "SMTAlignmentError"
    strict = CpuManager(tmp_path / "other", {0}, machine(1, 2, 2), [cpu_manager.STRICT])
    assert strict.shared == "1-3"


def test_an_init_containers_cpus_are_used_again(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path / "state", set(), machine(1, 2, 1))
    pod = guaranteed("u", "2", inits=("2",))
    manager.allocate(pod, pod["spec"]["initContainers"][0], Hint(None, False))
    assert manager.of("u", "i0") == "0-1" == given(manager, pod)


def test_cpus_hint_at_the_fewest_nodes_that_can_hold_them(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path / "state", set(), machine(2, 2, 2))
    pod = guaranteed("u", "3")
    hints = manager.hints(pod, pod["spec"]["containers"][0])["cpu"]
    both = frozenset((0, 1))
    assert hints == [Hint(frozenset((0,)), True), Hint(frozenset((1,)), True), Hint(both, False)]
    given(manager, guaranteed("v", "2"))
    assert manager.hints(pod, pod["spec"]["containers"][0])["cpu"][0] == Hint(frozenset((1,)), True)
    manager.allocate(pod, pod["spec"]["containers"][0], Hint(frozenset((1,)), True))
    assert parse_cpus(manager.of("u", "c0")) <= {4, 5, 6, 7}


def test_hints_are_joined_as_upstream_does() -> None:
    merger = Merger([0, 1])
    zero, one, both = (Hint(frozenset(n), True) for n in ((0,), (1,), (0, 1)))
    wide = Hint(frozenset((0, 1)), False)
    assert merger.best([[zero, one, wide], [one, wide]]) == one
    assert merger.best([[zero], [one]]) == Hint(frozenset((0, 1)), False)
    assert merger.best([[ANY]]) == both
    assert merger.best([[zero, wide], [ANY]]) == zero
    # Nothing is preferred by all: the count that the neediest wants decides.
    assert merger.best([[zero], [wide]]) == Hint(frozenset((0,)), False)
    near = Merger([0, 1, 2], closest={0: [10, 30, 11], 1: [30, 10, 30], 2: [11, 30, 10]})
    pairs = [Hint(frozenset(n), True) for n in ((0, 1), (0, 2))]
    assert near.best([pairs]) == pairs[1] and Merger([0, 1, 2]).best([pairs]) == pairs[0]


@pytest.mark.parametrize(
    ("policy", "scope", "refused"),
    [
        ("none", "container", False),
        ("best-effort", "container", False),
        ("restricted", "container", False),
        ("single-numa-node", "container", True),
        ("best-effort", "pod", False),
        ("restricted", "pod", False),
        ("single-numa-node", "pod", True),
    ],
)
def test_a_container_wider_than_a_node_is_refused_only_by_single_numa_node(
    tmp_path: Path, policy: str, scope: str, refused: bool
) -> None:
    cpus = CpuManager(tmp_path / "state", set(), machine(2, 2, 2))
    manager = TopologyManager(policy, scope, [0, 1], [cpus])
    if refused:
        with pytest.raises(Refused, match="Resources cannot be allocated with Topology locality") as error:
            manager.admit(guaranteed("u", "6"))
        assert error.value.reason == "TopologyAffinityError" and not cpus.entries and not manager.agreed
    else:
        manager.admit(guaranteed("u", "6"))
        assert len(parse_cpus(cpus.of("u", "c0"))) == 6


@pytest.mark.parametrize(
    ("policy", "refused"), [("best-effort", False), ("restricted", True), ("single-numa-node", True)]
)
def test_what_would_fit_into_a_node_is_refused_when_no_node_has_room(
    tmp_path: Path, policy: str, refused: bool
) -> None:
    cpus = CpuManager(tmp_path / "state", set(), machine(2, 2, 2))
    manager = TopologyManager(policy, "container", [0, 1], [cpus])
    manager.admit(guaranteed("a", "2"))
    manager.admit(guaranteed("b", "3"))
    if refused:
        with pytest.raises(Refused):
            manager.admit(guaranteed("c", "3"))
        assert manager.release("a")
        manager.admit(guaranteed("c", "3"))
    else:
        manager.admit(guaranteed("c", "3"))
        assert cpus.of("c", "c0")


def test_the_pods_scope_keeps_all_containers_on_one_node(tmp_path: Path) -> None:
    apart = CpuManager(tmp_path / "a", set(), machine(2, 2, 1))
    TopologyManager("single-numa-node", "container", [0, 1], [apart]).admit(guaranteed("u", "1", "2"))
    assert apart.entries["u"] == {"c0": "0", "c1": "2-3"}
    together = CpuManager(tmp_path / "b", set(), machine(2, 2, 1))
    with pytest.raises(Refused):
        TopologyManager("single-numa-node", "pod", [0, 1], [together]).admit(guaranteed("u", "1", "2"))
    TopologyManager("single-numa-node", "pod", [0, 1], [together]).admit(guaranteed("u", "1", "1"))
    assert together.entries["u"] == {"c0": "0", "c1": "1"}


def test_memory_comes_from_the_nodes_of_the_cpus(tmp_path: Path) -> None:
    topology = machine(2, 2, 1)
    cpus = CpuManager(tmp_path / "cpu", {0, 1}, topology)
    memory = MemoryManager(tmp_path / "memory", topology, {0: {"memory": GIB}})
    manager = TopologyManager("single-numa-node", "container", [0, 1], [cpus, memory])
    manager.admit(guaranteed("u", "1", memory="2Gi", **{"hugepages-2Mi": "512Mi"}))
    # Node 0 has memory, but no CPU left.
    assert (cpus.of("u", "c0"), memory.of("u", "c0")) == ("2", "1")
    with pytest.raises(Refused):
        manager.admit(guaranteed("v", "1", memory="3Gi"))
    state = json.loads((tmp_path / "memory").read_text())
    assert state["policyName"] == "Static" and state["entries"]["u"]["c0"]["nodes"] == [1]
    again = MemoryManager(tmp_path / "memory", topology, {})
    assert again.of("u", "c0") == "1"
    manager.release("u")
    manager.admit(guaranteed("v", "1", memory="3Gi"))


def test_nodes_that_serve_together_serve_nobody_alone(tmp_path: Path) -> None:
    memory = MemoryManager(tmp_path / "memory", machine(2), {})
    wide, narrow = guaranteed("w", "1", memory="6Gi"), guaranteed("n", "1", memory="1Gi")
    memory.allocate(wide, wide["spec"]["containers"][0], Hint(None, True))
    assert memory.of("w", "c0") == "0-1"
    hints = memory.hints(narrow, narrow["spec"]["containers"][0])["memory"]
    assert hints == [Hint(frozenset((0, 1)), False)]
    memory.allocate(narrow, narrow["spec"]["containers"][0], Hint(None, True))
    assert memory.of("n", "c0") == "0-1"
    third = guaranteed("t", "1", memory="2Gi")
    with pytest.raises(ValueError, match="failed to find NUMA nodes"):
        memory.allocate(third, third["spec"]["containers"][0], Hint(None, True))


def test_reservations_must_fit_the_policies() -> None:
    options = Options(node_name="n", root_dir=Path("/r"), pod_logs_dir=Path("/l"))
    with pytest.raises(OptionsError, match="greater than zero"):
        reserved_cpus(options, machine())
    options.kube_reserved = {"cpu": "1500m"}
    assert reserved_cpus(options, machine(1, 2, 2)) == {0, 1}
    options.reserved_cpus = "3"
    assert reserved_cpus(options, machine()) == {3}
    options.reserved_memory = [{"numaNode": 0, "limits": {"memory": "1Gi"}}]
    assert reserved_memory(options, {"memory": GIB}) == {0: {"memory": GIB}}
    with pytest.raises(OptionsError, match="is not equal to the value"):
        reserved_memory(options, {"memory": 2 * GIB})


def test_the_machine_is_read_from_sys(tmp_path: Path) -> None:
    for node, cpus in ((0, "0-1"), (1, "2-3")):
        at = tmp_path / "node" / f"node{node}"
        (at / "hugepages" / "hugepages-2048kB").mkdir(parents=True)
        (at / "cpulist").write_text(cpus)
        (at / "distance").write_text("10 20" if node == 0 else "20 10")
        (at / "meminfo").write_text(f"Node {node} MemTotal:       1024 kB\nNode {node} MemFree: 1 kB\n")
        (at / "hugepages" / "hugepages-2048kB" / "nr_hugepages").write_text("3")
    for cpu in range(4):
        at = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        at.mkdir(parents=True)
        (at / "physical_package_id").write_text(str(cpu // 2))
        (at / "thread_siblings_list").write_text("0-1" if cpu < 2 else "2-3")
    found = numa.read(tmp_path, {0, 1, 2, 3})
    assert found.cpus[2] == Cpu(2, 2, 1, 1, 1) and found.threads_per_core == 2
    assert found.memory[1] == {"memory": 1 << 20, "hugepages-2Mi": 6 << 20} and found.distances[1] == [20, 10]
    here = numa.read()
    assert here.cpus and here.nodes and sum(amounts["memory"] for amounts in here.memory.values()) > 0
