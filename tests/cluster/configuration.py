"""Configuration files of the components of an embedded cluster, as text."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.paths import ClusterError
from tests.cluster.settings import Settings

CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")  # in the cluster's own mount namespace
CNI_CONFIGURATION = Path("/run/cni/net.d")
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
UNUSED_SNAPSHOTTERS = ("btrfs", "zfs", "aufs", "devmapper")
DNS_READY_PORT = 8181
PROVISIONER_USER = "system:cycleops-test-provisioner"
PROBE_USER = "system:cycleops-test-probe"


def audit_policy() -> str:
    """Every completed request, less the reads and heartbeats of the cluster's own components."""
    own = ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy",
           "system:coredns", PROVISIONER_USER, PROBE_USER]  # fmt: skip
    reads = ["get", "list", "watch"]
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "users": own, "verbs": reads},
            {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"], "verbs": reads},
            {"level": "None", "users": own, "resources": [_leases()]},
            {"level": "None", "userGroups": ["system:nodes"], "resources": [_leases()]},
            {"level": "Metadata"},
        ],
    }
    return json.dumps(policy, indent=1)


def _leases() -> dict[str, object]:
    return {"group": "coordination.k8s.io", "resources": ["leases"]}


def containerd(settings: Settings, *, sandbox_image: str) -> str:
    """containerd 1.6's configuration; JSON strings are TOML strings."""
    text = json.dumps
    return f"""\
version = 2
root = {text(str(settings.containerd_root))}
state = "/run/containerd"
disabled_plugins = [{", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in UNUSED_SNAPSHOTTERS)}]
[grpc]
  address = {text(str(CONTAINERD_SOCKET))}
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  # Lowering a score below our own needs CAP_SYS_RESOURCE, which a container may lack.
  restrict_oom_score_adj = true
  sandbox_image = {text(sandbox_image)}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {text(str(_plugin_folder()))}
    conf_dir = {text(str(CNI_CONFIGURATION))}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _plugin_folder() -> Path:
    for folder in PLUGIN_FOLDERS:
        if (folder / "ptp").exists():
            return folder
    raise ClusterError("no CNI plugins here; run `python -m tests.cluster host`")


def pod_network(settings: Settings) -> str:
    """A routed veth pair per pod: no bridge, so Services work without the kernel's bridge filter."""
    address_management = {
        "type": "host-local",
        "dataDir": "/run/cni/addresses",
        "ranges": [[{"subnet": settings.pod_cidr}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [{"type": "ptp", "ipam": address_management}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}, indent=1)


def kubelet(settings: Settings, *, authority: Path, certificate: Path, key: Path, resolver: Path) -> str:
    """The kubelet's configuration: authenticated, cgroups by itself, and no garbage collection of images."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": settings.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "clusterDNS": [settings.node_ip],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolver),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "podLogsDir": str(settings.logs / "pods"),
            "volumePluginDir": str(settings.runtime / "kubelet-plugins"),
            "serializeImagePulls": False,
            "maxPods": 200,
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
        },
        indent=1,
    )


def coredns(settings: Settings, *, kubeconfig: Path) -> str:
    """Cluster names, and NXDOMAIN for every other: pods have no way out."""
    return f"""\
cluster.local in-addr.arpa ip6.arpa {{
    bind {settings.node_ip}
    errors
    ready {settings.node_ip}:{DNS_READY_PORT}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        ttl 2
    }}
}}
. {{
    bind {settings.node_ip}
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""
