"""Where an image keeps the compiled loops: beside their sources, filled when it is built, never written again.

Named in the image's NUMBA_CACHE_LOCATOR_CLASSES. Numba's own locators refuse a folder that they can't write to, and the
pod's root is read-only on purpose: what a process may write, a break-in may change, and these files are run.
"""

from pathlib import Path

from numba.core.caching import InTreeCacheLocator


class BesideTheSources(InTreeCacheLocator):
    """``__pycache__`` of the package, also when it can only be read."""

    def ensure_cache_path(self) -> None:
        """It is there, or can be made where the image is built."""
        folder: str = self.get_cache_path()  # type: ignore[no-untyped-call]
        Path(folder).mkdir(parents=True, exist_ok=True)
