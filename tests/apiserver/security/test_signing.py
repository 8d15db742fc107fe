"""The rules of the built-in certificate signers, and what they sign."""

import base64

import pytest

from peavine.api.certificates import signing
from peavine.base.clock import REAL
from peavine.cmd import pki as pki_module
from peavine.machinery.x509 import read_pem


def spec(common_name="system:node:one", organizations=("system:nodes",), names=(), usages=None, **more):
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    attributes = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name) for name in organizations]
    attributes.append(x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        alternatives = [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    return {
        "request": base64.b64encode(pem).decode(),
        "signerName": signing.KUBELET_CLIENT,
        "usages": usages or ["digital signature", "client auth"],
        "username": "system:bootstrap:abcdef",
        **more,
    }


def test_a_kubelets_first_certificate_and_its_renewal_may_be_approved_automatically():
    assert signing.automatic_approval(spec()).subresource == "nodeclient"
    assert signing.automatic_approval(spec(username="system:node:one")).subresource == "selfnodeclient"


@pytest.mark.parametrize(
    "asked",
    [
        {"organizations": ("system:masters",)},
        {"organizations": ("system:nodes", "system:masters")},
        {"common_name": "kubernetes-admin"},
        {"names": ("one",)},
        {"usages": ["digital signature", "client auth", "server auth"]},
        {"usages": ["digital signature", "client auth", "cert sign"]},
        {"signerName": signing.CLIENT},
        {"signerName": signing.KUBELET_SERVING},
        {"request": "bm90aGluZw=="},
    ],
)
def test_nothing_else_is_approved_without_a_human(asked):
    assert signing.automatic_approval(spec(**asked)) is None


def test_a_signed_certificate_says_what_was_asked_and_no_more(tmp_path):
    pki = pki_module.ensure_pki(tmp_path)
    ca, key = pki.cert("ca").read_bytes(), pki.key("ca").read_bytes()
    now = REAL.time()
    certificate = read_pem(signing.sign(spec(expirationSeconds=3600), ca, key, now))
    assert (certificate.common_name, certificate.organizations) == ("system:node:one", ["system:nodes"])
    assert certificate.not_after == int(now) + 3600 and not certificate.is_ca
    assert certificate.extended_key_usage == ("1.3.6.1.5.5.7.3.2",)
    assert certificate.authority_key_id == read_pem(ca).subject_key_id
    serving = spec(names=("one", "10.4.7.11"), usages=["digital signature", "server auth"],
                   signerName=signing.KUBELET_SERVING)  # fmt: skip
    certificate = read_pem(signing.sign(serving, ca, key, now))
    assert certificate.dns_names == ("one",) and certificate.ip_addresses == ("10.4.7.11",)
    with pytest.raises(signing.Unacceptable, match="system:masters"):
        signing.sign(spec("eve", ("system:masters",), signerName=signing.CLIENT), ca, key, now)
    with pytest.raises(signing.Unacceptable, match="DNS or IP"):
        signing.sign(
            spec(signerName=signing.KUBELET_SERVING, usages=["digital signature", "server auth"]), ca, key, now
        )


def test_a_serving_request_names_only_the_nodes_own_addresses():
    node = {"metadata": {"name": "one"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.4.7.11"}]}}

    def fits(*names, username="system:node:one", taken=()):
        usages = ["digital signature", "server auth"]
        asked = spec(
            names=names, usages=usages, signerName=signing.KUBELET_SERVING, username=username, groups=["system:nodes"]
        )
        return signing.serving_names_are_the_nodes(asked, node, taken)

    assert fits("one", "10.4.7.11")
    assert not fits("one", "10.4.7.21") and not fits("kubernetes.default.svc")
    assert not fits("one", username="system:node:two")
    assert not fits("one", "10.4.7.11", taken=("10.4.7.11",))


@pytest.mark.parametrize("component", sorted(signing.NODE_COMPONENTS))
def test_the_other_processes_of_a_joining_node_get_client_certificates_too(component):
    asked = {"common_name": component, "organizations": (), "signerName": signing.CLIENT}
    assert signing.automatic_component_approval(spec(**asked)).subresource == "nodeclient"
    assert signing.automatic_component_approval(spec(**asked, username=component)).subresource == "selfnodeclient"


@pytest.mark.parametrize(
    "asked",
    [
        {"common_name": "kubernetes-admin"},
        {"common_name": "system:kube-controller-manager"},
        {"organizations": ("system:masters",)},
        {"names": ("one",)},
        {"usages": ["digital signature", "client auth", "server auth"]},
        {"signerName": signing.KUBELET_CLIENT},
    ],
)
def test_and_nobody_else_does(asked):
    wanted = {"common_name": "system:kube-proxy", "organizations": (), "signerName": signing.CLIENT, **asked}
    assert signing.automatic_component_approval(spec(**wanted)) is None
