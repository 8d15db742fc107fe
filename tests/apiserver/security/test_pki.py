"""The PKI: what a fresh data directory gets, and what later runs change."""

import os
import ssl
import stat

import pytest

from peavine.base.clock import REAL, SimulatedClock
from peavine.client.config import load_kubeconfig
from peavine.cmd import pki as subject
from peavine.machinery.x509 import MalformedCertificate, read_certificate, read_pem


def test_a_fresh_directory_gets_authorities_certificates_and_keys_that_verify(tmp_path):
    pki = subject.ensure_pki(tmp_path, advertise_addresses=["10.4.7.11"], service_ip="192.168.0.1")
    certificate = read_pem(pki.cert("apiserver").read_bytes())
    assert certificate.common_name == "kube-apiserver"
    assert {"kubernetes", "kubernetes.default.svc.cluster.local", "localhost"} <= set(certificate.dns_names)
    assert {"10.4.7.11", "192.168.0.1", "127.0.0.1", "::1"} <= set(certificate.ip_addresses)
    context = ssl.create_default_context(cafile=str(pki.cert("ca")))
    context.load_cert_chain(pki.cert("apiserver"), pki.key("apiserver"))
    client = read_pem(pki.cert("apiserver-kubelet-client").read_bytes())
    assert (client.common_name, client.organizations) == ("kube-apiserver-kubelet-client", ["system:masters"])
    authority = read_pem(pki.cert("ca").read_bytes())
    assert authority.is_ca and not certificate.is_ca
    assert certificate.authority_key_id == authority.subject_key_id


def test_files_are_private_and_directories_too(tmp_path):
    pki = subject.ensure_pki(tmp_path / "data")
    subject.ensure_kubeconfigs(pki, "https://127.0.0.1:6443")
    for folder, _, files in os.walk(tmp_path / "data"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for file in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, file)).st_mode) == 0o600


def test_a_second_run_changes_nothing(tmp_path):
    def everything():
        pki = subject.ensure_pki(tmp_path, advertise_addresses=["10.0.0.1"])
        subject.ensure_kubeconfigs(pki, "https://10.0.0.1:6443")
        subject.ensure_node(pki, "one", ["10.0.0.1"], "https://10.0.0.1:6443")
        return pki

    assert everything().written
    assert everything().written == []


def test_a_certificate_is_renewed_well_before_it_ends_and_the_authority_stays(tmp_path):
    clock = SimulatedClock(REAL.time())
    pki = subject.ensure_pki(tmp_path, clock=clock)
    authority = pki.ca_pem()
    later = SimulatedClock(clock.time() + 200 * subject.DAY)
    assert subject.ensure_pki(tmp_path, clock=later).written == []
    later = SimulatedClock(clock.time() + 250 * subject.DAY)
    assert "apiserver" in subject.ensure_pki(tmp_path, clock=later).written
    assert pki.ca_pem() == authority


def test_a_new_address_or_a_new_authority_makes_new_certificates(tmp_path):
    pki = subject.ensure_pki(tmp_path)
    assert subject.ensure_pki(tmp_path, advertise_addresses=["10.9.9.9"]).written == ["apiserver"]
    pki.cert("ca").unlink()
    written = subject.ensure_pki(tmp_path, advertise_addresses=["10.9.9.9"]).written
    assert set(written) == {"ca", "apiserver", "apiserver-kubelet-client"}


def test_kubeconfigs_are_read_by_the_client_and_carry_their_users(tmp_path):
    pki = subject.ensure_pki(tmp_path)
    paths = subject.ensure_kubeconfigs(pki, "https://127.0.0.1:6443")
    config = load_kubeconfig(paths["admin"])
    assert config.server == "https://127.0.0.1:6443"
    admin = read_pem(config.certificate)
    assert (admin.common_name, admin.organizations) == ("kubernetes-admin", ["system:masters"])
    config.ssl_context()
    node = load_kubeconfig(subject.ensure_node(pki, "one", ["10.4.7.11"], "https://127.0.0.1:6443"))
    assert read_pem(node.certificate).common_name == "system:node:one"
    assert read_pem(pki.cert("kubelet-one").read_bytes()).ip_addresses == ("10.4.7.11",)


def test_bytes_that_are_no_certificate_are_refused(tmp_path):
    good = read_pem(subject.ensure_pki(tmp_path).cert("ca").read_bytes()).der
    for bad in (b"", b"\x30", good[:50], good[:-1], b"\x30\x84\xff\xff\xff\xff"):
        with pytest.raises(MalformedCertificate):
            read_certificate(bad)


def test_certs_lists_and_renews_what_is_due(tmp_path, capsys):
    from peavine.cmd import certs

    assert certs.main(["list", "--data-dir", str(tmp_path / "nothing")]) == 1
    past = SimulatedClock(REAL.time() - 300 * subject.DAY)
    pki = subject.ensure_pki(tmp_path, clock=past)
    subject.ensure_kubeconfigs(pki, "https://127.0.0.1:6443")
    subject.ensure_node(pki, "one", ["10.4.7.11"], "https://127.0.0.1:6443")
    before = read_pem(pki.cert("apiserver").read_bytes())
    assert certs.main(["list", "--data-dir", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "system:masters" in listed and "kubelet-one" in listed and "admin.kubeconfig" in listed
    assert certs.main(["renew", "--data-dir", str(tmp_path)]) == 0
    assert "renewed apiserver\n" in capsys.readouterr().out
    after = read_pem(pki.cert("apiserver").read_bytes())
    assert after.not_after > before.not_after and after.serial != before.serial
    assert (after.dns_names, after.ip_addresses) == (before.dns_names, before.ip_addresses)
    assert certs.main(["renew", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing needs renewal\n"
    assert certs.main(["renew", "scheduler.kubeconfig", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "renewed scheduler.kubeconfig\n"
    assert certs.main(["renew", "nonsense", "--data-dir", str(tmp_path)]) == 1
    load_kubeconfig(pki.kubeconfig("scheduler")).ssl_context()
