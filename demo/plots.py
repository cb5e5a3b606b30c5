"""The demo's two plots, each as PNG (matplotlib) and HTML (plotly): Pareto frontier and latency distribution."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import plotly.graph_objects as go

from cycle_wire.profile import Histogram

mpl.use("Agg")
from matplotlib import pyplot as plt

Object = dict[str, Any]
TERMS = ("pre", "queue", "compute", "post")


def cumulative(histogram: Histogram) -> tuple[list[float], list[float]]:
    """Times in milliseconds and the share of requests at or below each."""
    total, seen, shares = max(histogram.count, 1), 0, []
    for count in histogram.counts:
        seen += count
        shares.append(seen / total)
    return [1000 * value for value in histogram.values_seconds()], shares


def frontier(points: list[Object], chosen: Object, budget_ms: float, folder: Path) -> list[Path]:
    """p99 against accuracy, with the cost as text; the chosen plan stands out."""
    x = [point["p99Ms"] for point in points]
    y = [point["accuracy"] for point in points]
    names = [f"{p['variant']} b{p['batchSize']} x{p['replicas']} ({p['costPerHour']:g}/h)" for p in points]
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.scatter(x, y, color="tab:blue")
    for name, left, top in zip(names, x, y, strict=True):
        axes.annotate(name, (left, top), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.axvline(budget_ms, color="tab:red", linestyle="--", label=f"budget {budget_ms:g} ms")
    axes.set(xlabel="predicted p99 of T (ms)", ylabel="accuracy metric", title=f"Plans; chosen: {chosen['variant']}")
    axes.legend()
    png = _save(figure, folder / "pareto.png")
    page = go.Figure(go.Scatter(x=x, y=y, text=names, mode="markers+text", textposition="top center"))
    page.add_vline(x=budget_ms, line_dash="dash", annotation_text="budget")
    page.update_layout(title="Plans", xaxis_title="predicted p99 of T (ms)", yaxis_title="accuracy metric")
    return [png, _write(page, folder / "pareto.html")]


def latency(load: Object, predicted: Object, budget_ms: float, folder: Path) -> list[Path]:
    """Cumulative distribution of the measured T and of each term; predicted p50 and p99 as points."""
    curves = {"T": load["terms"]["all"]["total"]["histogram"]}
    curves |= {f"{term} (misses)": load["terms"]["miss"][term]["histogram"] for term in TERMS}
    figure, axes = plt.subplots(figsize=(7, 4.5))
    page = go.Figure()
    for name, data in curves.items():
        x, y = cumulative(Histogram.model_validate(data))
        axes.plot(x, y, label=name, linewidth=2.5 if name == "T" else 1)
        page.add_scatter(x=x, y=y, name=name)
    points = ([predicted["p50Ms"], predicted["p99Ms"]], [0.5, 0.99])
    axes.plot(*points, "kx", label="predicted p50, p99")
    page.add_scatter(x=points[0], y=points[1], mode="markers", name="predicted p50, p99", marker_symbol="x")
    axes.axvline(budget_ms, color="tab:red", linestyle="--", label=f"budget {budget_ms:g} ms")
    axes.set(xscale="log", xlabel="ms", ylabel="share of requests", title="Measured T and its terms")
    axes.legend()
    page.update_layout(title="Measured T and its terms", xaxis_title="ms", yaxis_title="share of requests")
    page.update_xaxes(type="log")
    page.add_vline(x=budget_ms, line_dash="dash", annotation_text="budget")
    return [_save(figure, folder / "latency.png"), _write(page, folder / "latency.html")]


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _write(page: Any, path: Path) -> Path:
    page.write_html(path, include_plotlyjs=True, full_html=True)
    return path
