"""Service-account token Secrets that were made automatically long ago and are no longer used: marked, then removed.

Upstream: pkg/controller/serviceaccount (legacy token cleaner). The API server notes the last use of each token as a
label, and the day on which it began to do so in a ConfigMap.
"""

from __future__ import annotations

from datetime import UTC, datetime

from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError

TYPE = "kubernetes.io/service-account-token"
TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
LAST_USED, INVALID_SINCE = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
DAYS = 365
RECHECK_SECONDS = 24 * 3600.0


class LegacyTokenCleaner(Controller):
    name = "legacy-serviceaccount-token-cleaner-controller"
    account = "legacy-service-account-token-cleaner"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.secrets = self.watch("v1", "secrets", field_selector=f"type={TYPE}")
        self.accounts = self.read("v1", "serviceaccounts")
        self.pods = self.read("v1", "pods")

    async def reconcile(self, key: Key) -> float | None:
        secret = self.secrets.get(*key)
        if secret is None or not self._automatic(secret) or self._mounted(secret):
            return None
        since = await self._tracked_since()
        if since is None:
            return RECHECK_SECONDS
        labels = secret["metadata"].get("labels") or {}
        used = _day(labels.get(LAST_USED)) or max(since, _day(secret["metadata"]["creationTimestamp"][:10]) or since)
        today = datetime.fromtimestamp(self.clock.time(), UTC)
        if (today - used).days < DAYS:
            return RECHECK_SECONDS
        invalid = _day(labels.get(INVALID_SINCE))
        resource = self.client.resource("v1", "secrets")
        if invalid is None:
            mark = {"metadata": {"labels": {INVALID_SINCE: today.strftime("%Y-%m-%d")}}}
            await resource.patch(key[1], mark, key[0])
        elif (today - invalid).days >= DAYS:
            try:
                meta = secret["metadata"]
                await resource.delete(key[1], key[0], uid=meta["uid"], resource_version=meta["resourceVersion"])
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
        return RECHECK_SECONDS

    def _automatic(self, secret: Object) -> bool:
        """Made by the token controller of old: its ServiceAccount lists it."""
        meta = secret["metadata"]
        owner = (meta.get("annotations") or {}).get("kubernetes.io/service-account.name") or ""
        account = self.accounts.get(meta["namespace"], owner)
        return account is not None and any(s.get("name") == meta["name"] for s in account.get("secrets") or ())

    def _mounted(self, secret: Object) -> bool:
        meta = secret["metadata"]
        return any(
            (volume.get("secret") or {}).get("secretName") == meta["name"]
            for pod in self.pods.list(meta["namespace"])
            for volume in pod["spec"].get("volumes") or ()
        )

    async def _tracked_since(self) -> datetime | None:
        try:
            found = await self.client.resource("v1", "configmaps").get(TRACKING, "kube-system")
        except ApiError as error:
            if error.code != 404:
                raise
            return None
        return _day((found.get("data") or {}).get("since"))


def _day(text: str | None) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if text else None
    except ValueError:
        return None
