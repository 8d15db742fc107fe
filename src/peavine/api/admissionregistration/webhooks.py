"""What mutating and validating webhook configurations have in common."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from peavine.api.fields import broken
from peavine.api.kind import content_changed
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import (
    FieldError,
    duplicate,
    invalid_value,
    not_supported,
    required,
)

Object = dict[str, Any]

OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES = ("*", "Cluster", "Namespaced")
REVIEW_VERSIONS = ("v1", "v1beta1")
MATCH_CONDITIONS_MAX = 64

COLUMNS = (
    NAME,
    Column("Webhooks", "integer", "Webhooks indicates the number of webhooks registered in this configuration"),
    AGE,
)
changes_generation = content_changed


def row(obj: Object) -> list[Any]:
    return [name(obj), len(obj.get("webhooks") or []), object_age(obj)]


# Defaults


def default_webhook(webhook: Object) -> None:
    fixed: Object = {"failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10}
    for field, value in fixed.items():
        if webhook.get(field) is None:
            webhook[field] = value
    for field in ("namespaceSelector", "objectSelector"):
        if webhook.get(field) is None:
            webhook[field] = {}
    default_client(webhook.get("clientConfig"))
    for rule in webhook.get("rules") or []:
        default_rule(rule)


def default_client(client: Object | None) -> None:
    service = (client or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443


def default_rule(rule: Object) -> None:
    if rule.get("scope") is None:
        rule["scope"] = "*"


# Validation


def validate_configuration(obj: Object, *, mutating: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, webhook in enumerate(obj.get("webhooks") or []):
        field = f"webhooks[{i}]"
        errors += _webhook(webhook, field, mutating)
        errors += _review_versions(webhook, f"{field}.admissionReviewVersions")
        own = webhook.get("name") or ""
        if own:
            if own in seen:
                errors.append(duplicate(f"{field}.name", own))
            seen.add(own)
    return errors


def _webhook(webhook: Object, field: str, mutating: bool) -> list[FieldError]:
    errors = rules.validate_fully_qualified_name(f"{field}.name", webhook.get("name") or "")
    for i, rule in enumerate(webhook.get("rules") or []):
        errors += validate_rule(rule, f"{field}.rules[{i}]")
    for part, choices in (
        ("failurePolicy", ("Fail", "Ignore")),
        ("matchPolicy", ("Equivalent", "Exact")),
        ("reinvocationPolicy", ("IfNeeded", "Never") if mutating else ()),
    ):
        value = webhook.get(part)
        if choices and value is not None and value not in choices:
            errors.append(not_supported(f"{field}.{part}", value, choices))
    effects = webhook.get("sideEffects")
    if effects is None:
        errors.append(required(f"{field}.sideEffects", "must specify one of None, NoneOnDryRun"))
    elif effects not in ("None", "NoneOnDryRun"):
        errors.append(not_supported(f"{field}.sideEffects", effects, ["None", "NoneOnDryRun"]))
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        message = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid_value(f"{field}.timeoutSeconds", seconds, message))
    for part in ("namespaceSelector", "objectSelector"):
        errors += rules.validate_label_selector(webhook.get(part), f"{field}.{part}")
    errors += validate_client(webhook.get("clientConfig") or {}, f"{field}.clientConfig")
    return errors + validate_match_conditions(webhook.get("matchConditions") or [], f"{field}.matchConditions")


def _review_versions(webhook: Object, field: str) -> list[FieldError]:
    versions = webhook.get("admissionReviewVersions") or []
    if not versions:
        return [required(field, "must specify one of v1, v1beta1")]
    errors: list[FieldError] = []
    for i, version in enumerate(versions):
        if version in versions[:i]:
            errors.append(invalid_value(f"{field}[{i}]", version, "duplicate version"))
            continue
        messages = rules.is_dns1035_label(version)
        errors += [invalid_value(f"{field}[{i}]", version, ",".join(messages))] if messages else []
    if not errors and not set(versions) & set(REVIEW_VERSIONS):
        errors.append(invalid_value(field, versions, "must include at least one of v1, v1beta1"))
    return errors


def validate_rule(rule: Object, field: str, *, operations: bool = True) -> list[FieldError]:
    errors: list[FieldError] = []
    if operations:
        given = rule.get("operations") or []
        if not given:
            errors.append(required(f"{field}.operations"))
        errors += _star_alone(given, f"{field}.operations", "if '*' is present, must not specify other operations")
        for i, operation in enumerate(given):
            if operation not in OPERATIONS:
                errors.append(not_supported(f"{field}.operations[{i}]", operation, OPERATIONS))
    groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
    if not groups:
        errors.append(required(f"{field}.apiGroups"))
    errors += _star_alone(groups, f"{field}.apiGroups", "if '*' is present, must not specify other API groups")
    if not versions:
        errors.append(required(f"{field}.apiVersions"))
    errors += _star_alone(versions, f"{field}.apiVersions", "if '*' is present, must not specify other API versions")
    errors += [required(f"{field}.apiVersions[{i}]") for i, version in enumerate(versions) if not version]
    errors += _resources(rule.get("resources") or [], f"{field}.resources")
    scope = rule.get("scope")
    if scope is not None and scope not in SCOPES:
        errors.append(not_supported(f"{field}.scope", scope, SCOPES))
    return errors


def _star_alone(values: list[str], field: str, message: str) -> list[FieldError]:
    return [invalid_value(field, values, message)] if len(values) > 1 and "*" in values else []


def _resources(resources: list[str], field: str) -> list[FieldError]:
    if not resources:
        return [required(field)]
    errors: list[FieldError] = []
    both = "*/*" in resources
    whole = {r.partition("/")[0] for r in resources if r.endswith("/*")}
    every = {r.partition("/")[2] for r in resources if r.startswith("*/")}
    for i, resource in enumerate(resources):
        at = f"{field}[{i}]"
        if not resource:
            errors.append(required(at))
            continue
        if resource == "*/*" or (both and len(resources) > 1):
            continue
        first, slash, sub = resource.partition("/")
        if slash and sub != "*" and first in whole:
            message = f"if '{first}/*' is present, must not specify {resource}"
            errors.append(invalid_value(at, resource, message))
        if slash and first != "*" and sub in every and sub:
            message = f"if '*/{sub}' is present, must not specify {resource}"
            errors.append(invalid_value(at, resource, message))
    if both and len(resources) > 1:
        message = "if '*/*' is present, must not specify other resources"
        errors.append(invalid_value(field, resources, message))
    elif "*" in resources and any("/" not in r and r != "*" for r in resources):
        message = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid_value(field, resources, message))
    return errors


def validate_client(client: Object, field: str) -> list[FieldError]:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [required(field, "exactly one of url or service is required")]
    errors = _bundle(client.get("caBundle"), f"{field}.caBundle")
    if url is not None:
        return errors + validate_url(url, f"{field}.url")
    assert service is not None
    return errors + validate_service(service, f"{field}.service")


def _bundle(text: str | None, field: str) -> list[FieldError]:
    """Bytes that are no base64 were refused when the object was decoded."""
    if text:
        try:
            base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return [invalid_value(field, text, "illegal base64 data")]
    return []


URL_FORM = "https://host[:port][/path]"


def validate_url(url: str, field: str, *, force_https: bool = True) -> list[FieldError]:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [required(field, f"url must be a valid URL: {error}; desired format: {URL_FORM}")]
    errors: list[FieldError] = []
    if force_https and parts.scheme != "https":
        message = f"'https' is the only allowed URL scheme; desired format: {URL_FORM}"
        errors.append(invalid_value(field, parts.scheme, message))
    if not parts.netloc:
        errors.append(invalid_value(field, parts.netloc, f"host must be specified; desired format: {URL_FORM}"))
    if "@" in parts.netloc:
        message = f"user information is not permitted in the URL; desired format: {URL_FORM}"
        errors.append(invalid_value(field, parts.netloc.rpartition("@")[0], message))
    if parts.fragment:
        errors.append(invalid_value(field, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid_value(field, parts.query, "query parameters are not permitted in the URL"))
    return errors


def validate_service(service: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    # Upstream passes name and namespace in each other's place: a missing one is reported as the other.
    if not service.get("namespace"):
        errors.append(required(f"{field}.name", "service name is required"))
    if not service.get("name"):
        errors.append(required(f"{field}.namespace", "service namespace is required"))
    port = 443 if service.get("port") is None else service["port"]
    if rules.is_port_number(port):
        message = "port is not valid: must be between 1 and 65535, inclusive"
        errors.append(invalid_value(f"{field}.port", port, message))
    path = service.get("path")
    if path in (None, "", "/"):
        return errors
    if not path.startswith("/"):
        return [*errors, invalid_value(f"{field}.path", path, "must start with a '/'")]
    parts = path[1:].split("/")
    if parts[-1] == "":
        parts = parts[:-1]
    for i, part in enumerate(parts):
        if not part:
            message = f"segment[{i}] may not be empty"
            errors.append(invalid_value(f"{field}.path", path, message))
            continue
        for text in rules.is_dns1123_subdomain(part):
            errors.append(invalid_value(f"{field}.path", path, f"segment[{i}]: {text}"))
    return errors


def validate_match_conditions(conditions: list[Object], field: str, compile: bool = True) -> list[FieldError]:
    if len(conditions) > MATCH_CONDITIONS_MAX:
        message = f"must have at most {MATCH_CONDITIONS_MAX} items"
        return [FieldError("TooMany", field, len(conditions), message)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        at = f"{field}[{i}]"
        own, text = condition.get("name") or "", (condition.get("expression") or "").strip()
        if not text:
            errors.append(required(f"{at}.expression"))
        else:
            errors += validate_expression(text, f"{at}.expression")
        if not own:
            errors.append(required(f"{at}.name"))
        else:
            errors += broken(f"{at}.name", own, rules.is_qualified_name(own))
        if own in seen:
            errors.append(duplicate(f"{at}.name", own))
        seen.add(own)
    return errors


# Set by the server: compiles a CEL expression for this use and returns a message, or None where it is well-formed.
compile_expression: Callable[[str], str | None] | None = None


def validate_expression(text: str, field: str) -> list[FieldError]:
    """Whether CEL compiles it. Without a compiler (no server around) every expression passes."""
    if compile_expression is None:
        return []
    message = compile_expression(text)
    return [invalid_value(field, text, message)] if message else []
