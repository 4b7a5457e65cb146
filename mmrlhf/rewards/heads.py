"""The heads of a reward model: every objective, and every member of the ensemble, in one product.

A head is linear, or has one hidden layer of its own. The members of an ensemble are heads of one objective that start
elsewhere and learn from another bootstrap of the data each; how far they lie apart says how unsure the objective is.
They share the backbone, so they can't tell what the backbone itself doesn't know.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_tools.errors import UserError


class Heads(nn.Linear):
    """K objectives with M members each: hidden states (B, D) to rewards (B, K, M).

    As a layer it is the last one: `weight` (K * M, D), or (K * M, H) behind hidden layers of width H that `inner`
    makes, one a head. Weights start small and at random, so that no two members are alike.
    """

    def __init__(
        self, width: int, objectives: int, members: int = 1, hidden: int | None = None, device: object = None
    ) -> None:
        super().__init__(hidden or width, objectives * members, device=device)  # type: ignore[arg-type]
        self.shape = (objectives, members)
        nn.init.normal_(self.weight, std=1 / ((hidden or width) + 1))
        nn.init.zeros_(self.bias)
        self.inner: nn.Linear | None = None
        if hidden:
            self.inner = nn.Linear(width, hidden * objectives * members, device=device)  # type: ignore[arg-type]
            nn.init.zeros_(self.inner.bias)

    def forward(self, hidden_BD: Tensor) -> Tensor:
        if self.inner is None:
            rewards = super().forward(hidden_BD)
        else:
            inner = F.gelu(self.inner(hidden_BD)).unflatten(-1, self.weight.shape)
            rewards = (inner * self.weight).sum(-1) + self.bias
        return rewards.unflatten(-1, self.shape)

    def by_objective(self) -> list[dict[str, Tensor]]:
        """Each objective's own tensors, which share memory with the layer's."""
        named = dict(self.named_parameters())
        return [
            {name: value.detach().chunk(self.shape[0])[k] for name, value in named.items()}
            for k in range(self.shape[0])
        ]


class RatingScale(nn.Module):
    """How each objective's reward becomes a rating from 0 to 1: rating = offset + exp(log_scale) * reward.

    The scale of a reward is set by comparisons, and that of a rating by its judge; this lies between them. All members
    of an ensemble share it, so that their rewards stay comparable. It starts with the slope of a sigmoid.
    """

    def __init__(self, objectives: int, device: object = None) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((objectives,), math.log(0.25), device=device))  # type: ignore[arg-type]
        self.offset = nn.Parameter(torch.full((objectives,), 0.5, device=device))  # type: ignore[arg-type]

    def forward(self, rewards_BKM: Tensor) -> Tensor:
        """Rewards (B, K, M) to ratings of the same shape."""
        return self.offset.unsqueeze(-1) + self.log_scale.exp().unsqueeze(-1) * rewards_BKM


def to_file(objectives: Sequence[str], heads: Heads, scale: RatingScale) -> dict[str, Tensor]:
    """The tensors of a file of heads, each under its objective's name."""
    found: dict[str, Tensor] = {}
    for k, (objective, own) in enumerate(zip(objectives, heads.by_objective(), strict=True)):
        found |= {f"heads/{name}/{objective}": value for name, value in own.items()}
        found[f"heads/rating/{objective}"] = torch.stack([scale.log_scale[k], scale.offset[k]]).detach()
    return {name: value.cpu().clone() for name, value in found.items()}


@torch.no_grad()
def from_file(
    path: str, objectives: Sequence[str], tensors: Mapping[str, Tensor], heads: Heads, scale: RatingScale
) -> None:
    """Fills heads with what `to_file` made.

    Raises:
        UserError: an objective has no head in there, or one of another shape, or there is one that isn't asked for; the
            message names file and objective.
    """
    held: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "heads":
            name, _, objective = rest.partition("/")
            held.setdefault(objective, {})[name] = value
    for k, (objective, own) in enumerate(zip(objectives, heads.by_objective(), strict=True)):
        wanted = {**own, "rating": torch.stack([scale.log_scale[k], scale.offset[k]])}
        found = held.pop(objective, {})
        if not found:
            raise UserError(f"{path}: has no head for {objective}, which the card lists")
        if _shapes(found) != _shapes(wanted):
            raise UserError(
                f"{path}: the head for {objective} has the shapes {_shapes(found)}, but the card and the model need "
                f"{_shapes(wanted)}"
            )
        for name, value in own.items():
            value.copy_(found[name])
        scale.log_scale[k], scale.offset[k] = found["rating"]
    if held:
        raise UserError(f"{path}: has a head for {sorted(held)[0]}, which the card doesn't list")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in sorted(tensors.items())}


def of_format_2(objectives: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of an earlier version, one linear head an objective in two tensors, as `to_file` would have written it;
    what isn't there stays away."""
    weight, bias = tensors.get("weight"), tensors.get("bias")
    found: dict[str, Tensor] = {}
    scale = RatingScale(1)
    for k, objective in enumerate(objectives):
        for name, value in (("weight", weight), ("bias", bias)):
            if value is not None and k < len(value):
                found[f"heads/{name}/{objective}"] = value[k : k + 1]
                found[f"heads/rating/{objective}"] = torch.cat([scale.log_scale, scale.offset]).detach()
    return found


def bootstrap(seed: int, unit: str, members: int) -> list[float]:
    """How often each member of an ensemble meets a unit of data (a record, or both of a flip pair): Poisson(1), as in a
    bootstrap of endless data (Oza and Russell 2001); one member alone meets everything once.

    A hash of the arguments, so it is the same in each epoch, batch and process.
    """
    if members == 1:
        return [1.0]
    return [_poisson(f"{seed}/{member}/{unit}") for member in range(members)]


def _poisson(key: str) -> float:
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    count, chance = 0, math.exp(-1)
    while draw >= chance and count < 20:
        draw -= chance
        count += 1
        chance /= count
    return float(count)
