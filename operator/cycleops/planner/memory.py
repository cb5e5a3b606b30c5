"""What planning again needs and neither rate nor budget nor limits change: kept from one question to the next.

Held by whoever plans (:class:`cycleops.planner.Planner`), never by a module. What was used longest ago goes first.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cycle_wire.profile import Profile
from cycleops.planner.model import HardwareOption, Workload
from cycleops.planner.rhythm import Bursts
from cycleops.planner.service_time import ServiceTimes, service_times
from cycleops.planner.simulate import Path, Station
from cycleops.planner.simulation import intervals
from cycleops.planner.simulation.rules import Table, table_of
from cycleops.planner.traffic import Draws, draw

Array = NDArray[np.float64]
ValueT = TypeVar("ValueT")
_PROFILES = 1024
_DRAWS = 4
_PAIRS = 4096  # scalars of one candidate under one set of draws
_STATIONS = 24  # some 2 MB each


class Kept(Generic[ValueT]):
    """A dictionary of at most so many entries."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, ValueT] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], ValueT]) -> ValueT:
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return value


class Memory:
    """Not for several threads at once. Profiles are known by identity: they never change."""

    def __init__(self) -> None:
        self._times: Kept[tuple[Profile, ServiceTimes]] = Kept(_PROFILES)
        self._draws: Kept[Draws] = Kept(_DRAWS)
        self._tables: Kept[Tables] = Kept(_PAIRS)
        self.stations: Kept[tuple[Station, Path]] = Kept(_STATIONS)

    def times(self, profile: Profile) -> ServiceTimes:
        """Raises IncompleteProfileError."""
        return self._times.get(id(profile), lambda: (profile, service_times(profile)))[1]

    def draws(self, workload: Workload, *, requests: int, dispatchers: int, seed: int) -> Draws:
        rate = workload.rate_per_second if isinstance(workload.rhythm, Bursts) else 1.0  # of bursts it sets the length
        same = replace(workload, rate_per_second=rate, cache_hit_ratio=0.0, cache_hit_ratio_lower=0.0)
        return self._draws.get(
            (same, requests, dispatchers, seed),
            lambda: draw(workload=same, requests=requests, dispatchers=dispatchers, seed=seed),
        )

    def tables(self, times: ServiceTimes, hardware: HardwareOption, draws: Draws, overhead_seconds: float) -> "Tables":
        """``overhead_seconds``: of the balancer."""
        cores = (hardware.quota_seconds, hardware.threads, hardware.pods_per_core)
        key = (id(times), id(draws), cores, overhead_seconds)
        return self._tables.get(key, lambda: Tables(self, times, hardware, draws, overhead_seconds))


class Tables:
    """One candidate's times under one set of draws. It holds both, so that their identities stay theirs."""

    def __init__(
        self, memory: Memory, times: ServiceTimes, hardware: HardwareOption, draws: Draws, overhead_seconds: float
    ) -> None:
        self._memory, self.times, self._hardware, self._draws = memory, times, hardware, draws
        self._overhead_seconds = overhead_seconds
        self._known: dict[Hashable, Any] = {}

    def _once(self, key: Hashable, make: Callable[[], ValueT]) -> ValueT:
        if key not in self._known:
            self._known[key] = make()
        value: ValueT = self._known[key]
        return value

    def batch_seconds(self, batch_size: int) -> float:
        """Mean compute of a full batch, back to back."""
        return self._once(("full", batch_size), lambda: self._mean(batch_size, heavy=1.0))

    def single_seconds(self) -> float:
        """Mean compute of one request alone, on a lightly loaded server."""
        return self._once("single", lambda: self._mean(1, heavy=0.0))

    def turn_seconds(self, compute_seconds: float) -> float:
        """Of a replica's time, what one request takes that computes so long: with a core that computes and handles
        requests for several pods, its CPU time for each of them.
        """
        pods = self._hardware.pods_per_core
        return compute_seconds if pods is None else (compute_seconds + self._once("beside", self._beside)) * pods

    def _beside(self) -> float:
        path = self.path(heavy=1.0, hit_ratio=0.0)
        return float(path.beside.mean()) + self.times.overhead_cpu_seconds

    def _mean(self, batch_size: int, *, heavy: float) -> float:
        by_bucket = self.times.mean_compute_seconds(
            batch_size=batch_size, lengths=self._draws.bucket_lengths, heavy=heavy
        )
        return float(by_bucket @ self._draws.batch_shares(batch_size))

    def idle_seconds(self, share: float, traffic: int | None, *, heavy: float, hit_ratio: float) -> float:
        """T at this quantile of a traffic class (of all requests when None), if each is alone on its server."""
        draws = self._draws

        def make() -> float:
            path = self.path(heavy=heavy, hit_ratio=hit_ratio)
            alone = self.times.compute_quantiles(batch_size=1, lengths=draws.bucket_lengths, heavy=heavy)
            missed = path.overhead + path.pre + alone[draws.bucket, draws.compute] + path.post
            total = np.where(path.hit, path.hit_time, missed)
            return float(intervals.quantiles(total if traffic is None else total[draws.traffic == traffic], share)[0])

        return self._once(("idle", share, traffic, heavy, hit_ratio), make)

    def path(self, *, heavy: float, hit_ratio: float) -> Path:
        """Pre, post and overhead of each request; made anew, since it is large."""
        nothing = table_of(np.zeros((1, 1, 1)), self._draws.bucket_of)
        return Path.of(draws=self._draws, station=self._station(heavy, nothing), hit_ratio=hit_ratio)

    def station(self, *, heavy: float, hit_ratio: float) -> tuple[Station, Path]:
        """With batches of any measured size, and what does not queue."""

        def make() -> tuple[Station, Path]:
            compute = self.times.table(
                lengths=self._draws.bucket_lengths,
                bucket_of=self._draws.bucket_of,
                maximum_batch=self.times.batch_sizes[-1],
                heavy=heavy,
            )
            station = self._station(heavy, compute)
            return station, Path.of(draws=self._draws, station=station, hit_ratio=hit_ratio)

        return self._memory.stations.get((id(self), heavy, hit_ratio), make)

    def _station(self, heavy: float, compute: Table) -> Station:
        times = self.times
        return Station(
            compute=compute,
            pre=times.pre_table(lengths=self._draws.bucket_lengths, heavy=heavy),
            post=times.post_levels(heavy=heavy),
            overhead=times.overhead,
            cache_hit=times.cache_hit,
            balancer_overhead_seconds=self._overhead_seconds,
            quota_seconds=self._hardware.quota_seconds,
            threads=self._hardware.threads,
            pods_per_core=self._hardware.pods_per_core or 0,
            overhead_cpu_seconds=times.overhead_cpu_seconds,
            cache_hit_cpu_seconds=times.cache_hit_cpu_seconds,
        )
