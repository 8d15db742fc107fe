"""Who asks: certificates, tokens, front proxies, impersonation. Nothing here decides what they may do."""

from peavine.apiserver.authentication.user import ANONYMOUS, SYSTEM_APISERVER, Authenticator, User

__all__ = ["ANONYMOUS", "SYSTEM_APISERVER", "Authenticator", "User"]
