"""`python -m tests.cluster`: the cluster and its images from the command line."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.cluster import images
from tests.cluster.builders import choose_builder
from tests.cluster.paths import ClusterError


def _host(_: argparse.Namespace) -> None:
    subprocess.run([Path(__file__).with_name("host.sh")], check=True)


def _images(arguments: argparse.Namespace) -> None:
    built = images.build_all(arguments.names, builder=choose_builder(prefer_docker=False))
    for name, ref in built.items():
        print(name, ref)


def main() -> int:
    """Parse, run, and turn a ClusterError into one message and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("host", help="install the Debian packages that are missing").set_defaults(act=_host)
    command = commands.add_parser("images", help="build what changed; prints NAME REFERENCE lines")
    command.add_argument("names", nargs="*", help="images to build (default: all)")
    command.set_defaults(act=_images)
    arguments = parser.parse_args()
    try:
        arguments.act(arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
