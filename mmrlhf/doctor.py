"""`mmrlhf doctor`: is everything there that a run needs?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Literal

from rich.table import Table

from data_tools.printing import PlainConsole, styled

PACKAGES = (
    *(
        "torch",
        "torchvision",
        "transformers",
        "accelerate",
        "peft",
        "datasets",
        "webdataset",
        "open_clip_torch",
    ),
    *("pillow", "pydantic", "typer", "rich", "PyYAML", "safetensors", "matplotlib", "jinja2", "tensorboard"),
)


def examine() -> bool:
    """Prints what was found, one line a check, and says whether all of it is well."""
    table = Table("", "check", "found", box=None)
    checks = [
        *(_python(), *map(_package, PACKAGES), _phone_images("HEIC"), _phone_images("AVIF")),
        *(_device(), _memory(), _disk(), _model()),
    ]
    for well, name, found in checks:
        table.add_row(styled("ok", "green") if well else styled("no", "red"), name, found)
    PlainConsole().print(table)
    return all(well for well, _, _ in checks)


Check = tuple[bool, str, str]


def _python() -> Check:
    return sys.version_info >= (3, 11), "python", platform.python_version()


def _package(name: str) -> Check:
    try:
        return True, name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False, name, f"not installed: pip install {name}"


def _phone_images(kind: Literal["HEIC", "AVIF"]) -> Check:
    """Images of phones are read or not; neither is a fault, as most data have none."""
    from data_tools.phone_images import NO_AVIF, NO_HEIC, reads_avif, reads_heic

    readable, lacking = (reads_heic(), NO_HEIC) if kind == "HEIC" else (reads_avif(), NO_AVIF)
    return True, f"{kind} images", "read" if readable else lacking.partition(": ")[2]


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        return (
            True,
            "device",
            f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {total:.0f} GiB",
        )
    return (
        True,
        "device",
        f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads (no GPU was found)",
    )


def _memory() -> Check:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return True, "memory", "unknown on this system"
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return total >= 3.5, "memory", f"{total:.0f} GiB" + ("" if total >= 3.5 else "; the quickstart needs 4")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return free >= 1, "disk", f"{free:.0f} GiB free here" + ("" if free >= 1 else "; a run needs 1")


def _model() -> Check:
    """Loads the bundled model and asks it about a picture made here."""
    from data_tools.errors import UserError
    from data_tools.scenes.render import to_png
    from data_tools.scenes.structure import Scene, SceneObject
    from data_tools.schema import ImageRef, PreferenceRecord, user
    from mmrlhf.config import ModelConfig
    from mmrlhf.models.batch import encode_prompt
    from mmrlhf.models.generate import generate
    from mmrlhf.models.load import load_vlm
    from mmrlhf.models.vlm import decode

    question = "What color is the circle?"
    picture = to_png(Scene((SceneObject("circle", "red", "large", 0.5, 0.5),)))
    record = PreferenceRecord("doctor", "doctor", (user(0, question),), images=(ImageRef.of_bytes(picture),))
    try:
        vlm = load_vlm(ModelConfig())
        answer = decode(vlm, generate(vlm, [encode_prompt(vlm, record)], 8, temperature=0)[0])
    except UserError as error:
        return False, "bundled model", str(error)
    return answer == "Red.", "bundled model", f"shown a red circle and asked {question!r}, it says {answer!r}"
