"""CertificateSigningRequests: approving kubelets', signing what is approved, cleaning up what is done with.

One module a controller; the signers' rules are in `peavine.api`. Upstream: pkg/controller/certificates.
"""

from __future__ import annotations

from typing import Any


def conditions(request: dict[str, Any]) -> set[str]:
    """The types of a request's conditions."""
    return {c["type"] for c in (request.get("status") or {}).get("conditions") or ()}
