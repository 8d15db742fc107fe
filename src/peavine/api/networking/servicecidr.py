"""ServiceCIDR: a range that Services get their addresses from."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import broken
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value, required

Object = dict[str, Any]

COLUMNS = (NAME, Column("CIDRs", description="@networking.v1.ServiceCIDRSpec.cidrs"), AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), ",".join((obj.get("spec") or {}).get("cidrs") or []), object_age(obj)]


def validate_create(obj: Object) -> list[FieldError]:
    cidrs = (obj.get("spec") or {}).get("cidrs") or []
    if not cidrs:
        return [required("spec.cidrs", "at least one CIDR required")]
    errors: list[FieldError] = []
    if len(cidrs) > 2:
        errors.append(invalid_value("spec.cidrs", cidrs, "may only hold up to 2 values"))
    for i, text in enumerate(cidrs):
        messages = rules.is_cidr(text)
        errors += broken(f"spec.cidrs[{i}]", text, messages)
        network = rules.parse_cidr(text)
        if network is not None and str(network) != text:
            message = f'must be in canonical form ("{network}")'
            errors.append(invalid_value(f"spec.cidrs[{i}]", text, message))
    families = [network.version for text in cidrs if (network := rules.parse_cidr(text)) is not None]
    if len(cidrs) == 2 and len(families) == 2 and families[0] == families[1]:
        message = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        errors.append(invalid_value("spec.cidrs", cidrs, message))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """A single range may get one of the other family beside it; nothing else changes."""
    now, then = (((o.get("spec") or {}).get("cidrs")) or [] for o in (new, old))
    if len(now) > len(then) == 1 and now[0] == then[0]:
        return validate_create(new)
    return rules.validate_immutable(now, then, "spec.cidrs")
