"""What plugins may look at beside the pod: the cluster's arrays, and listers of other kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from peavine.scheduler.cluster import Cluster
from peavine.scheduler.extended_resources import class_of
from peavine.scheduler.inventory import Capacities, Hold, Inventory
from peavine.scheduler.storage import Storage
from peavine.scheduler.template import Object, Template


class Lister(Protocol):
    """What an informer offers for reading; `DictLister` is its plain form."""

    def get(self, namespace: str | None, name: str) -> Object | None: ...

    def list(self, namespace: str | None = None) -> list[Object]: ...


class DictLister:
    """Objects in a dict: for tests, simulations, and kinds that the API server does not have."""

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self._objects: dict[tuple[str, str], Object] = {}
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object) -> None:
        self._objects[(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])] = obj

    def drop(self, namespace: str, name: str) -> None:
        self._objects.pop((namespace, name), None)

    def get(self, namespace: str | None, name: str) -> Object | None:
        return self._objects.get((namespace or "", name))

    def list(self, namespace: str | None = None) -> list[Object]:
        return [obj for (ns, _), obj in self._objects.items() if namespace is None or ns == namespace]


class Context:
    """`lister("services")` and so on, by the plural name; an unknown kind is an empty lister."""

    def __init__(self, cluster: Cluster, lister: Callable[[str], Lister | None] | None = None) -> None:
        self.cluster = cluster
        self._lister = lister or (lambda plural: None)
        self._empty = DictLister()
        self.storage = Storage(cluster.nodes, self._lookup, lambda plural: self.lister(plural).list())
        cluster.storage = self.storage
        # Rises when an object of the topic changes that checks have read once: "services" (default spreading),
        # "storage", "devices", "classes" (of devices).
        self._versions = {"services": 0, "storage": 0, "devices": 0, "classes": 0}
        self.promised_devices: dict[Hold, Capacities] = {}  # of pods whose claims are being written
        self._inventory: tuple[int, Inventory] | None = None
        self._classes: tuple[int, dict[str, Object]] | None = None

    def bump(self, topic: str) -> None:
        self._versions[topic] += 1

    def version_for(self, template: Template) -> int:
        """Rises when anything beside the cluster's arrays changes that an evaluation of the template has read."""
        version = 0 if template.spread else self._versions["services"]
        version += self._versions["storage"] if template.volumes else 0
        if template.extended:
            version += self._versions["classes"]
        served = template.resource_claims or (template.extended and self.served_by_devices(template))
        return version + (self._versions["devices"] if served else 0)

    def classes(self) -> dict[str, Object]:
        """The device classes by name."""
        version = self._versions["classes"]
        if self._classes is None or self._classes[0] != version:
            self._classes = (version, {c["metadata"]["name"]: c for c in self.lister("deviceclasses").list()})
        return self._classes[1]

    def served_by_devices(self, template: Template) -> frozenset[str]:
        """Those of the template's extended resources that a device class stands for."""
        classes = self.classes() if template.extended else None
        return frozenset(name for name in template.extended if class_of(name, classes)) if classes else frozenset()

    def inventory(self) -> Inventory:
        """The devices of the cluster as of now."""
        version = self._versions["devices"]
        if self._inventory is None or self._inventory[0] != version:
            slices, claims = self.lister("resourceslices").list(), self.lister("resourceclaims").list()
            rules = self.lister("devicetaintrules").list()
            self._inventory = (version, Inventory(slices, claims, self.promised_devices, rules))
        return self._inventory[1]

    def _lookup(self, plural: str, namespace: str, name: str) -> Object | None:
        return self.lister(plural).get(namespace, name)

    def lister(self, plural: str) -> Lister:
        return self._lister(plural) or self._empty
