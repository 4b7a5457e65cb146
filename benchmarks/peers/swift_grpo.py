"""ms-swift's GRPO (its Hugging Face backend) in the comparison; runs in ms-swift's environment.

usage: swift_grpo.py JOB
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers.trainer
from pace import Pace, callback, reward
from swift import RLHFArguments, rlhf_main
from swift.rewards import ORM, orms


def main() -> None:
    """Trains as many steps as the driver asks for."""
    pace = Pace()
    task, folder = pace.job, Path(pace.job["folder"])
    size, answers = task["size"], task["answers"]
    data = folder / "swift.jsonl"
    with data.open("w") as file:
        for line in (folder / "prompts.jsonl").open():
            row = json.loads(line)
            text = "<image>" * len(row["images"]) + row["prompt"]
            file.write(
                json.dumps({"messages": [{"role": "user", "content": text}], "images": row["images"]}) + "\n"
            )

    class Rule(ORM):
        """The reward of all trainers."""

        def __call__(self, completions: list[str], **kwargs: Any) -> list[float]:
            """A score for each text."""
            pace.work["rule"] += len(completions)
            return [reward(text) for text in completions]

    orms["rule"] = Rule
    transformers.trainer.DEFAULT_CALLBACKS.append(callback(pace))
    pace.count_work()
    lora: dict[str, Any] = {}
    if task["lora"]:
        lora = {"lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": ["all-linear"]}
    rlhf_main(
        RLHFArguments(
            rlhf_type="grpo",
            model=str(folder / "model"),
            model_type="llava1_5_hf",
            template="llava1_5_hf",
            torch_dtype="float32",
            attn_impl="sdpa",
            dataset=[str(data)],
            split_dataset_ratio=0.0,
            load_from_cache_file=False,
            dataset_num_proc=1,
            tuner_type="lora" if task["lora"] else "full",
            freeze_vit=True,
            freeze_aligner=True,
            reward_funcs=["rule"],
            num_generations=answers,
            num_iterations=1,
            steps_per_generation=1,
            max_completion_length=size["answer"],
            max_steps=task["steps"],
            per_device_train_batch_size=size["prompts"] * answers,
            gradient_accumulation_steps=1,
            temperature=1.0,
            top_k=-1,
            top_p=1.0,
            beta=0.04,
            epsilon=0.2,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            warmup_ratio=0.0,
            adam_beta2=0.95,
            weight_decay=0.0,
            max_grad_norm=1.0,
            use_vllm=False,
            output_dir=str(folder / "swift"),
            add_version=False,
            save_strategy="no",
            logging_steps=1000,
            report_to="none",
            gradient_checkpointing=False,
            vit_gradient_checkpointing=False,
            bf16=False,
            fp16=False,
            use_cpu=True,
            dataloader_num_workers=0,
            seed=0,
            **lora,
        )
    )
    pace.close()


if __name__ == "__main__":
    main()
