"""What the steps leave for each other in a folder: profiles, predictions, measurements."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Measured = dict[str, Any]


def now() -> str:
    """UTC, since the image may have another time zone than the host."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True)
class Files:
    """``folder``: made when it isn't there, for anybody to write in, since the image's user does."""

    folder: Path

    def __post_init__(self) -> None:
        for place in (self.folder, self.variants, self.folder / "profiles", self.folder / "traces"):
            if not place.exists():
                place.mkdir(parents=True)
                place.chmod(0o777)

    @property
    def variants(self) -> Path:
        return self.folder.parent / "planner-variants"

    def profile(self, variant: str) -> Path:
        return self.folder / "profiles" / f"{variant}.json"

    def way(self, variant: str) -> Path:
        return self.folder / "profiles" / f"{variant}-way.json"

    def is_fresh(self, variant: str, *, minutes: float) -> bool:
        """Whether the profile and the way to the pods were measured at most so long ago."""
        both = (self.profile(variant), self.way(variant))
        return all(file.exists() and time.time() - file.stat().st_mtime <= 60 * minutes for file in both)

    def trace(self, scenario: str) -> Path:
        return self.folder / "traces" / f"{scenario}.npz"

    @property
    def predictions_file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-predictions.json")

    def predictions(self) -> list[dict[str, Any]]:
        return _read(self.predictions_file)

    def add_predictions(self, rows: list[dict[str, Any]]) -> None:
        _merge(self.predictions_file, rows)

    @property
    def measured_file(self) -> Path:
        return self.folder / "measured.json"

    def measured(self) -> list[Measured]:
        return _read(self.measured_file)

    def add_measured(self, row: Measured) -> None:
        _merge(self.measured_file, [row])


def _read(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return rows


def _merge(file: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of the same name are replaced."""
    names = {row["name"] for row in rows}
    kept = [row for row in _read(file) if row["name"] not in names]
    file.write_text(json.dumps([*kept, *rows], indent=1) + "\n", encoding="utf-8")
