"""From a Config to the parts that decide: authenticator, authorizer, fairness, auditor.

What few configure (OIDC, webhooks) is imported only where it is.
"""

from __future__ import annotations

from typing import Any

from peavine.apiserver.audit import Auditor, LogFile, load_policy
from peavine.apiserver.authentication.build import AuthenticationConfig, ServerAuthenticator, build_authenticator
from peavine.apiserver.authorization.build import Union, build_authorizer
from peavine.apiserver.cache.cache import Cache
from peavine.apiserver.config import Config
from peavine.apiserver.fairness import CacheStock, MaxInFlight, PriorityAndFairness
from peavine.apiserver.lister import Lister, Writer
from peavine.apiserver.upkeep import Upkeep
from peavine.base.clock import Clock


def token_issuer(config: Config, lister: Lister, clock: Clock) -> Any:
    """Signs and knows service account tokens; None without a signing key."""
    if not config.service_account_signing_key_file:
        return None
    from peavine.apiserver.authentication.serviceaccount import KeyRing, TokenIssuer

    keys = KeyRing(config.service_account_signing_key_file, config.service_account_key_files)
    return TokenIssuer(keys, lister, issuer=config.service_account_issuer, audiences=audiences(config), clock=clock)


def audiences(config: Config) -> tuple[str, ...]:
    return config.api_audiences or (config.service_account_issuer,)


def authenticator(config: Config, lister: Lister, issuer: Any, clock: Clock) -> ServerAuthenticator:
    """Every configured way to know a user. Raises ValueError, OSError for configuration that cannot be used."""
    settings = AuthenticationConfig(
        client_ca_file=config.client_ca_file,
        requestheader_client_ca_file=config.requestheader_client_ca_file,
        requestheader_allowed_names=config.requestheader_allowed_names,
        service_account_keys=issuer.keys if issuer is not None else None,
        service_account_issuers=(config.service_account_issuer,),
        api_audiences=audiences(config),
        token_auth_file=config.token_auth_file,
        anonymous=config.anonymous_auth,
    )
    verifiers: list[Any] = []
    if config.authentication_config:
        from peavine.apiserver.authentication.config import Reloading

        reloading = Reloading(config.authentication_config, clock)
        verifiers.append(reloading)
        structured = reloading.current
        if structured.anonymous is not None:
            settings.anonymous, settings.anonymous_paths = structured.anonymous, structured.anonymous_paths
    if config.oidc_issuer_url:
        from peavine.apiserver.authentication.config import from_flags

        required = dict(claim.split("=", 1) for claim in config.oidc_required_claims)
        verifiers.append(
            from_flags(
                config.oidc_issuer_url,
                config.oidc_client_id,
                username_claim=config.oidc_username_claim,
                username_prefix=config.oidc_username_prefix,
                groups_claim=config.oidc_groups_claim,
                groups_prefix=config.oidc_groups_prefix,
                required_claims=required,
                ca_pem=_text(config.oidc_ca_file),
            )
        )
    if config.authentication_token_webhook_config_file:
        from peavine.apiserver.authentication.remote import KubeconfigSender
        from peavine.apiserver.authentication.webhook import WebhookTokens

        sender = KubeconfigSender(config.authentication_token_webhook_config_file)
        verifiers.append(WebhookTokens(sender, clock=clock))
    settings.verifiers = tuple(verifiers)
    return build_authenticator(settings, lister, clock=clock)


def authorizer(config: Config, lister: Lister, clock: Clock) -> Union:
    """The authorizers in their order. Raises ValueError, OSError."""
    modes = list(config.authorization_modes)
    extra: dict[str, Any] = {}
    if config.authorization_config:
        from peavine.apiserver.authorization.webhook import load_authorization

        modes, extra = load_authorization(config.authorization_config, clock)
    elif "Webhook" in modes:
        from peavine.apiserver.authentication.remote import KubeconfigSender
        from peavine.apiserver.authorization.webhook import WebhookAuthorizer

        if not config.authorization_webhook_config_file:
            raise ValueError("--authorization-mode Webhook needs --authorization-webhook-config-file")
        extra = {"Webhook": WebhookAuthorizer(KubeconfigSender(config.authorization_webhook_config_file))}
    return build_authorizer(lister, modes, extra)


def fairness(config: Config, lister: Lister, writer: Writer, cache: Cache, clock: Clock, upkeep: Upkeep) -> Any:
    """Who waits when there is more to do than can be done."""
    if not config.enable_priority_and_fairness:
        return MaxInFlight(config.max_requests_inflight, config.max_mutating_requests_inflight)
    seats = config.max_requests_inflight + config.max_mutating_requests_inflight
    made = PriorityAndFairness(lister, writer, seats=seats, stock=CacheStock(cache), clock=clock)
    upkeep.keep("fairness", made.run)
    return made


def auditor(config: Config, clock: Clock, upkeep: Upkeep) -> Auditor | None:
    """Where requests are written down; None where nobody asked for it. Raises ValueError, OSError."""
    backends: list[Any] = []
    if config.audit_log_path:
        backends.append(
            LogFile(
                config.audit_log_path,
                size_mib_max=config.audit_log_maxsize,
                backups_max=config.audit_log_maxbackup,
                age_days_max=config.audit_log_maxage,
            )
        )
    if config.audit_webhook_config_file:
        from peavine.apiserver.audit import Webhook
        from peavine.apiserver.authentication.remote import KubeconfigSender

        webhook = Webhook(KubeconfigSender(config.audit_webhook_config_file), clock)
        upkeep.keep("audit-webhook", webhook.run)
        backends.append(webhook)
    return Auditor(load_policy(config.audit_policy_file), backends, clock) if backends else None


def _text(path: str) -> str:
    if not path:
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()
