"""Users by TLS client certificate: the common name is the user, the organizations are the groups.

The TLS layer has only verified that the client holds the certificate's key. Here one of the *client* authorities must
have signed it, itself or over intermediates that the client sent: a certificate of the front-proxy authority is a
proxy's, never a user's, and one of nobody's is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from pathlib import Path

from peavine.apiserver.authentication.chains import valid_within
from peavine.apiserver.authentication.user import User
from peavine.apiserver.requests import RequestInfo
from peavine.base.clock import REAL, Clock
from peavine.machinery import errors
from peavine.machinery.x509 import USER_UID, Certificate, MalformedCertificate, pem_blocks, read_certificate

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
CERTIFICATES_REMEMBERED_MAX = 4096
LOOK_SECONDS = 1.0  # between two looks at the file of authorities
_CLIENT_AUTH, _ANY_USAGE = "1.3.6.1.5.5.7.3.2", "2.5.29.37.0"


class Authorities:
    """A bundle of CA certificates, read again when the file changes; remembers what each has signed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._stamp: tuple[int, int] = (0, 0)
        self._authorities: list[bytes] = []
        self._verified: dict[tuple[bytes, tuple[bytes, ...]], Certificate | None] = {}
        self._looked = float("-inf")  # when, at the file

    def verify(self, der: bytes, chain: tuple[bytes, ...] = ()) -> Certificate | None:
        """The certificate where one of the bundle signed it, or signed who did (`chain`: what the client sent beside
        it); else None. Its validity is that of the whole chain, and is for the caller to check.
        """
        key = (der, chain)
        if key not in self._verified or time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
        if key not in self._verified:
            if len(self._verified) >= CERTIFICATES_REMEMBERED_MAX:
                self._verified.clear()
            self._verified[key] = self._check(der, chain)
        return self._verified[key]

    def _look(self) -> None:
        self._looked = time.monotonic()
        status = self.path.stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._stamp, self._authorities = stamp, pem_blocks(self.path.read_bytes())
            self._verified.clear()

    def _check(self, der: bytes, chain: tuple[bytes, ...]) -> Certificate | None:
        try:
            certificate = read_certificate(der)
        except MalformedCertificate:
            return None
        usages = certificate.extended_key_usage
        if certificate.is_ca or (usages and _CLIENT_AUTH not in usages and _ANY_USAGE not in usages):
            return None
        times = valid_within(der, chain, self._authorities)
        if times is None:
            return None
        return dataclasses.replace(certificate, not_before=times[0], not_after=times[1])


class CertificateAuthenticator:
    def __init__(self, client_ca: Authorities, clock: Clock = REAL) -> None:
        self.client_ca, self.clock = client_ca, clock
        self._users: dict[bytes, tuple[Certificate, User]] = {}  # of certificates as they were last verified

    async def authenticate(self, info: RequestInfo) -> User | None:
        if info.peer_certificate is None:
            return None
        certificate = self.client_ca.verify(info.peer_certificate, info.peer_chain)
        if certificate is None:
            raise errors.unauthorized()  # of another authority: only another credential can still help
        if not certificate.not_before <= self.clock.time() <= certificate.not_after:
            raise errors.unauthorized()
        known = self._users.get(info.peer_certificate)
        if known is not None and known[0] is certificate:
            return known[1]
        if not certificate.common_name:
            return None
        uids = certificate.named(USER_UID)
        if len(uids) > 1:
            raise errors.unauthorized()
        user = User(
            certificate.common_name,
            uids[0] if uids else "",
            tuple(certificate.organizations),
            {CREDENTIAL_ID: ["X509SHA256=" + hashlib.sha256(info.peer_certificate).hexdigest()]},
        )
        if len(self._users) >= CERTIFICATES_REMEMBERED_MAX:
            self._users.clear()
        self._users[info.peer_certificate] = (certificate, user)
        return user
