"""The Gateway API's CustomResourceDefinitions, written out from the short form in api.yaml, and their installation.

Only objects' shapes and rules are there, no descriptions. What is installed already, by us or by somebody else, is
replaced only by `install`, and only where its bundle version is not newer.
"""

from __future__ import annotations

import functools
import logging
import re
from importlib import resources
from typing import Any

from peavine.client.rest import Client
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

Object = dict[str, Any]

GROUP = "gateway.networking.k8s.io"
BUNDLE = f"{GROUP}/bundle-version"
CHANNEL = f"{GROUP}/channel"
MANAGER = "peavine-ingress"

_PRIMITIVE = ("string", "integer", "boolean")


async def install(client: Client) -> None:
    """Create or replace the definitions, and return when they are served. Raises ApiError."""
    definitions = client.resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
    for wanted in definitions_of():
        name = wanted["metadata"]["name"]
        try:
            existing = (await definitions.get(name))["metadata"].get("annotations") or {}
        except ApiError as error:
            if error.code != 404:
                raise
            existing = {}
        if existing.get(BUNDLE, "") and version_of(existing[BUNDLE]) > version_of(bundle()):
            log.info("%s is there in version %s: left as it is", name, existing[BUNDLE])
            continue
        await definitions.patch(name, wanted, type="apply", field_manager=MANAGER, force=True)
    for wanted in definitions_of():
        await _served(client, wanted["metadata"]["name"])
    log.info("Gateway API %s is installed", bundle())


async def _served(client: Client, name: str) -> None:
    definitions = client.resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
    while True:
        listed = await definitions.list(field_selector=f"metadata.name={name}")
        if any(_established(item) for item in listed.get("items") or []):
            return
        version = listed["metadata"]["resourceVersion"]
        selector = f"metadata.name={name}"
        async for _, item in definitions.watch(resource_version=version, field_selector=selector):
            if _established(item):
                return


def _established(definition: Object) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def version_of(text: str) -> tuple[int, ...]:
    """`v1.6.0-rc.1` as numbers to compare; what is none is older than everything."""
    found = re.match(r"v(\d+)\.(\d+)\.(\d+)(?:-[a-z]+\.(\d+))?$", text)
    if not found:
        return ()
    # A release comes after its candidates.
    return (*(int(found[n]) for n in (1, 2, 3)), int(found[4]) if found[4] else 1 << 16)


@functools.cache
def _data() -> Object:
    import yaml

    text = resources.files(__package__).joinpath("api.yaml").read_text()
    loaded: Object = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


def bundle() -> str:
    """The version of the API that we ship."""
    version: str = _data()["bundle"]
    return version


@functools.cache
def definitions_of() -> tuple[Object, ...]:
    return tuple(_definition(kind) for kind in _data()["kinds"])


def _definition(kind: Object) -> Object:
    data = _data()
    status = "status" in kind
    properties: Object = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _schema(kind["spec"]),
    }
    if status:
        properties["status"] = _schema(kind["status"])
    required = [] if kind["kind"] == "ReferenceGrant" else ["spec"]
    schema: Object = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    columns = []
    for name, type_, path, *priority in kind["columns"]:
        columns.append(
            {"name": name, "type": type_, "jsonPath": path, **({"priority": p} if (p := sum(priority)) else {})}
        )
    versions = [
        {
            "name": name,
            "served": True,
            "storage": place == 0,
            "schema": {"openAPIV3Schema": schema},
            "additionalPrinterColumns": columns,
            **({"subresources": {"status": {}}} if status else {}),
        }
        for place, name in enumerate(kind["versions"])
    ]
    names = {"kind": kind["kind"], "plural": kind["plural"], "singular": kind["kind"].lower()}
    names |= {"listKind": f"{kind['kind']}List", "categories": ["gateway-api"]}
    if kind.get("short"):
        names["shortNames"] = kind["short"]
    annotations = {"api-approved.kubernetes.io": data["approved"], BUNDLE: data["bundle"], CHANNEL: "standard"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind['plural']}.{GROUP}", "annotations": annotations},
        "spec": {"group": GROUP, "names": names, "scope": kind.get("scope", "Namespaced"), "versions": versions},
    }


def _schema(short: str | Object) -> Object:
    """One type of the short form as OpenAPI."""
    if isinstance(short, str):
        return {"type": short} if short in _PRIMITIVE else _schema(_data()["types"][short])
    rest = dict(short)
    made: Object = _schema(rest.pop("is")) if "is" in rest else {}
    rules = list(rest.pop("rules", ()))
    if "qualified" in rest:
        rules += _qualified(rest.pop("qualified"))
    if "fields" in rest:
        made = _object(made, rest.pop("fields"))
    if "list" in rest:
        made |= {"type": "array", "items": _schema(rest.pop("list"))}
    if "map" in rest:
        made |= {"type": "object", "additionalProperties": _schema(rest.pop("map"))}
    if "keys" in rest:
        made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": rest.pop("keys")}
    if "listType" in rest:
        made["x-kubernetes-list-type"] = rest.pop("listType")
    if "union" in rest:
        rules += _union(made, rest.pop("union"))
    for name in rest.pop("once", ()):
        rules.append([f"{name} filter cannot be repeated", f"self.filter(f, f.type == '{name}').size() <= 1"])
    if "sum" in rest:
        rules.append(_sum(rest.pop("sum"), made))
    if rules:
        validations = [{"message": message, "rule": rule} for message, rule in rules]
        made["x-kubernetes-validations"] = [*made.get("x-kubernetes-validations", ()), *validations]
    return {**made, **rest}


def _object(base: Object, fields: Object) -> Object:
    properties = dict(base.get("properties", ()))
    required = list(base.get("required", ()))
    for name, short in fields.items():
        properties[name.removesuffix("!")] = _schema(short)
        if name.endswith("!"):
            required.append(name.removesuffix("!"))
    made = {**base, "type": "object", "properties": properties}
    return {**made, "required": sorted(required)} if required else made


def _union(made: Object, members: list[str]) -> list[list[str]]:
    """A filter: `type` names the one member that is set."""
    types = {member: _type_name(member) for member in members}
    made["properties"]["type"] = {"type": "string", "enum": sorted(types.values())}
    made["required"] = ["type"]
    rules = []
    for member, name in types.items():
        rules += [
            [
                f"filter.{member} must be nil if the filter.type is not {name}",
                f"!(has(self.{member}) && self.type != '{name}')",
            ],
            [
                f"filter.{member} must be specified for {name} filter.type",
                f"!(!has(self.{member}) && self.type == '{name}')",
            ],
        ]
    return rules


def _type_name(member: str) -> str:
    return {"cors": "CORS", "urlRewrite": "URLRewrite"}.get(member, member[:1].upper() + member[1:])


def _qualified(what: str) -> list[list[str]]:
    domain = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
    pattern = f"^({domain}/)?([A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9]$"
    return [
        [
            f"{what} keys must be in the form of an optional DNS subdomain prefix followed by a required name segment "
            "of up to 63 characters.",
            f'self.all(key, key.matches(r"""{pattern}"""))',
        ],
        [
            f"If specified, the {what.lower()} key's prefix must be a DNS subdomain not longer than 253 characters in "
            "total.",
            'self.all(key, key.split("/")[0].size() < 253)',
        ],
    ]


def _sum(field: str, made: Object) -> list[str]:
    """CEL has no sums: each of the 16 rules is named."""
    always = "default" in made["items"]["properties"][field]
    size = "self[{n}].{f}.size()" if always else "(has(self[{n}].{f}) ? self[{n}].{f}.size() : 0)"
    terms = [f"(self.size() > {n} ? {size.format(n=n, f=field)} : 0)" for n in range(16)]
    message = (
        "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route "
        "must be less than 128"
    )
    return [message, " + ".join(terms) + " <= 128"]
