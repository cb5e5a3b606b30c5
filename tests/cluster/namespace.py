"""Mounts of a cluster's private mount namespace: all of them go with it."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.paths import run
from tests.cluster.settings import Settings

# Values that the kubelet insists on. It would set them for the whole machine; files that already
# say so, mounted over the originals in this namespace only, keep it from that.
KERNEL_VALUES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
# Folders that programs use whatever their configuration says.
PRIVATE_IN_MEMORY = ("/run", "/var/lib/cni", "/var/log/containers")


def prepare_mounts(settings: Settings) -> None:
    """Give this namespace its own /run, kubelet folder and kernel values. Only inside `unshare --mount`."""
    run(["mount", "--make-rprivate", "/"])
    for folder in PRIVATE_IN_MEMORY:
        Path(folder).mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=755,size=256m", "tmpfs", folder])
    kubelet = settings.runtime / "kubelet"
    kubelet.mkdir()
    Path("/var/lib/kubelet").mkdir(parents=True, exist_ok=True)
    run(["mount", "--bind", kubelet, "/var/lib/kubelet"])
    values = Path("/run/kernel-values")
    for name, value in KERNEL_VALUES.items():
        target = Path("/proc/sys") / name
        if target.exists():
            source = values / name
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(value + "\n")
            run(["mount", "--bind", source, target])
    # Pods may ask for mounts that propagate, among each other and never to the host.
    run(["mount", "--make-rshared", "/"])
