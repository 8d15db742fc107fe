from peavine.api.core.bootstrap_token import detached_signature
from peavine.controllers.endpointslice_mirroring import slices_for


def test_the_signature_of_cluster_info_is_a_detached_jws():
    header, payload, signature = detached_signature("kubeconfig", "abcdef", "0123456789abcdef").split(".")
    assert payload == "" and signature and "=" not in header + signature


def test_hand_written_endpoints_are_mirrored_by_address_family():
    subset = {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"name": "http", "port": 80}]}
    endpoints = {"metadata": {"name": "e", "namespace": "default", "uid": "u"}, "subsets": [subset]}
    made = slices_for(endpoints)
    assert [s["addressType"] for s in made] == ["IPv4", "IPv6"]
    assert made[0]["endpoints"] == [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]
    assert made[0]["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]
