"""Small vision-language models of every family, with random weights, as folders and as models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from burnish.builtin.tiny import make_tokenizer

_HIDDEN = 32
_TEXT = {
    "hidden_size": _HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
_BODY = (
    "{{% for message in messages %}}<|{{{{ message.role }}}}|>\n{{% if message.content is string %}}"
    "{{{{ message.content }}}}{{% else %}}{{% for part in message.content %}}{{% if part.type == 'image' %}}{mark}"
    "{{% else %}}{{{{ part.text }}}}{{% endif %}}{{% endfor %}}{{% endif %}}<|end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|assistant|>\n{{% endif %}}"
)


@dataclass(frozen=True)
class SmallFamily:
    """A family for tests."""

    name: str
    marks: tuple[str, ...]
    """Special tokens that it adds, that of an image first."""
    written: str
    """What its template writes for an image."""
    model: Callable[[PreTrainedTokenizerFast], PreTrainedModel]
    processor: Callable[[], Any]

    @property
    def template(self) -> str:
        return _BODY.format(mark=self.written)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        made = make_tokenizer()
        made.add_special_tokens({"pad_token": "<|pad|>"})
        made.add_special_tokens({"additional_special_tokens": list(self.marks)}, replace_extra_special_tokens=False)
        made.chat_template = self.template
        return made

    def build(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.model(self.tokenizer()).to(dtype)
        model.generation_config.eos_token_id = self.tokenizer().eos_token_id
        return model.eval()

    def write(self, folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
        self.build(seed, dtype).save_pretrained(folder)
        self.tokenizer().save_pretrained(folder)
        self.processor().save_pretrained(folder)
        return folder


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def _common(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {**_TEXT, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}


def _qwen(config: type, model: type, vision: Mapping[str, Any]) -> Callable[[PreTrainedTokenizerFast], PreTrainedModel]:
    def made(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
        built: PreTrainedModel = model(
            config(
                text_config={**_common(tokenizer), "rope_parameters": rope},
                vision_config={"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, **vision},
                image_token_id=_id(tokenizer, "<|image_pad|>"),
                vision_start_token_id=_id(tokenizer, "<|vision_start|>"),
                vision_end_token_id=_id(tokenizer, "<|vision_end|>"),
            )
        )
        return built

    return made


def _gemma(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    text = {**_common(tokenizer), "head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}
    kinds = ["sliding_attention", "full_attention"]
    vision = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 4,
        "vision_use_head": False,
    }
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config={**text, "layer_types": kinds},
            vision_config=vision,
            mm_tokens_per_image=16,
            image_token_index=_id(tokenizer, "<image_soft_token>"),
            boi_token_index=_id(tokenizer, "<start_of_image>"),
            eoi_token_index=_id(tokenizer, "<end_of_image>"),
        )
    )


def _idefics(config: type, model: type) -> Callable[[PreTrainedTokenizerFast], PreTrainedModel]:
    def made(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
        vision = {
            "hidden_size": 24,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 4,
        }
        built: PreTrainedModel = model(
            config(
                text_config={"model_type": "llama", **_common(tokenizer)},
                vision_config=vision,
                scale_factor=2,
                image_token_id=_id(tokenizer, "<image>"),
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        return built

    return made


def _idefics_processor(kind: type) -> Any:
    return kind(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=True)


_QWEN_MARKS = ("<|image_pad|>", "<|vision_start|>", "<|vision_end|>")
_IDEFICS_MARKS = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in (1, 2, 3) for column in (1, 2, 3)),
)


def _qwen_processor() -> Any:
    return Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024})


FAMILIES = (
    SmallFamily(
        "qwen2_5_vl",
        _QWEN_MARKS,
        "<|vision_start|><|image_pad|><|vision_end|>",
        _qwen(
            Qwen2_5_VLConfig,
            Qwen2_5_VLForConditionalGeneration,
            {
                "hidden_size": 24,
                "intermediate_size": 32,
                "out_hidden_size": _HIDDEN,
                "window_size": 16,
                "fullatt_block_indexes": [1],
            },
        ),
        _qwen_processor,
    ),
    SmallFamily(
        "qwen2_vl",
        _QWEN_MARKS,
        "<|vision_start|><|image_pad|><|vision_end|>",
        _qwen(Qwen2VLConfig, Qwen2VLForConditionalGeneration, {"embed_dim": 24, "hidden_size": _HIDDEN}),
        _qwen_processor,
    ),
    SmallFamily(
        "gemma3",
        ("<image_soft_token>", "<start_of_image>", "<end_of_image>"),
        "<start_of_image>",
        _gemma,
        lambda: Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
    ),
    SmallFamily(
        "idefics3",
        _IDEFICS_MARKS,
        "<image>",
        _idefics(Idefics3Config, Idefics3ForConditionalGeneration),
        lambda: _idefics_processor(Idefics3ImageProcessorPil),
    ),
    SmallFamily(
        "smolvlm",
        _IDEFICS_MARKS,
        "<image>",
        _idefics(SmolVLMConfig, SmolVLMForConditionalGeneration),
        lambda: _idefics_processor(SmolVLMImageProcessorPil),
    ),
)


@cache
def picture(seed: int, width: int = 40, height: int = 24) -> Image.Image:
    """A picture that differs by its seed."""
    made = Image.new("RGB", (width, height), ((40 * seed) % 256, (90 * seed + 20) % 256, 200))
    draw = ImageDraw.Draw(made)
    draw.ellipse((2 + seed, 3, width // 2 + seed, height - 3), fill=(250, (60 * seed) % 256, 10))
    draw.rectangle((width // 2, 2, width - 3, height // 2), fill=((70 * seed + 10) % 256, 250, 60))
    return made


def write_picture(folder: Path, seed: int, width: int = 40, height: int = 24) -> Path:
    """The picture as a file."""
    path = folder / f"{seed}-{width}x{height}.png"
    picture(seed, width, height).save(path)
    return path


def rows_of(kind: str, folder: Path, count: int = 12) -> Path:
    """Rows with images by relative paths, in the form of LLaMA-Factory; every third has none."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        name = write_picture(folder, number % 5, 40, 24 + 8 * (number % 2)).name
        images = {"images": [name]} if number % 3 else {}
        asked = f"{'<image>' if images else ''}What is {number % 4}?"
        user, answer = {"role": "user", "content": asked}, {"role": "assistant", "content": f"It is {number % 3}"}
        rows.append(
            {
                "sft": {"messages": [user, answer], **images},
                "pairs": {
                    "prompt": [user],
                    "chosen": [answer],
                    "rejected": [{"role": "assistant", "content": "no"}],
                    **images,
                },
                "tasks": {"question": asked, "answer": "It is 1", **images},
            }[kind]
        )
    path = folder / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
