"""Which rows each rank sees in each step. Pure, and the same for every world size, so that a job can resume in another.

Row order is one seeded permutation per epoch, joined. Within a step the rows are sorted by length before they are cut
into micro-batches, so that little is spent on padding, and dealt to ranks there and back, so that each gets as much.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cycle_trainer.failures import BadInputError
from cycle_wire.parts import Training


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    rows: int
    total_steps: int
    global_batch_size: int
    micro_batch_size: int
    seed: int

    @classmethod
    def of(cls, training: Training, *, rows: int) -> "StepPlan":
        """The plan of a spec. Epochs count full passes; the last step may begin the next one."""
        if training.maximum_steps is not None:
            steps = training.maximum_steps
        elif training.epochs is not None:
            steps = math.ceil(training.epochs * rows / training.global_batch_size)
        else:
            message = "set exactly one of maximumSteps and epochs"
            raise BadInputError("BadSpec", message, field="spec.training")
        return cls(
            rows=rows,
            total_steps=steps,
            global_batch_size=training.global_batch_size,
            micro_batch_size=training.micro_batch_size,
            seed=training.seed,
        )

    @property
    def repeats_rows(self) -> bool:
        """Whether training sees any row twice."""
        return self.total_steps * self.global_batch_size > self.rows

    def accumulation(self, *, world_size: int) -> int:
        """Micro-batches of one rank in one step. Raises BadInputError unless they make up the global batch exactly."""
        per_pass = self.micro_batch_size * world_size
        if self.global_batch_size % per_pass:
            raise BadInputError(
                "BadBatchSize",
                f"globalBatchSize {self.global_batch_size} is not a multiple of microBatchSize "
                f"{self.micro_batch_size} x {world_size} ranks = {per_pass}",
                field="spec.training.globalBatchSize",
            )
        return self.global_batch_size // per_pass

    def step_rows(self, step: int) -> list[int]:
        """Row numbers of the step's global batch; steps count from 0."""
        begin = step * self.global_batch_size
        positions = range(begin, begin + self.global_batch_size)
        return [_epoch_order(self.rows, self.seed, p // self.rows)[p % self.rows] for p in positions]

    def micro_batches(self, step: int, *, rank: int, world_size: int, lengths: Sequence[int]) -> list[list[int]]:
        """Row numbers of each of this rank's micro-batches; ``lengths`` of all rows, in any unit."""
        rows = sorted(self.step_rows(step), key=lambda row: (lengths[row], row))
        size = self.micro_batch_size
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        rounds = self.accumulation(world_size=world_size)
        # Rank r takes the r-th batch of even rounds and the r-th from the end of odd ones.
        places = (turn * world_size + (rank if turn % 2 == 0 else world_size - 1 - rank) for turn in range(rounds))
        return [batches[place] for place in places]

    def seen_rows(self) -> list[int]:
        """Distinct row numbers that training sees, in the order it first sees them."""
        return list(dict.fromkeys(row for step in range(self.total_steps) for row in self.step_rows(step)))


@lru_cache(maxsize=2)
def _epoch_order(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(rows))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)


def rate_scale(step: int, *, total_steps: int, warmup_ratio: float) -> float:
    """Share of the peak learning rate in a step (from 0): a linear rise over the warm-up, then linearly to 0."""
    warmup = round(total_steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup))
