"""Tiny checkpoints of real families with random weights, and a tokenizer trained on the spot.

Each family brings its own processor, chat template and way of laying out pixels; the weights mean nothing.
"""

from __future__ import annotations

from families_apart import build_hunyuan_vl, build_molmo2
from families_common import train_tokenizer
from families_cross import build_mllama
from families_gemma import build_gemma3, build_gemma3_wide, build_paligemma
from families_more import (
    build_aya_vision,
    build_cohere2_narrow,
    build_cohere2_vision,
    build_idefics2,
    build_llava_pixtral,
    build_mistral3,
    build_mistral3_window,
    build_ovis2,
)
from families_odd import (
    build_chameleon,
    build_glm4v_moe,
    build_lfm2_vl,
    build_llama4,
    build_llama4_chunks,
    build_perception_lm,
)
from families_qwen import build_glm4v, build_qwen2_5_vl, build_qwen3_5, build_qwen3_vl
from families_tiles import (
    build_idefics3,
    build_internvl,
    build_llava_next,
    build_llava_onevision,
    build_smolvlm,
)
from families_windows import build_exaone4_5, build_granite4_vision

__all__ = ["BUILDERS", "MORE", "OTHERS", "train_tokenizer"]

BUILDERS = {
    "qwen2_5_vl": build_qwen2_5_vl,
    "idefics3": build_idefics3,
    "llava_next": build_llava_next,
    "llava_onevision": build_llava_onevision,
    "qwen3_vl": build_qwen3_vl,
    "smolvlm": build_smolvlm,
    "internvl": build_internvl,
    "gemma3": build_gemma3,
}
# with fewer tests (`test_more_families.py`)
MORE = {
    "qwen3_5": build_qwen3_5,
    "glm4v": build_glm4v,
    "ovis2": build_ovis2,
    "aya_vision": build_aya_vision,
    "mistral3": build_mistral3,
    "llava_pixtral": build_llava_pixtral,
    "idefics2": build_idefics2,
    "cohere2_vision": build_cohere2_vision,
    "llama4": build_llama4,
    "chameleon": build_chameleon,
    "perception_lm": build_perception_lm,
    "lfm2_vl": build_lfm2_vl,
    "glm4v_moe": build_glm4v_moe,
}
# with tests of their own
OTHERS = {
    "gemma3_wide": build_gemma3_wide,
    "cohere2_narrow": build_cohere2_narrow,
    "molmo2": build_molmo2,
    "hunyuan_vl": build_hunyuan_vl,
    "exaone4_5": build_exaone4_5,
    "granite4_vision": build_granite4_vision,
    "llama4_chunks": build_llama4_chunks,
    "mistral3_window": build_mistral3_window,
    "paligemma": build_paligemma,
    "mllama": build_mllama,
}
