"""IP addresses and networks in fields that once took more spellings than they do now.

`010.1.2.3` is read as octal by some and as decimal by others, `::ffff:1.2.3.4` is two families at once, and
`10.0.0.5/8` is an address or a network: new values may be none of these. What an object holds already may stay.
"""

from __future__ import annotations

import re
from typing import Any

from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError

_ZEROS = "must not have leading 0s"
_ZEROS_OF_NETWORK = "must not have leading 0s in IP or prefix length"
_MAPPED = "must not be an IPv4-mapped IPv6 address"
_MAPPED_NETWORK = "must not have an IPv4-mapped IPv6 address"
_HOST_BITS = "must not have bits set beyond the prefix length"
_STRICT = frozenset((_ZEROS, _ZEROS_OF_NETWORK, _MAPPED, _MAPPED_NETWORK, _HOST_BITS))

_LEADING_ZERO = re.compile(r"(^|\.)0\d")


def is_ip(value: str) -> list[str]:
    """An address that every reader takes for the same one."""
    found = rules.parse_ip(value)
    if found is None:
        return rules.is_ip(value)
    if found.version == 4:
        return [_ZEROS] if _LEADING_ZERO.search(value) else []
    return [_MAPPED] if found.ipv4_mapped else []


def is_cidr(value: str) -> list[str]:
    """A network, written with its first address, that every reader takes for the same one."""
    network = rules.parse_cidr(value)
    if network is None:
        return rules.is_cidr(value)
    text, _, length = value.partition("/")
    address = rules.parse_ip(text)
    assert address is not None, "parse_cidr has read it"
    if (address.version == 4 and _LEADING_ZERO.search(text)) or _LEADING_ZERO.match(length):
        return [_ZEROS_OF_NETWORK]
    if address.version == 6 and address.ipv4_mapped:
        return [_MAPPED_NETWORK]
    return [] if address == network.network_address else [_HOST_BITS]


def without_kept(errors: list[FieldError], old: Any) -> list[FieldError]:
    """The errors but those about the spelling of an address that `old` holds too."""
    if not any(error.detail in _STRICT for error in errors):
        return errors
    held = set(_texts(old))
    return [error for error in errors if error.detail not in _STRICT or error.value not in held]


def warn_of_ip(field: str, value: str) -> list[str]:
    """What to say about an IPv6 address that is right but not in its canonical form."""
    found = rules.parse_ip(value)
    if found is None or found.version == 4 or str(found) == value:
        return []
    return [f'{field}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{found}")']


def warn_of_cidr(field: str, value: str) -> list[str]:
    """The same for a network."""
    found = rules.parse_cidr(value)
    if found is None or found.version == 4 or str(found) == value:
        return []
    return [f'{field}: IPv6 CIDR value "{value}" should be in RFC 5952 canonical format ("{found}")']


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inner for text in _texts(part)]
