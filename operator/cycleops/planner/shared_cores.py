"""The data path where pods share cores: as simulate.py, but a core does one thing at a time."""

import math

import numpy as np

from cycleops.planner.model import Algorithm
from cycleops.planner.simulate import WARM_UP_SHARE, Balancing, Group, Outcome, Path
from cycleops.planner.simulation import shared
from cycleops.planner.simulation.rules import Handling, Requests

# Of shared.on_shared_cores; consistent hashing has its own.
_LOAD_PERCENT = {Algorithm.ROUND_ROBIN: None, Algorithm.LEAST_CONNECTIONS: 0}


def simulate_on_shared_cores(
    requests: Requests, group: Group, path: Path, balancing: Balancing, warm_up: int | None
) -> Outcome:
    """HTTP, pre, post and the batches of ``pods_per_core`` replicas take turns on a core.

    Half of the CPU time that the overhead takes lies before the queue, and half of what it waits for else.
    """
    miss, station = ~path.hit, group.station
    outside = np.where(miss, path.overhead, path.hit_time)
    cpu = np.minimum(np.where(miss, station.overhead_cpu_seconds, station.cache_hit_cpu_seconds), outside)
    aside = (outside - cpu) / 2
    served = shared.on_shared_cores(
        requests=requests,
        handling=Handling(
            before=aside,
            inward=np.where(miss, cpu / 2 + path.pre, cpu),
            outward=np.where(miss, cpu / 2 + path.post, 0.0),
            after=aside,
        ),
        table=station.compute,
        rules=group.rules,
        replicas=group.replicas,
        dispatchers=balancing.dispatchers,
        load_percent=_LOAD_PERCENT.get(balancing.algorithm, balancing.hash_load_percent),
        pods_per_core=station.pods_per_core,
    )
    warm = math.ceil(WARM_UP_SHARE * len(miss)) if warm_up is None else warm_up
    total = served.leave - requests.arrival
    keep = np.flatnonzero(miss[warm:]) + warm
    pre, post = path.pre[keep], path.post[keep]
    queue, compute = (served.start - served.ready)[keep], (served.end - served.start)[keep]
    return Outcome(
        total=total[warm:],
        pre=pre,
        queue=queue,
        compute=compute,
        post=post,
        overhead=total[keep] - pre - queue - compute - post,
        utilization=served.busy_seconds / (served.cores * float(requests.arrival[-1])),
        mean_batch=float(miss.sum()) / max(served.batches, 1),
        largest_batch=served.largest_batch,
        warm_up=warm,
        start=served.start[warm:],
        replica=served.chosen[warm:],
        missed=miss[warm:],
    )
