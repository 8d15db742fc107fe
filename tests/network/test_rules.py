"""The pod network's decisions, without a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peavine.network import cni, hostports, masquerade, peers
from peavine.network.peers import Peer
from peavine.network.policy import view_policy

SAVED = """*nat
:PREROUTING ACCEPT [0:0]
:CNI-DN-111 - [0:0]
:CNI-DN-222 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A CNI-DN-111 -p tcp --dport 80 -j DNAT --to-destination 172.7.1.2:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"peavine\\" id: \\"x\\"" -j CNI-DN-111
COMMIT
"""


def node(name: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "annotations": more.pop("annotations", {})},
        "spec": {"podCIDRs": ["172.7.2.0/24", "fd07:2::/64"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.4.7.2"}, {"type": "InternalIP", "address": "fd04::2"}]
        },
        **more,
    }


def test_routes_go_to_the_nodes_address_of_the_same_family() -> None:
    peer = peers.peer_of(node("b"))
    assert peer is not None
    assert {(r.destination, r.gateway) for r in peers.host_gw([peer]).routes} == {
        ("172.7.2.0/24", "10.4.7.2"),
        ("fd07:2::/64", "fd04::2"),
    }
    assert peers.peer_of(node("c", spec={})) is None and peers.peer_of(node("d", status={})) is None


def test_vxlan_speaks_flannels_annotations() -> None:
    said = peers.announcement("aa:bb:cc:dd:ee:ff", "10.4.7.2")
    assert said["flannel.alpha.coreos.com/backend-data"] == '{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}'
    peer = peers.peer_of(node("b", annotations=said))
    assert peer is not None and peer.mac == "aa:bb:cc:dd:ee:ff"
    wanted = peers.vxlan([peer], "peavine.1")
    assert wanted.forwarding == (("aa:bb:cc:dd:ee:ff", "10.4.7.2"),)
    assert {(r.destination, r.gateway, r.onlink) for r in wanted.routes} == {
        ("172.7.2.0/24", "172.7.2.0", True),
        ("fd07:2::/64", "fd07:2::", True),
    }
    # A node that has not said its address yet is left out, not guessed.
    assert peers.vxlan([Peer("c", ("172.7.3.0/24",), ("10.4.7.3",))], "peavine.1").routes == frozenset()


def test_the_conflist_is_written_whole_once_and_only_when_it_differs(tmp_path: Path) -> None:
    config = cni.conflist(
        ["172.7.1.0/24", "fd07:1::/64"], bridge="br", mtu=1450, state_dir=tmp_path, plugins=["portmap"]
    )
    assert [p["type"] for p in config["plugins"]] == ["bridge", "portmap"]
    assert config["plugins"][0]["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert cni.write(tmp_path / "net.d", config) and not cni.write(tmp_path / "net.d", config)
    assert [p.name for p in (tmp_path / "net.d").iterdir()] == [cni.FILE]


def test_only_what_leaves_the_pod_network_is_masqueraded() -> None:
    rules = masquerade.ruleset(["172.7.1.0/24"], ["172.7.0.0/16", "fd07::/16"])
    assert "ip saddr { 172.7.1.0/24 } ip daddr != { 172.7.0.0/16, 224.0.0.0/4 } masquerade" in rules
    assert "ip6" not in rules


def test_host_port_chains_go_with_the_last_mapping_and_others_mappings_stay() -> None:
    lines = hostports.removal(SAVED).splitlines()
    assert "-X CNI-HOSTPORT-DNAT" in lines and "-X CNI-DN-111" in lines and "-X CNI-DN-222" in lines
    foreign = SAVED.replace("peavine", "other")
    lines = hostports.removal(foreign).splitlines()
    assert "-X CNI-DN-222" in lines and "-X CNI-DN-111" not in lines and "-X CNI-HOSTPORT-DNAT" not in lines
    assert hostports.removal("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n") == ""


def test_policy_types_follow_the_documented_default() -> None:
    def directions(**spec: Any) -> tuple[bool, bool]:
        policy = view_policy({"metadata": {"name": "p", "namespace": "n"}, "spec": {"podSelector": {}, **spec}})
        return policy.ingress is not None, policy.egress is not None

    assert directions() == (True, False)
    assert directions(egress=[{}]) == (True, True)
    assert directions(policyTypes=["Egress"]) == (False, True)
