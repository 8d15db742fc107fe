"""Ingress: HTTP from outside to Services, by host and path."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import broken, named
from peavine.api.printing import AGE, NAME, NONE, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value, not_supported, required

Object = dict[str, Any]

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")

COLUMNS = (
    NAME,
    Column(
        "Class", description="The name of the IngressClass resource that should be used for additional configuration"
    ),
    Column("Hosts", description="Hosts that incoming requests are matched against before the ingress rule"),
    Column("Address", description="Address is a list containing ingress points for the load-balancer"),
    Column("Ports", description="Ports of TLS configurations that open"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    class_name = spec.get("ingressClassName")
    hosts = [rule["host"] for rule in spec.get("rules") or [] if rule.get("host")]
    shown = ",".join(hosts[:3]) if hosts else "*"
    if len(hosts) > 3:
        shown = f"{shown} + {len(hosts) - 3} more..."
    entries = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    addresses = sorted({e.get("ip") or e.get("hostname") or "" for e in entries} - {""})
    return [
        name(obj),
        NONE if class_name is None else class_name,
        shown,
        ",".join(addresses),
        "80, 443" if spec.get("tls") else "80",
        object_age(obj),
    ]


def validate_create(obj: Object) -> list[FieldError]:
    errors = _ingress(obj)
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if annotations.get(CLASS_ANNOTATION) is not None and (obj.get("spec") or {}).get("ingressClassName") is not None:
        annotation = f"annotations.{CLASS_ANNOTATION}"
        message = "can not be set when the class field is also set"
        errors.append(invalid_value(annotation, annotations[CLASS_ANNOTATION], message))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return _ingress(new)


def _ingress(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    found, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not found and backend is None:
        message = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid_value("spec", found or None, message))
    if backend is not None:
        errors += _backend(backend, "spec.defaultBackend")
    for i, rule in enumerate(found):
        errors += _rule(rule, f"spec.rules[{i}]")
    for i, tls in enumerate(spec.get("tls") or []):
        for j, host in enumerate(tls.get("hosts") or []):
            rule_of = rules.is_wildcard_dns1123_subdomain if "*" in host else rules.is_dns1123_subdomain
            errors += broken(f"spec.tls[{i}].hosts[{j}]", host, rule_of(host))
        if tls.get("secretName"):
            errors += broken(
                f"spec.tls[{i}].secretName", tls["secretName"], rules.is_dns1123_subdomain(tls["secretName"])
            )
    class_name = spec.get("ingressClassName")
    if class_name is not None:
        errors += broken("spec.ingressClassName", class_name, rules.is_dns1123_subdomain(class_name))
    return errors


def _rule(rule: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    host = rule.get("host") or ""
    if host:
        if rules.parse_ip(host) is not None:
            errors.append(invalid_value(f"{field}.host", host, "must be a DNS name, not an IP address"))
        rule_of = rules.is_wildcard_dns1123_subdomain if "*" in host else rules.is_dns1123_subdomain
        errors += broken(f"{field}.host", host, rule_of(host))
    http = rule.get("http")
    if http is None:
        return errors
    if not http.get("paths"):
        return [*errors, required(f"{field}.http.paths")]
    for i, path in enumerate(http["paths"]):
        errors += _path(path, f"{field}.http.paths[{i}]")
    return errors


def _path(path: Object, field: str) -> list[FieldError]:
    kind, text = path.get("pathType"), path.get("path") or ""
    if kind is None:
        return [required(f"{field}.pathType", "pathType must be specified")]
    errors: list[FieldError] = []
    if kind in ("Exact", "Prefix"):
        if not text.startswith("/"):
            errors.append(invalid_value(f"{field}.path", text, "must be an absolute path"))
        if text:
            for part in ("//", "/./", "/../", "%2f", "%2F"):
                if part in text:
                    errors.append(invalid_value(f"{field}.path", text, f"must not contain '{part}'"))
            for end in ("/..", "/."):
                if text.endswith(end):
                    errors.append(invalid_value(f"{field}.path", text, f"cannot end with '{end}'"))
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            errors.append(invalid_value(f"{field}.path", text, "must be an absolute path"))
    else:
        errors.append(not_supported(f"{field}.pathType", kind, PATH_TYPES))
    return errors + _backend(path.get("backend") or {}, f"{field}.backend")


def _backend(backend: Object, field: str) -> list[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        message = "cannot set both resource and service backends"
        return [invalid_value(field, "", message)]
    if resource is not None:
        from peavine.api.core.persistentvolumeclaim import _data_source as typed

        return [e for e in typed({"apiGroup": "x", **resource}, f"{field}.resource") if e.type == "Required"]
    if service is None:
        return [invalid_value(field, "", "resource or service backend is required")]
    return _service(service, f"{field}.service")


def _service(service: Object, field: str) -> list[FieldError]:
    errors = named(f"{field}.name", service.get("name"), rules.is_dns1123_label)
    port = service.get("port") or {}
    number, text = port.get("number") or 0, port.get("name") or ""
    if number and text:
        errors.append(invalid_value(field, "", "cannot set both port name & port number"))
    elif number:
        errors += broken(f"{field}.port.number", number, rules.is_port_number(number))
    elif text:
        errors += broken(f"{field}.port.name", text, rules.is_port_name(text))
    else:
        errors.append(required(field, "port name or number is required"))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.core.service_validation import validate_ingress_status

    entries = ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [
        error
        for i, entry in enumerate(entries)
        for error in validate_ingress_status(entry, f"status.loadBalancer.ingress[{i}]")
    ]


def warnings(obj: Object, old: Object | None) -> list[str]:
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if old is None and CLASS_ANNOTATION in annotations:
        return [f"annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"]
    return []
