"""The plugin ValidatingAdmissionWebhook: all webhooks at once; the first refusal in their order is the answer."""

from __future__ import annotations

import asyncio
from functools import partial

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CONNECT, CREATE, DELETE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.registry.conversions import settled
from peavine.apiserver.webhooks.conditions import Conditions
from peavine.apiserver.webhooks.matching import Match
from peavine.apiserver.webhooks.review import Configurations, Webhook, call
from peavine.base.lifetimes import scope
from peavine.machinery.errors import ApiError


class ValidatingAdmissionWebhook(Plugin):
    name = "ValidatingAdmissionWebhook"
    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))

    def __init__(self, context: PluginContext) -> None:
        self._lister, self._registry = context.lister, context.registry
        self._configurations = Configurations(context.lister, "validatingwebhookconfigurations")
        self._conditions = Conditions(context)

    async def validate(self, req: AdmissionRequest) -> None:
        wanted = []
        for hook in self._configurations.concerning(req):
            found = await settled(partial(hook.match, req, self._lister, self._registry))
            if found is not None and await self._conditions.hold(hook, req, found):
                wanted.append((hook, found))
        if not wanted:
            return
        async with scope() as tasks:
            asked = [tasks.start(self._ask(hook, req, found)) for hook, found in wanted]
            await asyncio.wait(asked)
        for task in asked:
            error = task.result()
            if error is not None:
                raise error

    async def _ask(self, hook: Webhook, req: AdmissionRequest, found: Match) -> ApiError | None:
        try:
            await call(hook, req, found, self._lister)
        except ApiError as error:
            return error
        return None
