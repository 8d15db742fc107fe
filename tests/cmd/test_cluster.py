import pytest

from peavine.cmd.cluster import POD_RANGES, SERVICE_RANGES, Cluster, free_range, processes
from peavine.cmd.controller_manager import chosen
from peavine.cmd.main import main


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
