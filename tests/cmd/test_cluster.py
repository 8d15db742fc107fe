import json
import socket

import pytest

from peavine.cmd.cluster import POD_RANGES, SERVICE_RANGES, Cluster, free_range
from peavine.cmd.controller_manager import chosen
from peavine.cmd.main import main
from peavine.cmd.processes import processes
from peavine.cmd.starting import last_words


def cluster(**more):
    return Cluster(data_dir="/data", node_name="n1", node_ip="10.0.0.5", **more)


def test_ranges_keep_clear_of_the_networks_of_the_machine():
    assert free_range(SERVICE_RANGES, []) == "192.168.0.0/16"
    assert free_range(SERVICE_RANGES, ["192.168.1.0/24", "10.0.0.0/8"]) == "172.31.0.0/16"
    assert free_range(POD_RANGES, ["0.0.0.0/0", "172.0.0.0/8"]) == "10.244.0.0/16"
    with pytest.raises(ValueError, match="name one with a flag"):
        free_range(["10.0.0.0/8"], ["10.1.0.0/16"])


def test_service_addresses_follow_from_the_range():
    assert cluster().api_service_ip == "192.168.0.1" and cluster().dns_service_ip == "192.168.0.2"


def test_a_cluster_is_found_again_as_it_was_made(tmp_path):
    made = Cluster(data_dir=str(tmp_path), node_name="n1", node_ip="10.0.0.5", secure_port=7000, notes=["x"])
    made.save()
    assert Cluster.load(tmp_path) == made
    assert Cluster.load(tmp_path / "nowhere") is None


def test_a_cluster_of_the_version_before_is_found_too(tmp_path):
    old = {"data_dir": str(tmp_path), "node_name": "n1", "node_ip": "10.0.0.5", "simulated_nodes": 3, "notes": []}
    (tmp_path / "cluster.json").write_text(json.dumps(old))
    found = Cluster.load(tmp_path)
    assert found is not None and found.nodes == 3


def test_a_data_directory_too_long_for_sockets_is_refused():
    cluster(runtime="simulated", nodes=3).check()
    Cluster("/" + 90 * "d", "n1", "10.4.7.1", api_only=True).check()
    with pytest.raises(ValueError, match="longer than 65 letters"):
        Cluster("/" + 70 * "d", "n1", "10.4.7.1", nodes=2, node_range="10.4.7.0/24").check()


def test_a_file_that_is_not_a_cluster_is_refused(tmp_path):
    (tmp_path / "cluster.json").write_text('{"colour": "green"}')
    with pytest.raises(ValueError, match=r"cluster\.json"):
        Cluster.load(tmp_path)


def test_what_runs_follows_from_the_cluster():
    names = [p.name for p in processes(cluster())]
    assert names[0] == "apiserver"
    assert set(names) == {
        "apiserver", "controller-manager", "scheduler", "containerd", "network", "kubelet", "proxy", "dns",
    }  # fmt: skip
    assert [p.name for p in processes(cluster(api_only=True))] == ["apiserver"]
    simulated = {p.name for p in processes(cluster(runtime="simulated"))}
    assert simulated == {"apiserver", "controller-manager", "scheduler", "kubelet"}


def test_controllers_are_chosen_by_name_and_sign():
    assert "job-controller" in chosen("*")
    assert "job-controller" not in chosen("*,-job-controller")
    assert chosen("job-controller") == ["job-controller"]
    with pytest.raises(SystemExit, match="not in the list of known controllers"):
        chosen("teapot")


def test_an_unknown_command_is_named(capsys):
    assert main(["frobnicate"]) == 2
    assert "frobnicate" in capsys.readouterr().err


def test_hosts_are_named_by_the_last_number_of_their_addresses():
    many = cluster(runtime="containerd", nodes=4, node_range="10.4.7.0/24")
    assert [host.node for host in many.hosts] == many.node_names == ["n1-11", "n1-21", "n1-22", "n1-23"]
    assert [host.address for host in many.hosts][:2] == ["10.4.7.11", "10.4.7.21"]
    assert all(len(host.namespace) <= 15 for host in many.hosts)
    assert len({host.directory for host in many.hosts}) == 4


def test_a_dual_stack_cluster_has_its_own_addresses_from_the_first_range_and_nodes_with_two():
    ranges = {"pod_range": "172.7.0.0/16,fd07::/48", "service_range": "192.168.0.0/16,fd08::/108"}
    many = cluster(nodes=2, node_range="10.4.7.0/24", node_ip6="fd04:7::1", **ranges)
    assert many.api_service_ip == "192.168.0.1" and many.dns_service_ip == "192.168.0.2"
    kubelet = next(p.command for p in processes(many) if p.name == "kubelet-n1-21")
    assert "--node-ip=10.4.7.21,fd04:7::21" in kubelet


def test_a_host_has_all_processes_of_a_node_in_its_namespace_and_the_machine_a_way_to_pods():
    many = cluster(runtime="containerd", nodes=2, node_range="10.4.7.0/24")
    by_name = {p.name: p for p in processes(many)}
    of_hosts = {
        f"{part}-{host.node}" for host in many.hosts for part in ("containerd", "network", "kubelet", "proxy", "dns")
    }
    assert set(by_name) == of_hosts | {"apiserver", "controller-manager", "scheduler", "proxy", "network"}
    assert by_name["dns-n1-21"].command[:2] == ["nsenter", "--net=/run/netns/peavine-7-21"]
    assert [name for name, process in by_name.items() if process.survives] == ["containerd-n1-11", "containerd-n1-21"]
    assert "--pods=false" in by_name["network"].command


def test_another_network_takes_the_place_of_ours():
    names = [p.name for p in processes(cluster(cni="/etc/cni/net.d:/opt/cni/bin"))]
    assert "network" not in names and "proxy" in names


def test_flags_of_one_component_come_after_ours():
    given = cluster(extra={"scheduler": ["--v=4"]})
    by_name = {p.name: p.command for p in processes(given)}
    assert by_name["scheduler"][-1] == "--v=4"
    assert "--v=4" not in by_name["apiserver"]


def test_a_port_that_is_taken_is_said_at_once_and_nothing_is_made(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["up", f"--data-dir={tmp_path}", "--runtime=simulated", f"--secure-port={port}"]) == 1
    assert f"port {port} is in use" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_last_words_of_what_ends_again_and_again_are_told(tmp_path):
    made = Cluster(data_dir=str(tmp_path), node_name="n1", node_ip="10.0.0.5")
    assert last_words(made) == []
    for name in ("run", "logs"):
        (tmp_path / name).mkdir()
    entries = {"dns": {"restarts": 3}, "proxy": {"restarts": 0}}
    (tmp_path / "run" / "state.json").write_text(json.dumps({"supervisor": 1, "processes": entries}))
    (tmp_path / "logs" / "dns.log").write_text("started\n  | OSError: address in use\n  +-----\n")
    assert last_words(made) == [("dns", "OSError: address in use")]


def test_the_data_directory_may_stand_before_and_after_the_verb():
    from peavine.cmd import images, token

    for words in (["--data-dir", "/d", "list"], ["list", "--data-dir", "/d"]):
        assert images.parser().parse_args(words).data_dir == "/d"
        assert token.flags().parse_args(words).data_dir == "/d"
    assert token.flags().parse_args(["list"]).data_dir
