"""PriorityLevelConfiguration: how many requests of a level run at once, and how the others wait."""

from __future__ import annotations

from typing import Any

from peavine.api.flowcontrol.flowschema import condition_errors
from peavine.api.printing import AGE, NAME, NONE, Column, name, object_age
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

QUEUES_MAX = 10_000_000
COLUMNS = (
    NAME,
    Column("Type", description="@flowcontrol.v1.PriorityLevelConfigurationSpec.type"),
    Column(
        "NominalConcurrencyShares",
        description="@flowcontrol.v1.LimitedPriorityLevelConfiguration.nominalConcurrencyShares",
    ),
    Column("Queues", description="@flowcontrol.v1.QueuingConfiguration.queues"),
    Column("HandSize", description="@flowcontrol.v1.QueuingConfiguration.handSize"),
    Column("QueueLengthLimit", description="@flowcontrol.v1.QueuingConfiguration.queueLengthLimit"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    limited = spec.get("limited")
    shares: Any = NONE
    queuing: list[Any] = [NONE, NONE, NONE]
    if limited is not None:
        shares = limited.get("nominalConcurrencyShares") or 0
        queues = (limited.get("limitResponse") or {}).get("queuing")
        if queues is not None:
            queuing = [queues.get(part) or 0 for part in ("queues", "handSize", "queueLengthLimit")]
    return [name(obj), spec.get("type") or "", shares, *queuing, object_age(obj)]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    exempt, limited = spec.get("exempt"), spec.get("limited")
    if spec.get("type") == "Exempt" and exempt is None:
        exempt = spec["exempt"] = {}
    if exempt is not None:
        for field in ("nominalConcurrencyShares", "lendablePercent"):
            if exempt.get(field) is None:
                exempt[field] = 0
    if limited is not None:
        if limited.get("nominalConcurrencyShares") is None:
            limited["nominalConcurrencyShares"] = 30
        if limited.get("lendablePercent") is None:
            limited["lendablePercent"] = 0
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for field, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                if not queuing.get(field):
                    queuing[field] = value


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    type, exempt, limited = spec.get("type") or "", spec.get("exempt"), spec.get("limited")
    errors: list[FieldError] = []
    own = name(obj)
    if own == "exempt" and type != "Exempt":
        errors.append(invalid_value("spec.type", type, "must be 'Exempt' if and only if `name` is 'exempt'"))
    if type == "Exempt":
        if own != "exempt":
            errors.append(invalid_value("spec.type", type, "must be 'Exempt' if and only if `name` is 'exempt'"))
        if limited is not None:
            errors.append(forbidden_field("spec.limited", "must be nil if the type is not Limited"))
        if exempt is not None:
            errors += _shares(exempt, "spec.exempt", least=0)
    elif type == "Limited":
        if exempt is not None:
            errors.append(forbidden_field("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
        else:
            errors += _limited(limited, "spec.limited")
    else:
        errors.append(not_supported("spec.type", type, ["Exempt", "Limited"]))
    return errors


def _shares(own: Object, field: str, *, least: int) -> list[FieldError]:
    errors: list[FieldError] = []
    shares, percent, borrow = (
        own.get(k) for k in ("nominalConcurrencyShares", "lendablePercent", "borrowingLimitPercent")
    )
    if shares is not None and shares < least:
        message = "must be a non-negative integer"
        errors.append(invalid_value(f"{field}.nominalConcurrencyShares", shares, message))
    if percent is not None and not 0 <= percent <= 100:
        message = "must be between 0 and 100, inclusive"
        errors.append(invalid_value(f"{field}.lendablePercent", percent, message))
    if borrow is not None and borrow < 0:
        message = "if specified, must be a non-negative integer"
        errors.append(invalid_value(f"{field}.borrowingLimitPercent", borrow, message))
    return errors


def _limited(limited: Object, field: str) -> list[FieldError]:
    errors = _shares(limited, field, least=0)
    response = limited.get("limitResponse") or {}
    type, queuing, at = response.get("type") or "", response.get("queuing"), f"{field}.limitResponse"
    if type == "Reject":
        if queuing is not None:
            message = "must be nil if limited.limitResponse.type is not Limited"
            errors.append(forbidden_field(f"{at}.queuing", message))
    elif type == "Queue":
        if queuing is None:
            message = "must not be empty if limited.limitResponse.type is Limited"
            errors.append(required(f"{at}.queuing", message))
        else:
            errors += _queuing(queuing, f"{at}.queuing")
    else:
        errors.append(not_supported(f"{at}.type", type, ["Queue", "Reject"]))
    return errors


def _queuing(queuing: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    limit, queues, hand = (queuing.get(part) or 0 for part in ("queueLengthLimit", "queues", "handSize"))
    for part, value in (("queueLengthLimit", limit), ("queues", queues)):
        if value <= 0:
            errors.append(invalid_value(f"{field}.{part}", value, "must be positive"))
    if queues > QUEUES_MAX:
        errors.append(invalid_value(f"{field}.queues", queues, f"must not be greater than {QUEUES_MAX}"))
    if hand <= 0:
        errors.append(invalid_value(f"{field}.handSize", hand, "must be positive"))
    elif hand > queues:
        message = f"should not be greater than queues ({queues})"
        errors.append(invalid_value(f"{field}.handSize", hand, message))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    return condition_errors(new)
