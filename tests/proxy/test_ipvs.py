"""The ipvs mode as far as a kernel without IPVS can show it: tables, differences, and rules that nft accepts."""

from __future__ import annotations

import pytest

from peavine.linux import ipvs, namespaces, nftables
from peavine.linux.ipvs import Service, Virtual
from peavine.proxy.backend import Settings
from peavine.proxy.ipvs import Renderer
from peavine.proxy.model import Endpoint, ServicePort
from tests.linux import world as worlds

A, B = Endpoint("172.7.11.2", 8080, True), Endpoint("172.7.21.2", 8080, False)
PORT = ServicePort(
    ("default", "web"),
    "http",
    False,
    "tcp",
    "192.168.0.10",
    80,
    node_port=30080,
    load_balancer_ips=("10.99.0.2",),
    source_ranges=("10.4.0.0/16",),
    affinity_seconds=60,
    external_local=True,
    cluster=(A, B),
    local=(A,),
    elsewhere=True,
)


def renderer() -> Renderer:
    return Renderer(Settings(cluster_cidrs=worlds.POD_CIDRS), ("10.4.7.11", "fd04:7::11"))


def test_addresses_and_node_ports_become_virtual_services() -> None:
    table = renderer().services([PORT])
    both, here = {(A.address, 8080): 1, (B.address, 8080): 1}, {(A.address, 8080): 1}
    assert table == {
        Virtual("tcp", "192.168.0.10", 80): Service("rr", 60, both),
        Virtual("tcp", "10.4.7.11", 30080): Service("rr", 60, here),
        Virtual("tcp", "10.99.0.2", 80): Service("rr", 60, here),
    }
    assert renderer().addresses([PORT]) == {"192.168.0.10", "10.99.0.2"}


def test_what_is_saved_can_be_read_and_the_difference_to_itself_is_nothing() -> None:
    table = renderer().services([PORT])
    table[Virtual("udp", "fd08::10", 53)] = Service("rr", 0, {("fd07::2", 53): 1})
    commands = ipvs.difference({}, table)
    assert "-A -t 192.168.0.10:80 -s rr -p 60\n" in commands
    assert "-a -u [fd08::10]:53 -r [fd07::2]:53 -m -w 1\n" in commands
    assert ipvs.parse(commands) == table
    assert ipvs.difference(table, table) == ""


def test_a_changed_endpoint_touches_nothing_else() -> None:
    from dataclasses import replace

    before = renderer().services([PORT])
    after = renderer().services([replace(PORT, cluster=(A,))])
    assert ipvs.difference(before, after) == "-d -t 192.168.0.10:80 -r 172.7.21.2:8080\n"
    assert ipvs.difference(before, {}).count("-D ") == 3


def test_a_server_that_leaves_keeps_its_connections_until_they_have_ended() -> None:
    from dataclasses import replace

    before = renderer().services([PORT])
    after = renderer().services([replace(PORT, cluster=(A,))])
    ipvs.keep_connections(before, after)
    assert ipvs.difference(before, after) == "-e -t 192.168.0.10:80 -r 172.7.21.2:8080 -m -w 0\n"
    listed = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.0.10:80 rr persistent 60
  -> 172.7.11.2:8080              Masq    1      0          0
  -> 172.7.21.2:8080              Masq    0      1          2
UDP  [fd08::10]:53 rr
  -> [fd07::2]:53                 Masq    1      0          7
"""
    counts = ipvs.connections(listed)
    assert counts[Virtual("tcp", "192.168.0.10", 80), ("172.7.21.2", 8080)] == 3
    assert counts[Virtual("udp", "fd08::10", 53), ("fd07::2", 53)] == 7


def test_what_comes_from_outside_is_masqueraded_also_through_node_ports() -> None:
    from dataclasses import replace

    local = {name for name, _ in renderer().elements([PORT], False)}
    assert "kept" in local and "marked" not in local
    everywhere = renderer().elements([replace(PORT, external_local=False)], False)
    assert sum(name == "marked" for name, _ in everywhere) == 2
    without = renderer().elements([replace(PORT, cluster=(), local=(), elsewhere=False)], False)
    assert sum(name == "rejected" for name, _ in without) == 3


@pytest.mark.root
def test_the_nftables_side_is_accepted_by_the_kernel() -> None:
    import secrets

    from peavine.linux.nfttable import ManagedTable
    from peavine.proxy.ipvs import SETS, TABLE

    name = f"pv-{secrets.token_hex(3)}-ipvs"
    namespaces.create(name)
    try:
        with namespaces.inside(name):
            for ipv6 in (False, True):
                table = ManagedTable(
                    "ip6" if ipv6 else "ip", TABLE, renderer().skeleton(ipv6), SETS, {"sources": 40 if ipv6 else 16}
                )
                table.open()
                wanted = renderer().elements([PORT], ipv6)
                table.change({}, wanted)
                assert table.elements() == wanted
                table.close()
            assert "10.99.0.2 . tcp . 80" in nftables.listing("ruleset")
    finally:
        namespaces.remove(name)
