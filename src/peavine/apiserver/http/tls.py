"""The TLS side of the server: its certificate, and client certificates asked for but not demanded."""

from __future__ import annotations

import ctypes
import logging
import os
import ssl
import sys
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)

_VERIFY_PEER = 1
_DER = 2  # _ssl.ENCODING_DER
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
# OpenSSL asks this about each problem that it finds in a client's certificate: 1 is "go on".
_go_on = _Callback(lambda _well, _store: 1)


def server_context(cert_file: str, key_file: str, client_ca_files: Iterable[str] = ()) -> ssl.SSLContext:
    """TLS 1.2 and up. A client may show a certificate; whether it is of one of the CAs, and in time, and whom it names,
    are the authenticator's questions: who shows a wrong one is told so in HTTP (401), as by kube-apiserver.

    That the client holds the certificate's key is checked here.
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
    if context.verify_mode is ssl.CERT_OPTIONAL and not take_any_client_certificate(context):
        log.warning("this Python's ssl module cannot let the server judge client certificates: bad ones end in TLS")
    return context


def take_any_client_certificate(context: ssl.SSLContext) -> bool:
    """Let handshakes go on whatever certificate the client shows; False, and no change, where that cannot be done.

    The ssl module has no word for it (Go's is RequestClientCert), OpenSSL has: a verify callback. The context's
    `SSL_CTX *` is the first field of the object, and has been in every CPython. Found to work by asking OpenSSL for the
    mode that was set through the module.
    """
    if sys.implementation.name != "cpython" or hasattr(sys, "getobjects"):
        return False
    try:
        import _ssl

        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        mode_of, set_verify = library.SSL_CTX_get_verify_mode, library.SSL_CTX_set_verify
    except (ImportError, OSError, AttributeError):
        return False
    mode_of.argtypes, mode_of.restype = [ctypes.c_void_p], ctypes.c_int
    set_verify.argtypes, set_verify.restype = [ctypes.c_void_p, ctypes.c_int, _Callback], None
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if not pointer or mode_of(pointer) != _VERIFY_PEER:
        return False
    set_verify(pointer, _VERIFY_PEER, _go_on)
    return True


def sent_chain(connection: Any) -> tuple[bytes, ...]:
    """What the client of an `ssl.SSLObject` sent behind its own certificate, as DER: its intermediate authorities."""
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return tuple(connection.get_unverified_chain()[1:])
    ask = getattr(connection._sslobj, "get_unverified_chain", None)
    found = ask() if ask is not None else None
    return tuple(certificate.public_bytes(_DER) for certificate in (found or ())[1:])
