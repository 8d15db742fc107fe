"""What a client accepts: media type, and objects as they are, as a Table, or as their metadata alone."""

from __future__ import annotations

from dataclasses import dataclass

from peavine.apiserver.requests import RequestInfo
from peavine.machinery import errors

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
SERVED = (JSON, YAML, PROTOBUF)
# What "as" may ask for.
TRANSFORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


@dataclass(frozen=True, slots=True)
class Output:
    """One way to answer. `transform` is "" for objects as they are."""

    media: str = JSON
    transform: str = ""
    version: str = "v1"  # of meta.k8s.io, for transforms
    pretty: bool = False
    stream: bool = False  # protobuf;stream=watch was named

    @property
    def content_type(self) -> str:
        return self.media


def parse_accept(header: str) -> list[tuple[str, dict[str, str]]]:
    """`a/b;as=Table;q=0.5, c/d` -> media types with their parameters, best first."""
    clauses = []
    for at, clause in enumerate(header.split(",")):
        media, *parameters = clause.split(";")
        media = media.strip().lower()
        if not media:
            continue
        named = {}
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            named[key.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(named.pop("q", "1"))
        except ValueError:
            quality = 0.0
        clauses.append((-quality, at, media, named))
    clauses.sort(key=lambda clause: clause[:2])
    return [(media, named) for _, _, media, named in clauses]


def negotiate(info: RequestInfo, transforms: tuple[str, ...] = TRANSFORMS, served: tuple[str, ...] = SERVED) -> Output:
    """The best answer that the client accepts and the server has. Raises ApiError 406."""
    header = ",".join(info.header_values("accept"))
    pretty = wants_pretty(info)
    if not header.strip() or header == JSON:
        return PRETTY if pretty else PLAIN
    for media, named in parse_accept(header):
        if media in ("*/*", "application/*"):
            media = served[0]
        if media == "application/x-yaml" or media == "text/yaml":
            media = YAML
        if media not in served:
            continue
        transform = named.get("as", "")
        if transform:
            if transform not in transforms or named.get("g") != "meta.k8s.io" or media == PROTOBUF == "":
                continue
            if named.get("v") not in ("v1", "v1beta1"):
                continue
            if transform == "Table" and media == PROTOBUF:
                continue
        return Output(media, transform, named.get("v", "v1") or "v1", pretty and media == JSON, "stream" in named)
    raise errors.not_acceptable(served)


def wants_pretty(info: RequestInfo) -> bool:
    """Indented JSON: asked for, or a person at a terminal or browser."""
    asked = info.query.get("pretty")
    if asked is not None:
        return asked[0].lower() not in ("false", "0")
    agent = info.headers.get("user-agent", "")
    return agent.startswith(("curl", "Wget", "Mozilla/5.0"))


PLAIN = Output()
PRETTY = Output(pretty=True)
