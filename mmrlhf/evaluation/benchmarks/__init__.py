"""Public benchmarks of reward models, one a file: a local copy's rows become preference records, and what a model gets
right becomes the scores that the benchmark defines.
"""

from mmrlhf.evaluation.benchmarks.base import Benchmark
from mmrlhf.evaluation.benchmarks.mm_rlhf_rewardbench import MM_RLHF_REWARDBENCH
from mmrlhf.evaluation.benchmarks.multimodal_rewardbench import MULTIMODAL_REWARDBENCH
from mmrlhf.evaluation.benchmarks.vl_rewardbench import VL_REWARDBENCH

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (VL_REWARDBENCH, MULTIMODAL_REWARDBENCH, MM_RLHF_REWARDBENCH)
}
