"""The TLS side of the server: its certificate, and client certificates asked for but not demanded."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable


def server_context(cert_file: str, key_file: str, client_ca_files: Iterable[str] = ()) -> ssl.SSLContext:
    """TLS 1.2 and up. A client may show a certificate of one of the CAs; who it names is the authenticator's question.

    A certificate of another CA, or an expired one, fails the handshake: OpenSSL checks it before Python sees it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; those of 1.3 are all good
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(cert_file, key_file)
    context.set_alpn_protocols(["http/1.1"])
    for ca in client_ca_files:
        if ca and os.path.exists(ca):
            context.load_verify_locations(cafile=ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    return context
