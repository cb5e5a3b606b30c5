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
        help="Changes, such as rate=2x,p99=50ms,replicas=8,drop=0.05,minimum=0.7,loss=1 or zones=3; "
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
    mixes: Annotated[
        bool, typer.Option("--mixes", help="Also look for mixes of classes. The operator does not deploy those.")
    ] = False,
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
            mixes=mixes,
        )
    except BadInputError as error:
        typer.echo(f"cycleops plan: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    if not feasible:
        raise typer.Exit(INFEASIBLE)


@app.command("simulate")
def simulate_command(
    service: _Service,
    profiles: _Profiles,
    plan: Annotated[Path, typer.Option("--plan", help="A plan as `plan --json` writes it.", exists=True)],
    trace: Annotated[
        Path,
        typer.Option(
            "--trace",
            help="CSV. Header `seconds`: when each request came. Header `seconds,requestsPerSecond`: the rate from "
            "then to the next row; requests are drawn (Poisson).",
            exists=True,
        ),
    ],
    hardware: _Hardware = None,
    what_if: _WhatIf = "",
    window: Annotated[float, typer.Option("--window", help="Seconds of each line of the table.", min=0.1)] = 60.0,
    replicas: Annotated[
        int | None, typer.Option("--replicas", help="So many instead of the plan's; not for mixes.", min=1, max=1000)
    ] = None,
    cache_hit_ratio: Annotated[
        float, typer.Option("--cache-hit-ratio", help="Share of the requests that the cache answers.", min=0, max=0.99)
    ] = 0.0,
    json_file: _Json = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a picture here: .png or .svg.", dir_okay=False)
    ] = None,
) -> None:
    """Replay a trace against a plan: predicted percentiles, attainment and utilization by window.

    Exits with 1 when the budget's percentile is not held over the trace, with 2 when the input is wrong.
    """
    from cycleops.cli.simulate import BadInputError, run

    try:
        held = run(
            service_file=service,
            profiles=profiles,
            hardware=hardware,
            what_if=what_if,
            plan_file=plan,
            trace_file=trace,
            window_seconds=window,
            replicas=replicas,
            cache_hit_ratio=cache_hit_ratio,
            json_file=json_file,
            plot=plot,
        )
    except BadInputError as error:
        typer.echo(f"cycleops simulate: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    if not held:
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
