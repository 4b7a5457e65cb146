"""What ms-swift's trainers have in common in the comparison; runs in ms-swift's environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers.trainer
from pace import Pace, callback


def prepare(pace: Pace) -> None:
    """Puts the turns into the trainer, and counts its work."""
    transformers.trainer.DEFAULT_CALLBACKS.append(callback(pace))
    pace.count_work()


def common_settings(task: dict[str, Any], data: Path) -> dict[str, Any]:
    """The arguments that hold for every task."""
    folder = Path(task["folder"])
    lora: dict[str, Any] = {}
    if task["lora"]:
        lora = {"lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": ["all-linear"]}
    return {
        "model": str(folder / "model"),
        "model_type": "llava1_5_hf",
        "template": "llava1_5_hf",
        "torch_dtype": "float32",
        "attn_impl": "sdpa",
        "dataset": [str(data)],
        "split_dataset_ratio": 0.0,
        "load_from_cache_file": False,
        "dataset_num_proc": 1,
        "tuner_type": "lora" if task["lora"] else "full",
        "freeze_vit": True,
        "freeze_aligner": True,
        "max_steps": task["steps"],
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0.0,
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "output_dir": str(folder / "swift"),
        "add_version": False,
        "save_strategy": "no",
        "logging_steps": 1000,
        "report_to": "none",
        "gradient_checkpointing": False,
        "vit_gradient_checkpointing": False,
        "bf16": False,
        "fp16": False,
        "use_cpu": True,
        "dataloader_num_workers": 0,
        "seed": 0,
        **lora,
    }
