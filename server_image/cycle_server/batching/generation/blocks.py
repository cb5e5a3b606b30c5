"""Which blocks of the pool of keys and values are whose."""

from collections.abc import Sequence


class Blocks:
    """``count`` blocks of ``tokens`` tokens."""

    def __init__(self, *, count: int, tokens: int) -> None:
        self.count = count
        self.tokens = tokens
        self._free = list(range(count - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.count - self.free

    def needed(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.tokens)

    def take(self, count: int) -> list[int]:
        """Raises LookupError when there are fewer."""
        if count > len(self._free):
            raise LookupError(f"{count} blocks asked for, {len(self._free)} are free")
        taken = self._free[len(self._free) - count :][::-1]
        del self._free[len(self._free) - count :]
        return taken

    def give_back(self, blocks: Sequence[int]) -> None:
        self._free.extend(reversed(blocks))
