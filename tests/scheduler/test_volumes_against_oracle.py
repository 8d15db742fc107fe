"""Volumes and devices: the plugins against the plain rules, on random clusters."""

from collections import Counter
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.scheduler.devices import allocate, need_of
from peavine.scheduler.inventory import Inventory
from tests.scheduler import volume_oracle as oracle
from tests.scheduler.objects import World, node, pod
from tests.scheduler.test_devices import CLASSES, cel, claim, slice_
from tests.scheduler.test_volumes import BOUND, _ask, storage_class, volume
from tests.scheduler.test_volumes import claim as volume_claim

DRIVER = "csi.example.com"
ZONE = "topology.kubernetes.io/zone"
CLASS_OBJECTS = [
    storage_class("local"),
    storage_class("made", DRIVER),
    storage_class("now", DRIVER, mode="Immediate"),
]


@st.composite
def _volumes(draw, name):
    csi = {"csi": {"driver": DRIVER, "volumeHandle": draw(st.sampled_from(("h1", "h2", name)))}}
    labels = draw(st.sampled_from(({}, {ZONE: "a"}, {ZONE: "a__b"})))
    made = volume(name, draw(st.sampled_from(("", "a", "b"))), draw(st.sampled_from(("", "local"))), labels=labels)
    made["spec"]["capacity"]["storage"] = draw(st.sampled_from(("1Gi", "2Gi")))
    made["spec"] |= draw(st.sampled_from(({}, csi)))
    return made


@st.composite
def _claims(draw, name, volumes):
    on = draw(st.sampled_from(("", "", *[v["metadata"]["name"] for v in volumes], "gone")))
    modes = draw(st.sampled_from((("ReadWriteOnce",), ("ReadWriteOnce",), ("ReadWriteOncePod",))))
    made = volume_claim(name, on, draw(st.sampled_from(("local", "made", "now"))), modes=modes)
    made["spec"]["resources"]["requests"]["storage"] = draw(st.sampled_from(("1Gi", "2Gi")))
    made["metadata"]["annotations"] = BOUND if on else {}
    return made


_disks = st.sampled_from(
    (
        {"gcePersistentDisk": {"pdName": "d"}},
        {"gcePersistentDisk": {"pdName": "d", "readOnly": True}},
        {"iscsi": {"iqn": "q", "lun": 0}},
        {"iscsi": {"iqn": "q", "lun": 1, "readOnly": True}},
    )
)


@st.composite
def _pods(draw, name, on=""):
    claims = draw(st.lists(st.sampled_from(("c0", "c1", "c2")), max_size=2, unique=True))
    found = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    found += [{"name": f"d{n}", **disk} for n, disk in enumerate(draw(st.lists(_disks, max_size=1)))]
    return pod(name, on=on, volumes=found)


@settings(max_examples=120)
@given(st.data())
def test_volumes_let_pods_go_where_the_plain_rules_do(data):
    draw = data.draw
    places = st.sampled_from(({}, {ZONE: "a", "zone": "a"}, {ZONE: "b", "zone": "b"}))
    nodes = [node(f"n{n}", labels=draw(places)) for n in range(3)]
    volumes = [draw(_volumes(f"v{n}")) for n in range(draw(st.integers(0, 3)))]
    claims = [draw(_claims(f"c{n}", volumes)) for n in range(draw(st.integers(1, 3)))]
    for one in claims:  # a volume has one claim
        for other in volumes:
            if one["spec"].get("volumeName") == other["metadata"]["name"]:
                other["spec"]["claimRef"] = {"namespace": "default", "name": one["metadata"]["name"]}
    pods = [draw(_pods(f"p{n}", f"n{draw(st.integers(0, 2))}")) for n in range(draw(st.integers(0, 3)))]
    most = draw(st.integers(1, 3))
    csi_nodes = [{"metadata": {"name": "n0"}, "spec": {"drivers": [{"name": DRIVER, "allocatable": {"count": most}}]}}]
    world = World(
        nodes,
        persistentvolumeclaims=claims,
        persistentvolumes=volumes,
        storageclasses=CLASS_OBJECTS,
        csinodes=csi_nodes,
    )
    for one in csi_nodes:
        world.context.storage.set_limits(one)
    for one in pods:
        world.cluster.add_pod(world.pod(one))
    plain = SimpleNamespace(
        pods=pods,
        claims=claims,
        volumes={v["metadata"]["name"]: v for v in volumes},
        classes={c["metadata"]["name"]: c for c in CLASS_OBJECTS},
        limits={"n0": {DRIVER: most}},
        on=lambda n: [p for p in pods if p["spec"]["nodeName"] == n["metadata"]["name"]],
    )
    asked = draw(_pods("asked"))
    refused = oracle.refusal(asked, plain)
    if refused is not None:
        assert _ask(world, asked) == refused
        return
    verdicts = {n["metadata"]["name"]: oracle.volumes(asked, n, plain) for n in nodes}
    fitting = {name for name, reasons in verdicts.items() if not reasons}
    expected = fitting or dict(Counter(reason for reasons in verdicts.values() for reason in reasons))
    assert _ask(world, asked) == expected


@st.composite
def _devices(draw, name):
    made = {
        "name": name,
        "attributes": {"model": {"string": draw(st.sampled_from("ab"))}},
        "capacity": {"memory": {"value": draw(st.sampled_from(("4Gi", "8Gi")))}},
    }
    if draw(st.booleans()):
        made["allowMultipleAllocations"] = True
    if draw(st.booleans()):
        uses = [{"counterSet": "s", "counters": {"c": {"value": draw(st.sampled_from("2468"))}}}]
        made["consumesCounters"] = uses
    return made


_requests = st.fixed_dictionaries(
    {
        "model": st.sampled_from((None, "a", "b")),
        "count": st.sampled_from((1, 1, 2, None)),
        "memory": st.sampled_from((None, "2Gi", "4Gi", "5Gi")),
    }
)


def _wire(request):
    made = {"count": request["count"]} if request["count"] else {"allocationMode": "All"}
    if request["model"]:
        made |= cel(f'device.attributes["gpu.example.com"].model == "{request["model"]}"')
    if request["memory"]:
        made["capacity"] = {"requests": {"memory": request["memory"]}}
    return made


@settings(max_examples=120)
@given(st.data())
def test_devices_are_given_out_where_any_way_to_do_it_exists_and_only_such_a_way(data):
    draw = data.draw
    devices = [draw(_devices(f"d{n}")) for n in range(draw(st.integers(1, 4)))]
    requests = draw(st.lists(_requests, min_size=1, max_size=2))
    held = {}
    others = []
    for device in draw(st.lists(st.sampled_from(devices), max_size=2, unique_by=lambda d: d["name"])):
        other = claim(f"of-{device['name']}", allocated=[device["name"]], on="n")
        held[device["name"]] = 0
        if device.get("allowMultipleAllocations"):
            result = other["status"]["allocation"]["devices"]["results"][0]
            result |= {"shareID": "s", "consumedCapacity": {"memory": "2Gi"}}
            held[device["name"]] = oracle.nanos("2Gi")
        others.append(other)
    held["parts"] = {d["name"]: d for d in devices}
    counters = [{"name": "s", "counters": {"c": {"value": "8"}}}]
    if not oracle.counted([], held):
        return  # what others have cannot be
    inventory = Inventory([slice_("n", *devices, sharedCounters=counters)], others, {})
    found = allocate(inventory, [need_of(claim("c", *map(_wire, requests)), CLASSES)], inventory.on_node["n"])
    if found is None:
        assert next(oracle.deals(requests, devices, held), None) is None
        return
    by_request = {}
    for one in found[0]:
        by_request.setdefault(one.variant.request, []).append(one.device.object)
    choice = [tuple(by_request.get(f"r{n}", ())) for n in range(len(requests))]
    for given_, request in zip(choice, requests, strict=True):
        matching = [d for d in devices if request["model"] in (None, d["attributes"]["model"]["string"])]
        assert all(d in matching for d in given_)
        assert len(given_) == (len(matching) if request["count"] is None else request["count"])
    assert oracle.fair(choice, requests, held)
