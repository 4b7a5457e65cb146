"""The options of `mmrlhf evaluate reward`, each a type of its own: what it takes, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RewardFolder = Annotated[
    str | None, typer.Option("--model", "-m", help="folder of a reward model, for no run's")
]
DataFolder = Annotated[Path | None, typer.Option(help="with --model: folder of a built data set")]
Split = Annotated[str, typer.Option(help="with --data: its split")]
Benchmark = Annotated[
    str | None,
    typer.Option(help="with --model: vl_rewardbench, multimodal_rewardbench or mm_rlhf_rewardbench"),
]
Rows = Annotated[
    list[Path] | None,
    typer.Option(help="the benchmark's rows: JSON lines, a JSON list or parquet (any number of times)"),
]
Images = Annotated[Path | None, typer.Option(help="folder of the rows' images; nothing: the file's own")]
Objectives = Annotated[
    list[str] | None,
    typer.Option(help="head to score a benchmark by, or mean (any number of times); nothing: all of them"),
]
Pairs = Annotated[
    int | None,
    typer.Option(min=1, help="records at most; nothing: the config's, 512, or a whole benchmark"),
]
Conditions = Annotated[
    str | None,
    typer.Option(help="what is shown beside the true image: none,swapped,crop,noise; nothing: all"),
]
Gradients = Annotated[
    int | None,
    typer.Option(min=0, help="pairs on which the heads' gradients are compared; nothing: none"),
]
TextModel = Annotated[
    str | None,
    typer.Option(help="folder of a reward model trained on text: where it fails, the image is needed"),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="records of one batch; nothing: 64")]
Seed = Annotated[int | None, typer.Option(min=0, help="draws records, other images and intervals")]
Out = Annotated[
    Path | None,
    typer.Option(help="folder of reward.json and reward.html; nothing: the run's, or reward_evaluation"),
]
