"""`python -m tests.cluster`: the test cluster and the project's images from the command line."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.cluster import binaries, images
from tests.cluster.builders import choose_builder, docker_works
from tests.cluster.choose import running_cluster, start_cluster, stop_running
from tests.cluster.clusters import Cluster
from tests.cluster.paths import ClusterError, say, timed


def _host(arguments: argparse.Namespace) -> None:
    """Nothing is needed where a Docker engine builds and someone else's cluster or kind runs, but what is asked for."""
    if docker_works() and (shutil.which("kind") or os.environ.get("KUBECONFIG")) and not arguments.packages:
        return
    if subprocess.run([Path(__file__).with_name("host.sh"), *arguments.packages], check=False).returncode != 0:
        raise ClusterError("the packages above are needed and could not be installed")


def _up(arguments: argparse.Namespace) -> None:
    cluster = start_cluster(detached=True)
    if arguments.images is not None:
        cluster.load_images(*arguments.images)
    say(f"{cluster.kind} cluster is up; to look around:")
    _print_environment(cluster)


def _down(_: argparse.Namespace) -> None:
    cluster = stop_running()
    say(f"{cluster.kind} cluster is down" if cluster else "no cluster of this checkout is up")


def _status(_: argparse.Namespace) -> None:
    cluster = _needed()
    print(f"{cluster.kind} cluster, kubeconfig {cluster.kubeconfig}, logs {cluster.logs or 'elsewhere'}", flush=True)
    kubectl = binaries.build_all() / "kubectl"
    subprocess.run([kubectl, "--kubeconfig", cluster.kubeconfig, "get", "nodes", "--output", "wide"], check=True)
    if cluster.images_file.exists():
        for name, ref in json.loads(cluster.images_file.read_text()).items():
            print(f"{name:12} {ref}")


def _env(_: argparse.Namespace) -> None:
    _print_environment(_needed())


def _images(arguments: argparse.Namespace) -> None:
    if arguments.load:
        built = _needed().load_images(*arguments.names)
    else:
        built = images.build_all(arguments.names, builder=choose_builder(prefer_docker=False))
    for name, ref in built.items():
        print(name, ref)


def _build(_: argparse.Namespace) -> None:
    """Mostly one process each (a download, an installation, a link), so side by side they take half the time."""
    builder = choose_builder(prefer_docker=False)
    with timed("building programs and images"), ThreadPoolExecutor() as pool:
        tasks: list[Future[object]] = [pool.submit(binaries.build_all)]
        tasks += [pool.submit(images.build, name, builder=builder) for name in images.TESTED_NAMES]
        for task in as_completed(tasks):
            task.result()


def _needed() -> Cluster:
    cluster = running_cluster()
    if cluster is None:
        raise ClusterError("no cluster of this checkout is up; start one with `python -m tests.cluster up`")
    return cluster


def _print_environment(cluster: Cluster) -> None:
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    print(f'export PATH={shlex.quote(str(binaries.build_all()))}:"$PATH"')
    print(f"export CYCLEOPS_IMAGES={shlex.quote(str(cluster.images_file))}")


def main() -> int:
    """Parse, run, and turn a ClusterError into one message and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    host = commands.add_parser("host", help="install the Debian packages that are missing")
    host.add_argument("packages", nargs="*", metavar="PACKAGE", help="others that are needed too, for a benchmark")
    host.set_defaults(act=_host)
    up = commands.add_parser("up", help="start the cluster, or find it up; prints its environment")
    up.add_argument("--images", nargs="*", metavar="NAME", help="load these images too (none named: all)")
    up.set_defaults(act=_up)
    commands.add_parser("down", help="stop what `up` started").set_defaults(act=_down)
    commands.add_parser("status", help="its node and images").set_defaults(act=_status)
    commands.add_parser("env", help="shell lines that set KUBECONFIG, PATH and CYCLEOPS_IMAGES").set_defaults(act=_env)
    command = commands.add_parser("images", help="build what changed; prints NAME REFERENCE lines")
    command.add_argument("names", nargs="*", help="images to build (default: all)")
    command.add_argument("--load", action="store_true", help="load them into the cluster that is up")
    command.set_defaults(act=_images)
    commands.add_parser("build", help="all programs and images of the tests, side by side").set_defaults(act=_build)
    arguments = parser.parse_args()
    try:
        arguments.act(arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
