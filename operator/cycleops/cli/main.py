"""Subcommands. Each imports what it needs when it runs: planning needs no kopf, the operator no tables."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="CycleOps: the compute cycle of a model.", no_args_is_help=True, pretty_exceptions_enable=False)

INFEASIBLE = 1
BAD_INPUT = 2

_Service = Annotated[
    Path, typer.Option("--file", "-f", help="YAML with the CycleService.", exists=True, dir_okay=False)
]
_Profiles = Annotated[
    Path,
    typer.Option(
        "--profiles", help="Folder or file of CycleProfiles (kubectl get cycleprofiles -o yaml).", exists=True
    ),
]
_Hardware = Annotated[
    Path | None,
    typer.Option("--hardware", help="YAML with the HardwareClasses, if not in the other files.", exists=True),
]
_WhatIf = Annotated[
    str,
    typer.Option(
        "--what-if",
        help="Changes, such as rate=2x,p99=50ms,replicas=8,drop=0.05,minimum=0.7; "
        "of generated text ttft=200ms,tpot=30ms,output=2x.",
    ),
]
_Json = Annotated[Path | None, typer.Option("--json", help="Write the whole result here.", dir_okay=False)]
_Plot = Annotated[
    Path | None, typer.Option("--plot", help="Write the Pareto frontier here: .html, .png or .svg.", dir_okay=False)
]


@app.command("plan")
def plan_command(
    service: _Service,
    profiles: _Profiles,
    hardware: _Hardware = None,
    what_if: _WhatIf = "",
    json_file: _Json = None,
    plot: _Plot = None,
) -> None:
    """Choose variant, batch, hardware and replicas for a CycleService, without a cluster.

    Exits with 1 when nothing is feasible, with 2 when the input is wrong.
    """
    from cycleops.cli.plan import BadInputError, run

    try:
        feasible = run(
            service_file=service,
            profiles=profiles,
            hardware=hardware,
            what_if=what_if,
            json_file=json_file,
            plot=plot,
        )
    except BadInputError as error:
        typer.echo(f"cycleops plan: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    if not feasible:
        raise typer.Exit(INFEASIBLE)


@app.command("crds")
def crds_command(
    folder: Annotated[Path, typer.Argument(help="Where to write the CustomResourceDefinitions.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 when a file differs.")] = False,
) -> None:
    """Write the CustomResourceDefinitions."""
    from cycleops.api.crd import main

    raise typer.Exit(main([*(["--check"] if check else []), str(folder)]))


@app.command("operator")
def operator_command() -> None:
    """Run the operator; its settings come from the environment."""
    from cycleops.controller.main import run

    run()


if __name__ == "__main__":
    app()
