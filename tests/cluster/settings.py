"""What one embedded cluster is: its slot, folders, addresses and ports. Passed to its processes as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Immutable for the life of a cluster.

    A full cluster lives in its own network namespace, so its ports are always the same; an API-only
    one listens on free loopback ports of the host.
    """

    slot: int
    full: bool
    work: Path
    programs: Path
    containerd_root: Path
    network_base: int = 77
    api_port: int = 6443
    etcd_port: int = 2379
    etcd_peer_port: int = 2380

    @property
    def name(self) -> str:
        """Name of the node, of the kubeconfig's context and of the cgroup."""
        return f"cycleops-{self.slot}" if self.full else f"cycleops-api-{self.slot}"

    @property
    def cgroup(self) -> str:
        """The kubelet's cgroupRoot: two kubelets under one would kill each other's pods as orphans."""
        return f"/{self.name}"

    @property
    def host_ip(self) -> str:
        """The host's end of the veth pair."""
        return f"10.{self.network_base}.{self.slot}.1"

    @property
    def node_ip(self) -> str:
        """Where the API server, the kubelet and DNS listen."""
        return f"10.{self.network_base}.{self.slot}.2" if self.full else "127.0.0.1"

    @property
    def pod_cidr(self) -> str:
        """Addresses of pods."""
        return f"10.{self.network_base + 1}.{self.slot}.0/24"

    @property
    def service_cidr(self) -> str:
        """Virtual addresses of Services; the first is the API server's."""
        return f"10.{self.network_base + 2}.{self.slot}.0/24"

    @property
    def api_service_ip(self) -> str:
        """The address of the Service `kubernetes`."""
        return f"10.{self.network_base + 2}.{self.slot}.1"

    @property
    def server(self) -> str:
        """The API server's URL, the same from the host and from inside."""
        return f"https://{self.node_ip}:{self.api_port}"

    @property
    def link(self) -> str:
        """Name of the host's end of the veth pair."""
        return f"cyco{self.slot}"

    @property
    def runtime(self) -> Path:
        """Everything that goes when the cluster stops."""
        return self.work / "run"

    @property
    def logs(self) -> Path:
        """Logs of every component; kept until the next start in this folder."""
        return self.work / "log"

    @property
    def volumes(self) -> Path:
        """Directories behind PersistentVolumes."""
        return self.runtime / "volumes"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.runtime / "admin.kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON event per line for each completed request to the API server."""
        return self.logs / "audit.log"

    def program(self, name: str) -> str:
        """Path of one of our own programs."""
        return str(self.programs / name)

    def to_json(self) -> str:
        """For the command line of the keeper and the supervisor."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of to_json."""
        values = json.loads(text)
        for name in ("work", "programs", "containerd_root"):
            values[name] = Path(values[name])
        return cls(**values)
