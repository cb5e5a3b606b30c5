"""The Pareto frontier as a file; the suffix says which kind. Needs the extra ``plot``."""

from pathlib import Path

from cycleops.cli.files import BadInputError
from cycleops.planner import FrontierPoint, Plan, PlanResult
from cycleops.planner.replay import Replayed

STATIC = {".png", ".svg"}


def pareto(result: PlanResult, *, latency_milliseconds: float, path: Path) -> None:
    """p99 against accuracy, cost as text; hollow breaks the budget, a star is the plan. Raises BadInputError."""
    if path.suffix not in {*STATIC, ".html"}:
        raise BadInputError(f"--plot {path} must end in .html, .png or .svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix == ".html":
            _page(result.frontier, result.plan, latency_milliseconds, path)
        else:
            _picture(result.frontier, result.plan, latency_milliseconds, path)
    except ImportError as error:
        raise BadInputError(f"--plot needs {error.name}: pip install 'cycleops[plot]'") from error


def windows(result: Replayed, *, latency_milliseconds: float, title: str, path: Path) -> None:
    """Rate, latency and utilization over time. Raises BadInputError."""
    if path.suffix not in STATIC:
        raise BadInputError(f"--plot {path} must end in .png or .svg")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise BadInputError(f"--plot needs {error.name}: pip install 'cycleops[plot]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    at = [window.begins_seconds for window in result.windows]
    figure, (rate, latency, busy) = plt.subplots(3, 1, figsize=(9, 7), sharex=True)
    rate.step(at, [window.requests_per_second for window in result.windows], where="post", color="black")
    rate.set(ylabel="requests/s", title=f"{title}\n{result.within:.2%} within {latency_milliseconds:g} ms")
    for name, values in (
        ("p50", [window.p50_ms for window in result.windows]),
        ("p99", [window.p99_ms for window in result.windows]),
    ):
        latency.step(at, values, where="post", label=name)
    latency.axhline(latency_milliseconds, color="tab:red", linestyle="--", label=f"budget {latency_milliseconds:g} ms")
    latency.set(ylabel="T (ms)", yscale="log")
    latency.legend()
    busy.step(at, [100 * window.utilization for window in result.windows], where="post", color="tab:green")
    busy.set(ylabel="compute busy (%)", xlabel="seconds", ylim=(0, 105))
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _text(point: FrontierPoint) -> str:
    return f"{point.variant} b{point.batch_size} x{point.replicas} ({point.cost_per_hour:g}/h)"


def _accuracy(point: FrontierPoint) -> float:
    return 0.0 if point.accuracy is None else point.accuracy


def _picture(points: tuple[FrontierPoint, ...], plan: Plan | None, latency_milliseconds: float, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for point in points:
        face = "tab:blue" if point.meets_budget else "none"
        axes.scatter(point.p99_ms, _accuracy(point), edgecolors="tab:blue", facecolors=face)
        axes.annotate(
            _text(point), (point.p99_ms, _accuracy(point)), textcoords="offset points", xytext=(5, 4), fontsize=8
        )
    if plan is not None:
        axes.scatter(
            plan.predicted.p99_ms, plan.accuracy or 0.0, marker="*", s=220, facecolors="none", edgecolors="tab:orange",
            label=f"plan: {plan.label} ({plan.cost_per_hour:g}/h)",
        )  # fmt: skip
    axes.margins(x=0.18, y=0.12)  # room for the text beside the outermost points
    axes.axvline(latency_milliseconds, color="tab:red", linestyle="--", label=f"budget {latency_milliseconds:g} ms")
    axes.set(xlabel="predicted p99 of T (ms)", ylabel="accuracy metric", title="Pareto frontier")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _page(points: tuple[FrontierPoint, ...], plan: Plan | None, latency_milliseconds: float, path: Path) -> None:
    import plotly.graph_objects as go

    symbols = ["circle" if point.meets_budget else "circle-open" for point in points]
    figure = go.Figure(
        go.Scatter(
            x=[point.p99_ms for point in points],
            y=[_accuracy(point) for point in points],
            text=[_text(point) for point in points],
            mode="markers+text",
            textposition="top center",
            marker={"symbol": symbols, "size": 10},
            name="simulated, beaten by none",
        )
    )
    if plan is not None:
        figure.add_scatter(
            x=[plan.predicted.p99_ms],
            y=[plan.accuracy or 0.0],
            mode="markers",
            marker={"symbol": "star-open", "size": 20},
            name=f"plan: {plan.label} ({plan.cost_per_hour:g}/h)",
        )
    figure.add_vline(x=latency_milliseconds, line_dash="dash", annotation_text="budget")
    figure.update_layout(title="Pareto frontier", xaxis_title="predicted p99 of T (ms)", yaxis_title="accuracy metric")
    figure.write_html(path, include_plotlyjs=True)
