"""What runs in the image, as pods run: profiling, and the load. See bench.planner.validate.run for the rest.

python -m bench.planner.validate.inside profile --out FOLDER VARIANT...
python -m bench.planner.validate.inside load --out FOLDER SCENARIO...
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.planner.validate.files import Files, Measured, now
from bench.planner.validate.generator import Seen, half_width, open_loop, preload, session
from bench.planner.validate.limits import limited
from bench.planner.validate.pods import Cores, service, wait_until_ready
from bench.planner.validate.scenarios import SCENARIOS, TUNING, Scenario, choose
from bench.planner.validate.texts import Asked, rows
from bench.planner.validate.variants import variant_folder
from bench.serve.machine import Disturbance, processes_of
from cycle_server.profiler.main import profile_variant, summary
from cycle_wire.parts import Evaluation, Fields
from cycle_wire.serving import ProfileVariant, ProfilingConfig
from cycle_wire.training import JobIdentity
from cycleops.api.cycleservice import BalancingAlgorithm
from cycleops.planner.simulation.arrivals import burst_gaps, gamma_gaps

BATCH_SIZES, SEQUENCE_LENGTHS = [1, 2, 4], [8, 20, 48]
EVALUATION_ROWS = 100
WAY_RATE, WAY_SECONDS, WAY_TEXTS = 40.0, 6.0, 20
WARM_UP_SECONDS = 2.0


def profile(names: list[str], files: Files, cores: Cores) -> None:
    """The profiler itself, with everything that it starts on the pods' core; then the way to the pods."""
    everywhere = os.sched_getaffinity(0)
    evaluation = Path(tempfile.mkdtemp()) / "rows.jsonl"
    evaluation.write_text("\n".join(json.dumps(row) for row in rows()[:EVALUATION_ROWS]), encoding="utf-8")
    for name in names:
        folder, manifest = variant_folder(files.variants, name)
        config = ProfilingConfig(
            job=JobIdentity(namespace="bench", name="planner", uid="0"),
            model_digest=manifest.model_digest,
            variants=[ProfileVariant(variant=manifest.variant, path=str(folder))],
            evaluation_path=str(evaluation),
            fields=Fields(text="gloss", label="supersense"),
            evaluation=Evaluation(),
            batch_sizes=BATCH_SIZES,
            sequence_lengths=SEQUENCE_LENGTHS,
            hardware_class="bench",
            hardware_class_hash="bench",
            image="bench",
        )
        os.sched_setaffinity(0, {cores.pods})
        made = profile_variant(config, config.variants[0])
        os.sched_setaffinity(0, everywhere)
        files.profile(name).write_text(made.to_json(), encoding="utf-8")
        print(
            f"{time.strftime('%T')} {name}: {summary(made)}; CPU of the overhead "
            f"{1000 * made.overhead_cpu_seconds:.3f} ms, of a hit {1000 * made.cache_hit_cpu_seconds:.3f} ms",
            flush=True,
        )
    # The way to the pods doesn't depend on the variant.
    way = max(asyncio.run(_hits(name, files, cores)) - made.cache_hit.quantile_seconds(0.5), 0.0)
    for name in names:
        files.way(name).write_text(json.dumps({"balancerOverheadSeconds": way}), encoding="utf-8")
    print(f"{time.strftime('%T')} HAProxy and generator {1000 * way:.3f} ms", flush=True)


async def _hits(name: str, files: Files, cores: Cores) -> float:
    """Median of hits through HAProxy, asked as a scenario asks: what it has above the profiler's is the way there."""
    folder, manifest = variant_folder(files.variants, name)
    os.sched_setaffinity(0, {cores.outside})
    with (
        tempfile.TemporaryDirectory() as scratch,
        service(
            folder, Path(scratch), cores, digest=manifest.model_digest, variant=name, replicas=1,
            maximum_batch_size=1, algorithm=BalancingAlgorithm.LEAST_CONNECTIONS, cached=True,
        ) as running,
    ):  # fmt: skip
        async with session() as client:
            await wait_until_ready(client, running)
            bodies = Asked(choose([])[0], folder / "tokenizer.json").bodies(WAY_TEXTS)
            await preload(client, running.url, bodies)
            moments = np.arange(0.0, WAY_SECONDS, 1 / WAY_RATE)
            seen = await open_loop(
                client, running.url, moments=moments, body_of=lambda i: bodies[i % WAY_TEXTS], least_seconds=WAY_SECONDS
            )
    os.sched_setaffinity(0, {cores.pods, cores.outside})
    return float(np.median(seen.total[len(moments) // 5 :]))


def load(names: list[str], files: Files, cores: Cores, *, least_seconds: float, most_seconds: float) -> None:
    os.sched_setaffinity(0, {cores.outside})
    rates = {row["name"]: float(row["ratePerSecond"]) for row in files.predictions()}
    for scenario in choose(names, among=(*SCENARIOS, *TUNING)):
        measured, seen = asyncio.run(
            _load(scenario, rates[scenario.name], files, cores, least_seconds=least_seconds, most_seconds=most_seconds)
        )
        files.add_measured(measured)
        arrays = {"intended": seen.intended, "lag": seen.lag, "all": seen.total, **seen.terms}
        np.savez_compressed(files.trace(scenario.name), allow_pickle=False, **arrays)
        print(
            f"{time.strftime('%T')} {scenario.name}: {measured['requests']} requests in {measured['seconds']:.0f} s, "
            f"p50 {measured['p50Ms']:.2f}, p99 {measured['p99Ms']:.2f} ms +- {measured['halfWidth']:.1%}, "
            f"others {measured['otherLoad']:.2f}",
            flush=True,
        )


async def _load(
    scenario: Scenario, rate: float, files: Files, cores: Cores, *, least_seconds: float, most_seconds: float
) -> tuple[Measured, Seen]:
    folder, manifest = variant_folder(files.variants, scenario.variant)
    moments = _moments(scenario, rate, most_seconds)
    with (
        tempfile.TemporaryDirectory() as scratch,
        service(
            folder, Path(scratch), cores, digest=manifest.model_digest, variant=scenario.variant,
            replicas=scenario.replicas, maximum_batch_size=scenario.batch_size,
            algorithm=BalancingAlgorithm(scenario.algorithm.value), cached=scenario.zipf is not None,
        ) as running,
    ):  # fmt: skip
        asked = Asked(scenario, folder / "tokenizer.json")  # while the pods start
        bodies = asked.bodies(len(moments))
        warm_up = asked.bodies(int(rate * WARM_UP_SECONDS)) if scenario.zipf is None else []
        async with session() as client:
            await wait_until_ready(client, running)
            await preload(client, running.url, asked.preloaded or warm_up)
            servers = [Path(scratch) / f"serve{index}.json" for index in range(scenario.replicas)]
            with limited(files, servers, scenario.cpu_limit_cores):
                disturbance = Disturbance(cores={cores.pods, cores.outside}, pids=processes_of(running.groups))
                seen = await open_loop(
                    client, running.url, moments=moments, body_of=bodies.__getitem__, least_seconds=least_seconds
                )
                others = disturbance.share()
    return _measured(scenario, seen, others), seen


def _moments(scenario: Scenario, rate: float, seconds: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    stream, count = np.random.default_rng([scenario.seed, 3]), int(rate * seconds)
    if scenario.rhythm is not None:
        gaps = burst_gaps(
            stream=stream,
            count=count,
            rate_ratio=scenario.rhythm.rate_ratio,
            burst_share=scenario.rhythm.time_share,
            burst_requests=scenario.rhythm.mean_seconds * rate,
        )
    else:
        gaps = gamma_gaps(stream=stream, count=count, cv2=scenario.cv2)
    return np.cumsum(gaps) / rate


def _measured(scenario: Scenario, seen: Seen, others: float) -> Measured:
    outcomes = np.array(seen.outcome)
    p50, p99 = (1000 * float(np.quantile(seen.total, q, method="inverted_cdf")) for q in (0.5, 0.99))
    inside = 1000 * float(np.quantile(seen.terms["total"], 0.99, method="inverted_cdf"))
    return {
        "name": scenario.name,
        "measuredAt": now(),
        "requests": len(seen.total),
        "errors": int(np.isinf(seen.total).sum()),
        "seconds": float(seen.intended[-1]),
        "p50Ms": p50,
        "p99Ms": p99,
        "balancerP99Ms": inside,
        "halfWidth": half_width(seen.total),
        "hitRatio": float(np.isin(outcomes, ["hit", "coalesced"]).mean()),
        "lagP99Ms": 1000 * float(np.quantile(seen.lag, 0.99)),
        "otherLoad": others,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("profile", "load"))
    parser.add_argument("names", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--least-seconds", type=float, default=30.0)
    parser.add_argument("--most-seconds", type=float, default=90.0)
    options = parser.parse_args()
    files, cores = Files(options.out), Cores.found()
    if options.what == "profile":
        profile(options.names, files, cores)
    else:
        load(options.names, files, cores, least_seconds=options.least_seconds, most_seconds=options.most_seconds)


if __name__ == "__main__":
    main()
