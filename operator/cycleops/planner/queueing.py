"""Closed forms: the Erlang C and Allen-Cunneen waits, and the lower bound that saves hopeless simulations.

Sources: A. O. Allen, Probability, Statistics and Queueing Theory, 2nd ed., section 5.3 (M/M/c; Allen-Cunneen);
L. Kleinrock, Queueing Systems I (Pollaczek-Khinchine).
"""

import math


def erlang_c(*, servers: int, offered_load: float) -> float:
    """Probability that an arrival to M/M/c waits; ``offered_load`` = rate x mean service time, in Erlang."""
    if offered_load >= servers:
        return 1.0
    blocked = 1.0  # Erlang B by its recursion, which does not overflow
    for n in range(1, servers + 1):
        blocked = offered_load * blocked / (n + offered_load * blocked)
    return blocked / (1 - (offered_load / servers) * (1 - blocked))


def mean_wait_seconds(
    *, rate_per_second: float, servers: int, service_seconds: float, arrival_cv2: float, service_cv2: float
) -> float:
    """Allen-Cunneen: the M/M/c wait scaled by (arrival CV^2 + service CV^2) / 2; exact for M/M/c and M/G/1.

    Infinite when the rate is at or above the capacity.
    """
    load = rate_per_second * service_seconds
    if load >= servers:
        return math.inf
    base = erlang_c(servers=servers, offered_load=load) * service_seconds / (servers - load)
    return base * (arrival_cv2 + service_cv2) / 2


def wait_bound_seconds(
    *,
    rate_per_second: float,
    replicas: int,
    batch_seconds: float,
    batch_size: int,
    arrival_cv2: float,
    percentile: float,
) -> float:
    """An optimistic wait at the percentile: what a simulation will hardly ever go below.

    Optimistic three times: full batches (so a request costs ``batch_seconds / batch_size``), one queue for all
    replicas, service that does not vary. The tail of the wait is exponential with the mean of those who wait; half of
    it is used, since the tail of a batch queue is lighter than that.
    """
    service = batch_seconds / batch_size
    mean = mean_wait_seconds(
        rate_per_second=rate_per_second,
        servers=replicas,
        service_seconds=service,
        arrival_cv2=arrival_cv2,
        service_cv2=0.0,
    )
    if math.isinf(mean):
        return math.inf
    waits = erlang_c(servers=replicas, offered_load=rate_per_second * service)
    beyond = 1 - percentile / 100
    return 0.5 * mean / waits * math.log(waits / beyond) if waits > beyond and mean > 0 else 0.0


def percentile_of_misses(*, percentile: float, hit_ratio: float) -> float:
    """Of the requests that the cache does not answer, the percentile that is the total's: hits are the fastest.

    With 80 % hits, the slowest 1 % of all requests are the slowest 5 % of the misses. 0 when hits fill the percentile.
    """
    return max(100 - (100 - percentile) / (1 - hit_ratio), 0.0)


def stable_replicas(
    *, rate_per_second: float, batch_seconds: float, batch_size: int, maximum_utilization: float
) -> int:
    """Fewest replicas that carry the rate with full batches at no more than this utilization."""
    load = rate_per_second * batch_seconds / batch_size
    return max(1, math.ceil(load / maximum_utilization - 1e-9))
