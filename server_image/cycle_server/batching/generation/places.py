"""The sequences under way and the blocks they hold. Not locked: its owner, the decoder, does that."""

from collections.abc import Sequence as Several

from cycle_server.batching.generation.blocks import Blocks
from cycle_server.batching.generation.plan import Room, compose
from cycle_server.batching.generation.sequence import Sequence


class Places:
    """``count`` of them. ``running`` in the order of turns; ``preempted`` have given their blocks back for now."""

    def __init__(self, count: int, *, blocks: Blocks) -> None:
        self.count = count
        self.blocks = blocks
        self.running: list[Sequence] = []
        self.preempted: list[Sequence] = []

    def room(self) -> Room:
        """For newcomers: none while somebody waits who was there before."""
        places = 0 if self.preempted else self.count - len(self.running)
        return Room(places=places, blocks=self._spare_blocks(), block_tokens=self.blocks.tokens)

    def join(self, sequence: Sequence) -> None:
        self.running.append(sequence)
        self.running.sort(key=lambda s: s.waiting.turn)

    def resume(self) -> None:
        """Those who were preempted, as far as there is room for all that they have."""
        while self.preempted and len(self.running) < self.count:
            if self.blocks.needed(self.preempted[0].length + 1) > self._spare_blocks():
                return
            self.join(self.preempted.pop(0))

    def let_go(self) -> None:
        """Those whose clients have gone."""
        self.release([sequence for sequence in self.running if sequence.gone])
        self.preempted = [sequence for sequence in self.preempted if not sequence.gone]

    def release(self, sequences: Several[Sequence]) -> None:
        for sequence in sequences:
            self.running.remove(sequence)
            self.blocks.give_back(sequence.blocks)
            sequence.blocks, sequence.computed = [], 0

    def step(self) -> tuple[list[tuple[Sequence, int]], int]:
        """Who takes part in the next step with how many tokens, blocks given; and how many were preempted for it."""
        plan = compose(
            [sequence.progress() for sequence in self.running],
            free_blocks=self.blocks.free,
            block_tokens=self.blocks.tokens,
        )
        part = [(sequence, count) for sequence, count in zip(self.running, plan.counts, strict=True) if count]
        preempted = [self.running[index] for index in plan.preempt]
        self.release(preempted)
        self.preempted = sorted([*self.preempted, *preempted], key=lambda s: s.waiting.turn)
        for sequence, count in part:
            needed = self.blocks.needed(sequence.computed + count) - len(sequence.blocks)
            sequence.blocks += self.blocks.take(needed)
        return part, len(preempted)

    def _spare_blocks(self) -> int:
        """Free, less what those under way need for what is left of their prompts and one more token each."""
        promised = sum(self.blocks.needed(s.length + 1) - len(s.blocks) for s in self.running)
        return self.blocks.free - promised
