"""How the balancer measures T, with HAProxy alone. Pure: settings in, text out.

T begins when a request's head has come (``tcp-request content``) and ends when the answer's head goes out: for a
streamed answer that is the time to its first byte. HAProxy's own timers are whole milliseconds, so its clock is read in
microseconds. Each process says in ``X-Cycle-Elapsed-Us`` how long it had the request, and the one before it subtracts
that from what it waited: the rest is ``transport`` (sockets, HTTP parsing, the network).

The operator needs quantiles, and HAProxy exports only averages. So each answer is counted in a stick-table with one
counter per bucket and one row per outcome; two pages are files with these counters filled in (a file must fit into one
of HAProxy's buffers, 16 KiB). No further process, no log to follow, and bounded: five rows of at most 43 counters,
whatever comes. Counting costs a few microseconds per request. There is no ``_sum``: the counters have 32 bits.
"""

from collections.abc import Iterator, Sequence

from cycle_wire.headers import CACHE_HEADER, ELAPSED_HEADER, TERMS_HEADER

OUTCOMES = ("hit", "miss", "coalesced", "bypass")
TOTAL_METRIC, OVERHEAD_METRIC = "cycle_t_seconds", "cycle_overhead_seconds"
# Page -> its file.
PAGES = {"/metrics/times": "times.lf", "/metrics/overhead": "overhead.lf"}
_TABLE, _OVERHEAD_ROW = "times", "overhead"


def table(bounds: Sequence[float]) -> str:
    """The backend that holds the counters; rows never leave it."""
    return f"""
backend {_TABLE}
    stick-table type string len 12 size 16 nopurge store gpc({len(bounds) + 1})
"""


def request_rules() -> str:
    return "    tcp-request content set-var(txn.in) date(0,us)"


def response_rules(bounds: Sequence[float]) -> str:
    """Says the balancer's part in ``Server-Timing`` and counts what was answered with 200."""
    return "\n".join(f"    http-response {rule}" for rule in (*_timing_rules(), *_counting_rules(bounds)))


def _timing_rules() -> Iterator[str]:
    yield "set-var(txn.us) date(0,us),sub(txn.in)"
    yield f"set-var(txn.pod) res.hdr({ELAPSED_HEADER})"
    yield f"set-var(txn.terms) res.hdr({TERMS_HEADER})"
    yield "set-var(txn.hop) var(txn.us)"
    yield "set-var(txn.hop) var(txn.us),sub(txn.pod) if { var(txn.pod) -m found }"
    yield "set-var(txn.hop) int(0) if { var(txn.hop) -m int lt 0 }"
    yield f"del-header {ELAPSED_HEADER}"
    yield f"del-header {TERMS_HEADER}"
    own = f"transport;dur={_milliseconds('hop')}, total;dur={_milliseconds('us')}"
    found = "{ res.hdr(Server-Timing) -m found }"
    yield f'set-header Server-Timing "%[res.fhdr(Server-Timing)], {own}" if {found}'
    yield f'set-header Server-Timing "{own}" unless {found}'


def _milliseconds(variable: str) -> str:
    """Microseconds as milliseconds with three digits: 1000 + the rest, without its first digit."""
    return f"%[var(txn.{variable}),div(1000)].%[var(txn.{variable}),mod(1000),add(1000),concat(),bytes(1,3)]"


def _counting_rules(bounds: Sequence[float]) -> Iterator[str]:
    known = f"{{ res.hdr({CACHE_HEADER}) -m str {' '.join(OUTCOMES)} }}"
    yield f"track-sc0 res.hdr({CACHE_HEADER}) table {_TABLE} if {{ status 200 }} {known}"
    # What reached the model has terms; the rest of its T is the overhead.
    yield "set-var(txn.over) var(txn.us),sub(txn.terms)"
    yield f"track-sc1 str({_OVERHEAD_ROW}) table {_TABLE} if {{ status 200 }} {{ var(txn.terms) -m int gt 0 }}"
    for counter, variable in ((0, "us"), (1, "over")):
        for index, bound in enumerate(bounds):
            yield f"sc-inc-gpc({index},{counter}) if {{ var(txn.{variable}) -m int le {round(bound * 1e6)} }}"
        yield f"sc-inc-gpc({len(bounds)},{counter})"


def page_rules(folder: str) -> str:
    return "\n".join(
        f'    http-request return status 200 content-type "text/plain; version=0.0.4" lf-file {folder}/{file} '
        f"if {{ path {path} }}"
        for path, file in PAGES.items()
    )


def page_files(bounds: Sequence[float]) -> dict[str, str]:
    """File name -> text: Prometheus' text format, with HAProxy's expressions for the counts."""
    total = [f"# TYPE {TOTAL_METRIC} histogram"]
    for outcome in OUTCOMES:
        total += _histogram(TOTAL_METRIC, bounds, row=outcome, label=f'outcome="{outcome}"')
    overhead = [f"# TYPE {OVERHEAD_METRIC} histogram", *_histogram(OVERHEAD_METRIC, bounds, row=_OVERHEAD_ROW)]
    return {file: "\n".join([*lines, ""]) for file, lines in zip(PAGES.values(), (total, overhead), strict=True)}


def _histogram(metric: str, bounds: Sequence[float], *, row: str, label: str = "") -> Iterator[str]:
    before = f"{label}," if label else ""
    for index, bound in enumerate([*(f"{bound:g}" for bound in bounds), "+Inf"]):
        yield f'{metric}_bucket{{{before}le="{bound}"}} %[str({row}),table_gpc({index},{_TABLE})]'
    yield f"{metric}_count{f'{{{label}}}' if label else ''} %[str({row}),table_gpc({len(bounds)},{_TABLE})]"
