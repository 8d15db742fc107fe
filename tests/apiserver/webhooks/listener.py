"""A real webhook server on loopback, with TLS, whose answers a test writes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import functools
import ipaddress
import json
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@functools.cache
def certificate():
    """A self-signed certificate for 127.0.0.1 and its key, as PEM; and the certificate as a caBundle."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = cert.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, private, base64.b64encode(pem).decode()


class Listener:
    """`reviews` are the bodies it got; `answer(body)` makes what it says, or None to say nothing at all."""

    def __init__(self, answer):
        self.answer, self.reviews, self.port = answer, [], 0
        self.connections, self.keeps = 0, True

    @property
    def client_config(self):
        return {"url": f"https://127.0.0.1:{self.port}/hook", "caBundle": certificate()[2]}

    async def serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self.one(reader, writer):
                pass
        writer.close()

    async def one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.split("content-length: ")[1].split("\r\n")[0])
        body = json.loads(await reader.readexactly(size))
        self.reviews.append(body)
        answer = self.answer(body)
        if answer is None:
            await reader.read()
            return False
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await writer.drain()
        return self.keeps


@functools.cache
def server_context():
    pem, key, _ = certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "both.pem")
        path.write_bytes(pem + key)
        context.load_cert_chain(path)
    return context


@contextlib.asynccontextmanager
async def listening(answer):
    context = server_context()
    listener = Listener(answer)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0, ssl=context)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()


def allowed(body, **more):
    """An answer that allows; `patch` is a list of operations."""
    response = {"uid": body["request"]["uid"], "allowed": True}
    if "patch" in more:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(more.pop("patch")).encode()).decode()
    return {"apiVersion": body["apiVersion"], "kind": "AdmissionReview", "response": {**response, **more}}


def refused(body, **status):
    return allowed(body, allowed=False, status=status)
