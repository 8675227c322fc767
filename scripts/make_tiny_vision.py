"""Makes the built-in vision-language base model: the weights of builtin:tiny and a new vision tower, trained together.

    python scripts/make_tiny_vision.py --output made

writes made, a folder for transformers, and prints accuracies on the way and the hash of the weights. First the tower
learns by itself which shape, color or digits have their center in each sixteenth of a picture; then the whole model
learns documents about pictures of `burnish.builtin.shapes`, mixed with those of `burnish.builtin.documents`. It uses
one thread. Data come out the same on every machine; weights do not, so the package holds one training of them.
"""

import argparse
import hashlib
import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from burnish.builtin.documents import documents
from burnish.builtin.draw import Draw
from burnish.builtin.drawing import COLORS, KINDS, PALETTE, SIZE
from burnish.builtin.places import tiny_folder
from burnish.builtin.shapes import PLACES, QUESTION_KINDS, Asked, QuestionKind, Scene, ask, scenes, shown
from burnish.builtin.world import draw_world

RENAMED = ("<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>")
"""New names of the reserved tokens of builtin:tiny."""
IMAGE_TOKENS = 16
IMAGE_TEXT = f"{RENAMED[0]}{RENAMED[2]}{RENAMED[1] * IMAGE_TOKENS}{RENAMED[0]}"
VISION = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": 8,
}
TOWER_BATCH, BATCH, WARM_UP = 64, 32, 50
TOWER_RATE, RATES = 5e-3, (2e-3, 1.5e-3)
"""Peak learning rates of matrices; embeddings, vectors and the first layer have half of it, with AdamW."""
PIXELS = torch.tensor(PALETTE, dtype=torch.float32) / 255 * 2 - 1
"""The palette as the image processor normalizes it."""

ASKED: tuple[tuple[QuestionKind, ...], ...] = (
    QUESTION_KINDS,
    ("count", "color", "position", "position", "position", "reading", "reading"),
)
"""Kinds of questions in dialogues of both parts: the second part asks more of what is learned slowly."""

Document = tuple[Scene | None, str]


def write_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Writes the tokenizer of builtin:tiny with new names of its reserved tokens; all ids stay."""
    names = {f"<|reserved_{number}|>": name for number, name in enumerate(RENAMED)}
    content = json.loads((tiny_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {names.get(piece, piece): number for piece, number in vocabulary.items()}
    (folder / "tokenizer.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    shutil.copy(tiny_folder() / "tokenizer_config.json", folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def write_processor(folder: Path) -> None:
    """Writes the configuration of the image processor, and that of the processor."""
    edge = {"longest_edge": SIZE}
    halves = [0.5, 0.5, 0.5]
    processor = Idefics3ImageProcessorPil(
        do_image_splitting=False, size=edge, max_image_size=edge, image_mean=halves, image_std=halves
    )
    processor.save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content |= {"image_processor_type": "Idefics3ImageProcessor", "processor_class": "Idefics3Processor"}
    path.write_text(f"{json.dumps(content, indent=2)}\n", encoding="utf-8")
    named = {"image_seq_len": IMAGE_TOKENS, "processor_class": "Idefics3Processor"}
    (folder / "processor_config.json").write_text(f"{json.dumps(named, indent=2)}\n", encoding="utf-8")


def make_untrained(tokenizer: PreTrainedTokenizerFast, seed: int) -> Idefics3ForConditionalGeneration:
    """The model with the text weights of builtin:tiny and a random tower."""
    text = json.loads((tiny_folder() / "config.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in text.items() if name not in ("architectures", "transformers_version")}
    config = Idefics3Config(
        text_config=kept,
        vision_config=VISION,
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    torch.manual_seed(seed)
    model = Idefics3ForConditionalGeneration(config)
    weights = load_file(tiny_folder() / "model.safetensors")
    model.model.text_model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    return model


def pixel_values(pictures: list[Scene]) -> Tensor:
    """Pixels as the image processor gives them: [pictures, 1, 3, 64, 64]."""
    indexes = torch.frombuffer(bytearray(b"".join(scene.draw() for scene in pictures)), dtype=torch.uint8)
    return PIXELS[indexes.long()].view(len(pictures), 1, SIZE, SIZE, 3).permute(0, 1, 4, 2, 3).contiguous()


def targets(scene: Scene) -> Tensor:
    """For each image token 1 for the kind, the color or the digits whose center is in its part of the picture."""
    found = torch.zeros(4, 4, len(KINDS) + len(COLORS) + 21)
    for shape in scene.shapes:
        part = found[shape.center[1] // 16, shape.center[0] // 16]
        part[KINDS.index(shape.kind)] = part[len(KINDS) + list(COLORS).index(shape.color)] = 1
    if scene.number:
        left, top = scene.number.corner
        value, digits = scene.number.value, len(str(scene.number.value))
        part = found[(top + 8) // 16, (left + (10 if digits == 2 else 4)) // 16]
        start = len(KINDS) + len(COLORS)
        part[start + (value // 10 if digits == 2 else 10)] = part[start + 11 + value % 10] = 1
    return found.view(IMAGE_TOKENS, -1)


class Muon(torch.optim.Optimizer):
    """Muon in float32 (torch's computes in bfloat16, which is slow here), with updates as large as those of AdamW."""

    def __init__(self, matrices: list[nn.Parameter], rate: float) -> None:
        super().__init__(matrices, {"lr": rate, "momentum": 0.95, "weight_decay": 0.01})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Takes one step; matrices of one shape are computed together."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                shapes.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in shapes.items():
                updates = orthogonalized(torch.stack([self._momentum(each, group["momentum"]) for each in matrices]))
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update, alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)

    def _momentum(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov momentum."""
        mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
        mean.lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(mean, momentum)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices by five iterations of Newton and Schulz."""
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    made = matrices.mT if is_tall else matrices
    made = made / (made.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = made @ made.mT
        made = 3.4445 * made + (-4.7750 * square + 2.0315 * square @ square) @ made
    return made.mT if is_tall else made


class Both:
    """Muon for matrices, AdamW for all else, each with warm-up and half a cosine to 0."""

    def __init__(self, parts: list[nn.Module], steps: int, rate: float) -> None:
        named = [item for part in parts for item in part.named_parameters()]
        self.parameters = [parameter for _, parameter in named]
        hidden = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in named if p.ndim != 2 or "embed" in name]
        self.optimizers = (
            Muon(hidden, rate),
            torch.optim.AdamW(others, lr=rate / 2, weight_decay=0.01, betas=(0.9, 0.98)),
        )
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(
                each, lambda step: min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2
            )
            for each in self.optimizers
        ]

    def step(self, loss: Tensor) -> None:
        """Computes gradients and takes a step."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for each in (*self.optimizers, *self.schedules):
            each.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad()


def train_tower(model: Idefics3ForConditionalGeneration, steps: int) -> None:
    """Trains tower and connector with a linear layer on the image tokens, which is thrown away."""
    draw = Draw("tower")
    pictures = scenes(draw, "train")
    head = nn.Linear(model.config.text_config.hidden_size, len(KINDS) + len(COLORS) + 21)
    optimizer = Both([model.model.vision_model, model.model.connector, head], steps, TOWER_RATE)
    started = time.monotonic()
    for step in range(1, steps + 1):
        batch = list(islice(pictures, TOWER_BATCH))
        outputs = head(torch.stack(model.get_image_features(pixel_values(batch)).pooler_output))
        wanted = torch.stack([targets(scene) for scene in batch])
        loss = functional.binary_cross_entropy_with_logits(outputs, wanted)
        optimizer.step(loss)
        if step % 100 == 0:
            found = ((outputs > 0) == (wanted > 0)).all(-1).all(-1).float().mean()
            right = ((outputs > 0) & (wanted > 0)).sum() / wanted.sum()
            print(
                f"tower {step}: loss {loss:.4f}, found {right:.2f}, whole pictures {found:.2f}, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )


def all_documents(draw: Draw, part: int) -> Iterator[Document]:
    """Endless documents of a part of the training: captions, facts, questions with answers, and plain texts."""
    pictures, texts = scenes(draw, "train"), documents(draw_world(0), "train", 1 + part)
    while True:
        share = draw.below(100)
        if share < 8:
            yield None, next(texts)
        elif share < (75, 40)[part - 1]:
            scene = next(pictures)
            facts = [asked.sentence for asked in questions(draw, scene, draw.below(4), QUESTION_KINDS)]
            listed = listing(draw, scene)
            yield scene, " ".join([listed, *facts] if draw.chance(0.5) else [*facts, listed])
        else:
            scene = next(pictures)
            lines = [
                f"Q: {asked.question}\nA: {asked.answer if draw.chance(0.2) else asked.sentence}"
                for asked in questions(draw, scene, draw.between(1, 3), ASKED[part - 1])
            ]
            yield scene, "\n".join(lines)


def questions(draw: Draw, scene: Scene, count: int, kinds: Sequence[QuestionKind]) -> list[Asked]:
    """Draws different questions of these kinds about a scene; `count` of them or fewer."""
    found = dict.fromkeys(ask(draw, scene, draw.choice(kinds)) for _ in range(3 * count))
    return [asked for asked in found if asked][:count]


def listing(draw: Draw, scene: Scene) -> str:
    """All that is in the picture, row by row; or numbers of shapes by kind or color."""
    if scene.shapes and draw.chance(0.25):
        by_kind = draw.chance(0.5)
        counts = Counter(shape.kind if by_kind else f"{shape.color} shape" for shape in scene.shapes)
        parts = [
            f"{count} {name if count == 1 else name + ('es' if name[-1] == 's' else 's')}"
            for name, count in counts.items()
        ]
        return f"{scene.counts()[0].sentence[:-1]}: {joined(parts)}."
    named = []
    for name, place in scene.items:
        article = "the" if name.startswith("number") else "an" if name.startswith("orange") else "a"
        named.append(f"{article} {name} {PLACES[place]}")
    return draw.choice(("The picture shows {}.", "There is {}.", "In the picture: {}.")).format(joined(named))


def joined(parts: list[str]) -> str:
    """Enumeration, such as "a, b and c"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def batches(tokenizer: PreTrainedTokenizerFast, draw: Draw, part: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Endless batches of documents of similar lengths, in a drawn order."""
    found = all_documents(draw, part)
    while True:
        pool = [(scene, encode(tokenizer, scene, text)) for scene, text in islice(found, 16 * BATCH)]
        pool.sort(key=lambda document: len(document[1]))
        for at in draw.some(range(0, len(pool), BATCH), len(pool) // BATCH):
            yield collate(tokenizer, pool[at : at + BATCH])


def encode(tokenizer: PreTrainedTokenizerFast, scene: Scene | None, text: str) -> list[int]:
    """Tokens of a document with its end."""
    return [*tokenizer.encode(f"{IMAGE_TEXT if scene else ''}{text}"), tokenizer.eos_token_id]


def collate(
    tokenizer: PreTrainedTokenizerFast, rows: list[tuple[Scene | None, list[int]]]
) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs of the model, and its labels: all tokens but those of images and padding."""
    longest = max(len(ids) for _, ids in rows)
    ids = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for _, ids in rows])
    images = [tokenizer.convert_tokens_to_ids(name) for name in RENAMED]
    ignored = torch.isin(ids, torch.tensor([tokenizer.pad_token_id, *images]))
    pictures = [scene for scene, _ in rows if scene]
    inputs = {"input_ids": ids, "attention_mask": (ids != tokenizer.pad_token_id).long()}
    if pictures:
        inputs["pixel_values"] = pixel_values(pictures)
    return inputs, ids.masked_fill(ignored, -100)


def loss_of(model: Idefics3ForConditionalGeneration, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the labels."""
    hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    chosen = wanted != -100
    return functional.cross_entropy(model.lm_head(hidden[chosen]), wanted[chosen])


def train(
    model: Idefics3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, part: int, steps: int, folder: Path
) -> None:
    """Trains the whole model on a part of the documents, and writes it whenever it is measured."""
    optimizer = Both([model.model], steps, RATES[part - 1])
    held_out = [next(batches(tokenizer, Draw(f"held out {number}"), 1)) for number in range(8)]
    source, started = (
        batches(tokenizer, Draw(("vision documents", "vision documents 2")[part - 1]), part),
        time.monotonic(),
    )
    for step in range(1, steps + 1):
        loss = loss_of(model, *next(source))
        optimizer.step(loss)
        if step % 50 == 0:
            print(f"step {step}: loss {loss:.3f}, {time.monotonic() - started:.0f} s", flush=True)
        if step % 400 == 0 or step == steps:
            with torch.no_grad():
                mean = sum(float(loss_of(model, *batch)) for batch in held_out) / len(held_out)
            found = accuracies(model, tokenizer, 300 if step < steps else 1000)
            print(f"step {step}: held-out loss {mean:.3f}, {found}", flush=True)
            model.save_pretrained(folder)


@torch.no_grad()
def accuracies(
    model: Idefics3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, count: int
) -> dict[str, float]:
    """Share of right answers for each kind of question of the test split, greedily."""
    rows = list(islice(shown("shapes", "test", 0), count))
    prompts = [tokenizer.encode(f"{IMAGE_TEXT}Q: {asked.question}\nA:") for _, asked in rows]
    right: Counter[str] = Counter()
    order = sorted(range(count), key=lambda at: len(prompts[at]))
    for length in sorted({len(prompt) for prompt in prompts}):
        chosen = [at for at in order if len(prompts[at]) == length]
        ids = torch.tensor([prompts[at] for at in chosen])
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixel_values([rows[at][0] for at in chosen]),
            max_new_tokens=40,
            do_sample=False,
        )
        for at, tokens in zip(chosen, made[:, length:], strict=True):
            said = tokenizer.decode(tokens, skip_special_tokens=True).split("\n")[0].strip()
            right[rows[at][1].kind] += said in (rows[at][1].answer, rows[at][1].sentence)
    total = Counter(asked.kind for _, asked in rows)
    return {kind: round(right[kind] / total[kind], 3) for kind in QUESTION_KINDS}


def main() -> None:
    """Makes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tower-steps", type=int, default=900)
    parser.add_argument("--steps", type=int, nargs=2, default=(1700, 650), help="of both parts of the documents")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder)
    write_processor(folder)
    model = make_untrained(tokenizer, arguments.seed)
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters")
    model.generation_config.use_cache = True
    train_tower(model, arguments.tower_steps)
    for part, steps in enumerate(arguments.steps, start=1):
        train(model, tokenizer, part, steps, folder)
    print("sha256", hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
