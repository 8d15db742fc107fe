# ruff: noqa: E501
"""A build: the resources of a directory and of all that it names, changed as each kustomization on the way says.

Order within one kustomization: resources, generators, components, patches, namespace, prefix and suffix, labels,
annotations, JSON patches, replicas, images, replacements. Hashes, references and variables come once, at the end.
"""

from __future__ import annotations

import sys
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.kustomize import fieldspecs, transformers
from peavine.cli.kustomize.fieldspecs import Reference, spec_of
from peavine.cli.kustomize.files import Loader, is_remote, refusal
from peavine.cli.kustomize.generators import generate, name_hash
from peavine.cli.kustomize.patching import apply_patch
from peavine.cli.kustomize.references import fix_references
from peavine.cli.kustomize.replacements import replace, resolve_vars
from peavine.cli.kustomize.resource import Collection, Resource

Object = dict[str, Any]
_MAPS = ("commonLabels", "commonAnnotations", "generatorOptions", "metadata", "openapi", "sortOptions", "helmGlobals")
_LISTS = (
    "resources", "bases", "components", "crds", "configurations", "patches", "patchesStrategicMerge",
    "patchesJson6902", "images", "imageTags", "replicas", "replacements", "vars", "configMapGenerator",
    "secretGenerator", "labels", "generators", "transformers", "validators", "buildMetadata", "helmCharts",
    "helmChartInflationGenerator",
)  # fmt: skip
_TEXTS = ("apiVersion", "kind", "namespace", "namePrefix", "nameSuffix")
_DEPRECATED = {
    "bases": "resources",
    "commonLabels": "labels",
    "imageTags": "images",
    "patchesJson6902": "patches",
    "patchesStrategicMerge": "patches",
}  # fmt: skip
_RUNS_PROGRAMS = ("generators", "transformers", "validators")
# The order of kinds in what is printed; the rest stand between.
_FIRST_TEXT = (
    "Namespace ResourceQuota StorageClass CustomResourceDefinition ServiceAccount PodSecurityPolicy Role ClusterRole "
    "RoleBinding ClusterRoleBinding ConfigMap Secret Endpoints Service LimitRange PriorityClass PersistentVolume "
    "PersistentVolumeClaim Deployment StatefulSet CronJob PodDisruptionBudget"
)
_FIRST = _FIRST_TEXT.split()
_LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def build(directory: str, *, restricted: bool = True) -> list[Object]:
    """The objects of a kustomization, in the order in which they should be made. Raises CliError."""
    if is_remote(directory):
        raise CliError(refusal(directory))
    loader = Loader(directory, restricted=restricted)
    if not loader.is_directory("."):
        where = loader.root
        import os

        why = f"'{where}': file is not directory" if os.path.exists(where) else (
            f"not a valid directory: evalsymlink failure on '{directory}' : lstat {directory}: no such file or directory"
        )  # fmt: skip
        raise CliError(f"must build at directory: {why}")
    run = _Build()
    resources = run.kustomization(loader, Collection())
    for resource in resources.resources:
        if resource.hashed:
            digest = name_hash(resource.obj)
            resource.remember()
            resource.meta["name"] += f"-{digest}"
    fix_references(resources, tuple(run.references))
    resolve_vars(resources, run.variables)
    kept = [
        r for r in resources.resources if "config.kubernetes.io/local-config" not in (r.meta.get("annotations") or {})
    ]
    if run.order != "fifo":
        kept.sort(key=lambda r: _rank(r, run.first, run.last))
    return [resource.obj for resource in kept]


def _rank(resource: Resource, first: list[str], last: list[str]) -> tuple[Any, ...]:
    id = resource.original
    at = first.index(id.kind) - len(first) if id.kind in first else 1 + last.index(id.kind) if id.kind in last else 0
    shown = f"{id.group or '~G'}_{id.version or '~V'}_{id.kind}"
    return (at, shown, id.namespace or "", id.name)


class _Build:
    """What one build gathers besides resources."""

    def __init__(self) -> None:
        self.variables: list[Object] = []
        self.references: list[Reference] = []
        self.order, self.first, self.last = "legacy", list(_FIRST), list(_LAST)

    def kustomization(self, loader: Loader, resources: Collection, *, component: bool = False) -> Collection:
        """Add what a directory's kustomization names, and change it; a component changes all that is there."""
        document, _ = loader.kustomization()
        _check(document, component)
        mine = resources if component else Collection()
        for path in (*(document.get("resources") or ()), *(document.get("bases") or ())):
            self._resource(path, loader, mine)
        self._configurations(document, loader)
        self._generators(document, loader, mine)
        for path in document.get("components") or ():
            inner = loader.below(path)
            if is_remote(path):
                raise CliError(refusal(path))
            self.kustomization(inner, mine, component=True)
        self._transform(document, loader, mine)
        self.variables += document.get("vars") or ()
        if not component:
            self._sorting(document, loader)
            if not loader.parents:
                return mine
        return mine

    def _sorting(self, document: Object, loader: Loader) -> None:
        options = document.get("sortOptions")
        if loader.parents or not options:
            return
        self.order = options.get("order") or "legacy"
        legacy = options.get("legacySortOptions") or {}
        if legacy:
            self.first, self.last = legacy.get("orderFirst") or [], legacy.get("orderLast") or []

    def _resource(self, path: str, loader: Loader, resources: Collection) -> None:
        if is_remote(path):
            raise CliError(
                f"accumulating resources: accumulation err='accumulating resources from '{path}'': {refusal(path)}"
            )
        if loader.is_directory(path):
            inner = Collection()
            try:
                inner = self.kustomization(loader.below(path), inner)
            except CliError as error:
                full = loader.below(path).root if "cycle" not in str(error) else path
                raise CliError(
                    f"accumulating resources: accumulation err='accumulating resources from '{path}': '{full}' must "
                    f"resolve to a file': recursed accumulation of path '{full}': {error}"
                ) from None
            for resource in inner.resources:
                _added(resources, resource, path)
            return
        try:
            data = loader.read(path)
        except CliError as error:
            reason = str(error)
            after = f"must build at directory: not a valid directory: {reason}"
            if reason.startswith("security"):
                import os

                after = f"must build at directory: '{os.path.realpath(os.path.join(loader.root, path))}': file is not directory"
            raise CliError(
                f"accumulating resources: accumulation err='accumulating resources from '{path}': {reason}': {after}"
            ) from None
        for obj in _objects(data, path):
            _added(resources, Resource(obj, path), path)

    def _configurations(self, document: Object, loader: Loader) -> None:
        from peavine.machinery.codecs import yaml

        for path in document.get("configurations") or ():
            for entry in (yaml.decode(loader.read(path)) or {}).get("nameReference") or ():
                for place in entry.get("fieldSpecs") or ():
                    self.references.append(Reference(entry.get("kind", ""), entry.get("group", ""), spec_of(place)))

    def _generators(self, document: Object, loader: Loader, resources: Collection) -> None:
        options = document.get("generatorOptions") or {}
        for section, kind in (("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")):
            for args in document.get(section) or ():
                resources.absorb(generate(kind, args, options, loader))

    def _transform(self, document: Object, loader: Loader, resources: Collection) -> None:
        for entry in document.get("patchesStrategicMerge") or ():
            text = entry if "\n" in entry else loader.read(entry).decode()
            apply_patch(resources, {"patch": text}, loader)
        for entry in document.get("patches") or ():
            apply_patch(resources, entry, loader)
        if document.get("namespace"):
            transformers.set_namespace(resources, document["namespace"])
        prefix, suffix = document.get("namePrefix") or "", document.get("nameSuffix") or ""
        transformers.add_to_names(resources, prefix, "")
        transformers.add_to_names(resources, "", suffix)
        for entry in document.get("labels") or ():
            transformers.add_pairs(resources, entry.get("pairs") or {}, _label_places(entry))
        transformers.add_pairs(resources, document.get("commonLabels") or {}, fieldspecs.COMMON_LABELS)
        transformers.add_pairs(resources, document.get("commonAnnotations") or {}, fieldspecs.COMMON_ANNOTATIONS)
        for entry in document.get("patchesJson6902") or ():
            apply_patch(resources, entry, loader)
        for entry in document.get("replicas") or ():
            transformers.set_replicas(resources, entry.get("name", ""), int(entry.get("count") or 0))
        for entry in (*(document.get("images") or ()), *(document.get("imageTags") or ())):
            transformers.set_images(resources, entry)
        for entry in document.get("replacements") or ():
            self._replacement(entry, loader, resources)
        if "managedByLabel" in (document.get("buildMetadata") or ()):
            transformers.add_pairs(
                resources, {"app.kubernetes.io/managed-by": "kustomize-v5.6.0"}, fieldspecs.METADATA_LABELS
            )

    def _replacement(self, entry: Object, loader: Loader, resources: Collection) -> None:
        if not entry.get("path"):
            replace(resources, entry)
            return
        from peavine.machinery.codecs import yaml

        found = yaml.decode(loader.read(entry["path"]))
        for inner in found if isinstance(found, list) else [found]:
            replace(resources, inner)


def _label_places(entry: Object) -> tuple[fieldspecs.Spec, ...]:
    own = tuple(spec_of(place) for place in entry.get("fields") or ())
    if entry.get("includeSelectors"):
        return (*own, *fieldspecs.COMMON_LABELS)
    if entry.get("includeTemplates"):
        return (*own, *fieldspecs.METADATA_LABELS, *fieldspecs.TEMPLATE_LABELS)
    return (*own, *fieldspecs.METADATA_LABELS)


def _added(resources: Collection, resource: Resource, path: str) -> None:
    try:
        resources.add(resource)
    except CliError as error:
        raise CliError(
            f"accumulating resources: accumulation err='merging resources from '{path}': {error}': must build at "
            f"directory: '{path}': file is not directory"
        ) from None


def _objects(data: bytes, path: str) -> list[Object]:
    from peavine.cli.resources import split_yaml
    from peavine.machinery.codecs import yaml

    found: list[Object] = []
    for part in split_yaml(data):
        try:
            value = yaml.decode(part, few_words=True)  # JSON is YAML
        except yaml.YamlError as error:
            raise CliError(f"accumulating resources: accumulation err='accumulating resources from '{path}': "
                           f"MalformedYAMLError: {error} in File: {path}'") from None  # fmt: skip
        for obj in value if isinstance(value, list) else [value] if value else []:
            if (
                isinstance(obj, dict)
                and str(obj.get("kind", "")).endswith("List")
                and isinstance(obj.get("items"), list)
            ):
                found += obj["items"]
                continue
            if not isinstance(obj, dict) or not obj.get("kind"):
                raise CliError(
                    f"accumulating resources: missing Resource metadata in {path}: kind and apiVersion are needed"
                )
            if not (obj.get("metadata") or {}).get("name"):
                raise CliError(f"accumulating resources: missing metadata.name in object {obj} of {path}")
            found.append(obj)
    return found


def _check(document: Object, component: bool) -> None:
    for field, value in document.items():
        if field in _MAPS:
            wanted: Any = dict
        elif field in _LISTS:
            wanted = list
        elif field in _TEXTS:
            wanted = str
        else:
            raise CliError(f'invalid Kustomization: json: unknown field "{field}"')
        if value is not None and not isinstance(value, wanted):
            raise CliError(f"invalid Kustomization: json: cannot unmarshal {_go_kind(value)} into Go struct field "
                           f"Kustomization.{field} of type {_GO_TYPES.get(field, _GO_TYPES[wanted])}")  # fmt: skip
    for field in ("commonLabels", "commonAnnotations"):
        for value in (document.get(field) or {}).values():
            if not isinstance(value, str):
                raise CliError(f"invalid Kustomization: json: cannot unmarshal {_go_kind(value)} into Go struct field "
                               f"Kustomization.{field} of type string")  # fmt: skip
    kind = document.get("kind") or ("Component" if component else "Kustomization")
    if kind not in ("Kustomization", "Component"):
        raise CliError("invalid Kustomization: kind should be Kustomization or Component")
    if component and kind != "Component":
        raise CliError(
            "accumulating components: expected kind 'Component' for path of components but got 'Kustomization'"
        )
    if not component and kind == "Component":
        raise CliError("expected kind != 'Component' for path of resources")
    if document.get("helmCharts") or document.get("helmChartInflationGenerator"):
        raise CliError("helmCharts: nothing is run from here: render the chart with helm, and name its output")
    for field in _RUNS_PROGRAMS:
        if document.get(field):
            raise CliError(f"{field}: plugins are not run from here; the built-in fields do what built-in plugins do")
    for field, instead in _DEPRECATED.items():
        if document.get(field):
            _deprecated(field, instead)
    if document.get("vars"):
        _deprecated("vars", "replacements", "[EXPERIMENTAL] ")


def _deprecated(field: str, instead: str, mark: str = "") -> None:
    print(
        f"# Warning: '{field}' is deprecated. Please use '{instead}' instead. {mark}Run 'kustomize edit fix' to update "
        "your Kustomization automatically.",
        file=sys.stderr,
    )


_GO_TYPES: dict[Any, str] = {dict: "map[string]string", list: "[]string", str: "string"}


def _go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    for kind, name in ((str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "null"
