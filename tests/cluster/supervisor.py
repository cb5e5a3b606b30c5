"""Runs the components of one cluster until it is told to stop or one of them ends.

A full cluster's supervisor is the first process of its own pid, mount and network namespaces: when it
ends, for whatever reason, the kernel ends all pods and takes every mount, link and iptables rule away.
It tells the keeper how it gets on in lines on stdout: `step ...`, `ready`, `failed ...`.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from tests.cluster import components, configuration, namespace, network, readiness
from tests.cluster.apiclient import ApiClient
from tests.cluster.components import Identities
from tests.cluster.containerd import Containerd, single_file_image
from tests.cluster.paths import ClusterError, content_hash, say
from tests.cluster.processes import Processes
from tests.cluster.settings import Settings
from tests.cluster.storage import STORAGE_CLASS, Provisioner

START_SECONDS = 90
WATCH_SECONDS = 0.25


class Stopped(Exception):  # noqa: N818 (an order, not an error)
    """SIGTERM or SIGINT arrived."""


def report(line: str) -> None:
    """Tell the keeper."""
    say(line)
    print(line, flush=True)


class Supervisor:
    """Starts, checks and stops the components of one cluster."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes = Processes(logs=settings.logs)
        self._provisioner: Provisioner | None = None

    def start(self) -> None:
        """Bring the cluster up; returns when it is ready. Raises ClusterError."""
        settings = self._settings
        if settings.full:
            namespace.prepare_mounts(settings)
            network.configure_inside(settings)
        self._processes.start("etcd", components.etcd(settings))
        identities = components.make_identities(settings)
        self._processes.start("kube-apiserver", components.api_server(settings, identities))
        if settings.full:
            self._start_containerd()
        probe = self._client(identities)
        self._await("the API server", probe.is_ready)
        self._processes.start("kube-controller-manager", components.controller_manager(settings, identities))
        if settings.full:
            self._start_node(identities, probe)
        self._await("the default ServiceAccount", lambda: readiness.has_default_service_account(probe))
        if settings.full:
            self._await("cluster DNS", lambda: readiness.dns_answers(settings.node_ip))
            self._await("the node", lambda: readiness.node_is_ready(probe, settings.name))

    def _client(self, identities: Identities) -> ApiClient:
        return ApiClient(server=self._settings.server, authority=identities.authority, pair=identities.probe)

    def _start_containerd(self) -> None:
        """Start it with an empty list of containers and the sandbox image; the store may be of an earlier run."""
        program = self._settings.programs / "pause"
        sandbox = f"localhost/cycleops/pause:{content_hash([program.read_bytes()])}"
        command = components.containerd(self._settings, sandbox_image=sandbox)
        daemon = Containerd()
        self._processes.start("containerd", command)
        self._await("containerd", daemon.answers)
        if removed := daemon.remove_containers():
            say(f"removed {removed} containers of an earlier run")
            self._processes.stop("containerd")
            self._processes.start("containerd", command)
            self._await("containerd", daemon.answers)
        if sandbox not in daemon.images():
            daemon.import_archive([single_file_image(sandbox, program)])

    def _start_node(self, identities: Identities, probe: ApiClient) -> None:
        settings = self._settings
        for path, body in readiness.bootstrap_objects():
            probe.create(path, body)
        probe.create("/apis/storage.k8s.io/v1/storageclasses", STORAGE_CLASS)
        for name, command in (
            ("kubelet", components.kubelet(settings, identities)),
            ("kube-proxy", components.proxy(settings, identities)),
            ("coredns", components.coredns(settings, identities)),
            ("kube-scheduler", components.scheduler(settings, identities)),
        ):
            self._processes.start(name, command)
        client = ApiClient(server=settings.server, authority=identities.authority, pair=identities.provisioner)
        self._provisioner = Provisioner(client, folder=settings.volumes)
        self._provisioner.start()

    def _await(self, what: str, holds: Callable[[], bool]) -> None:
        report(f"step waiting for {what}")
        deadline = time.monotonic() + START_SECONDS
        while not holds():
            self._processes.check()
            if time.monotonic() > deadline:
                raise ClusterError(f"{what} was not ready within {START_SECONDS} s; see {self._settings.logs}")
            time.sleep(0.1)

    def watch(self) -> None:
        """Return never; raises Stopped on a signal and ClusterError when a component has ended."""
        while True:
            time.sleep(WATCH_SECONDS)
            self._processes.check()
            self._processes.reap_strangers()

    def stop(self) -> None:
        """Stop the components; containers first lose the kubelet that would restart them."""
        if self._provisioner:
            self._provisioner.end()
        for name in ("kubelet", "kube-scheduler", "kube-controller-manager"):
            self._processes.stop(name)
        daemon = Containerd()
        if self._settings.full and configuration.CONTAINERD_SOCKET.exists() and daemon.answers():
            daemon.remove_containers()
        self._processes.stop_all()


def _raise_stopped(_: int, __: FrameType | None) -> None:
    raise Stopped


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    """Run the cluster that the first argument describes."""
    settings = Settings.from_json(sys.argv[1])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _raise_stopped)
    supervisor = Supervisor(settings)
    try:
        try:
            supervisor.start()
            report("ready")
            supervisor.watch()
        except Stopped:
            _ignore_signals()
            say("stopping")
            return 0
        except ClusterError as error:
            _ignore_signals()
            report("failed " + " | ".join(str(error).splitlines()))
            return 1
    finally:
        supervisor.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
