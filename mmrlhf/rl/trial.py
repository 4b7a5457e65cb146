"""What can be tried out before anything is trained: which objectives apply to any prompt, and whether scalarizers and
algorithms of the user's do what PPO asks of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

import torch

from data_tools.config import plugin_name
from data_tools.errors import RunError, UserError
from data_tools.schema import PreferenceRecord
from mmrlhf.config import PpoConfig, PpoVariant
from mmrlhf.rewards.objectives.base import ObjectiveBase, is_ours, raised
from mmrlhf.rl.scoring import compute_advantages, scalarize, score_tokens
from mmrlhf.tensors import length_mask
from mmrlhf.types import Outcomes

PROMPTS = 3  # of a trial
KEYS_SHOWN = 8


def silent_objectives(
    objectives: Sequence[ObjectiveBase], prompts: Iterable[PreferenceRecord]
) -> Iterator[str]:
    """What to say of each objective that applies to none of the prompts. Reads no more of them than it takes to see
    that each applies to one."""
    open_ones = list(objectives)
    keys: set[str] = set()
    for record in prompts:
        open_ones = [objective for objective in open_ones if not objective.applies(record)]
        if not open_ones:
            return
        keys |= record.reference.keys()
    for objective in open_ones:
        yield (
            f"ppo.objectives: {objective.name} ({plugin_name(objective)}): no prompt of the train split has "
            f"{objective.needs}, so it would judge nothing; {_hint(objective.needs, keys)}"
        )


def _hint(needs: str, keys: set[str]) -> str:
    if not needs.startswith("reference."):
        return "leave it out, or add such prompts"
    names = sorted(f"reference.{key}" for key in keys)
    if near := difflib.get_close_matches(needs, names, n=1, cutoff=0.8):
        return f"did you mean {near[0]} (key)?"
    there = f"prompts have {', '.join(names[:KEYS_SHOWN])}" if names else "prompts have no reference"
    return f"{there}: set key, or add references to the data"


def try_plugins(config: PpoConfig, objectives: Sequence[str]) -> Iterator[str]:
    """Runs scalarizers and algorithms of the user's on made-up rewards; what to say of each that fails."""
    for variant in config.variants:
        if is_ours(variant.scalarizer) and is_ours(config.algorithm):
            continue
        try:
            _try(config, variant, objectives)
        except (RunError, UserError) as error:
            yield f"ppo.variants: {variant.name}: tried out on made-up rewards: {error}"


def _try(config: PpoConfig, variant: PpoVariant, objectives: Sequence[str]) -> None:
    scalarizer = variant.scalarizer.model_copy(deep=True)
    algorithm = config.algorithm.model_copy(deep=True)
    outcomes = _made_up(config, len(objectives))
    rewards = outcomes.rewards(objectives)
    try:
        seen = scalarizer.seen(rewards, config.score_clip)
        scalarizer.counted(rewards)
        scores_B = scalarize(scalarizer, seen)
        scored = score_tokens(outcomes, scalarizer, seen, scores_B, config, config.kl_coef)
        scalarizer.learn(rewards, config.score_clip)
    except (RunError, UserError):
        raise
    except Exception as error:
        name = plugin_name(scalarizer)
        raise raised(f"scalarizer {name}", type(scalarizer).__name__, error) from error
    compute_advantages(algorithm, scored)


def _made_up(config: PpoConfig, objectives: int) -> Outcomes:
    """Answers of one to three tokens to a few prompts, judged on every objective."""
    draws = torch.Generator().manual_seed(0)
    answers, tokens = PROMPTS * config.answers_per_prompt, 3
    algorithm = config.algorithm
    critics = (objectives + 1 if algorithm.critic_an_objective else 1) if algorithm.has_critic else 0

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(answers, *shape, generator=draws)

    return Outcomes(
        group_B=torch.arange(PROMPTS).repeat_interleave(config.answers_per_prompt),
        image_B=torch.arange(answers) % 2 == 0,
        ended_B=torch.ones(answers, dtype=torch.bool),
        rewards_BK=draw(objectives),
        judged_BK=torch.ones(answers, objectives, dtype=torch.bool),
        std_BK=draw(objectives).abs(),
        gate_BK=torch.full((answers, objectives), 1 / objectives),
        asked_BK=torch.ones(answers, objectives),
        mask_BT=length_mask(torch.arange(answers) % tokens + 1, tokens),
        logprobs_BT=-draw(tokens).abs(),
        ref_logprobs_BT=-draw(tokens).abs(),
        values_BTK=draw(tokens, critics) if critics else None,
    )
