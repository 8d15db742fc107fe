"""A server's certificate and key in files, which are replaced now and then: followed without a restart."""

from __future__ import annotations

import logging
import os
import ssl

from peavine.base.clock import REAL, Clock

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0


class CertificateFiles:
    """Keeps `context` showing what is in the files: new connections get it, old ones go on with theirs."""

    def __init__(self, context: ssl.SSLContext, certificate: str, key: str) -> None:
        """Loads them. Raises OSError, ssl.SSLError where they cannot be used."""
        self.context, self.certificate, self.key = context, certificate, key
        context.load_cert_chain(certificate, key)
        self._seen = self._stamp()

    def look(self) -> None:
        """Load them again if they have changed. Half of a change (key and certificate do not fit) waits."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self.context.load_cert_chain(self.certificate, self.key)
                self._seen = stamp
        except (OSError, ssl.SSLError) as error:
            log.warning("the renewed certificate %s is not used yet: %s", self.certificate, error)

    async def follow(self, clock: Clock = REAL) -> None:
        """Look again and again. Ends by cancellation."""
        while True:
            await clock.sleep(LOOK_SECONDS)
            self.look()

    def _stamp(self) -> tuple[int, int]:
        status = os.stat(self.certificate)
        return status.st_mtime_ns, status.st_ino
