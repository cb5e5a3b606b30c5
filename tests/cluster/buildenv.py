"""What a build needs of this machine's environment and must not leave in an image.

Certificates, the pip configuration and the Debian mirror are bind-mounted into build containers;
nothing of them is copied, set as ENV or written into the repository.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.paths import ClusterError, cache_folder

CERTIFICATES_IN_BUILD = "/tmp/build-ca.crt"
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_CACHE_IN_BUILD = "/tmp/build-pip-cache"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Settings of pip that say where packages come from; the rest of a user's configuration is theirs.
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Where this machine takes Debian packages from (URLs without a trailing slash)."""

    main: str
    security: str

    def apt_lines(self, suite: str) -> list[str]:
        """One-line sources of a suite, its updates and its security updates."""
        return [
            f"deb {self.main} {suite} main",
            f"deb {self.main} {suite}-updates main",
            f"deb {self.security} {suite}-security main",
        ]

    def deb822(self, suite: str) -> str:
        """The same as a debian.sources file."""
        signed = f"Components: main\nSigned-By: {KEYRING}\n"
        return (
            f"Types: deb\nURIs: {self.main}\nSuites: {suite} {suite}-updates\n{signed}\n"
            f"Types: deb\nURIs: {self.security}\nSuites: {suite}-security\n{signed}"
        )


def host_mirror() -> Mirror:
    """The mirror that apt uses here. Raises ClusterError where apt knows no Debian source."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        origin, label, uri = line.split("|", 2)
        if origin == "Debian":
            found.setdefault(label, uri.rstrip("/"))
    if "Debian" not in found:
        raise ClusterError("apt knows no source of Debian's packages; run `python -m tests.cluster host`")
    main = found["Debian"]
    return Mirror(main=main, security=found.get("Debian-Security", f"{main}-security"))


def certificate_bundle() -> Path | None:
    """The CA bundle that programs on this machine are told to trust, if there is one."""
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        value = os.environ.get(name)
        if value and Path(value).is_file():
            return Path(value)
    return SYSTEM_CERTIFICATES if SYSTEM_CERTIFICATES.is_file() else None


def _pip_configuration() -> str:
    """A pip.conf with this machine's package index, read through pip itself."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda text: text.startswith(":env:")):  # the environment wins
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in PIP_SETTINGS:
            settings[name] = value.strip("'\"").replace("\\n", "\n    ")
    if certificate_bundle():
        settings["cert"] = CERTIFICATES_IN_BUILD
    settings["cache-dir"] = PIP_CACHE_IN_BUILD
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(settings.items()))


def _apt_configuration() -> str:
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    proxies = [
        line for line in dump.splitlines() if line.lower().startswith(("acquire::http::proxy", "acquire::https::proxy"))
    ]
    trust = [f'Acquire::https::CaInfo "{CERTIFICATES_IN_BUILD}";'] if certificate_bundle() else []
    return "\n".join([*proxies, *trust]) + "\n"


def build_mounts(suite: str) -> list[str]:
    """Values for `buildah build --volume`: certificates, pip and apt configuration, pip's download cache."""
    folder = cache_folder("build-environment", suite)
    sources, pip, apt = folder / "debian.sources", folder / "pip.conf", folder / "apt.conf"
    sources.write_text(host_mirror().deb822(suite))
    pip.write_text(_pip_configuration())
    apt.write_text(_apt_configuration())
    mounts = [
        f"{sources}:/etc/apt/sources.list.d/debian.sources:ro",
        f"{apt}:/etc/apt/apt.conf.d/99-build-environment:ro",
        f"{pip}:/etc/pip.conf:ro",
        f"{cache_folder('pip')}:{PIP_CACHE_IN_BUILD}:rw",
    ]
    bundle = certificate_bundle()
    return [*mounts, f"{bundle}:{CERTIFICATES_IN_BUILD}:ro"] if bundle else mounts
