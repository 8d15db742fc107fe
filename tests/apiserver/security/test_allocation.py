"""Cluster IPs and node ports: given out once, kept, given back."""

import asyncio
import copy

import pytest

from peavine.apiserver.admission import AdmissionRequest
from peavine.apiserver.allocation.addresses import GROUP, Addresses, reserved_band
from peavine.apiserver.allocation.ports import MemoryLedger, Ports, StoreLedger
from peavine.apiserver.allocation.services import ServiceAllocator
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVK, GVR
from peavine.store import open_store
from tests.apiserver.security.fakes import Objects


def allocator(objects, ranges=("192.168.0.0/16",), ledger=None, ports=(30000, 32767)):
    return ServiceAllocator(Addresses(objects, objects, ranges), Ports(ledger or MemoryLedger(), *ports))


def service(name="web", uid=None, **spec):
    spec = {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"a": "b"}, **spec}
    return {"metadata": {"name": name, "namespace": "team", "uid": uid or name}, "spec": spec}


def review(new, old=None, **more):
    name = new["metadata"]["name"]
    operation = "UPDATE" if old else "CREATE"
    gvk, gvr = GVK("", "v1", "Service"), GVR("", "v1", "services")
    return AdmissionRequest(operation, gvk, gvr, "", "team", name, copy.deepcopy(new), old, **more)


def admit(plugin, new, old=None, **more):
    req = review(new, old, **more)
    asyncio.run(plugin.admit(req))
    return req.obj["spec"]


def refusal(plugin, new, old=None):
    with pytest.raises(ApiError) as caught:
        admit(plugin, new, old)
    return caught.value.message


def addresses(objects):
    return [obj["metadata"]["name"] for obj in objects.list(GROUP, "ipaddresses")]


def test_a_service_gets_an_address_above_the_reserved_band():
    objects = Objects()
    spec = admit(allocator(objects), service())
    assert spec["clusterIP"] == spec["clusterIPs"][0] == addresses(objects)[0]
    assert spec["ipFamilies"] == ["IPv4"] and spec["ipFamilyPolicy"] == "SingleStack"
    third, fourth = map(int, spec["clusterIP"].split(".")[2:])
    assert third * 256 + fourth > 256
    found = objects.list(GROUP, "ipaddresses")[0]
    assert found["spec"]["parentRef"] == {"resource": "services", "namespace": "team", "name": "web"}


def test_an_address_that_was_chosen_is_given_once():
    objects = Objects()
    plugin = allocator(objects)
    assert admit(plugin, service(clusterIP="192.168.0.2"))["clusterIPs"] == ["192.168.0.2"]
    assert refusal(plugin, service("other", clusterIP="192.168.0.2")) == (
        'Service "other" is invalid: spec.clusterIPs: Invalid value: ["192.168.0.2"]: failed to allocate IP '
        "192.168.0.2: provided IP is already allocated"
    )
    assert "The range of valid IPs is 192.168.0.0/16" in refusal(plugin, service("other", clusterIP="10.0.0.1"))
    for edge in ("192.168.0.0", "192.168.255.255"):
        assert "not in the valid range" in refusal(plugin, service("other", clusterIP=edge))


def test_two_servers_never_give_one_address_twice_and_a_range_is_used_up_wholly():
    objects = Objects()
    one, two = allocator(objects, ["10.0.0.0/27"]), allocator(objects, ["10.0.0.0/27"])
    given = [admit((one, two)[n % 2], service(f"s{n}"))["clusterIP"] for n in range(30)]
    assert len(set(given)) == 30 and "10.0.0.0" not in given and "10.0.0.31" not in given
    assert "range is full" in refusal(one, service("late"))


def test_node_ports_are_given_once_also_by_two_servers_on_one_store():
    async def everything():
        store = await open_store("memory://")
        objects = Objects()
        servers = [allocator(objects, ledger=StoreLedger(store), ports=(30000, 30039)) for _ in range(2)]
        ports = []
        for n in range(40):
            req = review(service(f"s{n}", type="NodePort"))
            await servers[n % 2].admit(req)
            ports.append(req.obj["spec"]["ports"][0]["nodePort"])
        await store.close()
        return ports

    ports = asyncio.run(everything())
    assert sorted(ports) == list(range(30000, 30040))
    assert all(port >= 30016 for port in ports[:24])  # the lower band comes last


def test_a_node_port_that_was_chosen_is_given_once_and_in_range_only():
    plugin = allocator(Objects())
    chosen = {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}
    assert admit(plugin, service(**chosen))["ports"][0]["nodePort"] == 30080
    assert refusal(plugin, service("other", **chosen)) == (
        'Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated'
    )
    chosen["ports"][0]["nodePort"] = 80
    assert "The range of valid ports is 30000-32767" in refusal(plugin, service("other", **chosen))


def test_one_port_under_two_protocols_shares_its_node_port():
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"}]
    given = [p["nodePort"] for p in admit(allocator(Objects()), service(type="NodePort", ports=ports))["ports"]]
    assert given[0] == given[1] != given[2]
    both = [{"port": 53, "protocol": p, "nodePort": 30053} for p in ("UDP", "TCP")]
    plugin = allocator(Objects())
    assert [p["nodePort"] for p in admit(plugin, service(type="NodePort", ports=both))["ports"]] == [30053, 30053]


def test_a_dry_run_and_a_failed_write_leave_nothing_behind():
    objects, ledger = Objects(), MemoryLedger()
    plugin = allocator(objects, ledger=ledger)
    assert admit(plugin, service(type="NodePort"), dry_run=True)["ports"][0]["nodePort"]
    assert addresses(objects) == [] and ledger.owners == {}
    req = review(service(type="NodePort"))
    asyncio.run(plugin.admit(req))
    assert addresses(objects) and ledger.owners
    asyncio.run(plugin.undo(req))
    assert addresses(objects) == [] and ledger.owners == {}
    taken = service("other", type="NodePort", ports=[{"port": 1, "protocol": "TCP", "nodePort": 1}])
    refusal(plugin, taken)
    assert addresses(objects) == []


def test_updates_keep_what_was_given_and_take_what_is_new():
    objects = Objects()
    plugin = allocator(objects)
    old = service()
    old["spec"] = admit(plugin, old)
    address = old["spec"]["clusterIP"]
    new = service(type="NodePort")
    spec = admit(plugin, new, old)
    assert spec["clusterIP"] == address and spec["ports"][0]["nodePort"] >= 30000
    assert addresses(objects) == [address]


def test_headless_services_and_external_names_get_no_address():
    objects = Objects()
    plugin = allocator(objects)
    assert admit(plugin, service(clusterIP="None"))["clusterIPs"] == ["None"]
    spec = admit(plugin, service(clusterIP="None", selector={}))
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4", "IPv6"], "RequireDualStack")
    assert "clusterIP" not in admit(plugin, service(type="ExternalName", externalName="x.y"))
    assert addresses(objects) == []
    assert "this cluster is not configured for dual-stack services" in refusal(
        plugin, service(ipFamilyPolicy="RequireDualStack")
    )


def test_two_ranges_make_dual_stack_services():
    plugin = allocator(Objects(), ["10.0.0.0/24", "fd00::/112"])
    spec = admit(plugin, service(ipFamilyPolicy="PreferDualStack"))
    assert spec["ipFamilies"] == ["IPv4", "IPv6"] and ":" in spec["clusterIPs"][1]


def test_a_deleted_service_gives_back_what_it_had():
    objects, ledger = Objects(), MemoryLedger()
    plugin = allocator(objects, ledger=ledger)
    made = service(type="NodePort")
    made["spec"] = admit(plugin, made)
    objects.put("", "services", made)

    async def until_given_back():
        task = asyncio.ensure_future(plugin.run())
        await asyncio.sleep(0)
        objects.remove("", "services", "team", "web")
        for _ in range(100):
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(until_given_back())
    assert addresses(objects) == [] and ledger.owners == {}


def test_repair_takes_what_was_written_past_admission_and_frees_what_nobody_has():
    objects, ledger = Objects(), MemoryLedger()
    plugin = allocator(objects, ledger=ledger)
    objects.put("", "services", service("kubernetes", clusterIP="192.168.0.1", clusterIPs=["192.168.0.1"]))
    admit(plugin, service("crashed", type="NodePort"))
    asyncio.run(plugin.repair())
    assert "192.168.0.1" in addresses(objects) and len(addresses(objects)) == 2
    asyncio.run(plugin.repair())
    assert addresses(objects) == ["192.168.0.1"] and ledger.owners == {}


def test_the_reserved_band_is_upstreams():
    import ipaddress

    sizes = {"10.0.0.0/24": 16, "10.0.0.0/20": 256, "10.0.0.0/16": 256, "10.0.0.0/28": 16, "10.0.0.0/29": 0}
    assert {cidr: reserved_band(ipaddress.ip_network(cidr)) for cidr in sizes} == sizes


def test_a_service_made_again_at_once_gets_the_port_it_had():
    objects, ledger = Objects(), MemoryLedger()
    plugin = allocator(objects, ledger=ledger)
    chosen = service(uid="first", type="NodePort", ports=[{"port": 80, "protocol": "TCP", "nodePort": 30080}])
    chosen["spec"] = admit(plugin, chosen)
    objects.put("", "services", chosen)
    objects.remove("", "services", "team", "web")
    again = service(uid="second", type="NodePort", clusterIP=chosen["spec"]["clusterIP"],
                    ports=[{"port": 80, "protocol": "TCP", "nodePort": 30080}])  # fmt: skip
    assert admit(plugin, again)["ports"][0]["nodePort"] == 30080
    assert ledger.owners == {30080: "second"}
