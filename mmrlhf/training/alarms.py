"""Alarms: what tells that a run goes wrong long before its end, and what is done about it.

The tell-tale of a policy that pleases without looking is the last one: the score rises while the swap gap, by which
rewards fall under another picture, closes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_tools.errors import RunError
from mmrlhf.config import AlarmConfig

FIRST_STEPS = 3  # whose mean is what the length is measured against
SLOWEST = 1 / 64
SLOW_AGAIN = 20  # steps; an alarm that holds on halves the rate again after so many


class AlarmRaised(RunError):
    """An alarm whose action is to stop."""


class Alarms:
    """Looks at each step's metrics; its state is part of the checkpoint."""

    def __init__(self, config: AlarmConfig, objectives: Sequence[str]) -> None:
        self.config, self.objectives = config, tuple(objectives)
        self.lr_scale = 1.0
        self._steps_slowed: int | None = None  # since the rate was halved; None where no alarm has held on
        self._lengths: list[float] = []
        self._looks: list[tuple[float, float]] = []  # score and mean swap gap, where it was measured

    def watch(self, metrics: Mapping[str, float]) -> list[str]:
        """What is wrong after a step; where that is the action, halves the learning rate when an alarm begins, and
        again after `SLOW_AGAIN` steps of it.

        Raises:
            AlarmRaised: the action is to stop.
        """
        messages = list(self._wrong(metrics))
        if messages and self.config.action == "stop":
            raise AlarmRaised(f"{'; '.join(messages)}. ppo.alarms stopped the run; its checkpoint is whole")
        if not messages:
            self._steps_slowed = None
        elif self.config.action == "slow":
            steps = SLOW_AGAIN if self._steps_slowed is None else self._steps_slowed + 1
            self._steps_slowed = steps % SLOW_AGAIN
            if steps == SLOW_AGAIN and self.lr_scale > SLOWEST:
                self.lr_scale /= 2
                messages.append(f"the learning rate is at {self.lr_scale:g} of its schedule")
        return messages

    def _wrong(self, metrics: Mapping[str, float]) -> Iterator[str]:
        config = self.config
        if config.kl is not None and metrics["kl"] > config.kl:
            yield f"the KL to the reference, {metrics['kl']:.2f} nats an answer, is above {config.kl:g}"
        if config.entropy is not None and metrics["entropy"] < config.entropy:
            yield f"the entropy, {metrics['entropy']:.3f} nats a token, is below {config.entropy:g}"
        if len(self._lengths) < FIRST_STEPS:
            self._lengths.append(metrics["length"])
        elif config.length is not None:
            before = sum(self._lengths) / len(self._lengths)
            if abs(metrics["length"] / before - 1) > config.length:
                yield f"answers have {metrics['length']:.1f} tokens where they had {before:.1f}"
        yield from self._not_looking(metrics)

    def _not_looking(self, metrics: Mapping[str, float]) -> Iterator[str]:
        gaps = [metrics[name] for o in self.objectives if (name := f"swap_gap/{o}") in metrics]
        if not gaps:
            return
        self._looks.append((metrics["score"], sum(gaps) / len(gaps)))
        # what isn't above 0 can't fall: such a policy doesn't look yet
        first_score, first_gap = next((look for look in self._looks if look[1] > 0), self._looks[-1])
        score, gap = self._looks[-1]
        share = self.config.swap_gap
        if first_gap <= 0:
            return
        if share is not None and score > first_score and gap < (1 - share) * first_gap:
            yield (
                f"the score has risen from {first_score:.2f} to {score:.2f} while the swap gap fell from "
                f"{first_gap:.2f} to {gap:.2f}: the policy may be pleasing without looking"
            )

    def state_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "lr_scale": self.lr_scale,
            "steps_slowed": self._steps_slowed,
            "lengths": self._lengths,
            "looks": self._looks,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.lr_scale, self._steps_slowed = state["lr_scale"], state["steps_slowed"]
        self._lengths = list(state["lengths"])
        self._looks = [(score, gap) for score, gap in state["looks"]]
