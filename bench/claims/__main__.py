"""Claimed against measured: trains, compresses and measures on this machine; writes out/bench/claims.json.

python -m bench.claims                    # some 12 minutes; rows that were measured before are measured again
python -m bench.claims --only bert-int8   # some rows; the others stay as they are
python -m bench.claims --scale 0.05       # does it run?
python -m bench.claims --report           # the table of docs/benchmarks/claims.md, from what was measured
"""

import argparse
import json
import sys

from bench.claims.claimed import CLAIMS
from bench.claims.report import claims, markdown, read_rows
from bench.in_image import OUT, run_in_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    keys = [claim.key for claim in CLAIMS if claim.key]
    parser.add_argument("--only", nargs="+", choices=keys, metavar="ROW", help=", ".join(keys))
    parser.add_argument("--scale", type=float, default=1.0, help="of steps and seconds")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    failed = [] if options.report else _measured(options.only or keys, scale=options.scale)
    measured = read_rows(OUT / "claims")
    (OUT / "claims.json").write_text(json.dumps(claims(measured), indent=1) + "\n", encoding="utf-8")
    print(markdown(measured))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _measured(rows: list[str], *, scale: float) -> list[str]:
    """Those that failed."""
    (OUT / "claims").mkdir(parents=True, exist_ok=True)
    (OUT / "claims").chmod(0o777)  # the image's user writes there
    inside = ["python", "-m", "bench.claims.inside", "--out", "/out/claims", "--scale", str(scale), "--row"]
    if code := run_in_image("bench", [*inside, "learn"]):
        sys.exit(code)
    return [row for row in rows if run_in_image("bench", [*inside, row])]


if __name__ == "__main__":
    main()
