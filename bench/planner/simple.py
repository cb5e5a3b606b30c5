"""Three simpler rules. Each gets the same profiles, floor and limits as ours, and simulates nothing.

mean      The cheapest choice whose mean T is within the budget, by Allen and Cunneen's mean wait. For each variant and
          class at or above the floor, and each batch size, the fewest replicas with
          overhead + pre + wait + full batch + post <= budget.
accuracy  The most accurate variant that meets the percentile with batch 1: on the cheapest class, with the fewest
          replicas at which the idle T at the percentile, plus the wait at it (M/M/c's exponential tail with the
          Allen-Cunneen mean), is within the budget.
infaas    Greedy as in INFaaS (F. Romero et al., USENIX ATC 2021, sections 4 and 5, as we read them; not their code): a
          variant on a class qualifies if its accuracy is at or above the floor and its profiled latency within the
          budget; its batch is the largest whose full time, with the other terms, is within it; replicas are the rate
          over the throughput of full batches, with their slack of 5 %; the cheapest wins, ties go to the more accurate.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.planner.instances import METRIC, Instance
from cycleops.planner import queueing
from cycleops.planner.choice import Prepared
from cycleops.planner.evaluate import Evaluator
from cycleops.planner.model import Settings

SLACK = 1.05


@dataclass(frozen=True, kw_only=True)
class Pick:
    variant: str
    hardware: str
    batch_size: int
    replicas: int
    delay_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Option:
    cost: float
    accuracy: float
    pick: Pick


def _cheapest(options: Iterator[_Option]) -> Pick | None:
    best = min(options, key=lambda one: (one.cost, -one.accuracy, one.pick.variant), default=None)
    return None if best is None else best.pick


def _fit(instance: Instance) -> tuple[Evaluator, list[tuple[Prepared, float]]]:
    """Those at or above the floor, with their accuracy."""
    evaluator = Evaluator(
        workload=instance.workload,
        percentile=instance.budget.percentile,
        algorithm=instance.algorithm,
        settings=Settings(),
        seed=0,
    )
    floor = instance.budget.accuracy
    assert floor is not None
    assert floor.minimum is not None
    found = []
    for candidate in instance.candidates:
        accuracy = candidate.metric(METRIC)
        if accuracy is not None and accuracy >= floor.minimum:
            times = evaluator.memory.times(candidate.profile)
            found.append((Prepared(candidate=candidate, times=times, accuracy=accuracy), accuracy))
    return evaluator, found


def _option(instance: Instance, one: Prepared, accuracy: float, size: int, replicas: float) -> Iterator[_Option]:
    """If so many are allowed."""
    if replicas <= instance.limits.maximum_replicas:
        variant, hardware = one.key
        pick = Pick(variant=variant, hardware=hardware, batch_size=size, replicas=int(replicas))
        yield _Option(cost=one.candidate.hardware.cost_per_hour * replicas, accuracy=accuracy, pick=pick)


def _mean_beside(one: Prepared, evaluator: Evaluator) -> float:
    """Overhead, pre and post in the mean, in seconds."""
    path = evaluator.tables_of(one).path(heavy=0.0, hit_ratio=0.0)
    return float((path.overhead + path.pre + path.post).mean())


def _wait(instance: Instance, *, replicas: int, service: float, service_cv2: float) -> float:
    return queueing.mean_wait_seconds(
        rate_per_second=instance.workload.rate_per_second,
        servers=replicas,
        service_seconds=service,
        arrival_cv2=instance.workload.burstiness_cv2,
        service_cv2=service_cv2,
    )


def mean(instance: Instance) -> Pick | None:
    evaluator, fit = _fit(instance)
    budget = instance.budget.latency_milliseconds / 1000

    def options() -> Iterator[_Option]:
        for one, accuracy in fit:
            beside = _mean_beside(one, evaluator)
            for size in one.times.batch_sizes:
                full = evaluator.batch_seconds(one, size)
                for replicas in range(1, instance.limits.maximum_replicas + 1):
                    wait = _wait(instance, replicas=replicas, service=full / size, service_cv2=1.0)
                    if beside + wait + full <= budget:
                        yield from _option(instance, one, accuracy, size, replicas)
                        break

    return _cheapest(options())


def accuracy(instance: Instance) -> Pick | None:
    evaluator, fit = _fit(instance)
    budget = instance.budget.latency_milliseconds / 1000
    beyond = 1 - instance.budget.percentile / 100

    def options(variant: str) -> Iterator[_Option]:
        for one, value in fit:
            if one.key[0] != variant:
                continue
            idle, service = evaluator.idle_milliseconds(one) / 1000, evaluator.batch_seconds(one, 1)
            for replicas in range(1, instance.limits.maximum_replicas + 1):
                mean_wait = _wait(instance, replicas=replicas, service=service, service_cv2=1.0)
                if math.isinf(mean_wait):
                    continue
                load = instance.workload.rate_per_second * service
                waits = queueing.erlang_c(servers=replicas, offered_load=load)
                tail = mean_wait / waits * math.log(waits / beyond) if waits > beyond else 0.0
                if idle + tail <= budget:
                    yield from _option(instance, one, value, 1, replicas)
                    break

    best = {
        variant: max(value for one, value in fit if one.key[0] == variant) for variant in {o.key[0] for o, _ in fit}
    }
    for variant in sorted(best, key=lambda name: (-best[name], name)):
        pick = _cheapest(options(variant))
        if pick is not None:
            return pick
    return None


def infaas(instance: Instance) -> Pick | None:
    evaluator, fit = _fit(instance)
    budget = instance.budget.latency_milliseconds / 1000

    def options() -> Iterator[_Option]:
        for one, value in fit:
            beside = _mean_beside(one, evaluator)
            sizes = [size for size in one.times.batch_sizes if beside + evaluator.batch_seconds(one, size) <= budget]
            if sizes:
                throughput = sizes[-1] / evaluator.batch_seconds(one, sizes[-1])
                replicas = math.ceil(SLACK * instance.workload.rate_per_second / throughput)
                yield from _option(instance, one, value, sizes[-1], replicas)

    return _cheapest(options())


RULES: dict[str, Callable[[Instance], Pick | None]] = {
    "cheapest that meets the mean": mean,
    "most accurate that meets p99 with batch 1": accuracy,
    "INFaaS-like greedy": infaas,
}
