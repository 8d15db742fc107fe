"""Which endpoints a Service's port gets, without a kernel."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.proxy.model import Endpoint, Model, Node, view_service, view_slice


def service(**spec: Any) -> dict[str, Any]:
    full = {"clusterIP": "192.168.0.9", "ports": [{"name": "http", "port": 80}], **spec}
    return {"metadata": {"name": "s", "namespace": "n"}, "spec": full}


def piece(*endpoints: dict[str, Any], name: str = "s-1", service: str = "s", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "n", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        **more,
    }


def endpoint(address: str, node: str = "far", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def loaded(obj: dict[str, Any], *slices: dict[str, Any]) -> Model:
    model = Model(Node("here", "zone"))
    model.set_service(("n", "s"), view_service(obj))
    for one in slices:
        model.set_slice(("n", one["metadata"]["name"]), view_slice(one))
    return model


def test_headless_external_and_foreign_services_are_nobodys_business() -> None:
    assert view_service(service(clusterIP="None", clusterIPs=["None"])) is None
    assert view_service(service(type="ExternalName", externalName="x.example")) is None
    foreign = service()
    foreign["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    assert view_service(foreign) is None


def test_absent_conditions_mean_ready_and_unready_endpoints_are_left_out() -> None:
    model = loaded(service(), piece(endpoint("1.1.1.1"), endpoint("1.1.1.2", ready=False), endpoint("1.1.1.3", "here")))
    ((_, _, (port,)),) = model.take()
    assert port.cluster == (Endpoint("1.1.1.1", 8080, False), Endpoint("1.1.1.3", 8080, True))
    assert port.local == () and port.elsewhere


def test_a_repeated_object_is_no_change_and_a_removed_service_loses_everything() -> None:
    model = loaded(service(), piece(endpoint("1.1.1.1")))
    assert len(model.take()) == 1
    model.set_slice(("n", "s-1"), view_slice(piece(endpoint("1.1.1.1"))))
    model.set_service(("n", "s"), view_service(service()))
    assert model.take() == []
    model.set_service(("n", "s"), None)
    ((_, old, new),) = model.take()
    assert old and not new and not model.ports


def test_a_slice_that_moves_to_another_service_leaves_the_first() -> None:
    model = loaded(service(), piece(endpoint("1.1.1.1")))
    model.take()
    model.set_slice(("n", "s-1"), view_slice(piece(endpoint("1.1.1.1"), service="other")))
    ((_, _, (port,)),) = model.take()
    assert port.cluster == ()


def test_a_refused_claim_is_forgotten_with_its_service() -> None:
    model = Model(Node("here"))
    for name in ("a", "b", "c"):
        model.set_service(("n", name), view_service(service(externalIPs=["9.9.9.9"])))
        model.take()
    assert [name for (_, name), ports in model.ports.items() if ports[0].external_ips] == ["a"]
    model.set_service(("n", "b"), None)
    model.set_service(("n", "a"), None)
    model.take()
    assert model.ports["n", "c"][0].external_ips == ("9.9.9.9",)


def test_source_ranges_of_the_other_family_only_let_nobody_in() -> None:
    spec = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["fd00::/8"]}
    model = loaded(service(**spec))
    ((_, _, (port,)),) = model.take()
    assert port.source_ranges == ("255.255.255.255/32",)


def test_health_checks_count_local_endpoints_once() -> None:
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}
    ports = [{"name": "http", "port": 80}, {"name": "more", "port": 81}]
    one = piece(endpoint("1.1.1.1", "here"), endpoint("1.1.1.2"))
    one["ports"].append({"name": "more", "port": 8081, "protocol": "TCP"})
    model = loaded(service(ports=ports, **spec), one)
    model.take()
    (check,) = model.health_checks()
    assert (check.port, check.local_endpoints) == (31000, 1)


_ENDPOINTS = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(["here", "far"]), st.booleans(), st.booleans(), st.booleans()),
    max_size=8,
)


@given(_ENDPOINTS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_ready_endpoints_are_used_if_there_are_any_and_unserving_ones_never(
    endpoints: list[tuple[int, str, bool, bool, bool]], local: bool
) -> None:
    made = [
        endpoint(f"1.1.1.{n}", node, ready=ready, serving=ready or serving, terminating=terminating)
        for n, node, ready, serving, terminating in endpoints
    ]
    model = loaded(service(internalTrafficPolicy="Local" if local else "Cluster"), piece(*made))
    changes = model.take()
    port = changes[0].new[0]
    ready = {e["addresses"][0] for e in made if e["conditions"]["ready"]}
    usable = ready or {e["addresses"][0] for e in made if e["conditions"]["serving"] and e["conditions"]["terminating"]}
    assert {e.address for e in port.cluster} == usable
    assert all(e.local for e in port.local)
    assert len(set(port.cluster)) == len(port.cluster)
