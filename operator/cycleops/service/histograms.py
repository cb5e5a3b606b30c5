"""From what pods expose to quantiles over the last window. Pure: text and the clock in, numbers out.

Prometheus histograms only ever grow, so what happened in a window is the difference of two scrapes, per pod; a pod that
restarted counts from zero again. Buckets of different pods add up, quantiles don't, so the sum comes first.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from cycleops.service.haproxy import FRONTEND
from cycleops.service.haproxy_times import OVERHEAD_METRIC, TOTAL_METRIC

# Term of T -> the histogram that measures it, in seconds. ``service`` is all of T, from the balancer's door in to its
# door out; ``pod`` is what the sidecar sees of it, and stands in for it where no balancer can be read. The last two are
# of models that generate, and no terms of T's sum.
TERMS = {
    "service": TOTAL_METRIC,
    "overhead": OVERHEAD_METRIC,
    "pod": "cycle_request_seconds",
    "queue": "cycle_queue_seconds",
    "pre": "cycle_pre_seconds",
    "compute": "cycle_compute_seconds",
    "post": "cycle_post_seconds",
    "firstToken": "cycle_first_token_seconds",
    "perToken": "cycle_per_token_seconds",
}
_TERM_OF = {metric: term for term, metric in TERMS.items()}
# Counts, kept like a histogram of one bucket. The balancers count every arrival, and every 5xx whoever gave it; the
# sidecar's count of 5xx is taken when no balancer can be read.
ARRIVALS: "Series" = ("arrivals", "")
REJECTED: "Series" = ("rejected", "")  # 4xx: they need no server
ERRORS: "Series" = ("errors", "")
FAILED: "Series" = ("failed", "")
# For adaptation: the sum of the compute histogram, input lengths in tokens, and answers by index of their label.
COMPUTE_SUM: "Series" = ("compute sum", "")
TOKENS: "Series" = ("tokens", "")
LABELS: "Series" = ("labels", "")
_ALL = float("inf")

Counts = Mapping[float, float]  # bucket's upper bound in seconds -> requests in that bucket alone
Series = tuple[str, str]  # term, outcome (empty where the histogram has no such label)
Scrape = Mapping[Series, Counts]


def parse(text: str) -> dict[Series, dict[float, float]]:
    """What a pod of either role exposes of T. Raises ValueError on text that is no exposition."""
    cumulative: dict[Series, dict[float, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found = _of_server(family.name, sample) or _of_balancer(sample)
            if found is not None:
                series, bound = found
                counts = cumulative.setdefault(series, {})
                counts[bound] = counts.get(bound, 0.0) + sample.value
    return {series: counts if series == LABELS else _apart(counts) for series, counts in cumulative.items()}


def _of_server(family: str, sample: Sample) -> tuple[Series, float] | None:
    if sample.name == "cycle_requests_total" and "outcome" in sample.labels and sample.labels["code"].startswith("5"):
        return FAILED, _ALL
    if sample.name == "cycle_compute_seconds_sum":
        return COMPUTE_SUM, _ALL
    if sample.name == "cycle_input_tokens_bucket":
        return TOKENS, float(sample.labels["le"])
    if sample.name == "cycle_answers_total":
        return LABELS, float(sample.labels["index"])
    term = _TERM_OF.get(family)
    if term is None or sample.name != f"{family}_bucket":
        return None
    return (term, sample.labels.get("outcome", "")), float(sample.labels["le"])


def _of_balancer(sample: Sample) -> tuple[Series, float] | None:
    if sample.labels.get("proxy") != FRONTEND:
        return None
    if sample.name == "haproxy_frontend_http_requests_total":
        return ARRIVALS, _ALL
    if sample.name == "haproxy_frontend_http_responses_total":
        return {"4xx": (REJECTED, _ALL), "5xx": (ERRORS, _ALL)}.get(sample.labels.get("code", ""))
    return None


def _apart(cumulative: Counts) -> dict[float, float]:
    result, below = {}, 0.0
    for bound in sorted(cumulative):
        result[bound], below = cumulative[bound] - below, cumulative[bound]
    return result


def since(new: Scrape, old: Scrape) -> dict[Series, dict[float, float]]:
    """What one pod counted between two scrapes; everything since its start when it restarted in between."""
    if any(new.get(series, {}).get(bound, 0.0) < count for series in old for bound, count in old[series].items()):
        old = {}
    return {
        series: {bound: count - old.get(series, {}).get(bound, 0.0) for bound, count in counts.items()}
        for series, counts in new.items()
    }


def total(scrapes: Iterable[Scrape]) -> dict[Series, dict[float, float]]:
    """The sum, bucket by bucket."""
    result: dict[Series, dict[float, float]] = {}
    for scrape in scrapes:
        for series, counts in scrape.items():
            into = result.setdefault(series, {})
            for bound, count in counts.items():
                into[bound] = into.get(bound, 0.0) + count
    return result


def quantile(counts: Counts, share: float) -> float | None:
    """Linear within the bucket that holds the quantile, as Prometheus does; None without requests.

    A quantile above the last finite bound is that bound: more is not known.
    """
    requests = sum(counts.values())
    if requests <= 0:
        return None
    target, seen, below = share * requests, 0.0, 0.0
    for bound in sorted(counts):
        inside = counts[bound]
        if inside > 0 and seen + inside >= target:
            if bound == float("inf"):
                return below
            return below + (bound - below) * max(target - seen, 0.0) / inside
        seen, below = seen + inside, bound
    return below


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Milliseconds. ``budgeted`` is at the budget's percentile."""

    p50: float
    p99: float
    budgeted: float


@dataclass(frozen=True, slots=True)
class Measured:
    """The last window, over all pods. ``terms`` lacks those of which nothing was measured."""

    terms: Mapping[str, Quantiles]
    requests: int  # that pods answered
    requests_per_second: float  # arrivals at the balancers, where those could be read
    errors: int
    hits: int
    window_seconds: float
    ended_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Happened:
    """Between two rounds of scrapes. ``pods``: uids of those that were read in both, so that nothing of them lacks."""

    began_at: float
    ended_at: float
    counts: Scrape
    pods: frozenset[str]


@dataclass(slots=True)
class Window:
    """Scrapes of one service's pods. Keeps one scrape per pod and one sum per interval of the window."""

    span_seconds: float
    _last: dict[str, Scrape] = field(default_factory=dict)
    _intervals: deque[tuple[float, float, Scrape]] = field(default_factory=deque)
    _scraped_at: float | None = None

    def add(self, pods: Mapping[str, Scrape], *, now: float) -> "Happened | None":
        """One round of scrapes, by pod uid. The first round of a pod only sets its base; None in the very first."""
        known, before = frozenset(self._last.keys() & pods.keys()), self._scraped_at
        happened = total(since(scrape, self._last[uid]) for uid, scrape in pods.items() if uid in self._last)
        if self._scraped_at is not None:
            self._intervals.append((self._scraped_at, now, happened))
        self._last, self._scraped_at = dict(pods), now
        while self._intervals and self._intervals[0][1] <= now - self.span_seconds:
            self._intervals.popleft()
        return Happened(before, now, happened, known) if before is not None else None

    def measured(self, *, percentile: float) -> Measured | None:
        """None when no request was answered in the window. ``percentile`` is 0 to 100."""
        if not self._intervals:
            return None
        counts = total(scrape for _, _, scrape in self._intervals)
        arrivals, errors, failed = (counts.get(series, {}) for series in (ARRIVALS, ERRORS, FAILED))
        of_terms = ({(t, ""): c} for (t, _), c in counts.items() if t in TERMS)
        by_term = {term: c for (term, _), c in total(of_terms).items()}
        service, pod = by_term.pop("service", {}), by_term.pop("pod", {})
        by_term["total"] = service if count_of(service) else pod
        of = "service" if count_of(service) else "pod"
        requests = count_of(by_term["total"])
        if requests == 0:
            return None
        start, end = self._intervals[0][0], self._intervals[-1][1]
        return Measured(
            terms={t: q for t, q in ((t, _quantiles(v, percentile)) for t, v in by_term.items()) if q is not None},
            requests=requests,
            requests_per_second=(count_of(arrivals) if arrivals else requests) / (end - start),
            errors=count_of(errors) if errors else count_of(failed),
            hits=sum(count_of(counts.get((of, outcome), {})) for outcome in ("hit", "coalesced")),
            window_seconds=end - start,
            ended_at=end,
        )


def count_of(counts: Counts) -> int:
    return round(sum(counts.values()))


def _quantiles(counts: Counts, percentile: float) -> Quantiles | None:
    found = [quantile(counts, share) for share in (0.5, 0.99, percentile / 100)]
    if any(value is None for value in found):
        return None
    p50, p99, budgeted = (round(1000 * value, 3) for value in found if value is not None)
    return Quantiles(p50=p50, p99=p99, budgeted=budgeted)
