"""The `cycle-server` command. Each subcommand imports only what it runs: the sidecar never loads torch."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cycle_server.config import read_config
from cycle_server.errors import BadInputError
from cycle_wire.reports import EXIT_BAD_INPUT

TERMINATION_LOG = Path("/dev/termination-log")


def main(arguments: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parsed = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    try:
        sys.exit(run(parsed))
    except BadInputError as error:
        message = f"{error.reason}: {error}"
        print(message, file=sys.stderr)
        if TERMINATION_LOG.exists():  # only in a pod
            TERMINATION_LOG.write_text(message, encoding="utf-8")
        sys.exit(EXIT_BAD_INPUT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cycle-server", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, default, text in (
        ("serve", _serve, "/etc/cycleops/server.json", "answer requests"),
        ("sidecar", _sidecar, "/etc/cycleops/sidecar.json", "cache answers in front of a server"),
        ("profile", _profile, "/etc/cycleops/config.json", "evaluate and measure variants on this machine"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, default=Path(default), help="default: %(default)s")
        command.set_defaults(run=run)
    compute = commands.add_parser("compute", help="started by serve when it has several workers: not for people")
    compute.add_argument("--control", type=int, required=True, help="descriptor of the socket to serve")
    compute.set_defaults(run=_compute)
    load = commands.add_parser("load", help="send Poisson arrivals to a service and report its latency")
    _add_load_options(load)
    load.set_defaults(run=_load)
    return parser


def _add_load_options(load: argparse.ArgumentParser) -> None:
    load.add_argument("--url", required=True, help="for example http://127.0.0.1:8080")
    load.add_argument("--model", required=True, help="the model's name in the URL: the CycleService's name")
    load.add_argument("--rate", type=float, required=True, help="requests per second")
    load.add_argument("--duration", type=float, default=60.0, help="seconds (default: %(default)s)")
    load.add_argument("--warm-up", type=float, default=0.0, help="seconds before that aren't counted")
    load.add_argument("--data", type=Path, required=True, help="JSON lines to take texts from")
    load.add_argument("--field", default="text", help="of each line (default: %(default)s)")
    load.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    load.add_argument("--token-lengths", default="16,48", help="P50,P99 of the texts' tokens (default: %(default)s)")
    load.add_argument("--distinct", type=int, default=2000, help="how many different texts there are")
    load.add_argument("--zipf", type=float, default=0.8, help="exponent of the texts' popularity; 0: all alike")
    load.add_argument("--seed", type=int, default=0)
    load.add_argument("--timeout", type=float, default=10.0, help="seconds after which a request is an error")
    load.add_argument("--report", type=Path, help="write the results as JSON here")


def _serve(parsed: argparse.Namespace) -> int:
    from cycle_server.server.main import serve
    from cycle_wire.serving import ServerConfig

    serve(read_config(parsed.config, ServerConfig))
    return 0


def _compute(parsed: argparse.Namespace) -> int:
    from cycle_server.workers.template import run

    return run(parsed.control)


def _sidecar(parsed: argparse.Namespace) -> int:
    from cycle_server.sidecar.app import run_sidecar
    from cycle_wire.serving import SidecarConfig

    run_sidecar(read_config(parsed.config, SidecarConfig))
    return 0


def _profile(parsed: argparse.Namespace) -> int:
    from cycle_server.profiler.main import profile
    from cycle_wire.serving import ProfilingConfig

    return profile(read_config(parsed.config, ProfilingConfig))


def _load(parsed: argparse.Namespace) -> int:
    from cycle_server.load.main import run_load, settings_of

    return run_load(settings_of(parsed))


if __name__ == "__main__":
    main()
