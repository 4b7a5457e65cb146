"""Training records that a benchmark's rows or pictures are among."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from data_tools.audits.contamination import Benchmark
from data_tools.audits.pictures import Pictures
from data_tools.remedies.base import Remedy, View, whole_units
from data_tools.rows.open import pieces


class DropContaminated(Remedy):
    """Leaves out records that share a picture, or without pictures a text, with benchmark files (see the audit
    `contamination`).
    """

    type: Literal["contamination"] = "contamination"
    against: list[Path] = Field(
        min_length=1, description="The benchmark files, in any form that sources come in."
    )

    def files(self) -> Sequence[Path]:
        return tuple(dict.fromkeys(Path(piece.path) for path in self.against for piece in pieces(path)))

    def apply(self, view: View, seed: int) -> None:
        benchmarks = [Benchmark(path) for path in self.against]
        pictures = Pictures(lambda split, index: view.record(index))
        gone, shown = np.zeros(len(view), bool), list[tuple[int, int]]()
        for index, row in enumerate(view.rows()):
            shown += [(index, picture) for picture in pictures.of("", index, row)]
            gone[index] = not row["images"] and any(benchmark.holds(row) for benchmark in benchmarks)
        by, which = np.array(shown, np.int64).reshape(-1, 2).T
        for benchmark in benchmarks:
            gone[by[np.isin(which, benchmark.shared_pictures(pictures))]] = True
        view.drop(whole_units(gone, view), "shares something with a benchmark")
