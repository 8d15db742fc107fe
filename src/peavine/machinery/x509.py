"""X.509 certificates as bytes: PEM framing and the fields that identity, expiry and names are read from.

Reads only; verifies no signature. Small on purpose: most processes look at certificates without ever making one, and
the library that makes them costs 18 MB of memory.
"""

from __future__ import annotations

import base64
import calendar
import re
import time
from dataclasses import dataclass, field
from ipaddress import ip_address

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END \1-----", re.DOTALL)

COMMON_NAME = "2.5.4.3"
ORGANIZATION = "2.5.4.10"
USER_UID = "1.3.6.1.4.1.57683.2"  # Kubernetes: the user's UID in a subject
_SUBJECT_KEY_ID, _ALTERNATIVE_NAMES, _BASIC_CONSTRAINTS = "2.5.29.14", "2.5.29.17", "2.5.29.19"
_AUTHORITY_KEY_ID, _KEY_USAGE, _EXTENDED_KEY_USAGE = "2.5.29.35", "2.5.29.15", "2.5.29.37"


class MalformedCertificate(ValueError):
    """The bytes are no certificate."""


@dataclass(frozen=True)
class Certificate:
    """What was read. Names are `(oid, value)` pairs in order; times are Unix seconds; key ids are raw bytes."""

    der: bytes
    serial: int
    issuer: tuple[tuple[str, str], ...]
    subject: tuple[tuple[str, str], ...]
    not_before: float
    not_after: float
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    is_ca: bool = False
    subject_key_id: bytes = b""
    authority_key_id: bytes = b""
    extended_key_usage: tuple[str, ...] = field(default=())

    def named(self, oid: str) -> list[str]:
        """The subject's values of one attribute, in order."""
        return [value for key, value in self.subject if key == oid]

    @property
    def common_name(self) -> str:
        values = self.named(COMMON_NAME)
        return values[-1] if values else ""

    @property
    def organizations(self) -> list[str]:
        return self.named(ORGANIZATION)


def pem_blocks(text: str | bytes, label: str = "CERTIFICATE") -> list[bytes]:
    """The contents (DER) of every PEM block with this label."""
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    return [base64.b64decode(body) for found, body in _PEM.findall(text) if found == label]


def to_pem(der: bytes, label: str = "CERTIFICATE") -> str:
    body = base64.b64encode(der).decode()
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def read_certificate(der: bytes) -> Certificate:
    """Parse one certificate. Raises MalformedCertificate."""
    try:
        return _read(der)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise MalformedCertificate(f"x509: malformed certificate: {error}") from error


def read_pem(text: str | bytes) -> Certificate:
    """The first certificate of a PEM text. Raises MalformedCertificate where there is none."""
    blocks = pem_blocks(text)
    if not blocks:
        raise MalformedCertificate("no certificate in the PEM text")
    return read_certificate(blocks[0])


def read_request_subject(der: bytes) -> tuple[tuple[str, str], ...]:
    """The subject of a certificate signing request (PKCS#10), as pairs. Raises MalformedCertificate."""
    try:
        ((_, whole), *_rest) = _children(der)
        return _name(_children(_children(whole)[0][1])[1][1])
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise MalformedCertificate(f"malformed certificate request: {error}") from error


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the element at `at`."""
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length & 0x80:
        size = length & 0x7F
        if size == 0 or size > 4:
            raise ValueError("unusable length")
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    if start + length > len(data):
        raise ValueError("truncated")
    return tag, start, start + length


def _children(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each element in `data`."""
    found, at = [], 0
    while at < len(data):
        tag, start, end = _element(data, at)
        found.append((tag, data[start:end]))
        at = end
    return found


def _oid(content: bytes) -> str:
    numbers, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _name(content: bytes) -> tuple[tuple[str, str], ...]:
    pairs = []
    for _, relative in _children(content):
        for _, pair in _children(relative):
            (_, oid), (tag, value) = _children(pair)[:2]
            pairs.append((_oid(oid), value.decode("utf-16-be" if tag == 0x1E else "utf-8")))
    return tuple(pairs)


def _time(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == 0x17:  # UTCTime: two digits of the year
        text = ("20" if text[:2] < "50" else "19") + text
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))


def _read(der: bytes) -> Certificate:
    ((_, whole), *_rest) = _children(der)
    body = _children(_children(whole)[0][1])
    if body[0][0] == 0xA0:  # version
        body = body[1:]
    (_, serial), _algorithm, (_, issuer), (_, validity), (_, subject) = body[:5]
    (before_tag, before), (after_tag, after) = _children(validity)[:2]
    extensions: dict[str, bytes] = {}
    for tag, content in body[6:]:
        if tag == 0xA3:
            for _, extension in _children(_children(content)[0][1]):
                parts = _children(extension)
                extensions[_oid(parts[0][1])] = parts[-1][1]
    names = _alternative_names(extensions.get(_ALTERNATIVE_NAMES, b""))
    constraints = extensions.get(_BASIC_CONSTRAINTS, b"")
    authority = extensions.get(_AUTHORITY_KEY_ID, b"")
    own = extensions.get(_SUBJECT_KEY_ID, b"")
    usage = extensions.get(_EXTENDED_KEY_USAGE, b"")
    return Certificate(
        der=der,
        serial=int.from_bytes(serial, "big", signed=True),
        issuer=_name(issuer),
        subject=_name(subject),
        not_before=_time(before_tag, before),
        not_after=_time(after_tag, after),
        dns_names=names[0],
        ip_addresses=names[1],
        emails=names[2],
        uris=names[3],
        is_ca=any(tag == 1 and value != b"\0" for tag, value in _children(_children(constraints)[0][1]))
        if constraints
        else False,
        subject_key_id=_children(own)[0][1] if own else b"",
        authority_key_id=next((v for t, v in _children(_children(authority)[0][1]) if t == 0x80), b"")
        if authority
        else b"",
        extended_key_usage=tuple(_oid(v) for _, v in _children(_children(usage)[0][1])) if usage else (),
    )


def _alternative_names(content: bytes) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    dns, ips, emails, uris = [], [], [], []
    if content:
        for tag, value in _children(_children(content)[0][1]):
            if tag == 0x82:
                dns.append(value.decode("ascii"))
            elif tag == 0x87:
                ips.append(str(ip_address(value)))
            elif tag == 0x81:
                emails.append(value.decode("ascii"))
            elif tag == 0x86:
                uris.append(value.decode("ascii"))
    return tuple(dns), tuple(ips), tuple(emails), tuple(uris)
