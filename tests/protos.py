"""Writes the Python code of the server's .proto files: `python -m tests.protos`; with --check it only compares.

The code is checked in, so that the image's build needs no compiler, types are checked on it and a change of it is seen
in a review; `make verify` fails when it isn't what the pinned compiler makes of the .proto file.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "server_image"
PROTOS = ("cycle_server/protocol/open_inference.proto",)
SUFFIXES = ("_pb2.py", "_pb2.pyi")


def compiled(proto: str) -> dict[Path, str]:
    """What the compiler makes of one file, by path from SOURCES."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["protoc", f"--proto_path={SOURCES}", f"--python_out={folder}", f"--pyi_out={folder}", proto]
        if protoc.main(arguments) != 0:
            raise SystemExit(f"protoc does not take {proto}, see above")
        made = [Path(proto.removesuffix(".proto") + suffix) for suffix in SUFFIXES]
        return {path: (Path(folder) / path).read_text() for path in made}


def outdated() -> Iterator[str]:
    """Files that differ from what would be written."""
    for proto in PROTOS:
        for path, text in compiled(proto).items():
            target = SOURCES / path
            if not target.exists() or target.read_text() != text:
                yield f"{target.relative_to(ROOT)} differs from {proto}: run `make generate`"


def main() -> int:
    if "--check" in sys.argv[1:]:
        problems = list(outdated())
        print("\n".join(problems), end="\n" if problems else "")
        return 1 if problems else 0
    for proto in PROTOS:
        for path, text in compiled(proto).items():
            (SOURCES / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
