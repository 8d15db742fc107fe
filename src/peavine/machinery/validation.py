"""Rules for the strings that objects are made of: names, labels, ports, addresses, paths.

`is_…` functions take a value and return messages, none when it is valid; `validate_…` functions take a field path too
and return field errors. Follows apimachinery's `util/validation` and `meta/v1/validation`, wording included.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, required, too_long

LABEL_LENGTH_MAX = 63
SUBDOMAIN_LENGTH_MAX = 253
ANNOTATIONS_BYTES_MAX = 256 * 1024

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = "(" + _QUALIFIED + ")?"
_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_CONDITION_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"


def empty_message() -> str:
    return "must be non-empty"


def length_message(bytes_max: int) -> str:
    return f"must be no more than {bytes_max} bytes"


def range_message(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def regex_message(message: str, pattern: str, *examples: str) -> str:
    """A message that ends with the pattern and examples of what it allows."""
    if not examples:
        return f"{message} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


def _rule(message: str, pattern: str, *examples: str, length_max: int = 0) -> Callable[[str], list[str]]:
    matches = re.compile(pattern).fullmatch
    complaint = regex_message(message, pattern, *examples)

    def check(value: str) -> list[str]:
        found = []
        if length_max and len(value) > length_max and len(value.encode()) > length_max:
            found.append(length_message(length_max))
        if not matches(value):
            found.append(complaint)
        return found

    return check


is_dns1123_label = _rule(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
    length_max=LABEL_LENGTH_MAX,
)
is_dns1123_subdomain = _rule(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
    length_max=SUBDOMAIN_LENGTH_MAX,
)
is_dns1035_label = _rule(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _DNS1035,
    "my-name",
    "abc-123",
    length_max=LABEL_LENGTH_MAX,
)
is_wildcard_dns1123_subdomain = _rule(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    r"\*\." + _SUBDOMAIN,
    "*.example.com",
    length_max=SUBDOMAIN_LENGTH_MAX,
)
is_label_value = _rule(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character",
    _LABEL_VALUE,
    "MyValue",
    "my_value",
    "12345",
    length_max=LABEL_LENGTH_MAX,
)
is_c_identifier = _rule(
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
    "or '_'",
    "[A-Za-z_][A-Za-z0-9_]*",
    "my_name",
    "MY_NAME",
    "MyName",
)
is_percent = _rule("a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", "1%", "93%")
is_http_header_name = _rule(
    "a valid HTTP header must consist of alphanumeric characters or '-'", "[-A-Za-z0-9]+", "X-Header-Name"
)
is_condition_reason = _rule(
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_'",
    _CONDITION_REASON,
    "my_name",
    "MY_NAME",
    "MyName",
    "ReasonA,ReasonB",
    "ReasonA:ReasonB",
)
_config_map_key = _rule(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    "[-._a-zA-Z0-9]+",
    "key.name",
    "KEY_NAME",
    "key-name",
    length_max=SUBDOMAIN_LENGTH_MAX,
)
_strict_env_name = _rule(
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not "
    "start with a digit",
    "[-._a-zA-Z][-._a-zA-Z0-9]*",
    "my.env-name",
    "MY_ENV.NAME",
    "MyEnvName1",
)
_name_part = _rule(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    _QUALIFIED,
    "MyName",
    "my.name",
    "123-abc",
    length_max=LABEL_LENGTH_MAX,
)
_qualified_fine = re.compile(_QUALIFIED).fullmatch
_subdomain_fine = re.compile(_SUBDOMAIN).fullmatch
_label_value_fine = re.compile(_LABEL_VALUE).fullmatch


def is_qualified_name(value: str) -> list[str]:
    """A label or annotation key: `name` or `dns.subdomain/name`."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return [
            "a qualified name "
            + regex_message(
                "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
                "character",
                _QUALIFIED,
                "MyName",
                "my.name",
                "123-abc",
            )
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    found = []
    if slash:
        if not prefix:
            found.append("prefix part " + empty_message())
        else:
            found += ["prefix part " + message for message in is_dns1123_subdomain(prefix)]
    if not name:
        found.append("name part " + empty_message())
    return found + ["name part " + message for message in _name_part(name)]


def _climbs(value: str) -> list[str]:
    """A name that would climb directories, were it a file's."""
    if value == ".":
        return ["must not be '.'"]
    if value == "..":
        return ["must not be '..'"]
    return ["must not start with '..'"] if value.startswith("..") else []


def is_config_map_key(value: str) -> list[str]:
    return _config_map_key(value) + _climbs(value)


def is_strict_env_var_name(value: str) -> list[str]:
    """The rule from before relaxed names; still that of ConfigMap keys used as `envFrom`."""
    return _strict_env_name(value) + _climbs(value)


def is_env_var_name(value: str) -> list[str]:
    """Any printable ASCII but `=`, as since v1.34."""
    if not value:
        return ["environment variable name " + empty_message()]
    if all(" " <= c <= "~" and c != "=" for c in value):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def is_port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else [range_message(1, 65535)]


def is_in_range(value: int, low: int, high: int) -> list[str]:
    return [] if low <= value <= high else [range_message(low, high)]


def is_user_id(value: int) -> list[str]:
    return [] if 0 <= value <= 2**31 - 1 else [range_message(0, 2**31 - 1)]


is_group_id = is_user_id


def is_port_name(value: str) -> list[str]:
    """An IANA service name: at most 15 characters."""
    found = []
    if len(value) > 15:
        found.append(length_message(15))
    if not re.fullmatch("[-a-z0-9]+", value):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        found.append("must contain at least one letter (a-z)")
    if "--" in value:
        found.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        found.append("must not begin or end with a hyphen")
    return found


def is_path_segment(value: str, prefix: bool = False) -> list[str]:
    """A name that can stand in a URL path; `prefix` when more will be appended."""
    if not prefix and value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{c}'" for c in "/%" if c in value]


def parse_ip(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, with the leniency of old: leading zeros in IPv4 parts are read as decimal."""
    if "%" in value:
        return None
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        if re.fullmatch(r"\d{1,4}(\.\d{1,4}){3}", value):
            parts = [int(part) for part in value.split(".")]
            if max(parts) < 256:
                return ipaddress.IPv4Address(".".join(map(str, parts)))
        return None


def is_ip(value: str) -> list[str]:
    return [] if parse_ip(value) else ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]


def is_ipv4(value: str) -> list[str]:
    found = parse_ip(value)
    return [] if found and found.version == 4 else ["must be a valid IPv4 address"]


def is_ipv6(value: str) -> list[str]:
    found = parse_ip(value)
    return [] if found and found.version == 6 else ["must be a valid IPv6 address"]


def parse_cidr(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network of `address/length`; host bits may be set, as upstream allows."""
    address, slash, length = value.partition("/")
    found = parse_ip(address)
    if not slash or not found or not re.fullmatch(r"\d{1,3}", length) or int(length) > found.max_prefixlen:
        return None
    return ipaddress.ip_network(f"{found}/{int(length)}", strict=False)


def is_cidr(value: str) -> list[str]:
    return [] if parse_cidr(value) else ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]


def is_canonical_ip(value: str) -> list[str]:
    """The rule of newer fields: an address in its one canonical form."""
    found = parse_ip(value)
    if not found:
        return is_ip(value)
    if found.version == 6 and found.ipv4_mapped:
        return ["must not be an IPv4-mapped IPv6 address"]
    return [] if str(found) == value else [f'must be in canonical form ("{found}")']


# --- with a field path


def _each(field: str, value: Any, messages: Iterable[str]) -> list[FieldError]:
    return [invalid_value(field, value, message) for message in messages]


def validate_fully_qualified_domain_name(field: str, name: str) -> list[FieldError]:
    """At least two segments; a dot at the end is allowed."""
    if not name:
        return [required(field)]
    name = name.removesuffix(".")
    messages = is_dns1123_subdomain(name)
    if messages:
        return [invalid_value(field, name, ",".join(messages))]
    labels = name.split(".")
    if len(labels) < 2:
        return [invalid_value(field, name, "should be a domain with at least two segments separated by dots")]
    return [error for label in labels for error in _each(field, label, is_dns1123_label(label))]


def validate_fully_qualified_name(field: str, name: str) -> list[FieldError]:
    """At least three segments, such as the domain of a CSR signer."""
    if not name:
        return [required(field)]
    messages = is_dns1123_subdomain(name)
    if messages:
        return [invalid_value(field, name, ",".join(messages))]
    if len(name.split(".")) < 3:
        return [invalid_value(field, name, "should be a domain with at least three segments separated by dots")]
    return []


def validate_domain_prefixed_path(field: str, value: str) -> list[FieldError]:
    """`domain/path`, such as the name of a managed-by or signer."""
    if not value:
        return [required(field)]
    host, slash, path = value.partition("/")
    if not slash or not host or not path:
        return [invalid_value(field, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors = _each(field, host, is_dns1123_subdomain(host))
    if not re.fullmatch(_HTTP_PATH, path):
        errors.append(invalid_value(field, path, regex_message("Invalid path", _HTTP_PATH)))
    return errors


def validate_label_name(name: str, field: str) -> list[FieldError]:
    return _each(field, name, is_qualified_name(name))


def validate_labels(labels: Mapping[str, str] | None, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, value in (labels or {}).items():
        errors += _each(field, key, _key_messages(key))
        if len(value) > LABEL_LENGTH_MAX or not _label_value_fine(value):
            errors += _each(field, value, is_label_value(value))
    return errors


def _key_messages(key: str) -> list[str]:
    if len(key) <= LABEL_LENGTH_MAX and "/" not in key and _qualified_fine(key):
        return []  # the common case, without building messages
    return is_qualified_name(key)


def validate_annotations(annotations: Mapping[str, str] | None, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    size = 0
    for key, value in (annotations or {}).items():
        errors += _each(field, key, _key_messages(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_BYTES_MAX:
        errors.append(too_long(field, ANNOTATIONS_BYTES_MAX))
    return errors


def validate_label_selector(
    selector: Mapping[str, Any] | None, field: str, allow_invalid_values: bool = False
) -> list[FieldError]:
    """A `LabelSelector` object; `allow_invalid_values` for objects stored before values were checked."""
    if not selector:
        return []
    errors = validate_labels(selector.get("matchLabels"), f"{field}.matchLabels")
    for index, requirement in enumerate(selector.get("matchExpressions") or ()):
        path = f"{field}.matchExpressions[{index}]"
        operator, values = requirement.get("operator", ""), requirement.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden_field(f"{path}.values", message))
        else:
            errors.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
        errors += validate_label_name(requirement.get("key", ""), f"{path}.key")
        if not allow_invalid_values:
            for at, value in enumerate(values):
                errors += _each(f"{path}.values[{at}]", value, is_label_value(value))
    return errors


def validate_nonnegative(value: int, field: str) -> list[FieldError]:
    return [] if value >= 0 else [invalid_value(field, value, "must be greater than or equal to 0")]


def validate_immutable(new: Any, old: Any, field: str) -> list[FieldError]:
    """Equal, where empty and absent are the same."""
    same = new == old or (not new and not old and not isinstance(new, (bool, int)) and not isinstance(old, (bool, int)))
    return [] if same else [invalid_value(field, new, "field is immutable")]


def validate_port_number_or_name(value: int | str, field: str) -> list[FieldError]:
    """An int-or-string port: a number, or the name of a container's port."""
    if isinstance(value, int):
        return _each(field, value, is_port_number(value))
    return _each(field, value, is_port_name(value))


def validate_nonnegative_int_or_percent(value: int | str, field: str) -> list[FieldError]:
    """A count or a percentage, such as `maxSurge`."""
    if isinstance(value, int):
        return validate_nonnegative(value, field)
    return _each(field, value, is_percent(value))


def validate_conditions(conditions: Sequence[Mapping[str, Any]] | None, field: str) -> list[FieldError]:
    """A list of `meta/v1` Conditions."""
    from peavine.machinery.errors import duplicate, not_supported

    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, condition in enumerate(conditions or ()):
        path, type = f"{field}[{index}]", condition.get("type", "")
        if type in seen:
            errors.append(duplicate(f"{path}.type", type))
        seen.add(type)
        errors += validate_label_name(type, f"{path}.type")
        if condition.get("status") not in ("True", "False", "Unknown"):
            errors.append(not_supported(f"{path}.status", condition.get("status", ""), ["False", "True", "Unknown"]))
        if condition.get("observedGeneration", 0) < 0:
            message = "must be greater than or equal to zero"
            errors.append(invalid_value(f"{path}.observedGeneration", condition["observedGeneration"], message))
        if not condition.get("lastTransitionTime"):
            errors.append(required(f"{path}.lastTransitionTime", "must be set"))
        reason = condition.get("reason", "")
        if not reason:
            errors.append(required(f"{path}.reason", "must be set"))
        else:
            errors += _each(f"{path}.reason", reason, is_condition_reason(reason))
            if len(reason) > 1024:
                errors.append(too_long(f"{path}.reason", 1024))
        if len(condition.get("message", "")) > 32 * 1024:
            errors.append(too_long(f"{path}.message", 32 * 1024))
    return errors
