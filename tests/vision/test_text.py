"""Text of images: as transformers' own processors write it, in renderings with all their ranges."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

from burnish.data.image_text import with_images_of
from burnish.data.records import Conversation, ImagePart, Message, TextPart
from burnish.data.rendering import render
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.template import Template
from burnish.data.tokenize import tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError, ModelError
from burnish.vision.processing import ImageProcessing
from burnish.vision.registry import family_of
from burnish.vision.settings import VisionSettings
from tests.vision.small import FAMILIES, SmallFamily, write_picture

EACH_FAMILY = pytest.mark.parametrize("small", FAMILIES, ids=lambda small: small.name)
PROCESSORS = {
    "qwen2_5_vl": Qwen2_5_VLProcessor,
    "qwen2_vl": Qwen2VLProcessor,
    "gemma3": Gemma3Processor,
    "idefics3": Idefics3Processor,
    "smolvlm": SmolVLMProcessor,
}
SIZES = [(40, 24), (24, 40), (7, 9), (64, 64), (100, 33), (300, 20), (1, 1), (20, 190)]


def processing_of(small: SmallFamily, folder: Path, settings: VisionSettings | None = None) -> ImageProcessing:
    small.processor().save_pretrained(folder)
    found = ImageProcessing.load(str(folder), small.build().config, small.tokenizer(), settings)
    assert found is not None
    return found


def theirs(small: SmallFamily, processing: ImageProcessing, size: tuple[int, int]) -> str:
    """Text of an image by the code of transformers' processor, which wants a video processor to be made."""
    rows = {"return_row_col_info": True} if small.name in ("idefics3", "smolvlm") else {}
    processed: Any = processing.processor(images=[Image.new("RGB", size)], return_tensors="pt", **rows)
    vision = processing.config.vision_config
    parts = SimpleNamespace(
        image_processor=processing.processor,
        image_token=small.marks[0],
        fake_image_token="<fake_token_around_image>",
        global_image_tag="<global-img>",
        global_image_token="<global-img>",
        image_seq_len=int((32 // 4) ** 2 / 2**2),
        full_image_sequence="\n\n<start_of_image>" + "<image_soft_token>" * 16 + "<end_of_image>\n\n",
    )
    assert getattr(vision, "patch_size", 4) == 4
    return str(PROCESSORS[small.name].replace_image_token(parts, processed, 0))


@EACH_FAMILY
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_text_of_an_image_is_that_of_transformers_processor(
    small: SmallFamily, size: tuple[int, int], tmp_path: Path
) -> None:
    processing = processing_of(small, tmp_path)
    ours = processing.text_of(*size)
    assert ours.text == theirs(small, processing, size)
    tokens = small.tokenizer().encode(ours.text, add_special_tokens=False)
    assert tokens.count(processing.family.image_token(processing.config)) == ours.num_tokens


@EACH_FAMILY
def test_a_lower_resolution_gives_fewer_tokens_or_is_refused(small: SmallFamily, tmp_path: Path) -> None:
    whole = processing_of(small, tmp_path).text_of(200, 200).num_tokens
    settings = VisionSettings(max_pixels=256)
    if small.name == "gemma3":
        with pytest.raises(ModelError, match=r"vision.max_pixels") as refused:
            processing_of(small, tmp_path, settings)
        assert "in one size" in refused.value.rule
        return
    lower = processing_of(small, tmp_path, settings)
    assert lower.text_of(200, 200).num_tokens < whole
    lower.save(tmp_path / "saved")
    again = ImageProcessing.load(str(tmp_path / "saved"), small.build().config, small.tokenizer())
    assert again is not None
    assert again.text_of(200, 200) == lower.text_of(200, 200)
    if small.name in ("idefics3", "smolvlm"):
        with pytest.raises(ModelError, match=r"vision.min_pixels"):
            processing_of(small, tmp_path, VisionSettings(min_pixels=4096))
        unsplit = small.processor()
        unsplit.do_image_splitting = False
        unsplit.save_pretrained(tmp_path / "unsplit")
        with pytest.raises(ModelError, match=r"vision.max_pixels"):
            ImageProcessing.load(str(tmp_path / "unsplit"), small.build().config, small.tokenizer(), settings)
    else:
        small_one = processing_of(small, tmp_path).text_of(9, 9).num_tokens
        assert processing_of(small, tmp_path, VisionSettings(min_pixels=512)).text_of(9, 9).num_tokens > small_one


def test_every_family_is_found_by_its_configuration() -> None:
    for small in FAMILIES:
        family = family_of(small.build().config)
        assert family is not None
        assert small.name in family.model_types


def _conversation(path: str) -> Conversation:
    return Conversation(
        (
            Message("user", (TextPart("Look: "), ImagePart(path), TextPart("what <image> is it?"))),
            Message("assistant", "A cat.", trained=True),
            Message("user", (ImagePart(path), ImagePart(path))),
            Message("assistant", "Two cats.", trained=True, weight=0.5),
        )
    )


@EACH_FAMILY
def test_learned_ranges_stay_on_the_answers(small: SmallFamily, tmp_path: Path) -> None:
    processing, tokenizer = processing_of(small, tmp_path), small.tokenizer()
    writer = Writer(tokenizer, Template(small.template), images=processing)
    conversation = _conversation(str(write_picture(tmp_path, 1)))
    control = SpecialTokenText.of(tokenizer, writer.template)
    renderings = with_images_of(render(conversation, writer, control=control), conversation, writer)
    [rendering] = renderings
    assert [rendering.text[slice(*span)] for span in rendering.spans] == ["A cat.<|end|>\n", "Two cats.<|end|>\n"]
    assert all(rendering.text[slice(*span)] == "<image>" for span in rendering.ordinary)
    [sample] = tokenize([rendering], tokenizer)
    assert not isinstance(sample, DataError)
    shown = processing.text_of(40, 24)
    token = processing.family.image_token(processing.config)
    assert len(sample.media) == 3
    for medium in sample.media:
        inside = sample.tokens[slice(*medium.span)]
        assert (inside == token).sum() == shown.num_tokens
        assert inside[0] == inside[-1] == token
        assert not sample.trainable[slice(*medium.span)].any()
    assert (sample.tokens == token).sum() == 3 * shown.num_tokens
    decoded = tokenizer.decode(sample.tokens[sample.trainable])
    assert decoded == "A cat.<|end|>Two cats.<|end|>"


def test_a_template_without_marks_is_refused(tmp_path: Path) -> None:
    small = FAMILIES[0]
    processing = processing_of(small, tmp_path)
    template = Template(
        "{% for m in messages %}{{ m.role }}: {% for p in m.content if m.content is not string %}{{ p.text }}"
        "{% endfor %}{{ m.content if m.content is string }}<|end|>{% endfor %}"
    )
    writer = Writer(small.tokenizer(), template, images=processing)
    conversation = _conversation(str(write_picture(tmp_path, 1)))
    with pytest.raises(DataError, match="writes 0 marks"):
        with_images_of(render(conversation, writer), conversation, writer)


def test_a_language_model_refuses_images(tmp_path: Path) -> None:
    small = FAMILIES[0]
    writer = Writer(small.tokenizer(), Template(small.template))
    conversation = _conversation(str(write_picture(tmp_path, 1)))
    with pytest.raises(DataError, match="takes text alone"):
        with_images_of(render(conversation, writer), conversation, writer)


@given(
    texts=st.lists(st.text(alphabet="ab <|>image_pad\n", max_size=12), min_size=1, max_size=4), count=st.integers(0, 3)
)
def test_images_stand_where_they_are_whatever_the_texts_say(texts: list[str], count: int) -> None:
    """Also for texts that read like marks: every image is in the tokens once, in order, and the rest is the text."""
    small, folder = FAMILIES[0], _FOLDER
    parts = [part for text in texts for part in (TextPart(text), *[ImagePart(str(_PICTURE))] * count)]
    question = Message("user", tuple(parts) if count else "".join(texts))
    conversation = Conversation((question, Message("assistant", "yes", trained=True)))
    tokenizer = small.tokenizer()
    writer = Writer(tokenizer, Template(small.template), images=processing_of(small, folder))
    control = SpecialTokenText.of(tokenizer, writer.template)
    [rendering] = with_images_of(render(conversation, writer, control=control), conversation, writer)
    [sample] = tokenize([rendering], tokenizer)
    assert not isinstance(sample, DataError)
    assert len(sample.media) == count * len(texts)
    assert all(medium.digest == sample.media[0].digest for medium in sample.media)
    ends = [medium.span for medium in sample.media]
    assert ends == sorted(ends)
    rest = tokenizer.decode(
        [token for token in sample.tokens if token != tokenizer.convert_tokens_to_ids(small.marks[0])]
    )
    shown = "<|vision_start|><|vision_end|>" * count
    assert rest == f"<|user|>\n{''.join(text + shown for text in texts)}<|end|>\n<|assistant|>\nyes<|end|>"


@pytest.fixture(scope="module", autouse=True)
def _shared(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _FOLDER, _PICTURE  # noqa: PLW0603 (hypothesis takes no fixture of a function)
    _FOLDER = tmp_path_factory.mktemp("qwen")
    _PICTURE = write_picture(_FOLDER, 2)


_FOLDER = Path()
_PICTURE = Path()
