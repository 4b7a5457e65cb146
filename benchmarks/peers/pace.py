"""A worker's side of the comparison: it waits for its turn between two steps, and tells of the step just done.

Runs inside each trainer's own environment, so it needs no more than torch and transformers. The driver
(`benchmarks/peers.py`) writes a word to a worker's standard input, and the worker answers with a line of JSON:

    step    do one step: its seconds, CPU seconds and work
    speed   how fast the machine is just now, GFLOP/s

After the last step the worker ends by itself, with a line of its peak memory and versions. Whatever the libraries
print goes to standard error.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import statistics
import sys
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "trl", "ms-swift", "mmrlhf")
TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def reward(text: str) -> float:
    """A rule for answers' texts, the same for every trainer: cheap, and different within a group."""
    return float("baba" in text) + 0.01 * (sum(map(ord, text)) % 17)


class Pace:
    """Waits for the driver, takes the time of steps, and counts the work of towers and language models."""

    def __init__(self) -> None:
        """Takes standard output for itself."""
        self.job: dict[str, Any] = json.loads(sys.argv[1])
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        import torch

        torch.set_num_threads(self.job["threads"])
        self.work: Counter[str] = Counter()
        self.left = self.job["steps"]
        self._began: tuple[float, float] | None = None

    def turn(self, **told: Any) -> bool:
        """Between two steps: tells of the one that has just ended, and waits for the word; False where none is left."""
        if self._began is None:
            self.say(ready=True, rss_mb=peak_mb(), **told)
        else:
            wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
            self.say(seconds=wall, cpu_seconds=cpu, work=dict(self.work), **told)
        if not self.left:
            return False
        self.left -= 1
        while (word := sys.stdin.readline().strip()) != "step":
            if word != "speed":
                sys.exit(f"the driver said {word!r}")
            self.say(gflops=gemm_gflops())
        self.work.clear()
        self._began = time.perf_counter(), time.process_time()
        return True

    def say(self, **told: Any) -> None:
        """A line for the driver."""
        self._out.write(json.dumps(told) + "\n")
        self._out.flush()

    def close(self, **told: Any) -> None:
        """The last line."""
        versions = {}
        for name in PACKAGES:
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                continue
        self.say(peak_mb=peak_mb(), versions=versions, python=sys.version.split()[0], **told)

    def count_work(self) -> None:
        """From now on, every forward of a CLIP tower or a Llama is counted, whichever model it belongs to."""
        from transformers.models.clip.modeling_clip import CLIPVisionModel
        from transformers.models.llama.modeling_llama import LlamaModel

        def tower(pixels: Any) -> Counter[str]:
            return Counter(tower_calls=1, tower_images=len(pixels))

        def language(tokens: Any) -> Counter[str]:
            return Counter(language_calls=1, language_tokens=tokens.shape[0] * tokens.shape[1])

        self._count(CLIPVisionModel, ("pixel_values",), tower)
        self._count(LlamaModel, ("inputs_embeds", "input_ids"), language)

    def _count(self, kind: Any, names: tuple[str, ...], note: Any) -> None:
        own = kind.forward

        @functools.wraps(own)
        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            given = [kwargs[name] for name in names if kwargs.get(name) is not None] or list(args[:1])
            self.work += note(given[0])
            return own(module, *args, **kwargs)

        kind.forward = forward


def callback(pace: Pace) -> Any:
    """The turns of a trainer of transformers' kind: loading, collating and logging fall into a step."""
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            model = kwargs["model"]
            pace.turn(trained=sum(p.numel() for p in model.parameters() if p.requires_grad))

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            pace.turn()

    return Turns


def peak_mb() -> float:
    """The most memory this process has held until now: MB, of Linux's ru_maxrss."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def gemm_gflops(size: int = 1024, tries: int = 8) -> float:
    """How fast this machine is just now: the median over products of two float32 matrices."""
    import torch

    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(tries):
        began = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - began)
    return round(2 * size**3 / statistics.median(seconds) / 1e9, 1)
