"""Signs approved requests of the four built-in signers with the cluster's CA."""

from __future__ import annotations

import base64
from pathlib import Path

from peavine.api.certificates import signing
from peavine.controllers.certificates import conditions
from peavine.controllers.controller import Context, Controller, Key, Object

API = "certificates.k8s.io/v1"


class CSRSigningController(Controller):
    name = "certificatesigningrequest-signing-controller"
    account = "certificate-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requests = self.watch(API, "certificatesigningrequests")
        self.certificate_file = str(context.options.get("cluster_signing_cert_file") or "")
        self.key_file = str(context.options.get("cluster_signing_key_file") or "")

    async def reconcile(self, key: Key) -> float | None:
        request = self.requests.get(*key)
        if request is None or not self.certificate_file or not self.key_file:
            return None
        found = conditions(request)
        if "Approved" not in found or found & {"Denied", "Failed"} or (request.get("status") or {}).get("certificate"):
            return None
        spec = request["spec"]
        if spec.get("signerName") not in signing.SIGNERS:
            return None
        status = dict(request.get("status") or {})
        try:
            signing.check(spec)
            pem = signing.sign(spec, *self._authority(), self.clock.time())
        except signing.Unacceptable as error:
            condition = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(error)}
            status["conditions"] = [*(status.get("conditions") or ()), condition]
        else:
            status["certificate"] = base64.b64encode(pem.encode()).decode()
        body: Object = {**request, "apiVersion": API, "kind": "CertificateSigningRequest", "status": status}
        await self.client.resource(API, "certificatesigningrequests").update(body, subresource="status")
        return None

    def _authority(self) -> tuple[bytes, bytes]:
        """Certificate and key of the CA, read anew each time: they may have been renewed. Two small local files."""
        return Path(self.certificate_file).read_bytes(), Path(self.key_file).read_bytes()
