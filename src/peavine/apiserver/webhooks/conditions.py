"""Match conditions: expressions that say, beyond rules and selectors, whether a webhook is asked about a write."""

from __future__ import annotations

from typing import Any

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import AdmissionRequest
from peavine.apiserver.policies.variables import environment, variables_of
from peavine.apiserver.webhooks.matching import Match
from peavine.apiserver.webhooks.review import Webhook
from peavine.machinery.cel import CelError, CompileError, CostExceeded
from peavine.machinery.errors import forbidden

budget = 2_500_000  # of all conditions of one webhook


class Conditions:
    """Compiles the conditions of webhooks and policies when they are first met."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def hold(self, hook: Webhook, req: AdmissionRequest, found: Match) -> bool:
        """Whether all conditions are true. Raises ApiError 403 when one fails and the webhook fails closed."""
        listed = hook.webhook.get("matchConditions")
        if not listed:
            return True
        failed, matched = self.decide(hook, listed, variables_of(self._context, req, found))
        if matched is not None:
            return matched
        if hook.ignores_failure:
            return False
        raise forbidden(req.gvr.resource, req.object_name, failed, req.gvr.group)

    def decide(self, holder: Any, listed: list[dict[str, str]], variables: dict[str, Any]) -> tuple[str, bool | None]:
        """False wins over an error; None when there are only errors and truths, with what went wrong."""
        if holder.conditions is None:
            holder.conditions = [_compiled(condition) for condition in listed]
        left = budget
        problems = []
        for name, program in holder.conditions:
            if isinstance(program, str):
                problems.append(f"{name}: {program}")
                continue
            try:
                value, cost = program.evaluate(variables, max(left, 0))
            except (CelError, CostExceeded) as error:
                problems.append(f"expression '{program.source}' resulted in error: {error}")
                continue
            left -= cost
            if value is not True:
                return "", False
        return ("; ".join(problems), None) if problems else ("", True)


def _compiled(condition: dict[str, str]) -> tuple[str, Any]:
    try:
        return condition.get("name") or "", environment().compile(condition.get("expression") or "", "bool")
    except CompileError as error:
        return condition.get("name") or "", str(error)
