import asyncio
import base64
import time
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peavine.api.certificates.signing import sign
from peavine.controllers.certificates import conditions
from tests.controllers.conftest import cluster, eventually

API = "certificates.k8s.io/v1"


def csr(common_name, organization):
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def authority(directory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (directory / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "ca.key").write_bytes(key.private_bytes(*form))


def request(name, signer, common_name, organization, usages):
    spec = {"signerName": signer, "usages": usages, "request": csr(common_name, organization)}
    return {"apiVersion": API, "kind": "CertificateSigningRequest", "metadata": {"name": name}, "spec": spec}


def test_a_kubelets_request_is_approved_and_what_is_approved_is_signed(tmp_path):
    authority(tmp_path)

    async def main():
        names = ("certificatesigningrequest-approving-controller", "certificatesigningrequest-signing-controller")
        async with cluster(*names) as (client, _):
            requests = client.resource(API, "certificatesigningrequests")
            usages = ["client auth", "digital signature"]
            kubelet = "kubernetes.io/kube-apiserver-client-kubelet"
            await requests.create(request("node", kubelet, "system:node:n", "system:nodes", usages))
            await requests.create(request("other", kubelet, "jane", "people", usages))

            async def approved():
                return "Approved" in conditions(await requests.get("node"))

            await eventually(approved)
            assert not conditions(await requests.get("other"))
            signed = (await requests.get("node"))["spec"]
            files = [(tmp_path / name).read_bytes() for name in ("ca.crt", "ca.key")]
            certificate = x509.load_pem_x509_certificate(sign(signed, *files, time.time()).encode())
            assert certificate.subject.rfc4514_string() == "O=system:nodes,CN=system:node:n"
            assert certificate.issuer.rfc4514_string() == "CN=ca"

    asyncio.run(main())
