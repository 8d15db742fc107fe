"""get and list: which entries a request means, at which revision, and which page of them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from peavine.api.kind import Kind
from peavine.apiserver.cache import Entry, ResourceCache
from peavine.apiserver.cache.watchers import field_value
from peavine.apiserver.registry import Registry
from peavine.apiserver.requests import RequestInfo
from peavine.machinery import errors
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported
from peavine.machinery.selectors import (
    FieldSelector,
    Selector,
    SelectorError,
    parse_field_selector,
    parse_label_selector,
)
from peavine.store.interface import Compacted, FutureRevision

# How long a read waits for a revision that this server has not seen yet.
REVISION_WAIT_SECONDS = 3.0
CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
TOO_OLD = "The provided resource version is too old: it has been compacted; list without it"


@dataclass(slots=True)
class ListOptions:
    """`ListOptions` of meta/v1, read and checked."""

    labels: Selector
    fields: FieldSelector
    limit: int = 0
    token: str = ""
    version: str = ""
    match: str = ""
    watch: bool = False
    timeout_seconds: int | None = None
    bookmarks: bool = False
    initial_events: bool | None = None


def integer(info: RequestInfo, name: str) -> int | None:
    """A whole-number parameter; None where it is absent. Raises ApiError 400 with Go's words."""
    text = info.parameter(name)
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    if not -(1 << 63) <= number < 1 << 63:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return number


def read_options(info: RequestInfo, kind: Kind, name: str = "") -> ListOptions:
    """The options of a list or watch. Raises ApiError 400, 422."""
    try:
        labels = parse_label_selector(info.parameter("labelSelector"))
        fields = parse_field_selector(info.parameter("fieldSelector"))
    except SelectorError as error:
        raise errors.bad_request(str(error)) from None
    known = kind.field_labels
    for requirement in fields.requirements:
        if requirement.field not in known:
            raise errors.bad_request(kind.unknown_field_label(requirement.field))
    aliases: Any = kind.hook("FIELD_ALIASES")
    if aliases is not None and not fields.empty:
        renamed = (r._replace(field=aliases.get(r.field, r.field)) for r in fields.requirements)
        fields = FieldSelector(tuple(renamed))
    if name:
        fields = FieldSelector((*fields.requirements, *parse_field_selector(f"metadata.name={name}").requirements))
    options = ListOptions(
        labels,
        fields,
        integer(info, "limit") or 0,
        info.parameter("continue"),
        info.parameter("resourceVersion"),
        info.parameter("resourceVersionMatch"),
        info.flag("watch") or info.verb == "watch",
        integer(info, "timeoutSeconds"),
        info.flag("allowWatchBookmarks"),
        info.flag("sendInitialEvents") if "sendInitialEvents" in info.query else None,
    )
    problems = _check(options)
    if problems:
        raise errors.invalid("ListOptions", "", problems, "meta.k8s.io")
    return options


def _check(options: ListOptions) -> list[FieldError]:
    problems: list[FieldError] = []
    match, version = options.match, options.version
    if options.watch and options.initial_events is not None:
        if not match:
            words = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            problems.append(forbidden_field("resourceVersionMatch", words))
        elif match != "NotOlderThan":
            problems.append(not_supported("resourceVersionMatch", match, ["NotOlderThan"]))
        if options.initial_events and not options.bookmarks:
            pass  # allowed: the end of the initial events is then not marked
        return problems
    if options.initial_events is not None:
        problems.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if match:
        if options.watch:
            words = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            problems.append(forbidden_field("resourceVersionMatch", words))
        if not version:
            words = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            problems.append(forbidden_field("resourceVersionMatch", words))
        if options.token:
            words = "resourceVersionMatch is forbidden when continue is provided"
            problems.append(forbidden_field("resourceVersionMatch", words))
        if match not in ("Exact", "NotOlderThan"):
            problems.append(not_supported("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""]))
        if match == "Exact" and version == "0":
            words = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            problems.append(forbidden_field("resourceVersionMatch", words))
    return problems


def revision_of(version: str) -> int:
    """A `resourceVersion` as a number. Raises ApiError with Go's words."""
    if not version:
        return 0
    if not version.isdecimal():
        words = f'strconv.ParseUint: parsing "{version}": invalid syntax'
        problem = invalid_value("resourceVersion", version, words)
        raise errors.ApiError(500, "", str(problem))
    return int(version)


def matcher(options: ListOptions) -> Callable[[Entry], bool] | None:
    """The selectors as one question about an entry; None where they select everything."""
    labels, fields = options.labels, options.fields
    if fields.empty:
        return None if labels.empty else lambda entry: labels.matches(entry.labels)
    requirements = fields.requirements

    def matches(entry: Entry) -> bool:
        for field, operator, value in requirements:
            if (field_value(entry, field) == value) is not (operator == "="):
                return False
        return labels.matches(entry.labels)

    return matches


def narrowing(options: ListOptions) -> tuple[str, str, str] | None:
    """The requirement that an index answers best."""
    for field in ("metadata.name", "spec.nodeName"):
        value = options.fields.required_value(field)
        if value is not None:
            return "field", field, value
    for label, value in options.labels.exact().items():
        return "label", label, value
    for requirement in options.fields.requirements:
        if requirement.operator == "=":
            return "field", requirement.field, requirement.value
    return None


async def wait_for_version(registry: Registry, version: str) -> None:
    """Bring the cache to what a read with this resourceVersion may see. Raises ApiError 504."""
    cache = registry.cache
    if version == "":
        await cache.fresh()
        return
    revision = revision_of(version)
    if revision <= cache.revision:
        return
    newest = await cache.store.revision()
    if revision > newest:
        raise too_large_version(revision, newest)
    await cache.reached(revision)


def too_large_version(revision: int, newest: int) -> errors.ApiError:
    words = f"Too large resource version: {revision}, current: {newest}"
    return errors.ApiError(
        504,
        "Timeout",
        "Timeout: " + words,
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        headers={"Retry-After": "1"},
    )


async def select(
    registry: Registry, kind: Kind, namespace: str, options: ListOptions
) -> tuple[Iterable[Entry], dict[str, Any]]:
    """The entries of a list request, and the list's metadata."""
    cached = registry.resource(kind).cache
    cache = registry.cache
    token_revision, start = 0, ""
    if options.token:
        token_revision, start = read_token(options.token)
        if options.version and options.version != "0":
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        if token_revision < 0:  # an inconsistent continuation: from wherever we are now
            await cache.fresh()
            token_revision = cache.revision
    elif options.match == "Exact" or (not options.match and options.limit > 0 and options.version not in ("", "0")):
        # A page at a revision is of just that revision, also where the client does not say so (it could not, once).
        token_revision = revision_of(options.version)
    else:
        if not options.version and not options.match:
            await cache.fresh()
        else:
            await wait_for_version(registry, options.version)
    if token_revision and token_revision > cache.revision:
        await wait_for_version(registry, str(token_revision))

    revision = token_revision or cache.revision
    matches = matcher(options)
    if not token_revision or cached.revision <= token_revision:
        found: Iterable[Entry] = cached.select(namespace, narrowing(options))
        total = None
    else:
        found = await _historical(registry, kind, cached, namespace, token_revision, options)
    if start:
        prefix = namespace + "/" if namespace and cached.namespaced else ""
        found = (e for e in found if _position(e, cached) >= prefix + start)
    if matches is not None:
        found = filter(matches, found)
    meta: dict[str, Any] = {"resourceVersion": str(revision)}
    if options.limit <= 0:
        return found, meta
    page = list(islice(found, options.limit))
    following = next(iter(found), None) if not isinstance(found, list) else None
    if isinstance(found, list):
        page, rest = found[: options.limit], found[options.limit :]
        following, remaining = (rest[0] if rest else None), len(rest)
    else:
        remaining = 0
    if following is not None:
        last = _position(page[-1], cached)
        if namespace and cached.namespaced:
            last = last.removeprefix(namespace + "/")
        meta["continue"] = write_token(revision, last + "\0")
        if matches is None:
            total = sum(1 for _ in found) + 1 if not isinstance(found, list) else remaining
            meta["remainingItemCount"] = total
    return page, meta


def _position(entry: Entry, cached: ResourceCache) -> str:
    return entry.key if cached.namespaced else entry.name


async def _historical(
    registry: Registry, kind: Kind, cached: ResourceCache, namespace: str, revision: int, options: ListOptions
) -> Iterable[Entry]:
    """Entries as they were: the cache has moved on since the revision that the request names."""
    prefix = kind.hub.prefix(namespace)
    try:
        page = await registry.store.range(prefix, revision=revision)
    except Compacted:
        if options.token:
            _, start = read_token(options.token)
            error = errors.expired(CONTINUE_EXPIRED)
            error.metadata = {"continue": write_token(-1, start)}  # type: ignore[attr-defined]
            raise error from None
        raise errors.expired(f"The resourceVersion for the provided list is too old: {revision}") from None
    except FutureRevision as error:
        raise too_large_version(revision, error.revision) from None
    entries = []
    for item in page.items:
        _, ns, name = registry.cache._locate(item.key)
        if name:
            entries.append(cached.form.entry(ns, name, item.mod_revision, item.value))
    return iter(entries)


def write_token(revision: int, start: str) -> str:
    doc = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(doc).rstrip(b"=").decode()


def read_token(token: str) -> tuple[int, str]:
    """Revision and first key of a continue token. Raises ApiError 400."""
    try:
        doc = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, start = doc["rv"], doc["start"]
        if doc.get("v") != "meta.k8s.io/v1" or not isinstance(revision, int) or not isinstance(start, str):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise errors.bad_request("continue key is not valid: encoded continue token is not valid") from None
    if not start or revision == 0:
        raise errors.bad_request(
            "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
        )
    return revision, start
