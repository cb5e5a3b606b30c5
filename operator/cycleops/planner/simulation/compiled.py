"""The one decorator of the compiled loops."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def compiled(function: FunctionT) -> FunctionT:
    """Machine code, kept on disk, that runs without the GIL: a plan must not stop the operator's event loop.

    Where nothing can be kept (no writable cache folder) it is compiled anew in each process instead.
    """
    try:
        result: FunctionT = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba: "no locator available"
        result = numba.njit(nogil=True)(function)
    return result
