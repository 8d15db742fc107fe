"""The server's counters in Prometheus' text format, under CoreDNS' names so that its dashboards fit."""

from __future__ import annotations

from collections.abc import Iterator

from peavine.dns.server import Server
from peavine.wire import dns


def exposition(server: Server) -> bytes:
    """Plain integers written out when asked for: a counter object per packet would cost a tenth of the throughput."""
    return ("\n".join(_lines(server)) + "\n").encode()


def _lines(server: Server) -> Iterator[str]:
    zone = f"{server.zone.domain}."
    yield "# TYPE coredns_dns_requests_total counter"
    for protocol in ("udp", "tcp"):
        yield f'coredns_dns_requests_total{{proto="{protocol}",server="dns://"}} {server.counts[protocol]}'
    yield "# TYPE coredns_dns_responses_total counter"
    for rcode, count in sorted(server.rcodes.items()):
        yield f'coredns_dns_responses_total{{rcode="{dns.RCODES.get(rcode, str(rcode))}",server="dns://"}} {count}'
    cache = server.forwarder.cache
    yield "# TYPE coredns_cache_hits_total counter"
    yield f'coredns_cache_hits_total{{server="dns://"}} {cache.hits}'
    yield "# TYPE coredns_cache_misses_total counter"
    yield f'coredns_cache_misses_total{{server="dns://"}} {cache.misses}'
    yield "# TYPE coredns_cache_entries gauge"
    yield f'coredns_cache_entries{{server="dns://"}} {len(cache)}'
    yield "# TYPE coredns_forward_requests_total counter"
    for resolver in server.forwarder.resolvers:
        yield f'coredns_forward_requests_total{{to="{resolver}"}} {resolver.asked}'
    yield "# TYPE coredns_forward_healthcheck_failures_total counter"
    for resolver in server.forwarder.resolvers:
        yield f'coredns_forward_healthcheck_failures_total{{to="{resolver}"}} {resolver.failed}'
    yield "# TYPE peavine_dns_answers gauge"
    yield f'peavine_dns_answers{{zone="{zone}"}} {len(server.zone.answers)}'
    for name in ("malformed", "dropped"):
        yield f"# TYPE peavine_dns_{name}_total counter"
        yield f"peavine_dns_{name}_total {server.counts[name]}"
