"""The components of a cluster: which certificates each has, and the command line that starts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.cluster import configuration
from tests.cluster.pki import Authority, Pair
from tests.cluster.settings import Settings

Command = list[str]
MASTERS = "system:masters"


@dataclass(frozen=True)
class Identities:
    """Everything signed by the cluster's authority."""

    authority: Authority
    service_accounts: Pair
    api_server: Pair
    admin: Pair
    probe: Pair
    provisioner: Pair
    kubelet: Pair | None
    kubeconfigs: dict[str, Path]


def make_identities(settings: Settings) -> Identities:
    """Issue what the components of this cluster need and write their kubeconfigs."""
    authority = Authority(settings.runtime / "pki")
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    server_names = (
        *(f"DNS:{name}" for name in (*names, "localhost")),
        *(f"IP:{address}" for address in dict.fromkeys(("127.0.0.1", settings.node_ip, settings.api_service_ip))),
    )
    clients = {
        "admin": ("cycleops-admin", (MASTERS,)),
        "controller-manager": ("system:kube-controller-manager", ()),
    }
    if settings.full:
        clients["scheduler"] = ("system:kube-scheduler", ())
        clients["proxy"] = ("system:kube-proxy", ())
        clients["coredns"] = ("system:coredns", ())
    pairs = {name: authority.issue(name, user=user, groups=groups) for name, (user, groups) in clients.items()}
    kubelet = None
    if settings.full:
        kubelet = authority.issue(
            "kubelet",
            user=f"system:node:{settings.name}",
            groups=("system:nodes",),
            addresses=(f"IP:{settings.node_ip}", f"DNS:{settings.name}"),
        )
        pairs["kubelet"] = kubelet
    kubeconfigs = {}
    for name, pair in pairs.items():
        path = settings.runtime / f"{name}.kubeconfig"
        kubeconfigs[name] = authority.kubeconfig(path, server=settings.server, pair=pair, cluster=settings.name)
    return Identities(
        authority=authority,
        service_accounts=authority.signing_key("service-accounts"),
        api_server=authority.issue("apiserver", user="kube-apiserver", groups=(MASTERS,), addresses=server_names),
        admin=pairs["admin"],
        probe=authority.issue("probe", user=configuration.PROBE_USER, groups=(MASTERS,)),
        provisioner=authority.issue("provisioner", user=configuration.PROVISIONER_USER, groups=(MASTERS,)),
        kubelet=kubelet,
        kubeconfigs=kubeconfigs,
    )


def etcd(settings: Settings) -> Command:
    """etcd for one cluster's life: losing power may lose data, so no fsync."""
    client, peer = (f"http://127.0.0.1:{port}" for port in (settings.etcd_port, settings.etcd_peer_port))
    return [
        settings.program("etcd"), "--data-dir", str(settings.runtime / "etcd"), "--unsafe-no-fsync",
        "--log-level", "warn", "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    ]  # fmt: skip


def api_server(settings: Settings, identities: Identities) -> Command:
    """kube-apiserver with the authorization and admission that a cluster has by default, and an audit log."""
    policy = settings.runtime / "audit-policy.json"
    policy.write_text(configuration.audit_policy())
    flags = {
        "etcd-servers": f"http://127.0.0.1:{settings.etcd_port}",
        "bind-address": "0.0.0.0" if settings.full else "127.0.0.1",
        "advertise-address": settings.node_ip,
        "secure-port": settings.api_port,
        "cert-dir": settings.runtime / "apiserver",
        "tls-cert-file": identities.api_server.certificate,
        "tls-private-key-file": identities.api_server.key,
        "client-ca-file": identities.authority.pair.certificate,
        "service-cluster-ip-range": settings.service_cidr,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": identities.service_accounts.certificate,
        "service-account-signing-key-file": identities.service_accounts.key,
        "kubelet-certificate-authority": identities.authority.pair.certificate,
        "kubelet-client-certificate": identities.api_server.certificate,
        "kubelet-client-key": identities.api_server.key,
        "kubelet-preferred-address-types": "InternalIP",
        # A loopback address cannot be an endpoint of the Service `kubernetes`.
        "endpoint-reconciler-type": "lease" if settings.full else "none",
        "audit-policy-file": policy,
        "audit-log-path": settings.audit_log,
        "audit-log-maxsize": 4000,
        "profiling": "false",
    }
    return [settings.program("kube-apiserver"), *(f"--{name}={value}" for name, value in flags.items())]


def controller_manager(settings: Settings, identities: Identities) -> Command:
    """All default controllers, each with its own ServiceAccount."""
    kubeconfig = identities.kubeconfigs["controller-manager"]
    flags = {
        "kubeconfig": kubeconfig,
        "leader-elect": "false",
        "secure-port": 0,
        "use-service-account-credentials": "true",
        "service-account-private-key-file": identities.service_accounts.key,
        "root-ca-file": identities.authority.pair.certificate,
        "cluster-signing-cert-file": identities.authority.pair.certificate,
        "cluster-signing-key-file": identities.authority.pair.key,
        "kube-api-qps": 100,
        "kube-api-burst": 200,
    }
    return [settings.program("kube-controller-manager"), *(f"--{name}={value}" for name, value in flags.items())]


def scheduler(settings: Settings, identities: Identities) -> Command:
    """kube-scheduler with its default profile."""
    kubeconfig = identities.kubeconfigs["scheduler"]
    return [settings.program("kube-scheduler"), f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"]


def containerd(settings: Settings, *, sandbox_image: str) -> Command:
    """containerd with the pods' network; its store outlives the cluster."""
    path = settings.runtime / "containerd.toml"
    path.write_text(configuration.containerd(settings, sandbox_image=sandbox_image))
    configuration.CNI_CONFIGURATION.mkdir(parents=True, exist_ok=True)
    (configuration.CNI_CONFIGURATION / "10-pods.conflist").write_text(configuration.pod_network(settings))
    return ["containerd", "--config", str(path)]


def kubelet(settings: Settings, identities: Identities) -> Command:
    """The one node, labelled cycleops.dev/test=true."""
    if identities.kubelet is None:
        raise ValueError("an API-only cluster has no kubelet")
    resolver = settings.runtime / "resolv.conf"
    resolver.write_text(f"nameserver {settings.node_ip}\n")
    path = settings.runtime / "kubelet.json"
    path.write_text(
        configuration.kubelet(
            settings,
            authority=identities.authority.pair.certificate,
            certificate=identities.kubelet.certificate,
            key=identities.kubelet.key,
            resolver=resolver,
        )
    )
    return [
        settings.program("kubelet"), f"--config={path}", f"--kubeconfig={identities.kubeconfigs['kubelet']}",
        f"--cert-dir={settings.runtime / 'kubelet-certificates'}", f"--hostname-override={settings.name}",
        f"--node-ip={settings.node_ip}", "--node-labels=cycleops.dev/test=true",
    ]  # fmt: skip


def proxy(settings: Settings, identities: Identities) -> Command:
    """kube-proxy with iptables in the cluster's network namespace; conntrack's size is the host's and stays."""
    return [
        settings.program("kube-proxy"), f"--kubeconfig={identities.kubeconfigs['proxy']}", "--proxy-mode=iptables",
        f"--cluster-cidr={settings.pod_cidr}", f"--hostname-override={settings.name}",
        "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
    ]  # fmt: skip


def coredns(settings: Settings, identities: Identities) -> Command:
    """CoreDNS on the node's address, outside of any pod."""
    path = settings.runtime / "Corefile"
    path.write_text(configuration.coredns(settings, kubeconfig=identities.kubeconfigs["coredns"]))
    return [settings.program("coredns"), "-conf", str(path), "-quiet"]
