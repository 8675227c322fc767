"""Pictures of shapes: what is said about them is what their pixels show, and the model that was trained on them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, Idefics3ForConditionalGeneration

from burnish.builtin.draw import Draw
from burnish.builtin.drawing import COLORS, DIGIT_GAP, DIGIT_WIDTH, KINDS, PALETTE, Canvas, png
from burnish.builtin.places import MODELS, tiny_folder, tiny_vision_folder
from burnish.builtin.sets import SPLITS, builtin_rows
from burnish.builtin.shapes import MAX_SHAPES, QUESTION_KINDS, Scene, scenes, shown
from burnish.model.builtin import builtin_folder

SETS = ("shapes", "shapes-preferences", "shapes-counting")
LIT = {
    (1, 1, 1, 0, 1, 1, 1): 0,
    (0, 0, 1, 0, 0, 1, 0): 1,
    (1, 0, 1, 1, 1, 0, 1): 2,
    (1, 0, 1, 1, 0, 1, 1): 3,
    (0, 1, 1, 1, 0, 1, 0): 4,
    (1, 1, 0, 1, 0, 1, 1): 5,
    (1, 1, 0, 1, 1, 1, 1): 6,
    (1, 0, 1, 0, 0, 1, 0): 7,
    (1, 1, 1, 1, 1, 1, 1): 8,
    (1, 1, 1, 1, 0, 1, 1): 9,
}
"""Digit by its strokes: top, upper left, upper right, middle, lower left, lower right, bottom."""
IMAGE_TEXT = f"<fake_token_around_image><global-img>{'<image>' * 16}<fake_token_around_image>"


def decode(file: bytes) -> np.ndarray:
    """Pixels [64, 64, 3] of an image file."""
    opened = Image.open(io.BytesIO(file))
    assert opened.format == "PNG"
    opened.verify()
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def components(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Connected pixels, diagonal neighbors too, as (x, y)."""
    left, found = {(int(x), int(y)) for y, x in zip(*mask.nonzero(), strict=True)}, []
    while left:
        reached, front = [], [left.pop()]
        while front:
            x, y = front.pop()
            reached.append((x, y))
            near = {(x + across, y + down) for across in (-1, 0, 1) for down in (-1, 0, 1)} & left
            left -= near
            front += near
        found.append(reached)
    return found


def some_scenes(split: str = "train", count: int = 300) -> list[Scene]:
    return list(islice(scenes(Draw("test of scenes"), split), count))


def url_of(row: dict[str, Any]) -> str:
    part = (row.get("prompt") or row["messages"])[0]["content"][0]
    assert part["type"] == "image"
    return part["image"]


def test_the_pixels_show_the_shapes():
    for scene in some_scenes():
        pixels = decode(png(scene.draw()))
        for color, rgb in COLORS.items():
            found = components((pixels == rgb).all(-1))
            expected = [shape for shape in scene.shapes if shape.color == color]
            places = []
            for part in found:
                x, y = (sum(values) / len(part) for values in zip(*part, strict=True))
                places.append(int(y // 21) * 3 + int(x // 21))
            assert sorted(places) == [shape.place for shape in expected]


def test_the_pixels_show_the_number():
    numbered = [scene for scene in some_scenes(count=600) if scene.number]
    assert len(numbered) > 100
    for scene in numbered:
        pixels, (left, top) = decode(png(scene.draw())), scene.number.corner
        ink = (pixels != pixels[63, 63]).any(-1)
        digits = []
        for place in range(len(str(scene.number.value))):
            x = left + place * (DIGIT_WIDTH + DIGIT_GAP)
            points = ((4, 1), (1, 5), (7, 5), (4, 8), (1, 12), (7, 12), (4, 15))
            digits.append(LIT[tuple(int(ink[top + down, x + across]) for across, down in points)])
        assert int("".join(map(str, digits))) == scene.number.value


def test_a_scene_keeps_its_bounds():
    found = some_scenes(count=600)
    for scene in found:
        places = [place for _, place in scene.items]
        assert len(set(places)) == len(places), "a place has one thing"
        assert len(scene.shapes) <= MAX_SHAPES
        assert scene.shapes or scene.number
    assert {len(scene.shapes) for scene in found} == set(range(MAX_SHAPES + 1))
    assert {shape.kind for scene in found for shape in scene.shapes} == set(KINDS)
    assert {shape.color for scene in found for shape in scene.shapes} == set(COLORS)


def test_shapes_of_every_kind_differ():
    drawn = set()
    for kind in KINDS:
        canvas = Canvas(0)
        canvas.shape(kind, "red", (20, 20), 7)
        drawn.add(bytes(canvas.pixels))
    assert len(drawn) == len(KINDS)


def test_a_picture_is_a_png_of_all_colors():
    pixels = bytearray(index % len(PALETTE) for index in range(64 * 64))
    expected = np.array([PALETTE[index] for index in pixels], dtype=np.uint8).reshape(64, 64, 3)
    assert np.array_equal(decode(png(pixels)), expected)


@pytest.mark.parametrize("split", list(SPLITS))
def test_answers_agree_with_the_scene(split):
    for scene, asked in islice(shown("shapes", split, 5), 500):
        match asked.kind:
            case "count":
                what = asked.question.removeprefix("How many ").removesuffix(" are there?").split()
                kinds = [kind for kind in KINDS if what[-1] in (f"{kind}s", f"{kind}es")]
                assert kinds or what[-1] == "shapes"
                counted = [
                    shape
                    for shape in scene.shapes
                    if shape.kind in (kinds or KINDS) and (len(what) == 1 or shape.color == what[0])
                ]
                expected = str(len(counted))
            case "color":
                kind = asked.question.removesuffix("?").split()[-1]
                [expected] = [shape.color for shape in scene.shapes if shape.kind == kind]
            case "position":
                expected = where(scene, asked.question)
            case "reading":
                expected = str(scene.number.value)
        assert asked.answer == expected
        assert re.search(rf"\b{asked.answer}\b", asked.sentence)


def where(scene: Scene, question: str) -> str:
    """Answer by the centers of the shapes."""
    first, before, after, second = re.fullmatch(
        r"Is the (\w+ \w+) (\w+) or (\w+)(?: of)? the (\w+ \w+)\?", question
    ).groups()
    ([mine], [other]) = ([shape for shape in scene.shapes if shape.name == name] for name in (first, second))
    axis = 0 if before == "left" else 1
    assert mine.center[axis] != other.center[axis]
    return before if mine.center[axis] < other.center[axis] else after


@pytest.mark.parametrize("name", SETS)
def test_rows_are_those_of_their_seed_and_have_pictures(name):
    for split in SPLITS:
        rows = builtin_rows(name, split, count=200, seed=1)
        assert json.dumps(rows) == json.dumps(builtin_rows(name, split, count=200, seed=1))
        assert rows != builtin_rows(name, split, count=200, seed=2)
        for row in rows:
            head, _, content = url_of(row).partition(",")
            assert head == "data:image/png;base64"
            assert decode(base64.b64decode(content)).shape == (64, 64, 3)


def test_rows_have_the_forms_of_their_stages():
    assert {row["kind"] for row in builtin_rows("shapes", "test")} == set(QUESTION_KINDS)
    for row in builtin_rows("shapes-preferences", count=50):
        assert row["chosen"][0]["content"] in row["rejected"][0]["content"]
        assert row["chosen"] != row["rejected"]
    counting = builtin_rows("shapes-counting", count=400)
    assert {row["answer"] for row in counting} == set("0123456")
    assert max(Counter(row["answer"] for row in counting).values()) < 0.5 * len(counting)


def test_no_scene_is_in_both_splits():
    described = {
        split: {scene.description for name in SETS for scene, _ in islice(shown(name, split, 0), 1000)}
        for split in SPLITS
    }
    assert min(map(len, described.values())) > 1000
    assert not described["train"] & described["test"]


def test_the_weights_are_those_of_the_card_and_small():
    folder = tiny_vision_folder()
    assert builtin_folder("builtin:tiny-vision") == folder
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == MODELS["tiny-vision"]
    assert MODELS["tiny-vision"] in (folder / "README.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 10_000_000


def test_the_tokenizer_differs_by_four_names():
    mine, base = (AutoTokenizer.from_pretrained(folder) for folder in (tiny_vision_folder(), tiny_folder()))
    assert mine.chat_template is None
    names = {"<fake_token_around_image>": 4, "<image>": 5, "<global-img>": 6, "<end_of_utterance>": 7}
    assert mine.get_vocab().items() - base.get_vocab().items() == names.items()
    assert len(mine) == len(base)
    text = "Ada's kite — 漢字 🪁\n\ttab 4711 + 89"
    assert mine.encode(text) == base.encode(text)
    assert mine.encode(IMAGE_TEXT) == [4, 6, *[5] * 16, 4]


def test_it_loads_whole_and_sees():
    """On 60 test pictures it reads colors and numbers far more often than by chance."""
    folder = tiny_vision_folder()
    model, loaded = Idefics3ForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(loaded.values()), loaded
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    right = 0
    for scene, asked in islice(shown("shapes", "test", 0, ("color", "reading")), 60):
        picture = Image.fromarray(decode(png(scene.draw())))
        inputs = processor(images=[picture], text=f"<image>Q: {asked.question}\nA:", return_tensors="pt")
        assert inputs["pixel_values"].shape == (1, 1, 3, 64, 64)
        pixels = torch.from_numpy(decode(png(scene.draw())).copy()).permute(2, 0, 1) / 255 * 2 - 1
        assert torch.allclose(inputs["pixel_values"][0, 0], pixels, atol=1e-6), "neither resized nor cut"
        assert inputs["input_ids"][0].tolist() == tokenizer.encode(f"{IMAGE_TEXT}Q: {asked.question}\nA:")
        made = model.generate(**inputs, max_new_tokens=16, do_sample=False)
        said = tokenizer.decode(made[0, inputs["input_ids"].shape[1] :]).split("\n")[0]
        right += asked.answer in re.findall(r"\w+", said)
    assert right > 20
