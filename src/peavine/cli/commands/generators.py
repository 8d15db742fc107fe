# ruff: noqa: E501
"""`create KIND …`: objects of the common kinds, made from flags."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from peavine.cli.changes import Changes
from peavine.cli.commands.create import SAVE_CONFIG, VALIDATE, create
from peavine.cli.failures import CliError
from peavine.cli.flags import (
    DRY_RUN,
    FIELD_MANAGER,
    GLOBAL,
    PRINTING,
    Flag,
    Parsed,
    array,
    boolean,
    first_word,
    integer,
    string,
    strings,
)  # fmt: skip
from peavine.cli.resources import Target
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
Maker = Callable[[Parsed, str, list[str]], Object]
_SHARED = (*PRINTING, DRY_RUN, FIELD_MANAGER, VALIDATE, SAVE_CONFIG)


def find(rest: list[str]) -> tuple[ModuleType, str, list[str]]:
    at = next(i for i, word in enumerate(rest) if not word.startswith("-"))
    name = _ALIASES.get(rest[at], rest[at])
    rest = rest[:at] + rest[at + 1 :]
    if name == "token":
        from peavine.cli.commands import create_token

        return create_token, name, rest
    if name in ("secret", "service"):
        second = first_word(rest, (*GLOBAL, *_SHARED))
        if second is None:
            raise CliError(_types_of(name), bare=True)
        at = second
        name = f"{name} {rest[at]}"
        rest = rest[:at] + rest[at + 1 :]
    if name not in _GENERATORS:
        raise CliError(f"Unexpected args: [{name}]\nSee 'kubectl create -h' for help and examples")
    maker, flags, doc = _GENERATORS[name]

    async def run(session: Session, parsed: Parsed) -> int:
        return await _create(session, parsed, name, maker)

    return cast(ModuleType, SimpleNamespace(FLAGS=(*_SHARED, *flags), run=run, __doc__=doc)), name, rest


def _types_of(name: str) -> str:
    words = {full: entry[2] for full, entry in _GENERATORS.items() if full.startswith(f"{name} ")}
    listed = "".join(f"  {full.split()[1]:18}{words[full].rstrip('.')}\n" for full in sorted(words))
    return f"Create a {name} of one of these types.\n\nAvailable Commands:\n{listed}\nUsage:\n  kubectl create {name} TYPE NAME [options]\n"


async def _create(session: Session, flags: Parsed, name: str, maker: Maker) -> int:
    arguments = flags.arguments
    if name == "deployment" and "image" not in flags.given:
        raise CliError('required flag(s) "image" not set')
    if len(arguments) != 1:
        raise CliError(
            f"exactly one NAME is required, got {len(arguments)}\nSee 'kubectl create {name} -h' for help and examples"
        )
    if name in ("role", "clusterrole"):
        flags.values["resource"] = tuple([await _resource(session, text) for text in flags["resource"]])
    if flags.get("from") and name == "job":
        obj = await _job_from(session, flags, arguments[0])
    else:
        obj = maker(flags, arguments[0], flags.after_dashes or [])
    if flags.get("append-hash"):
        obj["metadata"]["name"] += f"-{_content_hash(obj)}"
    changes = Changes(session, flags, "kubectl-create")
    changes.typed = True
    mapping = await session.mapping_of(obj["apiVersion"], obj["kind"])
    if mapping is None:
        raise CliError(f'no matches for kind "{obj["kind"]}" in version "{obj["apiVersion"]}"')
    namespace = session.namespace if mapping.namespaced else None
    if namespace and (changes.dry_run != "client" or session.flags.get("namespace")):
        obj["metadata"]["namespace"] = namespace
    try:
        await create(changes, flags, Target(mapping, namespace, obj["metadata"]["name"], obj))
    except ApiError as error:
        raise CliError(f"failed to create {obj['kind'].lower()}: {error.message}") from None
    return changes.code


def _object(api_version: str, kind: str, name: str, **parts: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **parts}


# --- ConfigMaps and Secrets


def _sources(flags: Parsed) -> dict[str, bytes]:
    data: dict[str, bytes] = {}

    def add(key: str, value: bytes) -> None:
        if key in data:
            raise CliError(f"cannot add key {key}, another key by that name already exists in Data for ConfigMap")
        data[key] = value

    for source in flags["from-file"]:
        key, equals, name = source.partition("=")
        path = Path(name if equals else source)
        if not path.exists():
            raise CliError(f"error reading {path}: no such file or directory")
        if path.is_dir():
            for child in sorted(path.iterdir()):
                if child.is_file():
                    add(child.name, child.read_bytes())
        else:
            add(key if equals else path.name, path.read_bytes())
    for literal in flags["from-literal"]:
        key, equals, value = literal.partition("=")
        if not equals or not key:
            raise CliError(f"invalid literal source {literal}, expected key=value")
        add(key, value.strip("'\"").encode() if value[:1] in "'\"" and value[:1] == value[-1:] else value.encode())
    for name in flags["from-env-file"]:
        for line in Path(name).read_text().splitlines():
            key, equals, value = line.lstrip().partition("=")
            if key and not key.startswith("#"):
                add(key, value.encode())
    return data


_APPEND_HASH = boolean("append-hash", help="Append a hash of the object to its name.")
_DATA_FLAGS = (
    Flag("from-file", "", "strings", (), "Key file can be specified using its file path."),
    array("from-literal", help="Specify a key and literal value (i.e. mykey=somevalue)"),
    strings("from-env-file", help="Specify the path to a file to read lines of key=val pairs."),
    _APPEND_HASH,
)


def _config_map(flags: Parsed, name: str, command: list[str]) -> Object:
    text: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, value in sorted(_sources(flags).items()):
        try:
            text[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(value).decode()
    obj = _object("v1", "ConfigMap", name)
    if text:
        obj["data"] = text
    if binary:
        obj["binaryData"] = binary
    return obj


def _encoded(data: dict[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in sorted(data.items())}


def _secret(flags: Parsed, name: str, command: list[str]) -> Object:
    obj = _object("v1", "Secret", name)
    data = _encoded(_sources(flags))
    if data:
        obj["data"] = data
    if flags["type"]:
        obj["type"] = flags["type"]
    return obj


def _pem(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CliError(f"Cannot read file {path}, open {path}: {(error.strerror or '').lower()}") from None


def _secret_tls(flags: Parsed, name: str, command: list[str]) -> Object:
    if not flags["key"] or not flags["cert"]:
        raise CliError("key and cert must be specified")
    data = {"tls.crt": _pem(flags["cert"]), "tls.key": _pem(flags["key"])}
    return _object("v1", "Secret", name, data=_encoded(data), type="kubernetes.io/tls")


def _secret_registry(flags: Parsed, name: str, command: list[str]) -> Object:
    import orjson

    if flags["from-file"]:
        data = Path(flags["from-file"][0].rpartition("=")[2]).read_bytes()
    else:
        if not flags["docker-username"] or not flags["docker-password"]:
            raise CliError("either --from-file or the combination of --docker-username, --docker-password and "
                           "--docker-server is required")  # fmt: skip
        user, password = flags["docker-username"], flags["docker-password"]
        entry = {"username": user, "password": password}
        if flags["docker-email"]:
            entry["email"] = flags["docker-email"]
        entry["auth"] = base64.b64encode(f"{user}:{password}".encode()).decode()
        data = orjson.dumps({"auths": {flags["docker-server"]: entry}})
    body = {".dockerconfigjson": base64.b64encode(data).decode()}
    return _object("v1", "Secret", name, data=body, type="kubernetes.io/dockerconfigjson")


# --- workloads


def container_name(image: str) -> str:
    """A container's name from its image: `registry/web:1` is `web`."""
    base = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    return re.sub(r"[^a-z0-9-]", "-", base.lower())


def _pod_spec(flags: Parsed, name: str, command: list[str], **more: Any) -> Object:
    images = flags["image"] if isinstance(flags["image"], tuple) else (flags["image"],)
    containers: list[Object] = []
    for image in images:
        container: Object = {"image": image, "name": container_name(image), "resources": {}}
        if len(images) > 1 and sum(container_name(x) == container["name"] for x in images) > 1:
            container["name"] += f"-{len(containers)}"
        if command:
            container["command"] = command
        containers.append(container)
    return {"containers": containers, **more}


def _deployment(flags: Parsed, name: str, command: list[str]) -> Object:
    if "image" not in flags.given:
        raise CliError('required flag(s) "image" not set')
    if command and len(flags["image"]) > 1:
        raise CliError("cannot specify multiple --image options and command")
    labels = {"app": name}
    spec = _pod_spec(flags, name, command)
    if flags["port"] > 0:
        spec["containers"][0]["ports"] = [{"containerPort": flags["port"]}]
    template = {"metadata": {"labels": labels}, "spec": spec}
    body = {"replicas": flags["replicas"], "selector": {"matchLabels": labels}, "strategy": {}, "template": template}
    obj = _object("apps/v1", "Deployment", name, spec=body, status={})
    obj["metadata"]["labels"] = labels
    return obj


def _job_spec(flags: Parsed, name: str, command: list[str]) -> Object:
    spec = _pod_spec(flags, name, command, restartPolicy=flags.get("restart") or "Never")
    spec["containers"][0]["name"] = name
    return {"template": {"metadata": {}, "spec": spec}}


def _job(flags: Parsed, name: str, command: list[str]) -> Object:
    if not flags["image"]:
        raise CliError("either --image or --from must be specified")
    return _object("batch/v1", "Job", name, spec=_job_spec(flags, name, command), status={})


async def _resource(session: Session, text: str) -> str:
    """`deploy` as `deployments.apps`, with the subresource that it was given with."""
    resource, slash, sub = text.partition("/")
    if resource == "*":
        return text
    try:
        mapping = await session.mapping(resource)
    except CliError:
        named = resource.partition(".")[0]
        raise CliError(f'the server doesn\'t have a resource type "{named}"', bare=True) from None
    return mapping.gvr.group_resource + slash + sub


async def _job_from(session: Session, flags: Parsed, name: str) -> Object:
    """A Job as its CronJob would start it, now."""
    from peavine.cli.resources import queries

    (query,) = await queries(session, [flags["from"]])
    source = await session.get(query.mapping.gvr.path(session.namespace, query.names[0]))
    if query.mapping.kind != "CronJob":
        group, version = query.mapping.group, query.mapping.version
        raise CliError(
            f"unknown object type *{version}.{query.mapping.kind}"
            if group or version
            else "from must be an existing cronjob"
        )
    if flags["image"] or flags.after_dashes:
        raise CliError("cannot specify --from with --image or a command")
    template = source["spec"]["jobTemplate"]
    meta = template.get("metadata") or {}
    owner = {
        "apiVersion": "batch/v1",
        "controller": True,
        "kind": "CronJob",
        "name": source["metadata"]["name"],
        "uid": source["metadata"]["uid"],
    }
    annotations = {**(meta.get("annotations") or {}), "cronjob.kubernetes.io/instantiate": "manual"}
    metadata: Object = {"annotations": annotations, "name": name, "ownerReferences": [owner]}
    if meta.get("labels"):
        metadata["labels"] = meta["labels"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"], "status": {}}


def _content_hash(obj: Object) -> str:
    from peavine.cli.kustomize.generators import name_hash

    return name_hash(obj, obj["metadata"]["name"])


def _cron_job(flags: Parsed, name: str, command: list[str]) -> Object:
    for needed in ("image", "schedule"):
        if not flags[needed]:
            raise CliError(f'required flag(s) "{needed}" not set')
    flags.values["restart"] = flags["restart"] or "OnFailure"
    template = {"metadata": {"name": name}, "spec": _job_spec(flags, name, command)}
    return _object(
        "batch/v1", "CronJob", name, spec={"jobTemplate": template, "schedule": flags["schedule"]}, status={}
    )


# --- the small ones


def _namespace(flags: Parsed, name: str, command: list[str]) -> Object:
    return _object("v1", "Namespace", name, spec={}, status={})


def _service_account(flags: Parsed, name: str, command: list[str]) -> Object:
    return _object("v1", "ServiceAccount", name)


def _service(kind: str) -> Maker:
    def make(flags: Parsed, name: str, command: list[str]) -> Object:
        ports = []
        for text in flags["tcp"]:
            port, _, target = text.partition(":")
            value: Any = target or port
            entry: Object = {"name": text.replace(":", "-"), "port": int(port), "protocol": "TCP",
                             "targetPort": int(value) if str(value).isdigit() else value}  # fmt: skip
            if kind == "NodePort" and flags["node-port"]:
                entry["nodePort"] = flags["node-port"]
            ports.append(entry)
        spec: Object = {"type": "ClusterIP" if kind == "clusterip" else kind, "selector": {"app": name}}
        if kind == "ExternalName":
            if not flags["external-name"]:
                raise CliError('required flag(s) "external-name" not set')
            spec["externalName"] = flags["external-name"]
        if kind == "clusterip" and flags["clusterip"]:
            spec["clusterIP"] = flags["clusterip"]
        if not ports and kind != "ExternalName" and flags.get("clusterip") != "None":
            raise CliError("at least one tcp port specifier must be provided")
        if ports:
            spec["ports"] = ports
        obj = _object("v1", "Service", name, spec=spec, status={"loadBalancer": {}})
        obj["metadata"]["labels"] = {"app": name}
        return obj

    return make


def _rules(flags: Parsed) -> list[Object]:
    verbs = list(dict.fromkeys(flags["verb"]))
    rules: list[Object] = []
    if not verbs:
        raise CliError("at least one verb must be specified")
    if not flags["resource"] and not flags.get("non-resource-url"):
        raise CliError("at least one resource must be specified")
    groups: dict[str, list[str]] = {}
    for resource in flags["resource"]:
        full, slash, sub = resource.partition("/")
        name, _, group = full.partition(".")
        groups.setdefault(group, []).append(name + slash + sub)
    for group, names in sorted(groups.items()):
        rule: Object = {"apiGroups": [group], "resources": names, "verbs": verbs}
        if flags["resource-name"]:
            rule["resourceNames"] = list(flags["resource-name"])
        rules.append(rule)
    if flags.get("non-resource-url"):
        rules.append({"nonResourceURLs": list(flags["non-resource-url"]), "verbs": verbs})
    return rules


_RBAC = "rbac.authorization.k8s.io/v1"


def _role(flags: Parsed, name: str, command: list[str]) -> Object:
    return _object(_RBAC, "Role", name, rules=_rules(flags))


def _cluster_role(flags: Parsed, name: str, command: list[str]) -> Object:
    if flags["aggregation-rule"]:
        if flags["verb"] or flags["resource"] or flags["non-resource-url"]:
            raise CliError("aggregation rule must be specified without nonResourceURLs, resources or verbs")
        labels = dict(pair.split("=", 1) for pair in flags["aggregation-rule"])
        rule = {"clusterRoleSelectors": [{"matchLabels": labels}]}
        return _object(_RBAC, "ClusterRole", name, aggregationRule=rule, rules=None)
    return _object(_RBAC, "ClusterRole", name, rules=_rules(flags))


def _binding(kind: str) -> Maker:
    def make(flags: Parsed, name: str, command: list[str]) -> Object:
        role_kind = "ClusterRole" if flags["clusterrole"] else "Role"
        role = flags["clusterrole"] or flags.get("role")
        if not role or (flags["clusterrole"] and flags.get("role")):
            raise CliError("exactly one of clusterrole or role must be specified")
        subjects: list[Object] = []
        for subject_kind, names in (("User", flags["user"]), ("Group", flags["group"])):
            subjects += [{"apiGroup": "rbac.authorization.k8s.io", "kind": subject_kind, "name": n} for n in names]
        for account in flags["serviceaccount"]:
            namespace, colon, account_name = account.partition(":")
            if not colon:
                raise CliError("serviceaccount must be <namespace>:<name>")
            subjects.append({"kind": "ServiceAccount", "name": account_name, "namespace": namespace})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role}
        return _object(_RBAC, kind, name, roleRef=reference, subjects=subjects)

    return make


def _quota(flags: Parsed, name: str, command: list[str]) -> Object:
    spec: Object = {}
    if flags["hard"]:
        spec["hard"] = dict(part.split("=", 1) for part in flags["hard"].split(","))
    if flags["scopes"]:
        spec["scopes"] = flags["scopes"].split(",")
    return _object("v1", "ResourceQuota", name, spec=spec, status={})


def _priority_class(flags: Parsed, name: str, command: list[str]) -> Object:
    more = {"description": flags["description"], "globalDefault": flags["global-default"]}
    more = {key: value for key, value in more.items() if value}
    policy = flags["preemption-policy"]
    return _object("scheduling.k8s.io/v1", "PriorityClass", name, value=flags["value"], preemptionPolicy=policy, **more)


def _pdb(flags: Parsed, name: str, command: list[str]) -> Object:
    def number(text: str) -> int | str:
        return int(text) if text.isdigit() else text

    if not flags["selector"]:
        raise CliError("a selector must be specified")
    labels = dict(part.split("=", 1) for part in flags["selector"].split(",") if part)
    spec: Object = {"selector": {"matchLabels": labels}}
    if flags["min-available"]:
        spec["minAvailable"] = number(flags["min-available"])
    elif flags["max-unavailable"]:
        spec["maxUnavailable"] = number(flags["max-unavailable"])
    else:
        raise CliError("one of min-available or max-unavailable must be specified")
    zeros = dict.fromkeys(("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"), 0)
    return _object("policy/v1", "PodDisruptionBudget", name, spec=spec, status=zeros)


def _ingress(flags: Parsed, name: str, command: list[str]) -> Object:
    if not flags["rule"] and not flags["default-backend"]:
        raise CliError(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all "
            "traffic) or a list of rules (which catch specific paths)"
        )
    rules: dict[str, list[Object]] = {}
    tls: list[Object] = []
    for text in flags["rule"]:
        match = re.fullmatch(r"([^/]*)(/[^=]*)=([^:,]+):([^,]+)(?:,tls(?:=(.*))?)?", text)
        if not match:
            raise CliError(f"rule {text} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]")
        host, path, service, port, secret = match.groups()
        kind = "Prefix" if path.endswith("*") else "Exact"
        port_ref = {"number": int(port)} if port.isdigit() else {"name": port}
        backend = {"service": {"name": service, "port": port_ref}}
        rules.setdefault(host, []).append({"backend": backend, "path": path.rstrip("*") or "/", "pathType": kind})
        if ",tls" in text and {"hosts": [host], "secretName": secret} not in tls:
            tls.append({"hosts": [host], **({"secretName": secret} if secret else {})})
    spec: Object = {
        "rules": [({"host": host} if host else {}) | {"http": {"paths": paths}} for host, paths in rules.items()]
    }
    if flags["class"]:
        spec["ingressClassName"] = flags["class"]
    if flags["default-backend"]:
        service, _, port = flags["default-backend"].partition(":")
        spec["defaultBackend"] = {"service": {"name": service, "port": {"number": int(port)}}}
    if tls:
        spec["tls"] = tls
    obj = _object("networking.k8s.io/v1", "Ingress", name, spec=spec, status={"loadBalancer": {}})
    if flags["annotation"]:
        obj["metadata"]["annotations"] = dict(pair.split("=", 1) for pair in flags["annotation"])
    return obj


_TCP = strings("tcp", help="Port pairs can be specified as '<port>:<targetPort>'.")
_ROLE_FLAGS = (
    strings("verb", help="Verb that applies to the resources contained in the rule"),
    strings("resource", help="Resource that the rule applies to"),
    array("resource-name", help="Resource in the white list that the rule applies to"),
)
_BINDING_FLAGS = (
    string("clusterrole", help="ClusterRole this binding should reference"),
    strings("user", help="Usernames to bind to the role."),
    strings("group", help="Groups to bind to the role."),
    strings("serviceaccount", help="Service accounts to bind to the role, in the format <namespace>:<name>."),
)
_IMAGE = string("image", help="Image name to run.")
_GENERATORS: dict[str, tuple[Maker, tuple[Flag, ...], str]] = {
    "configmap": (_config_map, _DATA_FLAGS, "Create a config map from a local file, directory or literal value."),
    "secret generic": (_secret, (*_DATA_FLAGS, string("type", help="The type of secret to create")), "Create a secret."),
    "secret tls": (_secret_tls, (string("cert", help="Path to PEM encoded public key certificate."), string("key", help="Path to private key."), _APPEND_HASH), "Create a TLS secret."),
    "secret docker-registry": (_secret_registry, (
        *_DATA_FLAGS, string("docker-username", help="Username"), string("docker-password", help="Password"),
        string("docker-email", help="Email"), string("docker-server", default="https://index.docker.io/v1/", help="Server"),
    ), "Create a secret for use with a Docker registry."),
    "deployment": (_deployment, (strings("image", help="Image names to run."), integer("replicas", "r", 1, "Number of replicas."), integer("port", default=-1, help="The containerPort that this deployment exposes.")), "Create a deployment."),
    "job": (_job, (_IMAGE, string("from", help="The name of the resource to create a Job from.")), "Create a job."),
    "cronjob": (_cron_job, (_IMAGE, string("schedule", help="A schedule in the Cron format."), string("restart", help="Restart policy.")), "Create a cron job."),
    "namespace": (_namespace, (), "Create a namespace."),
    "serviceaccount": (_service_account, (), "Create a service account."),
    "service clusterip": (_service("clusterip"), (_TCP, string("clusterip", help="Assign your own ClusterIP or set to 'None'.")), "Create a ClusterIP service."),
    "service nodeport": (_service("NodePort"), (_TCP, integer("node-port", help="Port used to expose the service on each node.")), "Create a NodePort service."),
    "service loadbalancer": (_service("LoadBalancer"), (_TCP,), "Create a LoadBalancer service."),
    "service externalname": (_service("ExternalName"), (_TCP, string("external-name", help="External name of service")), "Create an ExternalName service."),
    "role": (_role, _ROLE_FLAGS, "Create a role with single rule."),
    "clusterrole": (_cluster_role, (*_ROLE_FLAGS, strings("aggregation-rule", help="An aggregation label selector for combining ClusterRoles."), strings("non-resource-url", help="A partial url that user should have access to.")), "Create a cluster role."),
    "rolebinding": (_binding("RoleBinding"), (*_BINDING_FLAGS, string("role", help="Role this binding should reference")), "Create a role binding."),
    "clusterrolebinding": (_binding("ClusterRoleBinding"), _BINDING_FLAGS, "Create a cluster role binding."),
    "quota": (_quota, (string("hard", help="A comma-delimited set of resource=quantity pairs."), string("scopes", help="A comma-delimited set of quota scopes.")), "Create a quota."),
    "priorityclass": (_priority_class, (integer("value", help="The value of this priority class."), string("description", help="Description"), boolean("global-default", help="Whether it is the default."), string("preemption-policy", default="PreemptLowerPriority", help="The policy.")), "Create a priority class."),
    "poddisruptionbudget": (_pdb, (string("selector", help="A label selector."), string("min-available", help="Minimum."), string("max-unavailable", help="Maximum.")), "Create a pod disruption budget."),
    "ingress": (_ingress, (array("rule", help="Rule in format host/path=service:port[,tls=secretname]."), string("class", help="Ingress Class"), array("annotation", help="Annotation to insert in the ingress object, in the format annotation=value"), string("default-backend", help="Default service.")), "Create an ingress."),
}  # fmt: skip
_ALIASES = {
    "cm": "configmap", "deploy": "deployment", "cj": "cronjob", "ns": "namespace", "sa": "serviceaccount", "svc": "service",
    "resourcequota": "quota", "pc": "priorityclass", "pdb": "poddisruptionbudget", "ing": "ingress",
}  # fmt: skip
SUBCOMMANDS = {
    **{name: entry[2] for name, entry in _GENERATORS.items() if " " not in name},
    "secret": "Create a secret using a specified subcommand",
    "service": "Create a service using a specified subcommand",
    "token": "Request a service account token",
}
