"""Acting as a service account: a client with a token of its own, renewed before it ends."""

from __future__ import annotations

import asyncio
import ssl

from peavine.base.clock import REAL, Clock
from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import parse_time

TOKEN_SECONDS = 3600
RENEW_AT = 0.8
RETRY_SECONDS = 1.0


class ServiceAccountClient(Client):
    """A client that is `system:serviceaccount:NAMESPACE:NAME`.

    `run` must be running; `ready` tells that it may be used. The account is made if it is missing. `parent` is who asks
    for the tokens. `context` is shared between such clients (`anonymous_context`): it carries no certificate.
    """

    def __init__(
        self, parent: Client, namespace: str, name: str, context: ssl.SSLContext | None, *, clock: Clock = REAL
    ) -> None:
        config = parent.config.replaced(certificate="", key="", token="", token_file="", origin=None)
        super().__init__(config, user_agent=f"{parent.agent}/system:serviceaccount:{namespace}:{name}", context=context)
        self.clock = clock
        self._parent, self._namespace, self._name = parent, namespace, name
        self.ready = asyncio.Event()

    async def renew(self) -> float:
        """Fetch a token; returns the seconds until the next one should be fetched. Raises ApiError, Unreachable."""
        accounts = self._parent.resource("v1", "serviceaccounts")
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        try:
            answer = await accounts.create_subresource(self._name, "token", request, self._namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            meta = {"name": self._name, "namespace": self._namespace}
            try:
                await accounts.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
            except ApiError as raced:
                if raced.reason != "AlreadyExists":
                    raise
            answer = await accounts.create_subresource(self._name, "token", request, self._namespace)
        self.token = answer["status"]["token"]
        self.ready.set()
        left = parse_time(answer["status"]["expirationTimestamp"]) - self.clock.time()
        return max(RETRY_SECONDS, left * RENEW_AT)

    async def run(self) -> None:
        """Keep the token fresh. Ends by cancellation."""
        while True:
            try:
                wait = await self.renew()
            except (ApiError, Unreachable, ConnectionError):
                wait = RETRY_SECONDS
            await self.clock.sleep(wait)


def anonymous_context(client: Client) -> ssl.SSLContext | None:
    """A TLS context that trusts what `client` trusts and shows no certificate."""
    if not client.config.server.startswith("https"):
        return None
    return client.config.replaced(certificate="", key="").ssl_context()
