"""The typed configs of a run. One YAML file holds them all; every default here is the vetted setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from data_tools.build import DataConfig
from data_tools.config import Config, PathText, expand_paths, validate_nested
from data_tools.errors import UserError
from mmrlhf.config.base import LoraSettings, ModelConfig, OptimConfig, Seed, StageConfig, set_otherwise
from mmrlhf.config.grounding import GroundingConfig
from mmrlhf.config.metric_names import ppo_metrics, reward_metrics, sft_metrics, wrong_metric
from mmrlhf.config.mixture import AdaptiveMixture, FixedMixture
from mmrlhf.config.ppo import BEFORE_PPO, AlarmConfig, PpoConfig, PpoVariant
from mmrlhf.config.stages import (
    EngineConfig,
    EvaluateConfig,
    GateConfig,
    LabelWeights,
    RewardConfig,
    SftConfig,
)
from mmrlhf.rewards.objectives import ObjectiveBase
from mmrlhf.rewards.scalarizers import PreferenceConditioned, ScalarizerBase
from mmrlhf.rewards.scalarizers.asking import read_asks, wish

__all__ = [
    "BEFORE_PPO",
    "AdaptiveMixture",
    "AlarmConfig",
    "EngineConfig",
    "EvaluateConfig",
    "FixedMixture",
    "GateConfig",
    "GroundingConfig",
    "LabelWeights",
    "LoraSettings",
    "ModelConfig",
    "OptimConfig",
    "PpoConfig",
    "PpoVariant",
    "RewardConfig",
    "RunConfig",
    "SftConfig",
    "StageConfig",
]


def _read_data(value: Any) -> Any:
    """A section of its own, or a folder's name; a mistake keeps the path of its key, which a union would blur."""
    if isinstance(value, dict):
        return validate_nested(value, DataConfig)
    if not isinstance(value, DataConfig | str):
        raise ValueError("needs a section with sources, or the folder of a data set that is built")
    return expand_paths(value)


class RunConfig(Config):
    """A whole run: data, then each stage that is there, then the report."""

    name: str = Field(
        description="the run's folder is output_dir/name", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
    )
    output_dir: PathText = Field("runs", description="where run folders are made")
    seed: Seed = Field(0, description="seeds the order of the data, new weights and sampling")
    model: ModelConfig = ModelConfig()
    data: Annotated[DataConfig | str, BeforeValidator(_read_data)] = Field(
        description="how to build the data set, or the folder of one that is built"
    )
    sft: SftConfig | None = None
    reward: RewardConfig | None = None
    ppo: PpoConfig | None = None
    evaluate: EvaluateConfig | None = None
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        mistakes = [
            *self._missing_sections(),
            *self._wrong_models(),
            *self._idle_settings(),
            # the others ask the objectives for their names
            *(
                self._wrong_objectives()
                or (*self._wrong_metrics(), *self._wrong_scalarizers(), *self._wrong_wishes())
            ),
        ]
        if mistakes:
            raise ValidationError.from_exception_data("RunConfig", mistakes)
        return self

    def _missing_sections(self) -> Iterator[InitErrorDetails]:
        if self.reward or (self.ppo and self.ppo.objectives):
            return
        if self.ppo:
            yield _mistake(
                "needs a reward section, or objectives of its own: they say what is rewarded", "ppo"
            )
        if self.evaluate:
            yield _mistake("needs a reward section, or ppo.objectives: they judge every answer", "evaluate")

    def _idle_settings(self) -> Iterator[InitErrorDetails]:
        """Settings of the evaluation that nothing reads under the other sections."""
        if not self.evaluate:
            return
        if self.reward is None and set_otherwise(self.evaluate, "pairs"):
            yield _mistake(
                "does nothing without a reward section: pairs are scored by the reward model; leave it out",
                *("evaluate", "pairs"),
            )
        stage = self.ppo or StageConfig()
        asked = any(
            isinstance(variant.scalarizer, PreferenceConditioned)
            for variant in getattr(stage, "variants", ())
        )
        # a policy of another run may read weights too
        if self.evaluate.weights and not asked and not read_asks((stage.model or self.model).path):
            yield _mistake(
                "does nothing where no variant reads weights; give one the scalarizer preference_conditioned, or leave "
                "it out",
                *("evaluate", "weights"),
            )

    def _wrong_models(self) -> Iterator[InitErrorDetails]:
        """A stage's settings may be well by themselves and still not fit those of the run."""
        for name in ("sft", "reward", "ppo"):
            stage: StageConfig | None = getattr(self, name)
            try:
                _ = stage and self.stage_model(stage)
            except ValidationError as error:
                for item in error.errors():
                    message = item["msg"].removeprefix("Value error, ")
                    yield _mistake(f"with the run's model: {message}", name, "model", *item["loc"])

    def _wrong_metrics(self) -> Iterator[InitErrorDetails]:
        """A best_by that names no metric of its stage would choose nothing, and be found out once all is trained."""
        names = {
            "sft": sft_metrics(),
            "reward": reward_metrics(self.reward) if self.reward else [],
            "ppo": ppo_metrics(self.ppo, self.objectives) if self.ppo else [],
        }
        for stage, known in names.items():
            section: StageConfig | None = getattr(self, stage)
            if section and section.best_by and (wrong := wrong_metric(section.best_by, known)):
                yield _mistake(wrong, stage, "best_by")

    def _wrong_objectives(self) -> list[InitErrorDetails]:
        """Objectives of which PPO couldn't tell one from the other, or that are none."""
        found: list[InitErrorDetails] = []
        taken = dict.fromkeys(self.reward.objectives if self.reward else (), "reward.objectives")
        for index, own in enumerate(self.ppo.objectives if self.ppo else ()):
            if not isinstance(own, ObjectiveBase):
                base = f"{ObjectiveBase.__module__}:ObjectiveBase"
                found.append(
                    _mistake(f"{type(own).__name__} is not made from {base}", "ppo", "objectives", index)
                )
                continue
            for name in own.names:
                if name in taken:
                    message = f"{name} is the name of one in {taken[name]} too; choose another"
                    found.append(_mistake(message, "ppo", "objectives", index))
                taken[name] = "ppo.objectives"
        return found

    @property
    def objectives(self) -> list[str]:
        """All that answers are judged on: the heads of the reward model, then the objectives beside it."""
        heads = self.reward.objectives if self.reward else []
        return [
            *heads,
            *(name for other in (self.ppo.objectives if self.ppo else []) for name in other.names),
        ]

    def _wrong_scalarizers(self) -> Iterator[InitErrorDetails]:
        if not (self.ppo and self.objectives):
            return
        for index, variant in enumerate(self.ppo.variants):
            own = variant.scalarizer
            try:
                if not isinstance(own, ScalarizerBase):
                    raise UserError(
                        f"{type(own).__name__} is not made from {ScalarizerBase.__module__}:ScalarizerBase"
                    )
                own.check(self.objectives)
                self._check_judges(own, self.ppo.objectives)
            except UserError as error:
                yield _mistake(str(error), "ppo", "variants", index, "scalarizer")

    def _check_judges(self, scalarizer: ScalarizerBase, others: Sequence[ObjectiveBase]) -> None:
        """Raises UserError where no judge of the run tells what the scalarizer reads beside rewards."""
        ensemble = self.reward is not None and self.reward.members > 1
        if scalarizer.needs_deviations and not (ensemble or any(other.tells_deviation for other in others)):
            raise UserError(
                "pessimism: no judge tells how unsure it is, so it would change nothing; set reward.members to 2 or "
                "more, add one that tells it to ppo.objectives (such as remote), or leave pessimism 0"
            )
        gate = self.reward is not None and self.reward.gate is not None
        if scalarizer.needs_gate and not (gate or any(not other.ours for other in others)):
            raise UserError(
                "the reward model has no gate to read weights from; set reward.gate, or choose another type"
            )

    def _wrong_wishes(self) -> Iterator[InitErrorDetails]:
        """Weights that no policy of the run could be asked for are told of before it is trained."""
        if not (self.evaluate and self.objectives):
            return
        for index, weights in enumerate(self.evaluate.weights):
            try:
                wish(weights, self.objectives, "weights")
            except UserError as error:
                yield _mistake(str(error), "evaluate", "weights", index)

    def stage_model(self, stage: StageConfig) -> ModelConfig:
        """The model settings in force for a stage: the run's, with what the stage's own section sets (of `lora` too).

        Raises:
            ValidationError: the two together are no model. `RunConfig` itself refuses that of its own stages.
        """
        if stage.model is None:
            return self.model
        return ModelConfig.model_validate(
            _merged(self.model.model_dump(), stage.model.model_dump(exclude_unset=True))
        )

    def evaluation_like(self, stage: StageConfig | None) -> EvaluateConfig:
        """The evaluation's settings; what it leaves open of how much is worked on at a time is as in a stage, whose
        work has fitted into memory."""
        settings = self.evaluate or EvaluateConfig()
        names = ("generate_batch_size", "micro_batch_size", "micro_batch_tokens")
        given = {name: getattr(stage, name, None) for name in names if getattr(settings, name) is None}
        return settings.model_copy(update=given)

    def starts_from_sft(self, stage: StageConfig) -> bool:
        """Whether a stage goes on from the SFT model: the run has one, and the stage names no model of its own."""
        own = stage.model is not None and "path" in stage.model.model_fields_set
        return self.sft is not None and not own

    @property
    def before_ppo(self) -> str:
        """What reports call the policy that PPO starts from: sft, or base where that is no SFT model."""
        sft, base = BEFORE_PPO
        return sft if self.starts_from_sft(self.ppo or StageConfig()) else base


def _mistake(message: str, *path: str | int) -> InitErrorDetails:
    """A mistake at the path of its key, which a ValueError of a whole section wouldn't have."""
    error = PydanticCustomError("config", "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=path, input={})


def _merged(row: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`row` with the values of `own` in place of its own, section by section."""
    nested = {
        key: _merged(row[key], value)
        for key, value in own.items()
        if isinstance(value, dict) and isinstance(row.get(key), dict)
    }
    return {**row, **own, **nested}
