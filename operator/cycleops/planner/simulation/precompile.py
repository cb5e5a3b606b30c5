"""Compiles every loop by running each once: ``python -m cycleops.planner.simulation.precompile``.

The image does so when it is built; as a user who can't write there it then proves that nothing needs compiling.
"""

import numpy as np

from cycleops.planner.generation import kernel
from cycleops.planner.generation.rules import Admission, Sequences, Steps
from cycleops.planner.simulation import fleet, shared
from cycleops.planner.simulation.queues import first_come_first_served
from cycleops.planner.simulation.rules import Handling, Requests, Rules, table_of


def main() -> None:
    arrival = np.arange(4.0)
    whole = np.zeros(4, dtype=np.int64)
    first_come_first_served(arrival=arrival, service=np.ones(4), servers=2)
    requests = Requests(
        arrival=arrival,
        ready=arrival + 0.1,
        after=np.zeros(4),
        queued=np.ones(4, dtype=bool),
        tokens=whole + 1,
        level=whole,
        beside_seconds=np.zeros(4),
        dispatcher=whole,
        spread=np.full(4, 0.5),
    )
    table = table_of(np.ones((3, 1, 1)), whole)
    rules = Rules(maximum_batch=2, delay_seconds=0.0)
    for spread in (fleet.round_robin, fleet.least_connections):
        spread(requests=requests, table=table, rules=rules, replicas=2, dispatchers=1)
    shared.on_shared_cores(
        requests=requests, handling=Handling(*(np.full(4, 0.1) for _ in range(4))), table=table, rules=rules,
        replicas=2, dispatchers=1, load_percent=0, pods_per_core=2,
    )  # fmt: skip
    sequences = Sequences(
        arrival=arrival,
        ready=arrival + 0.1,
        after=np.zeros(4),
        queued=np.ones(4, dtype=bool),
        prompt=whole + 1,
        output=whole + 2,
        prefill=np.ones(4),
        dispatcher=whole,
        spread=np.full(4, 0.5),
    )
    steps = Steps(seconds=np.ones((3, 2)), width=1.0, luck=np.ones(1), shared=0.0)
    state = kernel.new_state(sequences, replicas=2, dispatchers=1, most_sequences=2)
    kernel.run_together(state, sequences, steps, Admission(2, 256), fleet.ring_of(2), kernel.LEAST_CONNECTIONS, 0)


if __name__ == "__main__":
    main()
