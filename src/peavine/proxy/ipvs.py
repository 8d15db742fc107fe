"""This proxy mode is not built yet: asking for it says so."""

from peavine.proxy.backend import BackendUnavailable, Settings


def cleanup() -> None:
    """This mode leaves nothing yet."""


class IpvsBackend:
    name = "ipvs"

    def __init__(self, settings: Settings) -> None:
        raise BackendUnavailable("this mode is not built yet")
