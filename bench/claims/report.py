"""claims.json and the table, from the rows that were measured. Pure but for reading the files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.claims.claimed import CLAIMS, Claim

NOT_YET = "not measured yet"


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """By key; only what was measured."""
    files = {claim.key: folder / f"{claim.key}.json" for claim in CLAIMS if claim.key}
    return {key: json.loads(file.read_text(encoding="utf-8")) for key, file in files.items() if file.exists()}


def claims(measured: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of claims.json: changes are of T (or of what the claim is about), -0.3 is 30 % less; None: not measured."""
    rows = []
    for claim in CLAIMS:
        found = measured.get(claim.key, {})
        rows.append(
            {
                "model": claim.model,
                "technique": claim.technique,
                "claimedChange": claim.change,
                "measuredChange": found.get("measuredChange"),
                "accuracyChange": found.get("accuracyChange"),
                "note": found.get("note") or claim.elsewhere or NOT_YET,
            }
        )
    return rows


def markdown(measured: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| model | technique | claimed | measured (95 %) | quality | what was measured |", "| --- " * 6 + "|"]
    for claim in CLAIMS:
        found = measured.get(claim.key)
        lines.append("| " + " | ".join([claim.model, claim.technique, claim.claimed, *_cells(claim, found)]) + " |")
    return "\n".join(lines)


def _cells(claim: Claim, found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["-", "-", claim.elsewhere or NOT_YET]
    change = f"{found['measuredChange']:+.0%}"
    if found["low"] is not None:
        change += f" ({found['low']:+.0%} to {found['high']:+.0%})"
    quality = found["accuracyChange"]
    return [change, "-" if quality is None else f"{quality:+.3f}", str(found["note"])]
