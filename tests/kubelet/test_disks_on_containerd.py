"""Disks and mounts that pods get from their node: NFS and iSCSI (their helpers are stood in for), block devices,
propagation of mounts, huge pages, trust bundles."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from peavine.linux import mounts
from tests.kubelet.node import NODE, TestNode
from tests.kubelet.test_pods_on_containerd import FOREVER, state

pytestmark = pytest.mark.root
Object = dict[str, Any]

# `mount` for NFS shows a directory instead of a server's; everything else is the real one's.
MOUNT = """#!/bin/sh
echo "mount $*" >> {log}
if [ "$1 $2" = "-t nfs" ]; then
    for last; do :; done
    exec /usr/bin/mount --bind {exported} "$last"
fi
exec /usr/bin/mount "$@"
"""
# `iscsiadm` whose target is a file behind a loop device.
ISCSIADM = """#!/bin/sh
echo "iscsiadm $*" >> {log}
link=/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-iqn.2026-01.test.peavine:disk-lun-2
case "$*" in
*--login*)
    mkdir -p /dev/disk/by-path
    device=$(losetup -f --show {image}) || exit 1
    ln -sf "$device" "$link" ;;
*--logout*)
    losetup -d "$(readlink $link)"
    rm "$link" ;;
esac
"""


def persistent(node: TestNode, name: str, source: Object, *, mode: str = "Filesystem", **spec: Any) -> list[Object]:
    """A PersistentVolume with its claim, bound; returns the volumes of a pod that uses it as `v`."""
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "volumeMode": mode}
    node.create({"kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        **common, **source, "capacity": {"storage": "1Gi"}, "claimRef": {"namespace": "default", "name": name}, **spec,
    }})  # fmt: skip
    node.create({"kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
        **common, "volumeName": name, "resources": {"requests": {"storage": "1Gi"}},
    }})  # fmt: skip
    claims = node.client.resource("v1", "persistentvolumeclaims")
    node.run(claims.patch(name, {"status": {"phase": "Bound"}}, "default", subresource="status"))
    return [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]


@contextmanager
def loop_device(image: Path, *, format_: bool) -> Iterator[str]:
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    if format_:
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    made = subprocess.run(["losetup", "-f", "--show", str(image)], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=False)


@pytest.fixture(scope="module")
def helpers(node: TestNode) -> Iterator[Path]:
    """A directory of stand-ins, first on the kubelet's PATH; what they are called with is in `log`."""
    where = node.directory / "helpers"
    (where / "exported").mkdir(parents=True)
    (where / "exported" / "greeting").write_text("from the server")
    image = where / "disk"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    words = {"log": where / "log", "exported": where / "exported", "image": image}
    scripts = {"mount": MOUNT, "iscsiadm": ISCSIADM, "mount.nfs": "#!/bin/sh\n"}
    for name, text in scripts.items():
        (where / name).write_text(text.format(**words))
        (where / name).chmod(0o755)
    node.kill_kubelet()
    node.start_kubelet(path=str(where))
    try:
        yield where
    finally:
        node.restart_kubelet()


def called(helpers: Path) -> list[str]:
    return (helpers / "log").read_text().splitlines() if (helpers / "log").exists() else []


def test_nfs_volumes_are_mounted_by_the_hosts_helper(node: TestNode, helpers: Path) -> None:
    source = {"nfs": {"server": "files.example", "path": "/shared"}}
    volumes = persistent(node, "nfs-claim", source, mountOptions=["nfsvers=4.1", "hard"])
    inline = [{"name": "w", "nfs": {**source["nfs"], "readOnly": True}}]
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w"}]}
    pod = node.start_pod(node.pod("nfs", {**FOREVER, **mount}, volumes=volumes + inline))
    assert node.exec(pod, "cat", "/v/greeting", "/w/greeting") == "from the server" * 2
    flags = [line.rpartition(" ")[0] for line in called(helpers) if "-t nfs" in line]
    assert flags == [
        "mount -t nfs -o nfsvers=4.1,hard files.example:/shared",
        "mount -t nfs -o ro files.example:/shared",
    ]
    node.delete("nfs")
    assert str(helpers / "exported") not in Path("/proc/self/mountinfo").read_text()


def test_iscsi_disks_are_logged_in_to_with_chap_and_out_of(node: TestNode, helpers: Path) -> None:
    with loop_device(helpers / "probe", format_=False):
        pass
    secret = {
        "node.session.auth.username": "alice",
        "node.session.auth.password": "wonderland",
        "discovery.sendtargets.auth.username": "bob",
    }
    kept = {"kind": "Secret", "metadata": {"name": "chap"}, "type": "kubernetes.io/iscsi-chap"}
    node.create({**kept, "stringData": secret})
    disk = {
        "targetPortal": "127.0.0.1",
        "iqn": "iqn.2026-01.test.peavine:disk",
        "lun": 2,
        "fsType": "ext4",
        "chapAuthSession": True,
        "chapAuthDiscovery": True,
        "secretRef": {"name": "chap"},
    }
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    pod = node.start_pod(
        node.pod("iscsi", {**FOREVER, **mount}, volumes=[{"name": "v", "iscsi": disk}], securityContext={"fsGroup": 77})
    )
    assert "ext4" in node.exec(pod, "grep", " /v ", "/proc/mounts")
    assert node.exec(pod, "stat", "-c", "%g", "/v").strip() == "77"
    words = [line for line in called(helpers) if line.startswith("iscsiadm")]
    login = next(i for i, line in enumerate(words) if "--login" in line)
    before = "\n".join(words[:login])
    for expected in (
        "-m discoverydb -t sendtargets -p 127.0.0.1:3260 -I default -o new",
        "-n discovery.sendtargets.auth.authmethod -v CHAP",
        "-n discovery.sendtargets.auth.username -v bob",
        "--discover",
        "-n node.session.auth.authmethod -v CHAP",
        "-n node.session.auth.username -v alice",
        "-n node.session.auth.password -v wonderland",
    ):
        assert expected in before
    # A second pod shares the session; a killed kubelet still knows how to end it.
    node.start_pod(node.pod("iscsi2", {**FOREVER, **mount}, volumes=[{"name": "v", "iscsi": disk}]))
    node.kill_kubelet()
    node.start_kubelet(path=str(helpers))
    node.delete("iscsi2", 0)

    assert not any("--logout" in line for line in called(helpers))
    node.delete("iscsi")
    node.until(lambda: any("--logout" in line for line in called(helpers)), bool, "the session ends")
    assert not Path("/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-iqn.2026-01.test.peavine:disk-lun-2").is_symlink()
    assert "wonderland" not in (node.directory / "kubelet.log").read_text()


def test_block_volumes_are_devices_in_containers(node: TestNode) -> None:
    with loop_device(node.directory / "block", format_=False) as device:
        volumes = persistent(node, "block-claim", {"local": {"path": device}, "nodeAffinity": affinity()}, mode="Block")
        raw = {"volumeDevices": [{"name": "v", "devicePath": "/dev/xvda"}]}
        pod = node.start_pod(node.pod("block", {**FOREVER, **raw}, volumes=volumes))
        node.exec(pod, "sh", "-c", "printf written > /dev/xvda; sync; test -b /dev/xvda")
        with open(device, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read(7) == b"written"
        node.delete("block", 0)


def test_local_disks_get_their_file_system_mounted(node: TestNode) -> None:
    with loop_device(node.directory / "local", format_=True) as device:
        source = {"local": {"path": device, "fsType": "ext4"}, "nodeAffinity": affinity()}
        volumes = persistent(node, "local-claim", source)
        mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        pod = node.start_pod(node.pod("local-disk", {**FOREVER, **mount}, volumes=volumes))
        assert "ext4" in node.exec(pod, "grep", " /v ", "/proc/mounts")
        node.delete("local-disk")
        assert device not in {m.source for m in mounts.table()}


def affinity() -> Object:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


def test_mounts_are_propagated_as_asked(node: TestNode) -> None:
    shared = node.directory / "shared"
    shared.mkdir()
    mounts.bind(shared, shared)
    mounts.mount("", shared, flags=mounts.MS_SHARED | mounts.MS_REC)

    def container(name: str, mode: str | None, **more: Any) -> Object:
        mount = {"name": "v", "mountPath": "/v", **({"mountPropagation": mode} if mode else {})}
        return {"name": name, **FOREVER, "volumeMounts": [mount], **more}

    both = container("both", "Bidirectional", securityContext={"privileged": True})
    try:
        for name in ("host", "container"):
            (shared / name).mkdir()
        pod = node.start_pod(
            node.pod(
                "propagated",
                both,
                container("slave", "HostToContainer"),
                container("none", None),
                volumes=[{"name": "v", "hostPath": {"path": str(shared)}}],
            )
        )
        node.exec(pod, "sh", "-c", "mount -t tmpfs t /v/container && touch /v/container/inside", container="both")
        mounts.mount("t", shared / "host", "tmpfs")
        (shared / "host" / "outside").touch()
        assert (shared / "container" / "inside").exists()
        look = ("sh", "-c", "ls /v/host /v/container")
        for name, seen in (("both", True), ("slave", True), ("none", False)):
            listed = node.exec(pod, *look, container=name)
            assert ("outside" in listed, "inside" in listed) == (seen, seen), name
        refused = node.pod("unprivileged", container("c", "Bidirectional"))
        refused["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": str(shared)}}]
        with pytest.raises(Exception, match="Bidirectional mount propagation is available only to privileged"):
            node.create(refused)
        node.delete("propagated", 0)
    finally:
        mounts.unmount_below(shared)


def test_huge_pages_are_counted_limited_and_mounted(node: TestNode) -> None:
    setting = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    if not setting.exists():
        pytest.skip("this kernel has no huge pages of 2 MiB")
    before = setting.read_text()
    setting.write_text("8")
    if int(setting.read_text()) < 8:
        setting.write_text(before)
        pytest.skip("this machine has no room for 8 huge pages")
    try:
        node.restart_kubelet()
        nodes = node.client.resource("v1", "nodes")
        node.until(
            lambda: node.run(nodes.get(NODE))["status"]["allocatable"],
            lambda a: a.get("hugepages-2Mi") == "16Mi",
            "the node offers them",
        )
        amounts = {"hugepages-2Mi": "4Mi", "memory": "32Mi", "cpu": "50m"}
        container = {
            **FOREVER,
            "resources": {"requests": amounts, "limits": amounts},
            "volumeMounts": [{"name": "v", "mountPath": "/huge"}],
        }
        volumes = [{"name": "v", "emptyDir": {"medium": "HugePages-2Mi"}}]
        pod = node.start_pod(node.pod("huge", container, volumes=volumes))
        assert "hugetlbfs" in (line := node.exec(pod, "grep", " /huge ", "/proc/mounts")) and "pagesize=2M" in line
        big = {"hugepages-2Mi": "14Mi", "memory": "32Mi", "cpu": "50m"}
        refused = node.finish_pod(node.pod("huger", {**FOREVER, "resources": {"requests": big, "limits": big}}))
        assert refused["status"]["reason"] == "OutOfhugepages-2Mi"
        node.delete("huge", 0)
        node.delete("huger", 0)
    finally:
        setting.write_text(before)
        node.restart_kubelet()


def test_trust_bundles_are_projected_each_certificate_once(node: TestNode) -> None:
    bundles = node.client.resource("certificates.k8s.io/v1", "clustertrustbundles")
    certificates = [(node.directory / "pki" / f"{name}.crt").read_text() for name in ("ca", "front-proxy-ca")]
    for name, text in (("test.io:peavine:one", certificates[0]), ("test.io:peavine:two", "".join(certificates))):
        spec = {"signerName": "test.io/peavine", "trustBundle": text}
        labels = {"live": "yes"}
        body = {"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "spec": spec}
        node.run(bundles.create({**body, "metadata": {"name": name, "labels": labels}}))
    by_signer = {"signerName": "test.io/peavine", "labelSelector": {"matchLabels": {"live": "yes"}}, "path": "all.pem"}
    sources = [
        {"clusterTrustBundle": by_signer},
        {"clusterTrustBundle": {"name": "test.io:peavine:one", "path": "one.pem"}},
        {"clusterTrustBundle": {"name": "test.io:peavine:absent", "path": "none.pem", "optional": True}},
    ]
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    pod = node.start_pod(
        node.pod("trusting", {**FOREVER, **mount}, volumes=[{"name": "v", "projected": {"sources": sources}}])
    )
    assert node.exec(pod, "grep", "-c", "BEGIN", "/v/all.pem").strip() == "2"
    assert node.exec(pod, "cat", "/v/one.pem").strip() == certificates[0].strip()
    assert node.exec(pod, "stat", "-L", "-c", "%s", "/v/none.pem").strip() == "0"
    node.delete("trusting", 0)
    for name in ("test.io:peavine:one", "test.io:peavine:two"):
        node.run(bundles.delete(name))


def test_pods_get_certificates_that_a_signer_issues_for_them(node: TestNode) -> None:
    import base64
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    requests = node.client.resource("certificates.k8s.io/v1", "podcertificaterequests")
    source = {
        "signerName": "test.io/pods",
        "keyType": "ECDSAP256",
        "credentialBundlePath": "bundle.pem",
        "certificateChainPath": "chain.pem",
        "userAnnotations": {"test.io/role": "tester"},
    }
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    projected = [{"name": "v", "projected": {"sources": [{"podCertificate": source}]}}]
    made = node.create(node.pod("certified", {**FOREVER, **mount}, volumes=projected))
    (request,) = node.until(lambda: node.run(requests.list("default"))["items"], bool, "the kubelet asks", 30)
    spec = request["spec"]
    assert (spec["podName"], spec["podUID"]) == ("certified", made["metadata"]["uid"])
    assert spec["serviceAccountName"] == "default" and spec["nodeName"] == NODE
    assert spec["unverifiedUserAnnotations"] == {"test.io/role": "tester"}
    # The signer: it takes nothing from the request but the public key.
    stub = x509.load_der_x509_csr(base64.b64decode(spec["stubPKCS10Request"]))
    assert stub.is_signature_valid
    pki = node.directory / "pki"
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
    begins = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    ends = begins + datetime.timedelta(hours=2)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "certified")])
    issued = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(authority.subject)
        .public_key(stub.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    chain = issued.public_bytes(serialization.Encoding.PEM).decode()

    def stamp(when: datetime.datetime) -> str:
        return when.strftime("%Y-%m-%dT%H:%M:%SZ")

    condition = {"type": "Issued", "status": "True", "reason": "Test", "message": ""}
    condition["lastTransitionTime"] = stamp(begins)
    status = {
        "conditions": [condition],
        "certificateChain": chain,
        "notBefore": stamp(begins),
        "notAfter": stamp(ends),
        "beginRefreshAt": stamp(begins + datetime.timedelta(hours=1)),
    }
    name_ = request["metadata"]["name"]
    node.run(requests.patch(name_, {"status": status}, "default", subresource="status"))
    pod = node.wait("certified", lambda p: state(p)["ready"], "it starts", 60)
    assert node.exec(pod, "cat", "/v/chain.pem").strip() == chain.strip()
    bundle = node.exec(pod, "cat", "/v/bundle.pem").encode()
    private = serialization.load_pem_private_key(bundle, None)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert private.public_key().public_bytes(*form) == issued.public_key().public_bytes(*form)
    node.delete("certified", 0)
    node.run(requests.delete(name_, "default"))
