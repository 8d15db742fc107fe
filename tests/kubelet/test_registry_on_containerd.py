"""Images from a real registry: pulled, refused, remembered, collected."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubelet import registry
from tests.kubelet.node import TestNode
from tests.kubelet.registry import PASSWORD, USER, Registry
from tests.kubelet.test_pods_on_containerd import FOREVER, state

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(registry.missing()), reason=registry.missing())]
Object = dict[str, Any]


@pytest.fixture(scope="module")
def plain(node: TestNode) -> Iterator[Registry]:
    found = Registry(node, "registry", secure=False)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def secure(node: TestNode) -> Iterator[Registry]:
    found = Registry(node, "secure-registry", secure=True)
    yield found
    found.stop()


def waiting(pod: Object) -> Object:
    return state(pod)["state"].get("waiting") or {}


def pull_secret(node: TestNode, name: str, host: str, *, old: bool = False) -> None:
    entry = {host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}
    if old:
        data, kind = {".dockercfg": json.dumps(entry)}, "kubernetes.io/dockercfg"
    else:
        data, kind = {".dockerconfigjson": json.dumps({"auths": entry})}, "kubernetes.io/dockerconfigjson"
    node.create({"kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data})


def test_images_are_pulled_by_tag_and_digest_as_the_policy_says(node: TestNode, plain: Registry) -> None:
    image, digest = plain.push("team/app", "1")
    pod = node.start_pod(node.pod("tagged", {**FOREVER, "image": image, "imagePullPolicy": "Always"}))
    assert state(pod)["imageID"] == f"{image.rpartition(':')[0]}@{digest}"
    assert "Successfully pulled image" in node.wait_event("tagged", "Pulled")
    again = plain.requests("http.request.method=HEAD")
    node.start_pod(node.pod("always", {**FOREVER, "image": image, "imagePullPolicy": "Always"}))
    asked = plain.requests("http.request.method=HEAD")
    assert asked > again
    node.start_pod(node.pod("present", {**FOREVER, "image": image, "imagePullPolicy": "IfNotPresent"}))
    assert plain.requests("http.request.method=HEAD") == asked
    assert "already present on machine" in node.wait_event("present", "Pulled")
    by_digest = f"{image.rpartition(':')[0]}@{digest}"
    node.start_pod(node.pod("digested", {**FOREVER, "image": by_digest}))
    for name in ("tagged", "always", "present", "digested"):
        node.delete(name, 0)


def test_what_is_not_in_the_registry_backs_off(node: TestNode, plain: Registry) -> None:
    node.create(node.pod("gone", {**FOREVER, "image": f"{plain.host}/team/absent:1"}))
    pod = node.wait("gone", lambda p: waiting(p).get("reason") == "ErrImagePull")
    assert "not found" in waiting(pod)["message"]
    pod = node.wait("gone", lambda p: waiting(p).get("reason") == "ImagePullBackOff", seconds=60)
    assert waiting(pod)["message"].startswith(f'Back-off pulling image "{plain.host}/team/absent:1"')
    node.wait_event("gone", "BackOff", "Back-off pulling image")
    node.delete("gone", 0)


@pytest.mark.parametrize("old", [False, True], ids=["dockerconfigjson", "dockercfg"])
def test_tls_and_passwords_of_the_pods_secrets_are_used(node: TestNode, secure: Registry, old: bool) -> None:
    name = "old" if old else "new"
    image, _ = secure.push(f"private/{name}", "1")
    node.create(node.pod(f"stranger-{name}", {**FOREVER, "image": image}))
    pod = node.wait(f"stranger-{name}", lambda p: waiting(p).get("reason") == "ErrImagePull")
    assert "401" in waiting(pod)["message"] or "authorization failed" in waiting(pod)["message"]
    pull_secret(node, f"pull-{name}", secure.host, old=old)
    friend = node.pod(f"friend-{name}", {**FOREVER, "image": image}, imagePullSecrets=[{"name": f"pull-{name}"}])
    assert state(node.start_pod(friend))["imageID"].startswith(f"{secure.host}/private/{name}@sha256:")
    for who in ("stranger", "friend"):
        node.delete(f"{who}-{name}", 0)


def test_credential_providers_know_passwords_and_unused_images_go(node: TestNode, secure: Registry) -> None:
    where = node.directory / "providers"
    where.mkdir()
    answer = {
        "kind": "CredentialProviderResponse",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "cacheKeyType": "Registry",
        "auth": {secure.host: {"username": USER, "password": PASSWORD}},
    }
    program = where / "test-provider"
    program.write_text(f"#!/bin/sh\ncat > {where}/request\ncat <<END\n{json.dumps(answer)}\nEND\n")
    program.chmod(0o755)
    configuration = {
        "kind": "CredentialProviderConfig",
        "apiVersion": "kubelet.config.k8s.io/v1",
        "providers": [
            {
                "name": "test-provider",
                "matchImages": [secure.host],
                "defaultCacheDuration": "1m",
                "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            }
        ],
    }
    (where / "config.json").write_text(json.dumps(configuration))
    settings = {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1"}
    (where / "kubelet.json").write_text(json.dumps({**settings, "imageMinimumGCAge": "0s"}))
    image, _ = secure.push("private/provided", "1")
    # It keeps the example image, which other tests need.
    node.start_pod(node.pod("keeper", FOREVER))
    providers = (
        f"--image-credential-provider-config={where}/config.json",
        f"--image-credential-provider-bin-dir={where}",
    )
    try:
        node.restart_kubelet(*providers)
        pod = node.start_pod(node.pod("provided", {**FOREVER, "image": image}))
        assert json.loads((where / "request").read_text())["image"] == image

        def images() -> set[str]:
            return {tag for found in node.run(node.cri.list_images()) for tag in found.get("repo_tags", [])}

        node.delete("provided")
        # Unused images go; those that containers use, and the sandbox's own, stay.
        node.restart_kubelet(
            f"--config={where}/kubelet.json", "--image-gc-high-threshold=1", "--image-gc-low-threshold=0"
        )
        node.until(images, lambda found: image not in found, "the unused image is removed", 30)
        assert {state(node.get("keeper"))["image"]} <= images() and any("pause" in tag for tag in images())
        assert pod["status"]["phase"] == "Running"
    finally:
        node.restart_kubelet()
        node.delete("keeper", 0)


def test_images_of_the_node_are_listed_pulled_imported_and_removed(node: TestNode, plain: Registry) -> None:
    import subprocess
    import sys

    def images(*words: str) -> str:
        command = [sys.executable, "-m", "peavine.cmd.main", "images", f"--data-dir={node.directory}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    image, _ = plain.push("tools/listed", "7")
    images("pull", image)
    assert "tools/listed" in images("list")
    images("rm", image)
    assert "tools/listed" not in images("list")
    where = node.directory / "archives"
    images("build-example", "--output", str(where))
    archives = sorted(str(path) for path in where.iterdir())
    assert archives
    images("import", *archives)
    assert "peavine.local/busybox" in images("list")
