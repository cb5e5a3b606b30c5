"""What a load run gives: counts, and a histogram per term and outcome on the profile's grid."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from pydantic import Field

from cycle_wire.base import WireModel
from cycle_wire.profile import Histogram

ALL = "all"
# "other" is what no hop accounts for: network, balancer, HTTP and hand-overs between threads.
TERMS = ("total", "queue", "pre", "compute", "post", "cache", "other")


class TermReport(WireModel):
    count: int
    mean_milliseconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    histogram: Histogram


class LoadReport(WireModel):
    model: str
    url: str
    rate: float
    duration_seconds: float
    seed: int
    zipf: float
    distinct_texts: int
    token_lengths: dict[str, int] = Field(description="p50 and p99 of the requests' texts, measured.")
    requests: int
    errors: int = Field(description="Requests without a 200 answer, shed ones too.")
    errors_by_kind: dict[str, int]
    outcomes: dict[str, int] = Field(description="Answers by X-Cycle-Cache.")
    cache_hit_ratio: float = Field(description="Hits by answers.")
    coalesced_ratio: float
    send_lag: TermReport = Field(description="How late this program sent: part of every total.")
    terms: dict[str, dict[str, TermReport]] = Field(description="By outcome (all for every answer), then by term.")


@dataclass
class Results:
    """Filled while the load runs. All times in seconds."""

    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    lags: list[float] = field(default_factory=list)
    times: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def answered(self, *, total: float, outcome: str, terms: dict[str, float]) -> None:
        self.outcomes[outcome] += 1
        row = {"total": total, **terms, "other": max(total - sum(terms.values()), 0.0)}
        for name in TERMS:
            if name in row:
                self.times[outcome][name].append(row[name])
                self.times[ALL][name].append(row[name])

    def term_reports(self) -> dict[str, dict[str, TermReport]]:
        return {
            outcome: {term: term_report(times) for term, times in by_term.items()}
            for outcome, by_term in self.times.items()
        }


def term_report(times_seconds: list[float]) -> TermReport:
    return TermReport(
        count=len(times_seconds),
        mean_milliseconds=round(sum(times_seconds) / max(len(times_seconds), 1) * 1000, 4),
        p50_milliseconds=quantile_milliseconds(times_seconds, 0.5),
        p99_milliseconds=quantile_milliseconds(times_seconds, 0.99),
        histogram=Histogram.of(times_seconds),
    )


def quantile_milliseconds(times_seconds: list[float], q: float) -> float:
    """Nearest rank; 0 when empty."""
    if not times_seconds:
        return 0.0
    ordered = sorted(times_seconds)
    rank = min(max(-int(-q * len(ordered) // 1), 1), len(ordered))
    return round(ordered[rank - 1] * 1000, 4)


def table(report: LoadReport) -> str:
    """For people: p50 and p99 of each term in milliseconds, by outcome."""
    lines = [
        f"{report.requests} requests in {report.duration_seconds:g} s ({report.rate:g}/s declared), "
        f"{report.errors} errors, cache hits {report.cache_hit_ratio:.1%}",
        f"{'milliseconds':<12}" + "".join(f"{term:>18}" for term in TERMS),
    ]
    for outcome in sorted(report.terms):
        by_term = report.terms[outcome]
        cells = "".join(f"{_cell(by_term.get(term)):>18}" for term in TERMS)
        lines.append(f"{outcome:<12}{cells}   n={by_term['total'].count}")
    lines.append(f"(p50/p99; this program sent {report.send_lag.p99_milliseconds:.2f} ms late at p99)")
    return "\n".join(lines)


def _cell(term: TermReport | None) -> str:
    return f"{term.p50_milliseconds:.2f}/{term.p99_milliseconds:.2f}" if term else "-"
