"""DNS lookups: one UDP query to one given name server, without the controller's own resolver."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class DnsRecord:
    """One record of an answer section; names in ``value`` have no final dot."""

    name: str
    kind: str
    value: str
    ttl: int


@dataclass(frozen=True)
class DnsReply:
    """The response of a name server.

    Args:
        code: such as ``NOERROR`` or ``NXDOMAIN``; empty without a response.
        seconds: the round-trip time.
        error: why there is no response.
    """

    code: str = ""
    records: tuple[DnsRecord, ...] = ()
    seconds: float = 0.0
    error: str = ""

    def values(self, kind: str) -> tuple[str, ...]:
        """The values of the records of one type."""
        return tuple(record.value for record in self.records if record.kind == kind)


def query(
    server: str, name: str, kind: str = "A", *, timeout: float = 2.0, port: int = 53
) -> DnsReply:
    """Send one query to a name server, and wait ``timeout`` seconds for its response.

    The lab's network must be up (`Provider.network_problem`).
    """
    import dns.exception
    import dns.message
    import dns.rcode
    import dns.rdatatype

    message = dns.message.make_query(name, kind)
    start = time.monotonic()
    try:
        # A connected socket reports a closed port at once instead of at the timeout.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
            connection.settimeout(timeout)
            connection.connect((server, port))
            connection.send(message.to_wire())
            response = dns.message.from_wire(connection.recv(4096))
    except (OSError, dns.exception.DNSException) as error:
        problem = "no response in time" if isinstance(error, TimeoutError) else str(error)
        return DnsReply(seconds=time.monotonic() - start, error=problem)
    seconds = time.monotonic() - start
    if not message.is_response(response):
        return DnsReply(seconds=seconds, error="not a response to this query")
    records = tuple(
        DnsRecord(
            rrset.name.to_text(omit_final_dot=True),
            dns.rdatatype.to_text(rrset.rdtype),
            rdata.to_text().removesuffix("."),
            rrset.ttl,
        )
        for rrset in response.answer
        for rdata in rrset
    )
    return DnsReply(dns.rcode.to_text(response.rcode()), records, seconds)
