"""The veth pair between the host and a cluster's network namespace, and the addresses on both ends."""

from __future__ import annotations

import ipaddress
import json
import time
from pathlib import Path

from tests.cluster.paths import ClusterError, run
from tests.cluster.settings import Settings

INSIDE = "eth0"
LINK_PREFIX = "cyco"
# Second octets to try: base for nodes, base + 1 for pods, base + 2 for services.
BASES = (77, 87, 97, 107, 117, 137, 147, 157, 167, 177, 187, 197, 207, 217, 227, 237, 247)
LINK_SECONDS = 10


def free_base() -> int:
    """The first octet of BASES whose three /16 networks meet no route of this host (other clusters' apart)."""
    taken = []
    for route in json.loads(run(["ip", "-json", "-4", "route", "show"])):
        destination = route.get("dst", "default")
        if destination != "default" and not str(route.get("dev", "")).startswith(LINK_PREFIX):
            taken.append(ipaddress.ip_network(destination, strict=False))
    for base in BASES:
        wanted = [ipaddress.ip_network(f"10.{base + offset}.0.0/16") for offset in range(3)]
        if not any(network.overlaps(used) for network in wanted for used in taken):
            return base
    raise ClusterError("every network that the embedded cluster could use is routed elsewhere on this host")


def attach(settings: Settings, *, pid: int) -> None:
    """Host side: make the pair, give its far end to the namespace of `pid`, route pods and services there."""
    run(["ip", "link", "add", settings.link, "type", "veth", "peer", "name", INSIDE, "netns", str(pid)])
    run(["ip", "address", "add", f"{settings.host_ip}/24", "dev", settings.link])
    run(["ip", "link", "set", settings.link, "up"])
    for network in (settings.pod_cidr, settings.service_cidr):
        run(["ip", "route", "add", network, "via", settings.node_ip, "dev", settings.link])


def detach(settings: Settings) -> None:
    """Host side: remove the pair if it is there. It also goes with the namespace, perhaps at this moment."""
    link = Path("/sys/class/net") / settings.link
    if not link.exists():
        return
    try:
        run(["ip", "link", "delete", settings.link])
    except ClusterError:
        if link.exists():
            raise


def configure_inside(settings: Settings) -> None:
    """Namespace side: wait for the far end, address it, and let the kernel forward for pods."""
    run(["ip", "link", "set", "lo", "up"])
    deadline = time.monotonic() + LINK_SECONDS
    while not any(link["ifname"] == INSIDE for link in json.loads(run(["ip", "-json", "link", "show"]))):
        if time.monotonic() > deadline:
            raise ClusterError(f"the keeper made no network link within {LINK_SECONDS} s")
        time.sleep(0.02)
    run(["ip", "address", "add", f"{settings.node_ip}/24", "dev", INSIDE])
    run(["ip", "link", "set", INSIDE, "up"])
    run(["ip", "route", "add", "default", "via", settings.host_ip])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
