"""How admission says no: 403 on the request's object, as upstream words it."""

from __future__ import annotations

from peavine.apiserver.admission.request import AdmissionRequest
from peavine.machinery import errors
from peavine.machinery.errors import ApiError


def forbidden(req: AdmissionRequest, why: str) -> ApiError:
    """`pods "web" is forbidden: WHY`; an object that has no name yet is `Unknown`, as upstream says it."""
    return errors.forbidden(req.gvr.resource, shown_name(req), why, req.gvr.group)


def shown_name(req: AdmissionRequest) -> str:
    if req.name:
        return req.name
    metadata = (req.obj or {}).get("metadata") or {}
    return metadata.get("name") or metadata.get("generateName") or "Unknown"
