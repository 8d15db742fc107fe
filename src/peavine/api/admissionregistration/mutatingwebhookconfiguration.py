"""MutatingWebhookConfiguration: who outside may change what is written."""

from __future__ import annotations

from typing import Any

from peavine.api.admissionregistration import webhooks
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

COLUMNS = webhooks.COLUMNS
row = webhooks.row
changes_generation = webhooks.changes_generation


def default(obj: Object) -> None:
    for webhook in obj.get("webhooks") or []:
        webhooks.default_webhook(webhook)
        if webhook.get("reinvocationPolicy") is None:
            webhook["reinvocationPolicy"] = "Never"


def validate_create(obj: Object) -> list[FieldError]:
    return webhooks.validate_configuration(obj, mutating=True)
