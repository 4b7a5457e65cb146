"""What a person should know of a run's answers, told once: answers that no objective judged, rewards that were cut to
the bound. The shares stand in each step's metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

MOSTLY = 0.5  # share of cut rewards that is worth a word


class Notices:
    """Looks at each step's metrics. A run that goes on tells again."""

    def __init__(self, objectives: Sequence[str], scaled: Sequence[str], clip: float) -> None:
        """`scaled`: those of the objectives whose `mean` and `std` the config sets; `clip`: the bound of rewards."""
        self.objectives, self.scaled, self.clip = tuple(objectives), frozenset(scaled), clip
        self._past: set[str] = set()

    def watch(self, metrics: Mapping[str, float]) -> list[str]:
        """What to tell after a step: each kind of thing once."""
        told = {key: text for key, text in self._seen(metrics) if key not in self._past}
        if metrics.get("unjudged", 0.0) < 1:
            # which objectives are silent is looked at in the first step that was trained on
            self._past |= {f"silent/{name}" for name in self.objectives}
        self._past |= told.keys()
        return list(told.values())

    def _seen(self, metrics: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        share = metrics.get("unjudged", 0.0)
        if share == 1:
            yield (
                "unjudged/all",
                "no objective that counts judged any answer of this step, so nothing was learnt from it",
            )
        elif share:
            yield (
                "unjudged",
                f"{share:.0%} of the answers were judged by no objective that counts and are left out: of baselines, "
                "updates and means (the metric unjudged tells their share)",
            )
        for name in self.objectives:
            if share < 1 and not any(f"reward/{name}/{kind}" in metrics for kind in ("image-text", "text")):
                yield f"silent/{name}", f"objective {name} judged no answer of this step"
            if metrics.get(f"clipped/{name}", 0.0) > MOSTLY:
                yield f"clipped/{name}", self._clipped(name, metrics[f"clipped/{name}"])

    def _clipped(self, name: str, share: float) -> str:
        advice = f"raise ppo.score_clip, which is {self.clip:g}"
        if name in self.scaled:
            advice = (
                "set its std (and mean) in ppo.objectives to those of its rewards, so that most lie within, or "
                + advice
            )
        return (
            f"{share:.0%} of the rewards of {name} lie beyond score_clip and were cut to +-{self.clip:g}, where "
            f"answers count alike and nothing is learnt from their differences; {advice}"
        )
