"""ClusterRole: what may be done anywhere; may gather the rules of others by label."""

from __future__ import annotations

from typing import Any

from peavine.api.rbac import rules
from peavine.machinery.errors import FieldError

Object = dict[str, Any]


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.machinery.errors import required
    from peavine.machinery.validation import validate_label_selector

    errors = rules.validate_rules(obj, namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        field = "aggregationRule.clusterRoleSelectors"
        selectors = aggregation.get("clusterRoleSelectors") or []
        if not selectors:
            errors.append(required(field, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
        for i, selector in enumerate(selectors):
            errors += validate_label_selector(selector, f"{field}[{i}]")
    return errors
