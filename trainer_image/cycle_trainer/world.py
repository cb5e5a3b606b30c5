"""Proof of the world: who takes part, measured through the transport itself and compared with the spec.

An MPI job that silently runs each rank alone exits 0; this makes it fail.
"""

import socket
from collections import Counter

from cycle_trainer.collective import World as Joined
from cycle_trainer.failures import BadInputError
from cycle_wire.reports import WorldReport
from cycle_wire.training import World

DEVICE = "cpu"


def attest(collective: Joined) -> WorldReport:
    """Every rank's host and device, and a sum that comes out right only if all ranks took part."""
    members = collective.gather((socket.gethostname(), DEVICE))
    counts = Counter(host for host, _ in members)
    return WorldReport(
        size=collective.size,
        hosts=sorted(counts),
        ranks_per_host=[counts[host] for host in sorted(counts)],
        devices=[device for _, device in members],
        transport=collective.transport,
        all_reduce_sum=collective.sum(collective.rank + 1.0),
    )


def check_world(report: WorldReport, *, spec: World) -> None:
    """Raises BadInputError WorldMismatch with the first difference between the world and the spec."""
    expected_hosts = sorted(short_name(host) for host in spec.hosts)
    expected_sum = spec.size * (spec.size + 1) / 2
    comparisons = (
        ("ranks", report.size, spec.size),
        ("hosts", [short_name(host) for host in report.hosts], expected_hosts),
        ("ranks on each host", report.ranks_per_host, [spec.slots_per_host] * len(expected_hosts)),
        ("sum over ranks", report.all_reduce_sum, expected_sum),
        ("transport", report.transport, spec.transport.value),
    )
    for what, found, expected in comparisons:
        if found != expected:
            message = f"the spec asks for {what} {expected}, the ranks found {found}"
            raise BadInputError("WorldMismatch", message, field="spec.workers")


def short_name(host: str) -> str:
    """A pod's host name is the first label of its DNS name."""
    return host.split(".")[0]
