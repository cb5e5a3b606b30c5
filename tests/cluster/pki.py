"""Certificates and kubeconfigs of one cluster, made with openssl (P-256, valid for 30 days)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.paths import run

VALID_DAYS = "30"


@dataclass(frozen=True)
class Pair:
    """Paths of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """The cluster's certificate authority, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder
        self._configuration = folder / "openssl.cnf"
        self._configuration.write_text("[req]\ndistinguished_name = name\n[name]\n")
        self.pair = Pair(folder / "ca.crt", folder / "ca.key")
        self._request(
            self.pair, "/CN=cycleops-test-ca", "basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign,cRLSign"
        )

    def issue(self, name: str, *, user: str, groups: tuple[str, ...] = (), addresses: tuple[str, ...] = ()) -> Pair:
        """A pair for clients (`user` in `groups`) that also serves the addresses, given as `IP:...` or `DNS:...`."""
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        extensions = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth,serverAuth"]
        if addresses:
            extensions.append("subjectAltName=" + ",".join(addresses))
        self._request(pair, subject, *extensions, signer=self.pair)
        return pair

    def signing_key(self, name: str) -> Pair:
        """A key pair for ServiceAccount tokens: the public key takes the certificate's place."""
        pair = Pair(self._folder / f"{name}.pub", self._folder / f"{name}.key")
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", pair.key])
        run(["openssl", "pkey", "-in", pair.key, "-pubout", "-out", pair.certificate])
        return pair

    def _request(self, pair: Pair, subject: str, *extensions: str, signer: Pair | None = None) -> None:
        command: list[str | Path] = ["openssl", "req", "-x509", "-config", self._configuration, "-subj", subject]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", VALID_DAYS]
        command += ["-keyout", pair.key, "-out", pair.certificate]
        for extension in extensions:
            command += ["-addext", extension]
        if signer:
            command += ["-CA", signer.certificate, "-CAkey", signer.key]
        run(command)
        pair.key.chmod(0o600)

    def kubeconfig(self, target: Path, *, server: str, pair: Pair, cluster: str) -> Path:
        """Write a kubeconfig with the certificates inside it; it works wherever `server` is reachable."""

        def data(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        authority = {"server": server, "certificate-authority-data": data(self.pair.certificate)}
        user = {"client-certificate-data": data(pair.certificate), "client-key-data": data(pair.key)}
        target.touch(mode=0o600)
        target.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": cluster, "cluster": authority}],
                    "users": [{"name": cluster, "user": user}],
                    "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
                    "current-context": cluster,
                },
                indent=1,
            )
        )
        return target
