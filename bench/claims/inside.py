"""One row in a process of its own, inside the image: python -m bench.claims.inside --out FOLDER --row KEY"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from bench.claims.learn import learn, recipes, write_data
from bench.claims.rows import Bench, Result, balancing_row, large_row, threads_row, variant_row


def cached(bench: Bench) -> Result:
    from bench.claims.cached import cache_row  # HAProxy's configuration is only for this one

    return cache_row(bench)


ROWS: dict[str, Callable[[Bench], Result]] = {
    "bert-masked-90": variant_row("bert", "masked-90"),
    "bert-cut-90": variant_row("bert", "cut-90"),
    "bert-int8": variant_row("bert", "int8"),
    "bert-cache": cached,
    "gpt-cut-80": variant_row("gpt", "cut-80"),
    "gpt-int8": variant_row("gpt", "int8"),
    "gpt-int4": variant_row("gpt", "int4"),
    "gpt-threads": threads_row,
    "balancing": balancing_row,
    "bert-large-cut": large_row,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--row", choices=(*ROWS, "learn"), required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    bench = Bench(options.out, recipes(options.scale), seconds=24.0 * options.scale)
    if options.row == "learn":
        write_data(options.out)
        for name, recipe in bench.recipes.items():
            learn(name, recipe, options.out, threads=2)
        return
    measured = ROWS[options.row](bench)
    (options.out / f"{options.row}.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(f"{options.row}: {measured['measuredChange']:+.1%}; {measured['note']}", flush=True)


if __name__ == "__main__":
    main()
