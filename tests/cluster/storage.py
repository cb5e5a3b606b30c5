"""A small dynamic provisioner: the default StorageClass `standard`, each volume a directory of the host.

Volumes are ReadWriteOnce, ReadWriteMany or whatever a claim asks for: there is one node. Directories
are writable by all users, since a hostPath takes no fsGroup.
"""

from __future__ import annotations

import shutil
import threading
import urllib.error
from pathlib import Path

from tests.cluster.apiclient import ApiClient, Object
from tests.cluster.paths import say

CLASS = "standard"
PROVISIONER = "cycleops.dev/test-directory"
EVERY_SECONDS = 0.3
STORAGE_CLASS: Object = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Retain",
    "volumeBindingMode": "Immediate",
}


class Provisioner(threading.Thread):
    """Binds pending claims of the class, and removes volumes whose claims are gone."""

    def __init__(self, client: ApiClient, *, folder: Path) -> None:
        super().__init__(name="provisioner", daemon=True)
        self._client = client
        self._folder = folder
        self._ending = threading.Event()

    def end(self) -> None:
        """Stop after the current pass."""
        self._ending.set()

    def run(self) -> None:
        """One pass after another; an API server that doesn't answer is said and tried again."""
        while not self._ending.wait(EVERY_SECONDS):
            try:
                self._bind_pending()
                self._remove_released()
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                if not self._ending.is_set():
                    say(f"provisioner: {error}")

    def _bind_pending(self) -> None:
        claims = self._client.get("/api/v1/persistentvolumeclaims?resourceVersion=0")["items"]
        for claim in claims:
            spec = claim["spec"]
            pending = claim["status"].get("phase") == "Pending" and not spec.get("volumeName")
            if pending and spec.get("storageClassName") == CLASS:
                self._provision(claim)

    def _provision(self, claim: Object) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        name = f"pvc-{metadata['uid']}"
        directory = self._folder / name
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777)
        reference = {key: metadata[key] for key in ("namespace", "name", "uid")}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
                "storageClassName": CLASS,
                "persistentVolumeReclaimPolicy": "Retain",
                "volumeMode": spec.get("volumeMode", "Filesystem"),
                "hostPath": {"path": str(directory), "type": "Directory"},
            },
        }
        if self._client.create("/api/v1/persistentvolumes", volume):
            say(f"provisioner: {metadata['namespace']}/{metadata['name']} -> {directory}")

    def _remove_released(self) -> None:
        for volume in self._client.get("/api/v1/persistentvolumes?resourceVersion=0")["items"]:
            ours = volume["metadata"].get("annotations", {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
            if ours and volume["status"].get("phase") == "Released" and "deletionTimestamp" not in volume["metadata"]:
                name = volume["metadata"]["name"]
                self._client.request("DELETE", f"/api/v1/persistentvolumes/{name}")
                shutil.rmtree(self._folder / name)
                say(f"provisioner: removed {name}")
