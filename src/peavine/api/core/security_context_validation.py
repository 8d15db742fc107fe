"""The rules of security contexts, of containers and (in part) of pods."""

from __future__ import annotations

from typing import Any

from peavine.api.core.mount_validation import validate_local_path
from peavine.api.core.pod_context import Pod
from peavine.api.fields import broken, named
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value, not_supported, required

Object = dict[str, Any]


def validate_security_context(context: Object | None, field: str, pod: Pod) -> list[FieldError]:
    errors: list[FieldError] = []
    if context is None:
        return errors
    for part in ("runAsUser", "runAsGroup"):
        if context.get(part) is not None:
            errors += broken(f"{field}.{part}", context[part], rules.is_user_id(context[part]))
    errors += validate_seccomp(context.get("seccompProfile"), f"{field}.seccompProfile")
    mount = context.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(not_supported(f"{field}.procMount", mount, ["Default", "Unmasked"]))
        elif mount == "Unmasked" and pod.host_users is not False:
            message = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid_value(f"{field}.procMount", mount, message))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid_value(field, context, message))
        added = (context.get("capabilities") or {}).get("add") or []
        if "CAP_SYS_ADMIN" in added:
            message = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid_value(field, context, message))
    errors += validate_windows_options(context.get("windowsOptions"), f"{field}.windowsOptions")
    return errors + validate_apparmor(context.get("appArmorProfile"), f"{field}.appArmorProfile")


def validate_seccomp(profile: Object | None, field: str) -> list[FieldError]:
    return _profile(profile, field, ("Localhost", "RuntimeDefault", "Unconfined"), "seccomp")


def validate_apparmor(profile: Object | None, field: str) -> list[FieldError]:
    return _profile(profile, field, ("Localhost", "RuntimeDefault", "Unconfined"), "AppArmor")


def _profile(profile: Object | None, field: str, types: tuple[str, ...], what: str) -> list[FieldError]:
    if profile is None:
        return []
    type, local = profile.get("type") or "", profile.get("localhostProfile")
    if type == "Localhost":
        if local is None:
            return [required(f"{field}.localhostProfile", f"must be set when {what.lower()} type is Localhost")]
        if what == "AppArmor":
            if local != local.strip():
                message = "must not be padded with whitespace"
                return [invalid_value(f"{field}.localhostProfile", local, message)]
            if not local:
                message = "must be set when AppArmor type is Localhost"
                return [required(f"{field}.localhostProfile", message)]
            return []
        return validate_local_path(local, f"{field}.localhostProfile")
    errors: list[FieldError] = []
    if local is not None:
        message = f"can only be set when {what.lower() if what == 'seccomp' else what} type is Localhost"
        errors.append(invalid_value(f"{field}.localhostProfile", local, message))
    if not type:
        errors.append(
            required(
                f"{field}.type",
                "type is required when seccompProfile is set"
                if what == "seccomp"
                else "type is required when appArmorProfile is set",
            )
        )
    elif type not in types:
        errors.append(not_supported(f"{field}.type", type, sorted(types)))
    return errors


def validate_windows_options(options: Object | None, field: str) -> list[FieldError]:
    if options is None:
        return []
    errors: list[FieldError] = []
    name = options.get("gmsaCredentialSpecName")
    if name is not None:
        errors += named(f"{field}.gmsaCredentialSpecName", name, rules.is_dns1123_subdomain)
    text = options.get("gmsaCredentialSpec")
    if text is not None:
        if not text:
            errors.append(
                invalid_value(f"{field}.gmsaCredentialSpec", text, "gmsaCredentialSpec cannot be an empty string")
            )
        elif len(text) > 64 * 1024:
            message = "gmsaCredentialSpec size must be under 64 KiB"
            errors.append(invalid_value(f"{field}.gmsaCredentialSpec", text, message))
    user = options.get("runAsUserName")
    if user is not None and not user:
        errors.append(invalid_value(f"{field}.runAsUserName", user, "runAsUserName cannot be an empty string"))
    return errors
