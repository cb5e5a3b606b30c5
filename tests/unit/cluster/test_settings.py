"""Two clusters on one machine share no address, link, cgroup or folder."""

from __future__ import annotations

import ipaddress
from itertools import combinations
from pathlib import Path

from tests.cluster.embedded import SLOTS
from tests.cluster.network import BASES
from tests.cluster.settings import Settings


def settings(slot: int, base: int = BASES[0]) -> Settings:
    folder = Path(f"/slot-{slot}")
    return Settings(slot=slot, full=True, work=folder, programs=Path("/bin"), containerd_root=folder, network_base=base)


def test_slots_have_nothing_in_common() -> None:
    for one, other in combinations([settings(slot) for slot in range(SLOTS)], 2):
        assert not set(networks(one)) & set(networks(other))
        assert one.link != other.link
        assert one.cgroup != other.cgroup
        assert one.kubeconfig != other.kubeconfig


def networks(one: Settings) -> list[ipaddress.IPv4Network]:
    nodes = ipaddress.ip_network(f"{one.node_ip}/24", strict=False)
    return [ipaddress.IPv4Network(str(network)) for network in (nodes, one.pod_cidr, one.service_cidr)]


def test_no_base_reaches_into_another() -> None:
    octets = [base + offset for base in BASES for offset in range(3)]
    assert len(octets) == len(set(octets))
    assert max(octets) <= 255


def test_a_link_name_fits_the_kernel() -> None:
    assert all(len(settings(slot).link) <= 15 for slot in range(SLOTS))


def test_settings_survive_the_command_line() -> None:
    assert Settings.from_json(settings(3, 87).to_json()) == settings(3, 87)
