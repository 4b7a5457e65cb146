"""What a config asks for beside data: seen to be there, and to go together, before anything is built or trained."""

from __future__ import annotations

from mmrlhf.config import ModelConfig, RunConfig, StageConfig
from mmrlhf.models.context import room_for_prompts
from mmrlhf.models.model_checks import check_model
from mmrlhf.rewards.card import check_policy

STAGES = ("sft", "reward", "ppo")


def check_start(config: RunConfig, *kinds: str) -> None:
    """Sees that the models which stages of these kinds (none: all that the config has) begin from are there, that the
    settings suit them, and that the objectives beside the reward model have what they need; else building the data and
    training come first, which may take days. Reads no weights but those of objectives, and asks no server.

    A stage that goes on from a run's SFT model is looked at only together with SFT.

    Raises:
        UserError, RunError: something is missing or can't be; or a policy would begin from a reward model.
    """
    for kind in kinds or STAGES:
        section = getattr(config, kind)
        settings = _begins_as(config, section, kinds or STAGES) if section else None
        if settings:
            room_for_prompts(check_model(settings), section.max_answer_tokens, settings.path, kind)
            if kind != "reward":
                check_policy(settings.path)
    if config.ppo and "ppo" in (kinds or STAGES):
        for objective in config.ppo.objectives:
            objective.check()


def _begins_as(config: RunConfig, section: StageConfig, kinds: tuple[str, ...]) -> ModelConfig | None:
    """The settings of a stage's model; None where only the SFT model's folder could tell. Before there is one, it is of
    the kind of what SFT begins from."""
    settings = config.stage_model(section)
    if section is config.sft or not config.sft or not config.starts_from_sft(section):
        return settings
    path = config.stage_model(config.sft).path
    return settings.model_copy(update={"path": path}) if "sft" in kinds else None
