"""A resource on its way through a build: its object, and every name it has had."""

from __future__ import annotations

from typing import Any, NamedTuple

from peavine.cli.failures import CliError
from peavine.machinery.names import split_group_version

Object = dict[str, Any]

_CLUSTER_SCOPED_TEXT = (
    "Namespace Node PersistentVolume ClusterRole ClusterRoleBinding CustomResourceDefinition StorageClass CSIDriver "
    "CSINode VolumeAttachment PriorityClass RuntimeClass IngressClass APIService MutatingWebhookConfiguration "
    "ValidatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding FlowSchema "
    "PriorityLevelConfiguration CertificateSigningRequest TokenReview SelfSubjectAccessReview SelfSubjectRulesReview "
    "SubjectAccessReview ComponentStatus PodSecurityPolicy ClusterTrustBundle DeviceClass ResourceSlice IPAddress "
    "ServiceCIDR StorageVersion VolumeAttributesClass MutatingAdmissionPolicy MutatingAdmissionPolicyBinding"
)
CLUSTER_SCOPED = frozenset(_CLUSTER_SCOPED_TEXT.split())


class Id(NamedTuple):
    """What a resource is called at one time."""

    group: str
    version: str
    kind: str
    name: str
    namespace: str

    def shown(self) -> str:
        """`Deployment.v1.apps/web.default`, as messages have it."""
        known = ".".join(part or f"[no{what}]" for part, what in (
            (self.kind, "Kind"), (self.version, "Ver"), (self.group, "Grp")
        ))  # fmt: skip
        return f"{known}/{self.name or '[noName]'}.{self.namespace or '[noNs]'}"

    @property
    def effective_namespace(self) -> str:
        return "" if self.kind in CLUSTER_SCOPED else self.namespace or "default"

    def same(self, other: Id) -> bool:
        """The same resource, whatever the version's name says of the namespace that is meant by none."""
        return self[:4] == other[:4] and self.effective_namespace == other.effective_namespace


def id_of(obj: Object) -> Id:
    meta = obj.get("metadata") or {}
    group, version = split_group_version(obj.get("apiVersion") or "")
    return Id(group, version, obj.get("kind") or "", meta.get("name") or "", meta.get("namespace") or "")


class Resource:
    """`former` are its ids before each change of name, first the one in its file. `hashed` names get a suffix."""

    def __init__(self, obj: Object, origin: str = "") -> None:
        self.obj, self.origin = obj, origin
        self.former: list[Id] = []
        self.prefixes: list[str] = []
        self.suffixes: list[str] = []
        self.hashed = False
        self.behavior = ""

    @property
    def id(self) -> Id:
        return id_of(self.obj)

    @property
    def original(self) -> Id:
        return self.former[0] if self.former else self.id

    @property
    def ids(self) -> list[Id]:
        return [*self.former, self.id]

    @property
    def meta(self) -> Object:
        meta = self.obj.get("metadata")
        if not isinstance(meta, dict):
            meta = self.obj["metadata"] = {}
        return meta

    def remember(self) -> None:
        """Before the name or the namespace changes."""
        self.former.append(self.id)


class Collection:
    """The resources of a build, in order. No two have the same id."""

    def __init__(self) -> None:
        self.resources: list[Resource] = []

    def add(self, resource: Resource) -> None:
        for known in self.resources:
            if known.id.same(resource.id):
                raise CliError(f"may not add resource with an already registered id: {resource.id.shown()}")
        self.resources.append(resource)

    def absorb(self, resource: Resource) -> None:
        """Add what a generator made; or merge it into, or put it in the place of, the one that it names."""
        known = [r for r in self.resources if any(i.same(resource.id) for i in r.ids)]
        if resource.behavior in ("", "unspecified", "create"):
            if known:
                raise CliError(f"behavior must be merge or replace for ID {resource.id.shown()}")
            self.resources.append(resource)
            return
        if not known:
            raise CliError(f"id {resource.id.shown()!r} does not exist; cannot merge or replace".replace("'", '"'))
        if len(known) > 1:
            raise CliError(f"found multiple objects {[r.id.shown() for r in known]} that could accept merge")
        old, new = known[0].obj, resource.obj
        meta = dict(known[0].meta)
        for part in ("labels", "annotations"):
            merged = {**(meta.get(part) or {}), **(resource.meta.get(part) or {})}
            if merged:
                meta[part] = merged
        if resource.behavior == "merge":
            for part in ("data", "binaryData"):
                merged = {**(old.get(part) or {}), **(new.get(part) or {})}
                if merged:
                    new[part] = merged
        known[0].obj = {**new, "metadata": meta}
        known[0].hashed = known[0].hashed or resource.hashed

    def matching(self, wanted: Id) -> list[Resource]:
        """Those that have, or had, this id; a namespace that is not given is any."""
        return [r for r in self.resources if any(_meets(i, wanted) for i in r.ids)]


def _meets(have: Id, wanted: Id) -> bool:
    if have[:4] != wanted[:4]:
        return False
    return not wanted.namespace or have.effective_namespace == wanted.effective_namespace
