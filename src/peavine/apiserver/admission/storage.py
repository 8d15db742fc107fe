"""Claims and volumes: the default storage class, finalizers while in use, growth only where the class allows it."""

from __future__ import annotations

from typing import Any

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.machinery.quantity import parse_quantity

GROUP = "storage.k8s.io"
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_FINALIZERS = {
    ("", "persistentvolumeclaims"): "kubernetes.io/pvc-protection",
    ("", "persistentvolumes"): "kubernetes.io/pv-protection",
    (GROUP, "volumeattributesclasses"): "kubernetes.io/vac-protection",
}


def newest_default(classes: list[dict[str, Any]], annotations: tuple[str, ...]) -> dict[str, Any] | None:
    """Of the classes marked as default, the one made last; of those made at once, the first by name."""
    marked = [
        found
        for found in classes
        if any((found["metadata"].get("annotations") or {}).get(key) == "true" for key in annotations)
    ]
    marked.sort(key=lambda found: found["metadata"]["name"])
    return max(marked, key=lambda found: found["metadata"].get("creationTimestamp", ""), default=None)


class DefaultStorageClass(Plugin):
    name = "DefaultStorageClass"
    operations = frozenset((CREATE,))
    resources = frozenset((("", "persistentvolumeclaims"),))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        if _CLASS_ANNOTATION in (req.obj["metadata"].get("annotations") or {}):
            return
        if req.obj["spec"].get("storageClassName") is None:
            found = newest_default(self.lister.list(GROUP, "storageclasses"), _DEFAULT)
            if found is not None:
                req.obj["spec"]["storageClassName"] = found["metadata"]["name"]


class StorageObjectInUseProtection(Plugin):
    name = "StorageObjectInUseProtection"
    operations = frozenset((CREATE,))
    resources = frozenset(_FINALIZERS)

    def __init__(self, context: PluginContext) -> None:
        del context

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        finalizer = _FINALIZERS[req.gvr.group, req.gvr.resource]
        finalizers = req.obj["metadata"].get("finalizers") or []
        if finalizer not in finalizers:
            req.obj["metadata"]["finalizers"] = [*finalizers, finalizer]


class PersistentVolumeClaimResize(Plugin):
    name = "PersistentVolumeClaimResize"
    operations = frozenset((UPDATE,))
    resources = frozenset((("", "persistentvolumeclaims"),))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def validate(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None or req.old is None:
            return
        new, old = (
            ((o["spec"].get("resources") or {}).get("requests") or {}).get("storage") for o in (req.obj, req.old)
        )
        if new is None or old is None or parse_quantity(new) == parse_quantity(old):
            return
        if (req.old.get("status") or {}).get("phase") != "Bound":
            raise forbidden(req, "Only bound persistent volume claims can be expanded")
        annotated = (req.old["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
        name = annotated or req.obj["spec"].get("storageClassName")
        found = self.lister.get(GROUP, "storageclasses", None, name) if name else None
        if found is None or not found.get("allowVolumeExpansion"):
            why = (
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            )
            raise forbidden(req, why)
