"""What was claimed of GPUs, beside what was measured (medians; T of a batch: pre + compute + post)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
CLAIMS = {
    "bert-base": ("-80 % of T; in the text: 20 times faster", 0.80, 20.0),
    "gpt2-small": ("-100 % of T, which cannot be: T stays above 0; in the text: 10 times faster", 1.00, 10.0),
}


def report(folder: Path) -> None:
    """Prints all that was measured, then claims. Writes ``summary.json`` beside the results."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("c*.json"))]
    for result in results:
        _print(result)
    claims = list(_claims(results))
    for claim in claims:
        print(
            f"{claim['model']:<11} {claim['precision']:<9} {claim['batch']:>3} x {claim['length']:>3}: "
            f"{claim['cpuThreads']} core(s) {claim['cpuPrecision']} {claim['cpuMilliseconds']:.2f} ms, "
            f"GPU {claim['gpuMilliseconds']:.2f} ms: {-100 * claim['saved']:.1f} %, {claim['times']:.1f} times. "
            f"Claimed: {claim['claimed']}"
        )
    (folder / "summary.json").write_text(json.dumps({"claims": claims}, indent=1), encoding="utf-8")


def milliseconds(row: Row) -> float:
    """Of a batch; of generated text, of one answer."""
    ends = row["pre"]["p50"] + row["post"]["p50"]
    if "compute" in row:
        return float(ends + row["compute"]["p50"])
    return float(ends + row["firstToken"]["p50"] + (row["tokens"] - 1) * row["perToken"]["p50"])


def _claims(results: list[Row]) -> Iterator[Row]:
    gpus = [row for result in results if result["kind"] == "cuda" for row in result["rows"]]
    for result in results:
        if result["kind"] != "cpu":
            continue
        for row in result["rows"]:
            for gpu in gpus:
                if row["model"] not in CLAIMS or any(row[name] != gpu[name] for name in ("model", "batch", "length")):
                    continue
                text, saved, times = CLAIMS[row["model"]]
                here, there = milliseconds(row), milliseconds(gpu)
                yield {
                    **{name: gpu[name] for name in ("model", "precision", "batch", "length")},
                    "cpuThreads": result["threads"],
                    "cpuPrecision": row["precision"],
                    "cpuMilliseconds": here,
                    "gpuMilliseconds": there,
                    "saved": 1 - there / here,
                    "times": here / there,
                    "claimed": text,
                    "claimedSaved": saved,
                    "claimedTimes": times,
                }


def _print(result: Row) -> None:
    print(f"\n{result['device']}, {result['threads']} thread(s), torch {result['torch']}: p50 ms")
    for row in result["rows"]:
        terms = [name for name in ("pre", "compute", "firstToken", "perToken", "post") if name in row]
        print(
            f"  {row['model']:<11} {row['precision']:<9} {row['batch']:>3} x {row['length']:>3}  "
            + "  ".join(f"{name} {row[name]['p50']:.3f}" for name in terms)
            + f"  T {milliseconds(row):.3f}"
        )
