"""Families that are built unlike the others: without a trunk or a language model of its own, with other caches, tiles
that know nothing of padding, or experts."""

from __future__ import annotations

from pathlib import Path

from families_common import ENDS, VISION, chatml, language, save, train_tokenizer
from families_qwen import TOWER

LLAMA4_CHAT = (
    "<|begin_of_text|>{% for message in messages %}<|header_start|>{{ message['role'] }}<|header_end|>\n\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)


def build_llama4(folder: Path, chunk: int = 8192) -> None:
    """A head inside its language model and so no trunk; chunks of attention, routers, pixels in bfloat16."""
    from transformers import (
        Llama4Config,
        Llama4ForConditionalGeneration,
        Llama4ImageProcessor,
        Llama4Processor,
    )

    marks = ["<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>"]
    marks += ["<|tile_x_separator|>", "<|tile_y_separator|>"]
    names = ["<pad>", "<|begin_of_text|>", "<|eot|>", "<|header_start|>", "<|header_end|>", *marks]
    tokenizer = train_tokenizer(names, bos_token="<|begin_of_text|>", eos_token="<|eot|>", pad_token="<pad>")
    processor = Llama4Processor(
        Llama4ImageProcessor(size={"height": 28, "width": 28}, max_patches=4),
        tokenizer,
        patch_size=14,
        pixel_shuffle_ratio=0.5,
        chat_template=LLAMA4_CHAT,
    )
    config = Llama4Config(
        text_config=language(
            tokenizer,
            head_dim=8,
            intermediate_size_mlp=48,
            num_experts_per_tok=1,
            num_local_experts=4,
            interleave_moe_layer_step=2,
            no_rope_layers=[1, 0],
            attention_chunk_size=chunk,
        ),
        vision_config={
            **VISION,
            "intermediate_size": 128,
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<|image_end|>"),
    )
    save(Llama4ForConditionalGeneration, config, processor, folder)


def build_llama4_chunks(folder: Path) -> None:
    """Chunks of attention that every row is longer than."""
    build_llama4(folder, chunk=12)


def build_chameleon(folder: Path) -> None:
    """Pictures are tokens, whose embeddings are the language model's own and which its forward shuts out; the trunk
    holds the layers itself, and the processor doesn't read its own chat template."""
    from transformers import (
        ChameleonConfig,
        ChameleonForConditionalGeneration,
        ChameleonImageProcessor,
        ChameleonProcessor,
    )

    # the letters stand for digits
    codes = [f"IMGIMG{'ABCDEFGHIJ'[i // 10]}{'ABCDEFGHIJ'[i % 10]}Z" for i in range(16)]
    names = ["<pad>", "<s>", "</s>", "<image>", "<racm3:break>", "<eoss>", "<reserved08706>", *codes]
    tokenizer = train_tokenizer(
        names,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        sep_token="<reserved08706>",
        extra_special_tokens={"image_token": "<image>", "boi_token": "<racm3:break>", "eoi_token": "<eoss>"},
    )
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    processor = ChameleonProcessor(ChameleonImageProcessor(**size), tokenizer, image_seq_length=16)
    processor.chat_template = chatml("<image>").replace("<|im_end|>", "</s>").replace("<|im_start|>", "")
    config = ChameleonConfig(
        **language(tokenizer),
        vq_config={
            "embed_dim": 8,
            "num_embeddings": 16,
            "latent_channels": 32,
            "resolution": 16,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1],
            "num_res_blocks": 1,
        },
        vocabulary_map=tokenizer.get_vocab(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(ChameleonForConditionalGeneration, config, processor, folder)


def build_perception_lm(folder: Path) -> None:
    """Tiles of which a forward reads all, those too that padding adds; a tower of timm."""
    from transformers import (
        PerceptionLMConfig,
        PerceptionLMForConditionalGeneration,
        PerceptionLMImageProcessor,
        PerceptionLMProcessor,
        PerceptionLMVideoProcessor,
    )

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<|video|>"]
    marks = {"image_token": "<|image|>", "video_token": "<|video|>"}
    tokenizer = train_tokenizer(names, **ENDS, extra_special_tokens=marks)
    processor = PerceptionLMProcessor(
        PerceptionLMVideoProcessor(size={"height": 28, "width": 28}),
        PerceptionLMImageProcessor(vision_input_type="thumb+tile", tile_size=28, max_num_tiles=4),
        tokenizer,
        patch_size=14,
        pooling_ratio=2,
        chat_template=chatml("<|image|>"),
    )
    tower = {"embed_dim": 64, "img_size": (28, 28), "depth": 2, "num_heads": 4, "ref_feat_shape": (2, 2)}
    tower |= {"global_pool": "", "use_post_transformer_norm": False, "init_values": 0.1}
    config = PerceptionLMConfig(
        text_config={"model_type": "llama", **language(tokenizer)},
        vision_config={"architecture": "vit_pe_core_large_patch14_336", "model_args": tower},
        projector_pooling_ratio=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
    )
    save(PerceptionLMForConditionalGeneration, config, processor, folder)


def build_lfm2_vl(folder: Path) -> None:
    """Layers that carry the last few tokens along, and a mask of patches, whole numbers that are none of tokens."""
    from transformers import (
        Lfm2VlConfig,
        Lfm2VlForConditionalGeneration,
        Lfm2VlImageProcessor,
        Lfm2VlProcessor,
    )

    marks = {
        "image_token": "<image>",
        "image_start_token": "<|image_start|>",
        "image_end_token": "<|image_end|>",
        "image_thumbnail": "<|img_thumbnail|>",
    }
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *marks.values()]
    tokenizer = train_tokenizer(names, **ENDS, extra_special_tokens=marks)
    images = Lfm2VlImageProcessor(
        tile_size=28,
        max_tiles=4,
        min_image_tokens=1,
        max_image_tokens=4,
        encoder_patch_size=14,
        downsample_factor=2,
        max_num_patches=16,
        do_image_splitting=False,
    )
    processor = Lfm2VlProcessor(images, tokenizer, chat_template=chatml("<image>"))
    vision = {name: value for name, value in VISION.items() if name != "image_size"}
    config = Lfm2VlConfig(
        text_config={
            "model_type": "lfm2",
            **language(tokenizer, layer_types=["conv", "full_attention"], block_multiple_of=16),
        },
        vision_config={
            "model_type": "siglip2_vision_model",
            **vision,
            "vision_use_head": False,
            "num_patches": 16,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=32,
    )
    save(Lfm2VlForConditionalGeneration, config, processor, folder)


def build_glm4v_moe(folder: Path) -> None:
    """A mixture whose experts peft takes for other layers of the same names."""
    from transformers import (
        Glm4vImageProcessor,
        Glm4vMoeConfig,
        Glm4vMoeForConditionalGeneration,
        Glm4vProcessor,
        Glm4vVideoProcessor,
    )

    marks = ["<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"]
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<|video|>", *marks]
    tokenizer = train_tokenizer(names, **ENDS)
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))
    pixels = {"size": {"shortest_edge": 2 * 28 * 28, "longest_edge": 2 * 56 * 56}}
    processor = Glm4vProcessor(
        Glm4vImageProcessor(**pixels),
        tokenizer,
        Glm4vVideoProcessor(**pixels),
        chat_template=chatml("<|begin_of_image|><|image|><|end_of_image|>"),
    )
    rope = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "mrope_section": [2, 1, 1],
        "partial_rotary_factor": 1.0,
    }
    config = Glm4vMoeConfig(
        text_config=language(
            tokenizer,
            rope_parameters=rope,
            n_routed_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            first_k_dense_replace=1,
        ),
        vision_config={**TOWER, "image_size": 56},
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
        image_start_token_id=ids["<|begin_of_image|>"],
        image_end_token_id=ids["<|end_of_image|>"],
        video_start_token_id=ids["<|begin_of_video|>"],
        video_end_token_id=ids["<|end_of_video|>"],
    )
    save(Glm4vMoeForConditionalGeneration, config, processor, folder)
