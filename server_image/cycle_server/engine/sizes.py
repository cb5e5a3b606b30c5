"""The numbers of rows that are computed: few, so that memory stays flat.

oneDNN makes a kernel for each number of rows and keeps it, some parts for good, between the temporaries of the batch
that runs; whatever comes afterwards has to fit around it. So each size that is new costs memory (2.7 MiB with MiniLM's
shapes), and texts of any length in batches of any size have hundreds of sizes. Filler rows lead from one of the sizes
below to the next: eight in each doubling, so at most an eighth is filler, and below 17 rows none.
docs/notes/2026-11-26-memory-by-size.md has the measurements.
"""

_STEPS_BITS = 3  # 2**3 sizes in each doubling


def padded(rows: int) -> int:
    """The smallest size with room for ``rows``, at least 1."""
    step = 1 << max((rows - 1).bit_length() - _STEPS_BITS - 1, 0)
    return -(-rows // step) * step


def sizes(largest: int) -> list[int]:
    """All with room for 1 to ``largest`` rows, the largest first."""
    return sorted({padded(rows) for rows in range(1, largest + 1)}, reverse=True)
