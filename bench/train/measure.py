"""The measurement itself, inside the image: python -m bench.train.measure --out FOLDER. See bench.train.__main__."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.train.report import Cell, Findings, ratio_of, record, table, targets
from bench.train.scenarios import ONE, TWO, WEAK_ONE, WEAK_TWO, Scenario, config_of, write_all
from bench.train.worlds import Block, Ranks, torch_environments
from cycle_server.profiler.http import free_port
from cycle_trainer.ranks import horovod_environments, rendezvous

ROUNDS, WARM_UP_STEPS = 8, 2
HOROVOD = "ours, Horovod"
PEERS = ("ddp", "accelerate")
LOOPS = ("ours", *PEERS, HOROVOD)
BESIDE = "beside"
World = tuple[str, str]  # scenario, loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--minutes", type=float, default=18.0)
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_all(folder)
        loops = _measure((ONE,), folder=folder, scale=options.scale, until=until)
        loops |= _measure((TWO,), folder=folder, scale=options.scale, until=until)
        weak = _measure((WEAK_ONE, WEAK_TWO), folder=folder, scale=options.scale, until=until, beside=True)
    beside = weak.pop((WEAK_ONE.name, BESIDE))
    cells = loops | weak
    found = Findings(
        versus={
            (scenario, peer): ratio_of(cells[scenario, "ours"].speeds(), cells[scenario, peer].speeds())
            for scenario, peer in cells
            if peer != "ours"
        },
        efficiency={
            loop: ratio_of(
                weak[WEAK_TWO.name, loop].speeds(), [2 * speed for speed in weak[WEAK_ONE.name, loop].speeds()]
            )
            for loop in LOOPS
        },
        side_by_side=ratio_of(beside.speeds(), weak[WEAK_ONE.name, "ours"].speeds()),
        pre_share=max(
            sum(block.pre_share for block in cell.blocks) / len(cell.blocks)
            for (_, loop), cell in cells.items()
            if loop == "ours"
        ),
    )
    (options.out / "train.json").write_text(json.dumps(record(found), indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(list(cells.values()), found)}\n\n{targets(found)}")


def _measure(
    scenarios: tuple[Scenario, ...], *, folder: Path, scale: float, until: float, beside: bool = False
) -> dict[World, Cell]:
    """Every loop in these scenarios, in turns: there and back, so that a drift of the machine falls on all alike."""
    rounds = max(int(ROUNDS * scale), 2)
    with ExitStack() as stack:
        turns: dict[World, Callable[[int], Block]] = {}
        for scenario in scenarios:
            for loop in LOOPS:
                turns[scenario.name, loop] = stack.enter_context(_world(scenario, loop, folder=folder)).run
        if beside:
            turns[WEAK_ONE.name, BESIDE] = stack.enter_context(_side_by_side(WEAK_ONE, folder=folder))
        steps = {name: max(int(s.steps_per_block * scale), 1) for s in scenarios for name in turns if name[0] == s.name}
        for run in turns.values():
            run(WARM_UP_STEPS)
        blocks: dict[World, list[Block]] = {world: [] for world in turns}
        for number in range(rounds):
            if time.monotonic() > until and number >= 2:
                print(f"{scenarios[0].name}: no time for more than {number} of {rounds} rounds", flush=True)
                break
            for world in list(turns) if number % 2 == 0 else reversed(list(turns)):
                blocks[world].append(turns[world](steps[world]))
            print(f"round {number + 1}: {_seconds(blocks)}", flush=True)
    samples = {scenario.name: scenario.samples_per_step for scenario in scenarios}
    return {
        world: Cell(world[0], world[1], samples_per_block=samples[world[0]] * steps[world], blocks=blocks[world])
        for world in turns
    }


def _seconds(blocks: Mapping[World, list[Block]]) -> str:
    return ", ".join(f"{loop} on {scenario} {taken[-1].seconds:.2f} s" for (scenario, loop), taken in blocks.items())


@contextmanager
def _world(scenario: Scenario, loop: str, *, folder: Path, first_core: int = 0) -> Iterator[Ranks]:
    backend = "Horovod" if loop == HOROVOD else "Torchrun"
    config = config_of(scenario, backend=backend, folder=folder, port=free_port())
    file = folder / f"{scenario.ranks}-{loop}-{scenario.full_rows}-{first_core}.json"
    file.write_text(config.to_json(), encoding="utf-8")
    with ExitStack() as stack:
        if backend == "Horovod":
            stack.enter_context(rendezvous(config))
        ranks = Ranks(
            loop="ours" if loop == HOROVOD else loop,
            config=file,
            environments=horovod_environments(config, index=0) if backend == "Horovod" else torch_environments(config),
            cores=range(first_core, first_core + scenario.ranks),
        )
        stack.callback(ranks.close)
        yield ranks


@contextmanager
def _side_by_side(scenario: Scenario, *, folder: Path) -> Iterator[Callable[[int], Block]]:
    """Two worlds that compute at once and exchange nothing; the block is the slower one's."""
    with (
        _world(scenario, "ours", folder=folder) as first,
        _world(scenario, "ours", folder=folder, first_core=1) as second,
    ):

        def run(steps: int) -> Block:
            first.begin(steps)
            second.begin(steps)
            return max(first.end(), second.end(), key=lambda block: block.seconds)

        yield run


if __name__ == "__main__":
    main()
