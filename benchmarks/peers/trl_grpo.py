"""TRL's GRPO in the comparison; runs in TRL's environment.

usage: trl_grpo.py JOB
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import torch
from pace import TARGETS, Pace, callback, reward
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer


def main() -> None:
    """Trains as many steps as the driver asks for."""
    pace = Pace()
    task, folder = pace.job, Path(pace.job["folder"])
    size, answers = task["size"], task["answers"]
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float32)
    model.model.vision_tower.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(False)
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").open()]
    data = datasets.Dataset.from_list(
        [{"images": r["images"], "prompt": [{"role": "user", "content": r["prompt"]}]} for r in rows]
    ).cast_column("images", datasets.Sequence(datasets.Image()))
    pace.count_work()

    def score(completions: list[Any], **kwargs: Any) -> list[float]:
        pace.work["rule"] += len(completions)
        return [reward(message[0]["content"]) for message in completions]

    trainer = GRPOTrainer(
        model=model,
        processing_class=AutoProcessor.from_pretrained(folder / "model"),
        train_dataset=data,
        reward_funcs=score,
        callbacks=[callback(pace)()],
        peft_config=LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM"
        )
        if task["lora"]
        else None,
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            max_steps=task["steps"],
            per_device_train_batch_size=size["prompts"] * answers,
            num_generations=answers,
            steps_per_generation=1,
            num_iterations=1,
            max_completion_length=size["answer"],
            generation_kwargs={
                "min_new_tokens": size["answer"],
                "suppress_tokens": model.generation_config.suppress_tokens,
            },
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            beta=0.04,
            epsilon=0.2,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            adam_beta2=0.95,
            max_grad_norm=1.0,
            logging_steps=1000,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_num_workers=0,
            disable_tqdm=True,
            seed=0,
        ),
    )
    trainer.train()
    pace.close()


if __name__ == "__main__":
    main()
