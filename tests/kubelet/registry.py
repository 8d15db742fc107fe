"""Debian's docker-registry for tests: plain, or with TLS and a password; and how an image is pushed to it."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from peavine.kubelet.images import archive, builtin
from tests.kubelet.node import TestNode, free_port

USER, PASSWORD = "reader", "s3cret"
# bcrypt of the password, as htpasswd makes it.
HASHED = "$2b$04$tocFoCUBsZN5c4Cs9szVJ.vMbwqZOv5U///VvuGrW/VwHl/Qu8enq"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def missing() -> str:
    return "" if shutil.which("docker-registry") else "needs docker-registry (Debian package docker-registry)"


class Registry:
    """`secure`: with TLS by the cluster's authority, and a password."""

    def __init__(self, node: TestNode, name: str, *, secure: bool) -> None:
        self.directory, self.secure = node.directory / name, secure
        self.directory.mkdir()
        port = free_port()
        self.host = f"127.0.0.1:{port}"
        pki = node.directory / "pki"
        lines = ["version: 0.1", "storage:", f"  filesystem: {{rootdirectory: {self.directory}/data}}", "http:"]
        lines += [f"  addr: {self.host}"]
        if secure:
            key = pki / "kubelet-node-under-test"
            lines += [f"  tls: {{certificate: {key}.crt, key: {key}.key}}"]
            (self.directory / "htpasswd").write_text(f"{USER}:{HASHED}\n")
            lines += ["auth:", f"  htpasswd: {{realm: test, path: {self.directory}/htpasswd}}"]
            hosts = node.directory / "containerd" / "certs.d" / self.host
            hosts.mkdir(parents=True)
            text = f'server = "https://{self.host}"\n[host."https://{self.host}"]\n  ca = "{pki}/ca.crt"\n'
            (hosts / "hosts.toml").write_text(text)
        (self.directory / "config.yml").write_text("\n".join(lines) + "\n")
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        with open(self.directory / "log", "wb") as log:
            command = ["docker-registry", "serve", str(self.directory / "config.yml")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self._ask("GET", "/v2/")
                return
            except urllib.error.URLError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.directory / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> str:
        """The Location that is answered, if any."""
        scheme = "https" if self.secure else "http"
        url = path if "://" in path else f"{scheme}://{self.host}{path}"
        request = urllib.request.Request(url, data=body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        if self.secure:
            known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            request.add_header("Authorization", f"Basic {known}")
        context = self._context if self.secure else None
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return str(answer.headers.get("Location", ""))

    def push(self, name: str, tag: str) -> tuple[str, str]:
        """The example image with an author of its own (so that it is another image); its reference and digest."""
        manifest, config, layer = archive.blobs(builtin.busybox())
        config = json.dumps({**json.loads(config), "author": f"{self.host}/{name}"}).encode()
        described = json.loads(manifest)
        described["config"] |= {"digest": archive.digest(config), "size": len(config)}
        manifest = json.dumps(described).encode()
        for blob in (config, layer):
            location = self._ask("POST", f"/v2/{name}/blobs/uploads/", b"")
            sign = "&" if urllib.parse.urlsplit(location).query else "?"
            where = f"{location}{sign}digest={urllib.parse.quote(archive.digest(blob))}"
            self._ask("PUT", where, blob, Content_Type="application/octet-stream")
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", manifest, Content_Type=MANIFEST)
        return f"{self.host}/{name}:{tag}", archive.digest(manifest)

    def requests(self, text: str) -> int:
        """How many lines of the log have a text."""
        return sum(text in line for line in (self.directory / "log").read_text().splitlines())
