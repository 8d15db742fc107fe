"""Roles, bindings and certificate signing requests."""

from __future__ import annotations

import base64
from typing import Any

from peavine.cli.describe.text import Text, annotation_lines, flat, go_list, labels, when
from peavine.cli.session import Session

Object = dict[str, Any]


def _start(obj: Object) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    return text


async def role(session: Session, obj: Object) -> Text:
    text = _start(obj)
    text.line(0, "PolicyRule:")
    text.line(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs")
    text.line(1, "---------\t-----------------\t--------------\t-----")
    for rule in _compact(obj.get("rules") or []):
        text.line(1, rule)
    return text


def _compact(rules: list[Object]) -> list[str]:
    """One line a resource and name, its verbs together; rules of several resources are taken apart."""
    simple: dict[tuple[str, str, str], list[str]] = {}
    others: list[tuple[str, str, str, list[str]]] = []
    for rule in rules:
        verbs = rule.get("verbs") or []
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                for name in rule.get("resourceNames") or [""]:
                    known = simple.setdefault((group, resource, name), [])
                    known += [verb for verb in verbs if verb not in known]
        for url in rule.get("nonResourceURLs") or ():
            others.append(("", url, "", verbs))
    lines = [
        (
            _go_order(verbs, group, resource, name, ""),
            _named(group, resource),
            "[]",
            f"[{name}]" if name else "[]",
            verbs,
        )
        for (group, resource, name), verbs in simple.items()
    ]
    lines += [(_go_order(verbs, None, "", "", url), "", f"[{url}]", "[]", verbs) for _, url, _, verbs in others]
    return [
        f"{shown}\t{url}\t{name}\t{go_list(verbs)}" for _, shown, url, name, verbs in sorted(lines, key=lambda x: x[0])
    ]


def _go_order(verbs: list[str], group: str | None, resource: str, name: str, url: str) -> str:
    """What upstream sorts by: the text form of the rule."""
    found = "&PolicyRule{Verbs:[" + " ".join(verbs) + "],APIGroups:[" + (group or "") + "],Resources:["
    return found + resource + "],ResourceNames:[" + name + "],NonResourceURLs:[" + url + "],}"


def _named(group: str, resource: str) -> str:
    head, slash, sub = resource.partition("/")
    return f"{head}.{group}{slash}{sub}" if group else resource


async def binding(session: Session, obj: Object) -> Text:
    text, reference = _start(obj), obj.get("roleRef") or {}
    text.line(0, "Role:")
    text.field(1, "Kind", reference.get("kind", ""))
    text.field(1, "Name", reference.get("name", ""))
    text.line(0, "Subjects:")
    text.line(1, "Kind\tName\tNamespace")
    text.line(1, "----\t----\t---------")
    for subject in obj.get("subjects") or ():
        text.line(1, f"{subject.get('kind', '')}\t{subject.get('name', '')}\t{subject.get('namespace', '')}")
    return text


# --- certificate signing requests


async def signing_request(session: Session, obj: Object) -> Text:
    text, meta, spec, status = Text(), obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    text.field(0, "Name", meta["name"])
    text.flat("Labels", flat(meta.get("labels")))
    text.flat("Annotations", flat(meta.get("annotations")))
    text.field(0, "CreationTimestamp", when(meta.get("creationTimestamp")))
    text.field(0, "Requesting User", spec.get("username", ""))
    text.field(0, "Signer", spec.get("signerName", ""))
    if spec.get("expirationSeconds") is not None:
        from peavine.machinery.duration import human_duration

        text.field(0, "Requested Duration", human_duration(spec["expirationSeconds"]))
    text.field(0, "Status", _state(status))
    _subject(text, base64.b64decode(spec.get("request", "")))
    return text


def _state(status: Object) -> str:
    approved = denied = failed = False
    for condition in status.get("conditions") or ():
        approved |= condition["type"] == "Approved"
        denied |= condition["type"] == "Denied"
        failed |= condition["type"] == "Failed"
    shown = "Denied" if denied else "Approved" if approved else "Pending"
    if failed:
        shown += ",Failed"
    return shown + (",Issued" if status.get("certificate") else "")


def _subject(text: Text, pem: bytes) -> None:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    request = x509.load_pem_x509_csr(pem)

    def values(oid: Any) -> list[str]:
        return [str(attribute.value) for attribute in request.subject.get_attributes_for_oid(oid)]

    text.line(0, "Subject:")
    text.line(0, f"\tCommon Name:\t{(values(NameOID.COMMON_NAME) or [''])[0]}")
    text.line(0, f"\tSerial Number:\t{(values(NameOID.SERIAL_NUMBER) or [''])[0]}")
    for shown, oid in (
        ("Organization", NameOID.ORGANIZATION_NAME), ("Organizational Unit", NameOID.ORGANIZATIONAL_UNIT_NAME),
        ("Country", NameOID.COUNTRY_NAME), ("Locality", NameOID.LOCALITY_NAME),
        ("Province", NameOID.STATE_OR_PROVINCE_NAME), ("StreetAddress", NameOID.STREET_ADDRESS),
        ("PostalCode", NameOID.POSTAL_CODE),
    ):  # fmt: skip
        _listed(text, shown, values(oid))
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    found = [
        ("DNS Names", names.get_values_for_type(x509.DNSName)),
        ("Email Addresses", names.get_values_for_type(x509.RFC822Name)),
        ("URIs", names.get_values_for_type(x509.UniformResourceIdentifier)),
        ("IP Addresses", [str(address) for address in names.get_values_for_type(x509.IPAddress)]),
    ]
    if any(listed for _, listed in found):
        text.line(0, "Subject Alternative Names:")
    for shown, listed in found:
        _listed(text, shown, listed)


def _listed(text: Text, shown: str, values: list[str]) -> None:
    for at, value in enumerate(values):
        text.line(0, f"\t{shown}:\t{value}" if at == 0 else f"\t\t{value}")
