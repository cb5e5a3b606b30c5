"""Makes PyPI's CUDA build of torch load without the CUDA libraries that a CPU never calls.

PyPI has no CPU-only torch for x86-64: `import torch` loads 2.6 GB of cuBLAS, cuDNN, NCCL and others only because
libtorch_cuda.so is linked against them. With ACCELERATOR=cpu they aren't installed; this script writes a small
library in each one's place that defines the symbols torch links against. Calling one ends the process with a message.
The CUDA runtime and CUPTI stay the real ones, so `torch.cuda.is_available()` answers False as on any CPU machine.

    python cpu_only.py filter requirements.lock > cpu.lock     # the lock without those packages
    python cpu_only.py link SITE_PACKAGES                      # write the libraries (needs gcc and binutils)
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

KEEP = {"nvidia-cuda-runtime", "nvidia-cuda-cupti"}
DROPPED = re.compile(r"^(nvidia-[a-z0-9-]+|triton|cuda-[a-z]+)==")
ANY = "any library"
SOURCE = r"""
#include <stdlib.h>
#include <unistd.h>
__attribute__((used)) static void no_cuda(void) {
    static const char text[] = "This image was built with ACCELERATOR=cpu: it has no CUDA libraries.\n";
    ssize_t written = write(2, text, sizeof(text) - 1);
    (void)written;
    abort();
}
"""


def filter_lock(text: str) -> str:
    """The lock file without the CUDA packages; entries start at column 0, their hashes are indented."""
    lines, dropping = [], False
    for line in text.splitlines():
        if line and not line[0].isspace():
            match = DROPPED.match(line)
            dropping = match is not None and match[1] not in KEEP
        if not dropping:
            lines.append(line)
    return "\n".join(lines) + "\n"


def tool(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def needed(library: Path) -> set[str]:
    return set(re.findall(r"NEEDED\s+(\S+)", tool("objdump", "-p", str(library))))


def version_owners(library: Path) -> dict[str, str]:
    """The symbol versions that the library wants, and which library each comes from."""
    owners, owner = {}, ""
    for line in tool("objdump", "-p", str(library)).splitlines():
        if match := re.match(r"\s*required from (\S+):", line):
            owner = match[1]
        elif match := re.match(r"\s+0x[0-9a-f]+ 0x[0-9a-f]+ \d+ (\S+)", line):
            owners[match[1]] = owner
    return owners


def dynamic_symbols(library: Path) -> tuple[set[tuple[str, str]], set[str]]:
    """(symbol, version) that the library wants, "" for no version and weak ones left out; symbols that it defines."""
    wanted, defined = set(), set()
    for line in tool("objdump", "-T", str(library)).splitlines():
        match = re.match(r"[0-9a-f]{8,} (.{7}) (\S+)\s+[0-9a-f]+\s+(?:\(?([A-Za-z_][\w.]*)\)?\s+)?(\S+)$", line)
        if not match:
            continue
        flags, section, version, name = match.groups()
        if section != "*UND*":
            defined.add(name)
        elif "w" not in flags:
            wanted.add((name, "" if version in (None, "Base") else version))
    return wanted, defined


def write_stub(path: Path, *, symbols: set[str], version: str) -> None:
    """A shared library, its file name as soname, whose symbols (of one version, or of none) all end the process."""
    aliases = "".join(f".globl {s}\\n.type {s},@function\\n.set {s}, no_cuda\\n" for s in sorted(symbols))
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch, "stub.c"), Path(scratch, "stub.map")
        source.write_text(SOURCE + f'__asm__("{aliases}");\n')
        script.write_text(f"{version} {{ global: *; }};\n")
        versioned = [f"-Wl,--version-script={script}"] if version else []
        tool("gcc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{path.name}", *versioned, "-o", str(path), str(source))


def link(site_packages: Path) -> None:
    folder = site_packages / "torch" / "lib"
    # torch opens these two only with a GPU (the second needs the driver's libcuda.so, which must stay absent).
    (folder / "libtorch_cuda_linalg.so").unlink(missing_ok=True)
    (folder / "libcaffe2_nvrtc.so").unlink(missing_ok=True)
    ours = sorted(folder.glob("*.so*"))
    present = {p.name: p for p in (*ours, *(site_packages / "nvidia").rglob("*.so*"))}
    for line in tool("/sbin/ldconfig", "-p").splitlines()[1:]:
        present.setdefault(line.split()[0], Path(line.split()[-1]))
    wanted_libraries = {name for library in ours for name in needed(library)}
    missing = wanted_libraries - present.keys()
    defined: set[str] = set()
    owners: dict[str, str] = {}
    wanted: set[tuple[str, str]] = set()
    for library in ours:
        wants, defines = dynamic_symbols(library)
        wanted |= wants
        defined |= defines
        owners |= version_owners(library)
    for name in wanted_libraries & present.keys():
        defined |= dynamic_symbols(present[name])[1]
    symbols_of: dict[str, set[str]] = defaultdict(set)
    for name, version in wanted:
        if version:
            symbols_of[owners.get(version, "")].add(name)
        elif name not in defined and not name.startswith(("Py", "_Py")):  # the interpreter has those
            symbols_of[ANY].add(name)
    versions = {library: version for version, library in owners.items() if library in missing}
    # The dynamic linker looks for a symbol without a version in every library, so any one may define them all.
    symbols_of[min(missing - versions.keys())] |= symbols_of.pop(ANY)
    for name in sorted(missing):
        write_stub(folder / name, symbols=symbols_of[name], version=versions.get(name, ""))
        print(f"{name}: {len(symbols_of[name])} symbols")


def main() -> None:
    match sys.argv[1:]:
        case ["filter", lock]:
            sys.stdout.write(filter_lock(Path(lock).read_text()))
        case ["link", site_packages]:
            link(Path(site_packages))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
