"""Where a request's time went, said hop by hop in the Server-Timing header (www.w3.org/TR/server-timing).

T = transport + cache + queue + pre + compute + post. Each process splits its own time without gaps and says in
ELAPSED_HEADER how long it had the request; the process before it subtracts that from what it waited, and the rest is
``transport``: sockets, HTTP parsing, the network. Entries of the same name add up: there is one ``transport`` per hop.
The balancer adds the last of them, and ``total``. Durations are milliseconds in the header, seconds elsewhere.
"""

import time
from collections.abc import Callable, Mapping

from cycle_wire.headers import ELAPSED_HEADER, TERMS_HEADER

HEADER = "Server-Timing"
TERMS = ("queue", "pre", "compute", "post")  # of the server


class Stopwatch:
    """Splits time from its making on into laps without gaps, so that the laps add up to all of it."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started = self._last = clock()
        self.terms: dict[str, float] = {}

    def lap(self, name: str, *, of_which: Mapping[str, float] | None = None) -> None:
        """Ends a lap. ``of_which`` was measured by others within it: the lap is what they leave."""
        now = self._clock()
        self.terms = self._with(name, now, of_which or {})
        self._last = now

    def so_far(self, name: str, *, of_which: Mapping[str, float] | None = None) -> dict[str, float]:
        """The terms as if the lap ended now; it goes on."""
        return self._with(name, self._clock(), of_which or {})

    def _with(self, name: str, now: float, inside: Mapping[str, float]) -> dict[str, float]:
        return {**self.terms, name: max(now - self._last - sum(inside.values()), 0.0), **inside}

    @property
    def elapsed_seconds(self) -> float:
        """Up to the end of the last lap."""
        return self._last - self._started


def format_timing(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in seconds.items())


def parse_timing(header: str) -> dict[str, float]:
    """Seconds by name; entries without a duration are left out, and unreadable ones too (the header is advice)."""
    terms: dict[str, float] = {}
    for entry in header.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            number = value.strip('"')
            if key == "dur" and number.replace(".", "", 1).isdigit():
                terms[name] = terms.get(name, 0.0) + float(number) / 1000
    return terms


def server_headers(terms: Mapping[str, float]) -> dict[str, str]:
    """What the server says of a stopwatch's laps: there are no gaps, so their sum is how long it had the request."""
    return {HEADER: format_timing(terms), ELAPSED_HEADER: _microseconds(sum(terms.values()))}


def hit_headers(seconds: float) -> dict[str, str]:
    """What the sidecar says of an answer that it had."""
    elapsed = _microseconds(seconds)
    return {HEADER: f"cache;dur={seconds * 1000:.3f}", ELAPSED_HEADER: elapsed, TERMS_HEADER: "0"}


def sidecar_headers(
    *, outcome: str, total_seconds: float, waited_seconds: float, upstream: Mapping[str, str]
) -> dict[str, str]:
    """What the sidecar says. ``upstream``: headers of the answer that it waited for.

    Who waits for another's miss (``coalesced``) waits in a queue, whatever that other's terms are.
    """
    if waited_seconds <= 0:
        return hit_headers(total_seconds)
    own = max(total_seconds - waited_seconds, 0.0)
    said = "" if outcome == "coalesced" else upstream.get(HEADER, "")
    known = parse_timing(said)
    terms = sum(known.get(term, 0.0) for term in TERMS)
    if outcome == "coalesced":
        terms, entries = waited_seconds, {"queue": waited_seconds, "cache": own}
    else:
        elapsed = _seconds(upstream.get(ELAPSED_HEADER, ""), otherwise=terms)
        entries = {"transport": max(waited_seconds - elapsed, 0.0), "cache": own}
    return {
        HEADER: f"{said}, {format_timing(entries)}" if said else format_timing(entries),
        ELAPSED_HEADER: _microseconds(total_seconds),
        TERMS_HEADER: _microseconds(terms),
    }


def _microseconds(seconds: float) -> str:
    return str(round(seconds * 1e6))


def _seconds(microseconds: str, *, otherwise: float) -> float:
    return int(microseconds) / 1e6 if microseconds.isdecimal() else otherwise
