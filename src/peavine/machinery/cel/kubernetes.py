"""What Kubernetes adds to CEL: quantities, URLs, IPs, CIDRs, regular expressions, named formats, semantic versions."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable
from functools import total_ordering
from typing import Any
from urllib.parse import quote as percent_quoted
from urllib.parse import unquote, urlsplit

from peavine.machinery.cel.errors import CelError
from peavine.machinery.cel.functions import Library, text_cost
from peavine.machinery.cel.standard import compiled, to_int
from peavine.machinery.cel.types import BOOL, DOUBLE, INT, STRING, A, list_of, map_of, opaque, optional_of
from peavine.machinery.cel.values import NONE, Optional
from peavine.machinery.quantity import Quantity, QuantityError, parse_quantity

QUANTITY, URL, IP = opaque("kubernetes.Quantity"), opaque("kubernetes.URL"), opaque("net.IP")
CIDR, FORMAT, SEMVER = opaque("net.CIDR"), opaque("kubernetes.NamedFormat"), opaque("kubernetes.Semver")
_STRINGS = list_of(STRING)


def build() -> Library:
    library = Library()
    for add in (_quantities, _urls, _addresses, _regexes, _formats, _versions, _json_patches):
        add(library)
    return library


class Opaque:
    """A value that only its own functions look into."""

    __slots__ = ("value",)
    cel_type = ""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.value)

    def __str__(self) -> str:
        return str(self.value)


class _Quantity(Opaque):
    __slots__ = ()
    cel_type = QUANTITY.name


class _Url(Opaque):
    __slots__ = ()
    cel_type = URL.name


class _Ip(Opaque):
    __slots__ = ()
    cel_type = IP.name


class _Cidr(Opaque):
    """`value` is the address with its prefix (an interface), host bits kept."""

    __slots__ = ()
    cel_type = CIDR.name


class _Format(Opaque):
    __slots__ = ()
    cel_type = FORMAT.name


def _parses(parse: Callable[..., Any]) -> Callable[..., bool]:
    def test(*args: Any) -> bool:
        try:
            parse(*args)
        except CelError:
            return False
        return True

    return test


# ---- quantities


def _quantity(text: str) -> _Quantity:
    try:
        return _Quantity(parse_quantity(text))
    except QuantityError as error:
        raise CelError(str(error)) from error


def _quantities(library: Library) -> None:
    library.add("quantity", (STRING,), QUANTITY, _quantity, cost=text_cost)
    library.add("isQuantity", (STRING,), BOOL, _parses(_quantity), cost=text_cost)
    library.method("sign", (QUANTITY,), INT, lambda q: q.value.sign())
    library.method("isInteger", (QUANTITY,), BOOL, lambda q: q.value.is_integer())
    library.method("asInteger", (QUANTITY,), INT, _as_integer)
    library.method("asApproximateFloat", (QUANTITY,), DOUBLE, lambda q: q.value.nanos / 1e9)

    def number(value: Any) -> Quantity:
        return value.value if isinstance(value, _Quantity) else Quantity.of(value)

    for other in (QUANTITY, INT):
        library.method("add", (QUANTITY, other), QUANTITY, lambda a, b: _Quantity(a.value + number(b)))
        library.method("sub", (QUANTITY, other), QUANTITY, lambda a, b: _Quantity(a.value - number(b)))
    library.method("isGreaterThan", (QUANTITY, QUANTITY), BOOL, lambda a, b: b.value < a.value)
    library.method("isLessThan", (QUANTITY, QUANTITY), BOOL, lambda a, b: a.value < b.value)
    library.method("compareTo", (QUANTITY, QUANTITY), INT, lambda a, b: (b.value < a.value) - (a.value < b.value))
    library.add("string", (QUANTITY,), STRING, str)


def _as_integer(quantity: _Quantity) -> int:
    if not quantity.value.is_integer():
        raise CelError("cannot convert value to integer")
    return to_int(quantity.value.value())


# ---- URLs


def _url(text: str) -> _Url:
    if re.search(r"[\x00-\x20\x7f]", text) or not (
        text.startswith("/") or re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", text)
    ):
        raise CelError(f"URL parse error during conversion from string: parse {text!r}: invalid URI for request")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise CelError(f"URL parse error during conversion from string: {error}") from error
    return _Url(parts)


def _query(url: _Url) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in url.value.query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            found.setdefault(unquote(name.replace("+", " ")), []).append(unquote(value.replace("+", " ")))
    return found


def _host(url: _Url) -> str:
    return url.value.netloc.rpartition("@")[2]


def _hostname(url: _Url) -> str:
    host = _host(url)
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _urls(library: Library) -> None:
    library.add("url", (STRING,), URL, _url, cost=text_cost)
    library.add("isURL", (STRING,), BOOL, _parses(_url), cost=text_cost)
    library.method("getScheme", (URL,), STRING, lambda u: u.value.scheme)
    library.method("getHost", (URL,), STRING, _host)
    library.method("getHostname", (URL,), STRING, _hostname)
    library.method("getPort", (URL,), STRING, lambda u: str(u.value.port) if u.value.port is not None else "")
    library.method("getEscapedPath", (URL,), STRING, lambda u: percent_quoted(u.value.path, safe="/%:@!$&'()*+,;=~-._"))
    library.method("getQuery", (URL,), map_of(STRING, _STRINGS), _query)


# ---- addresses


def _ip(text: str) -> _Ip:
    try:
        if "%" in text:
            raise ValueError("zones are not allowed")
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise CelError(f"IP Address {text!r} parse error during conversion from string: {error}") from error
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped and "." in text:
        raise CelError(f"IPv4-mapped IPv6 address {text!r} is not allowed")
    return _Ip(address)


def _cidr(text: str) -> _Cidr:
    try:
        if "/" not in text or "%" in text:
            raise ValueError("no prefix length")
        _, _, prefix = text.partition("/")
        if not prefix.isdigit() or (len(prefix) > 1 and prefix[0] == "0"):
            raise ValueError("bad prefix length")
        return _Cidr(ipaddress.ip_interface(text))
    except ValueError as error:
        raise CelError(f"CIDR {text!r} parse error during conversion from string: {error}") from error


def _canonical(text: str) -> bool:
    return str(_ip(text).value) == text


def _contains_address(cidr: _Cidr, address: Any) -> bool:
    ip = address.value if isinstance(address, _Ip) else _ip(address).value
    return ip.version == cidr.value.version and ip in cidr.value.network


def _contains_network(cidr: _Cidr, other: Any) -> bool:
    inner = other.value if isinstance(other, _Cidr) else _cidr(other).value
    return inner.version == cidr.value.version and bool(inner.network.subnet_of(cidr.value.network))


def _addresses(library: Library) -> None:
    library.add("ip", (STRING,), IP, _ip, cost=text_cost)
    library.add("isIP", (STRING,), BOOL, _parses(_ip), cost=text_cost)
    library.add("ip.isCanonical", (STRING,), BOOL, _canonical, cost=text_cost)
    library.method("family", (IP,), INT, lambda i: i.value.version)
    library.method("isUnspecified", (IP,), BOOL, lambda i: i.value.is_unspecified)
    library.method("isLoopback", (IP,), BOOL, lambda i: i.value.is_loopback)
    library.method("isLinkLocalMulticast", (IP,), BOOL, _is_link_local_multicast)
    library.method("isLinkLocalUnicast", (IP,), BOOL, lambda i: i.value.is_link_local)
    library.method("isGlobalUnicast", (IP,), BOOL, _is_global_unicast)
    library.add("string", (IP,), STRING, str)
    library.add("cidr", (STRING,), CIDR, _cidr, cost=text_cost)
    library.add("isCIDR", (STRING,), BOOL, _parses(_cidr), cost=text_cost)
    for kind in (IP, STRING):
        library.method("containsIP", (CIDR, kind), BOOL, _contains_address)
    for kind in (CIDR, STRING):
        library.method("containsCIDR", (CIDR, kind), BOOL, _contains_network)
    library.method("ip", (CIDR,), IP, lambda c: _Ip(c.value.ip))
    library.method("masked", (CIDR,), CIDR, lambda c: _Cidr(ipaddress.ip_interface(str(c.value.network))))
    library.method("prefixLength", (CIDR,), INT, lambda c: c.value.network.prefixlen)
    library.add("string", (CIDR,), STRING, str)


def _is_link_local_multicast(ip: _Ip) -> bool:
    ranges = {4: "224.0.0.0/24", 6: "ff02::/16"}
    return ip.value in ipaddress.ip_network(ranges[ip.value.version])


def _is_global_unicast(ip: _Ip) -> bool:
    value = ip.value
    broadcast = value == ipaddress.ip_address("255.255.255.255")
    return not (broadcast or value.is_unspecified or value.is_loopback or value.is_multicast or value.is_link_local)


# ---- regular expressions


def _find(text: str, pattern: str) -> str:
    match = compiled(pattern).search(text)
    return match.group(0) if match else ""


def _find_all(text: str, pattern: str, count: int = -1) -> list[str]:
    found: list[str] = []
    for match in compiled(pattern).finditer(text):
        if 0 <= count <= len(found):
            break
        found.append(match.group(0))
    return found


def _regexes(library: Library) -> None:
    def cost(text: str, pattern: str, *_count: int) -> int:
        return (len(text) // 10 + 1) * (len(pattern) // 4 + 1)

    library.method("find", (STRING, STRING), STRING, _find, cost)
    library.method("findAll", (STRING, STRING), _STRINGS, _find_all, cost)
    library.method("findAll", (STRING, STRING, INT), _STRINGS, _find_all, cost)


# ---- named formats


def _checks() -> dict[str, Callable[[str], list[str]]]:
    from peavine.machinery import validation

    def prefix(rule: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
        return lambda text: rule(text[:-1] + "a" if text.endswith("-") else text)

    def uri(text: str) -> list[str]:
        return [] if _parses(_url)(text) else ["invalid URI"]

    def identifier(text: str) -> list[str]:
        plain = re.fullmatch(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", text)
        return [] if plain and uuid.UUID(text) else ["does not match the UUID format"]

    def binary(text: str) -> list[str]:
        try:
            base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return ["invalid base64"]
        return []

    def date(text: str) -> list[str]:
        from datetime import date as day

        try:
            day.fromisoformat(text if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else "")
        except ValueError:
            return ["invalid date"]
        return []

    def moment(text: str) -> list[str]:
        from peavine.machinery.cel.values import Timestamp

        return [] if _parses(Timestamp.parse)(text) else ["invalid datetime"]

    return {
        "dns1123Label": validation.is_dns1123_label,
        "dns1123Subdomain": validation.is_dns1123_subdomain,
        "dns1035Label": validation.is_dns1035_label,
        "qualifiedName": validation.is_qualified_name,
        "dns1123LabelPrefix": prefix(validation.is_dns1123_label),
        "dns1123SubdomainPrefix": prefix(validation.is_dns1123_subdomain),
        "dns1035LabelPrefix": prefix(validation.is_dns1035_label),
        "labelValue": validation.is_label_value,
        "uri": uri,
        "uuid": identifier,
        "byte": binary,
        "date": date,
        "datetime": moment,
    }


_FORMATS = (
    "dns1123Label dns1123Subdomain dns1035Label qualifiedName dns1123LabelPrefix dns1123SubdomainPrefix "
    "dns1035LabelPrefix labelValue uri uuid byte date datetime"
)


def _validated(format: _Format, text: str) -> Optional:
    problems = _checks()[format.value](text)
    return Optional(problems) if problems else NONE


def _formats(library: Library) -> None:
    names = _FORMATS.split()
    library.add("format.named", (STRING,), optional_of(FORMAT), lambda n: Optional(_Format(n)) if n in names else NONE)
    for name in names:
        library.add(f"format.{name}", (), FORMAT, lambda n=name: _Format(n))
    library.method("validate", (FORMAT, STRING), optional_of(_STRINGS), _validated, text_cost)


# ---- semantic versions

_SEMVER = re.compile(
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
)


@total_ordering
class _Semver:
    __slots__ = ("key", "numbers")
    cel_type = SEMVER.name

    def __init__(self, numbers: tuple[int, int, int], pre: str) -> None:
        self.numbers = numbers
        parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split(".")) if pre else ()
        self.key = (numbers, not pre, parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Semver) and self.key == other.key

    def __lt__(self, other: _Semver) -> bool:
        return self.key < other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _semver(text: str, normalize: bool = False) -> _Semver:
    if normalize:
        core, mark, rest = re.match(r"^v?([0-9.]*)([-+]?)(.*)$", text, re.S).groups()  # type: ignore[union-attr]
        numbers = [part.lstrip("0") or "0" for part in core.split(".") if part]
        text = ".".join((numbers + ["0", "0"])[: max(3, len(numbers))]) + mark + rest
    match = _SEMVER.match(text)
    if not match:
        raise CelError(f"Invalid character(s) found in version {text!r}")
    return _Semver((int(match[1]), int(match[2]), int(match[3])), match[4] or "")


def _versions(library: Library) -> None:
    for extra in ((), (BOOL,)):
        library.add("semver", (STRING, *extra), SEMVER, _semver, cost=text_cost)
        library.add("isSemver", (STRING, *extra), BOOL, _parses(_semver), cost=text_cost)
    library.method("major", (SEMVER,), INT, lambda v: v.numbers[0])
    library.method("minor", (SEMVER,), INT, lambda v: v.numbers[1])
    library.method("patch", (SEMVER,), INT, lambda v: v.numbers[2])
    library.method("isGreaterThan", (SEMVER, SEMVER), BOOL, lambda a, b: a > b)
    library.method("isLessThan", (SEMVER, SEMVER), BOOL, lambda a, b: a < b)
    library.method("compareTo", (SEMVER, SEMVER), INT, lambda a, b: (a > b) - (a < b))


# ---- JSON patches


def _json_patches(library: Library) -> None:
    library.add(
        "jsonpatch.escapeKey",
        (STRING,),
        STRING,
        lambda key: key.replace("~", "~0").replace("/", "~1"),
        cost=text_cost,
    )


__all__ = ["A", "build"]
