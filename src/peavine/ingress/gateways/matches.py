"""From the matches of routes to tables of routes, with the Gateway API's precedence. Pure.

Every match is a candidate. For each path that a host's candidates name, the candidates that a request there can meet
are put in order once, here: the first that has no further conditions ends the list. A list of one is a plain entry of
the table, any other a group.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from peavine.ingress.gateways import hosts
from peavine.ingress.gateways.filters import Unsupported, header_name, quoted
from peavine.ingress.model import Choice, Key, Routes

Object = dict[str, Any]

# The Gateway API orders exact paths before prefixes. Expressions come between, those of gRPC (a method of any
# service) after the prefixes (a service).
_EXACT, _EXPRESSION, _PREFIX, _METHOD = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Match:
    """`path` is exact, or a prefix without a final slash; expressions apply to all paths."""

    kind: int
    path: str
    conditions: tuple[str, ...]
    rank: tuple[int, ...]
    """Smaller comes first"""


@dataclass(frozen=True, slots=True)
class Candidate:
    match: Match
    age: tuple[str, Key, int, int]
    """Creation, name, place of the rule and of the match in it"""
    backends: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """A candidate for the hosts that a route and a listener have in common."""

    host: str
    asked: str
    """The host in the route itself: it decides how specific the route is."""
    candidate: Candidate
    kind: str = ""
    """Of the route"""


def http_match(match: Object) -> Match:
    """Raises Unsupported."""
    path = match.get("path") or {}
    type_, value = path.get("type") or "PathPrefix", path.get("value") or "/"
    headers, parameters = match.get("headers") or [], match.get("queryParams") or []
    conditions = []
    if match.get("method"):
        conditions.append(f"{{ method {match['method']} }}")
    conditions += [_condition(f"req.fhdr({header_name(h['name'])})", h) for h in headers]
    conditions += [_condition(f"url_param({header_name(p['name'])}),url_dec(1)", p) for p in parameters]
    kind, key = _EXACT, value
    if type_ == "RegularExpression":
        kind, key = _EXPRESSION, ""
        conditions.insert(0, f"{{ path -m reg -- {_expression(value)} }}")
    elif any(c.isspace() or not c.isprintable() for c in value):
        raise Unsupported(f"the path {value!r} has spaces")
    elif type_ == "PathPrefix":
        kind, key = _PREFIX, value.rstrip("/")
    rank = (kind, -len(value.rstrip("/") or value), 0 if match.get("method") else 1, -len(headers), -len(parameters))
    return Match(kind, key, tuple(conditions), rank)


def grpc_match(match: Object) -> Match:
    """Raises Unsupported."""
    asked = match.get("method") or {}
    service, method = asked.get("service") or "", asked.get("method") or ""
    headers = match.get("headers") or []
    conditions = [_condition(f"req.fhdr({header_name(h['name'])})", h) for h in headers]
    if asked.get("type") == "RegularExpression":
        kind, key = _EXPRESSION, ""
        pattern = f"/(?:{service or '[^/]+'})/(?:{method or '[^/]+'})"
        conditions.insert(0, f"{{ path -m reg -- {_expression(pattern)} }}")
    elif service and method:
        kind, key = _EXACT, f"/{service}/{method}"
    elif method:
        kind, key = _METHOD, ""
        conditions.insert(0, f"{{ path -m reg -- {_expression(f'/[^/]+/{method}')} }}")
    else:
        kind, key = _PREFIX, f"/{service}" if service else ""
    # What matches everything comes last.
    order = kind if service or method or kind == _EXPRESSION else _METHOD + 1
    return Match(kind, key, tuple(conditions), (order, -len(service), -len(method), -len(headers), 0))


def _condition(sample: str, entry: Object) -> str:
    if entry.get("type") == "RegularExpression":
        return f"{{ {sample} -m reg -- {_expression(entry['value'])} }}"
    return f"{{ {sample} -m str -- {quoted(entry['value'])} }}"


def _expression(text: str) -> str:
    """For the whole of a value. HAProxy's expressions are PCRE; what Python's do not take is not supported."""
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise Unsupported(f"the expression {text!r}: {error}") from error
    return quoted(f"^(?:{text})$")


def add_offers(routes: Routes, offers: Iterable[Offer], own: Iterable[str] = ()) -> None:
    """The offers of one listener, into a table. `own` are hosts that are this listener's even without offers.

    What is in the table already stays.
    """
    offers = list(offers)
    for host in {*own, *(offer.host for offer in offers)}:
        place = hosts.place_of(host)
        routes.hosts.add(place)
        meant = sorted((o for o in offers if hosts.covers(o.host, host)), key=_order)
        _add_host(routes, place, [offer.candidate for offer in meant])


def _order(offer: Offer) -> tuple[Any, ...]:
    precise, length = hosts.specificity(offer.asked)
    return -precise, -length, offer.candidate.match.rank, offer.candidate.age


def _add_host(routes: Routes, place: str, candidates: list[Candidate]) -> None:
    """`candidates` are in order."""
    exact = {c.match.path for c in candidates if c.match.kind == _EXACT}
    prefixes = {c.match.path if c.match.kind == _PREFIX else "" for c in candidates if c.match.kind != _EXACT}
    for path in exact:
        met = [c for c in candidates if (c.match.kind == _EXACT and c.match.path == path) or _meets(c.match, path)]
        routes.exact.setdefault((place, path), _entry(routes, met))
    for path in prefixes:
        met = [c for c in candidates if _meets(c.match, path)]
        routes.prefix.setdefault((place, path), _entry(routes, met))


def _meets(match: Match, path: str) -> bool:
    if match.kind == _EXACT:
        return False
    return match.kind != _PREFIX or path == match.path or path.startswith(match.path + "/")


def _entry(routes: Routes, candidates: list[Candidate]) -> str:
    choices = []
    for candidate in candidates:
        choices.append(Choice(candidate.match.conditions, candidate.backends))
        if not candidate.match.conditions:
            break
    if len(choices) == 1 and not choices[0].conditions and len(choices[0].backends) == 1:
        return choices[0].backends[0][0]
    return add_group(routes, tuple(choices))


def add_group(routes: Routes, choices: tuple[Choice, ...]) -> str:
    name = "?" + hashlib.sha256(repr(choices).encode()).hexdigest()[:12]
    routes.groups[name] = choices
    return name
