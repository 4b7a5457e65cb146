"""What it takes to say which record of a mixture stands at a position: at the start and the end of an epoch, by size.

    python benchmarks/mixture.py [--records 10000 1000000 10000000] [--strata 10] [--reads 500] [--rounds 12]

In every round each size is read at its first positions and at its last ones, by turns; ratios are taken within a round,
and quoted are medians over the rounds in which the machine was quiet. `made` is what it takes to make a mixture of that
size. A line of JSON, and a table on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rounds import as_table, median, quiet_rounds

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_tools.balance.mixture import Mixture, Stratum

Round = dict[int, dict[str, float]]  # by the number of records, microseconds


def make(records: int, strata: int) -> Mixture:
    """Strata of which the first has half of the records, the second a quarter, and so on."""
    sizes, left = [], records
    for number in range(strata):
        size = left if number == strata - 1 else max(1, left // 2)
        sizes.append(Stratum(f"source{number}/image-text/1.0", size, size))
        left -= size
    return Mixture(sizes, seed=0)


def read(mixture: Mixture, positions: range) -> float:
    """Microseconds a position."""
    began = time.perf_counter()
    for position in positions:
        mixture.at(position)
    return (time.perf_counter() - began) / len(positions) * 1e6


def one_round(records: Sequence[int], strata: int, reads: int) -> Round:
    """Every size once, at its start and at its end."""
    found: Round = {}
    for size in records:
        began = time.perf_counter()
        mixture = make(size, strata)
        made = (time.perf_counter() - began) * 1e6
        found[size] = {
            "made": made,
            "start": read(mixture, range(reads)),
            "end": read(mixture, range(size - reads, size)),
        }
    return found


def summary(rounds: Sequence[Round], gflops: Sequence[float]) -> dict[str, Any]:
    """Medians over the rounds that count; `gflops` were taken before each round and after the last."""
    counted = [rounds[number] for number in quiet_rounds(gflops)]
    smallest = min(counted[0])
    return {
        "microseconds": {
            str(size): {what: median([own[size][what] for own in counted]) for what in counted[0][size]}
            for size in counted[0]
        },
        "ratios": {
            "end / start": {
                str(size): median([own[size]["end"] / own[size]["start"] for own in counted])
                for size in counted[0]
            },
            f"end / end of {smallest}": {
                str(size): median([own[size]["end"] / own[smallest]["end"] for own in counted])
                for size in counted[0]
            },
        },
        "rounds": len(counted),
        "of": len(rounds),
    }


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, nargs="+", default=[10**4, 10**6, 10**7])
    parser.add_argument("--strata", type=int, default=10)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    if min(options.records) < max(options.reads, options.strata):
        parser.error("--records: each must be at least --reads, and --strata")
    import job

    rounds: list[Round] = []
    gflops: list[float] = []
    for _ in range(options.rounds + 1):  # the first warms up
        gflops.append(job.gemm_gflops())
        rounds.append(one_round(options.records, options.strata, options.reads))
    gflops.append(job.gemm_gflops())
    line = summary(rounds[1:], gflops[1:])
    print(json.dumps({**line, "strata": options.strata, "machine": job.machine()}))
    table = [["records", "made", "start", "end", *line["ratios"]]]
    for size, spent in line["microseconds"].items():
        ratios = [f"{ratio[size]:.2f}" for ratio in line["ratios"].values()]
        table.append([size, *(f"{spent[what]:.1f} µs" for what in ("made", "start", "end")), *ratios])
    print(as_table(table), file=sys.stderr)


if __name__ == "__main__":
    main()
