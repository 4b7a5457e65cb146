"""The loss of an update: the policy's, the critics', the entropy bonus and the KL, put together token by token."""

from __future__ import annotations

from torch import Tensor

from mmrlhf.config import PpoConfig
from mmrlhf.models.policy import PolicyOutput
from mmrlhf.rl.kl import ESTIMATORS, LOG_RATIO, kl_k3
from mmrlhf.rl.losses import policy_loss, value_loss
from mmrlhf.tensors import masked_sum
from mmrlhf.types import ExperienceBatch, Sums


def update_loss(
    out: PolicyOutput, mask_BT: Tensor, experience: ExperienceBatch, config: PpoConfig, kl_coef: float
) -> tuple[Tensor, Sums]:
    """The loss of some answers summed over their tokens, and its parts by name; `approx_kl` is the KL from the policy
    that sampled.

    loss_t = clipped policy loss + vf_coef * value loss - entropy_coef * entropy [+ kl_coef * KL estimate], each as in
    `losses.py` and `kl.py`. `experience` may be padded further than `out` and lie on another device.
    """
    size, device = mask_BT.shape[1], mask_BT.device

    def near(values: Tensor) -> Tensor:
        return values[:, :size].to(device)

    old_BT, advantages_BT = near(experience.logprobs_BT), near(experience.advantages_BT)
    log_ratio_BT = (out.logprobs_BT - old_BT).masked_fill(~mask_BT, 0.0)
    high = config.cliprange if config.cliprange_high is None else config.cliprange_high
    loss_BT, clipped_BT = policy_loss(log_ratio_BT, advantages_BT, config.cliprange, high, config.dual_clip)
    moved_BT = kl_k3(old_BT, out.logprobs_BT, mask_BT).detach()
    tokens = mask_BT.sum()
    sums: Sums = {
        "loss/policy": (masked_sum(loss_BT, mask_BT).detach(), tokens),
        "clipfrac": (masked_sum(clipped_BT.float(), mask_BT), tokens),
        "approx_kl": (moved_BT.sum(), tokens),
        "ratio": (masked_sum(log_ratio_BT.detach().clamp(-LOG_RATIO, LOG_RATIO).exp(), mask_BT), tokens),
    }
    if out.values_BTK is not None:
        assert experience.values_BTK is not None
        assert experience.returns_BTK is not None
        old_BTK, returns_BTK = near(experience.values_BTK), near(experience.returns_BTK)
        value_BTK, cut_BTK = value_loss(out.values_BTK, old_BTK, returns_BTK, config.cliprange_value)
        learns_BTK = mask_BT.unsqueeze(-1).expand_as(value_BTK)
        if experience.learns_BK is not None:
            learns_BTK = learns_BTK & experience.learns_BK.to(device).unsqueeze(1)
        value_BTK = value_BTK.masked_fill(~learns_BTK, 0.0)
        loss_BT = loss_BT + config.vf_coef * value_BTK.sum(-1)
        sums["loss/value"] = (value_BTK.detach().sum(), learns_BTK.sum())
        sums["value_clipfrac"] = (masked_sum(cut_BTK.float(), learns_BTK), learns_BTK.sum())
    if config.entropy_coef:
        assert out.entropy_BT is not None
        loss_BT = loss_BT - config.entropy_coef * out.entropy_BT
    if config.kl_in == "loss":
        ref_BT = near(experience.ref_logprobs_BT)
        kl_BT = ESTIMATORS[config.kl_estimator](out.logprobs_BT, ref_BT, mask_BT)
        loss_BT = loss_BT + kl_coef * kl_BT
        sums["loss/kl"] = (kl_BT.detach().sum(), tokens)
    if config.loss_over == "answers":
        loss_BT = loss_BT / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return masked_sum(loss_BT, mask_BT), sums
