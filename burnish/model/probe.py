"""Probe at load: finds the fastest route by which a model computes packed groups exactly as plain sequences.

Runs at the end of loading, and before an evaluation. Routes are tried from the fastest to the slowest, and the first
that passes two tests is taken:

- Log-probabilities (of a reward model: values) of two groups of random tokens, longer than any sliding window, equal
  the unmodified model's; the forward draws no random numbers.
- No leaks, by gradients: those of a sequence's states reach no embedding of another sequence, and none of a later
  token. A gradient of zero is zero in every precision, so this finds also a leak that is too small to show in
  log-probabilities, such as that of a short convolution, or of a state in an untrained model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.attention import plain_attention, uninstall
from burnish.model.decoder import decoder_of
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.model.value_head import is_reward_model, output_layer
from burnish.packing import pack
from burnish.types import Group, Microbatch, Response, Score

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest mean difference of log-probabilities, nats (or of values). Leaks between sequences change it by 0.1 to 3
(measured)."""
SHORT_PROMPT = 12
"""Tokens of the longer prompt in the test of leaks."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Result of the probe."""

    route: Route
    reason: str | None
    """Why the next faster route fails; None: it is the fastest."""


def probe(model: PreTrainedModel) -> ProbeResult:
    """Finds the route of a model in which packed attention is installed; leaves the model ready for that route.

    Packed sequences are computed in the model's current mode (training or evaluation), plain ones in evaluation mode.

    Raises:
        ModelError: no route computes what the plain model computes.
    """
    groups = _groups(model, _longest(model))
    expected = torch.cat([_plain(model, group.prompt, response) for group in groups for response in group.responses])
    reason = None
    for route in Route:
        fault = _fault(model, route, groups, expected)
        if fault is None:
            return ProbeResult(route, reason)
        reason = fault
    raise ModelError(
        given=f"{type(model).__name__} cannot be trained: {reason}",
        rule="sequences are computed exactly as the plain model computes them, and no token attends to later ones",
        remedy="use a causal language model with one plain output head, such as Llama, Qwen or Mistral",
    )


def _fault(model: PreTrainedModel, route: Route, groups: list[Group], expected: Tensor) -> str | None:
    """Why the model cannot take this route; None: it can."""
    if route is Route.UNPACKED:
        uninstall(model)
    policy = Model(model, tokenizer=None, route=route)
    try:
        before = _random_state(model.device)
        difference = float((_scored(policy, groups) - expected).abs().mean())
        if not torch.equal(_random_state(model.device), before):
            return "its forward draws random numbers, so a step would depend on how it is split"
        if not difference < TOLERANCE[model.dtype]:
            return f"log-probabilities (or values) differ by {difference:.2g} from the plain forward's"
        if _leaks(policy, _groups(model, SHORT_PROMPT)):
            return "tokens see other sequences, or what comes after them"
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:  # decoders of an unusual form
        return f"its code cannot: {' '.join(str(error).split())}"
    return None


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _longest(model: PreTrainedModel) -> int:
    """Length of a prompt that is longer than any window, if the model has positions for it."""
    config = model.config.get_text_config(decoder=True)
    settings = config.to_dict()
    window = max(int(settings.get(name) or 0) for name in ("sliding_window", "attention_chunk_size"))
    positions = settings.get(config.attribute_map.get("max_position_embeddings", "max_position_embeddings"))
    return max(SHORT_PROMPT, min(window + 8, positions - 16) if isinstance(positions, int) else window + 8)


def _groups(model: PreTrainedModel, longest: int) -> list[Group]:
    """Random groups: one of two responses, one of one, and one of two pairs of responses that begin alike."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> Tensor:
        return torch.randint(vocabulary, (count,), generator=generator)

    def response(count: int, begin: Tensor | None = None) -> Response:
        drawn = tokens(count)
        drawn = drawn if begin is None else torch.cat([begin, drawn])
        return Response(tokens=drawn, trainable=torch.ones(len(drawn), dtype=torch.bool))

    groups = [
        Group(prompt=tokens(longest), responses=(response(9), response(5))),
        Group(prompt=tokens(4), responses=(response(7),)),
    ]
    begins = tokens(3), tokens(4)
    pairs = tuple(response(count, begin) for begin in begins for count in (2, 7))
    return [*groups, Group(prompt=tokens(4), responses=pairs).with_tree(min_saved=1)]


@torch.no_grad()
def _plain(model: PreTrainedModel, prompt: Tensor, response: Response) -> Tensor:
    """[R] log-probabilities of a response (of a reward model: its values) by the unmodified model in evaluation
    mode."""
    tokens = torch.cat([prompt, response.tokens]).to(model.device)
    was_training = model.training
    model.eval()
    try:
        with plain_attention(model):
            if is_reward_model(model):
                hidden = decoder_of(model)(input_ids=tokens[None], use_cache=False).last_hidden_state[0]
                return output_layer(model)(hidden[-len(response.tokens) :]).double().flatten()
            logits = model(input_ids=tokens[None], use_cache=False, logits_to_keep=len(response.tokens) + 1).logits[0]
    finally:
        model.train(was_training)
    predicting = logits[-len(response.tokens) - 1 : -1]  # some models give the logits of all positions
    logprobs = torch.log_softmax(predicting.double(), dim=-1)
    return logprobs.gather(1, response.tokens.to(model.device)[:, None])[:, 0]


def _microbatch(policy: Model, groups: list[Group]) -> Microbatch:
    budget = sum(part.num_tokens for group in groups for part in group.expanded())
    [microbatch] = pack(groups, budget, share=policy.share)
    return microbatch.to(policy.device)


@torch.no_grad()
def _scored(policy: Model, groups: list[Group]) -> Tensor:
    """[sum of R] log-probabilities (or values) by the model's route, in the order of the responses."""
    kind = Score.VALUE if policy.is_reward_model else Score.LOGPROB
    return policy.score(_microbatch(policy, groups), [kind]).of(kind).double().flatten()


@torch.enable_grad()
def _leaks(policy: Model, groups: list[Group]) -> bool:
    """Whether the first half of the second segment depends on an embedding that it must not attend to."""
    microbatch = _microbatch(policy, groups)
    segment = microbatch.layout.segments[1]
    last = segment.start + segment.length // 2
    hidden, embeddings = _hidden_and_embeddings(policy, microbatch)
    seeds = hidden[segment.start : last + 1]
    direction = torch.randn(seeds.shape, generator=torch.Generator().manual_seed(0)).to(seeds)
    gradients = torch.autograd.grad(seeds, embeddings, direction, allow_unused=True, materialize_grads=True)
    reached = torch.cat([gradient[0] for gradient in gradients]).ne(0).any(dim=1)
    return bool((reached & ~_allowed(microbatch, last)).any())


def _allowed(microbatch: Microbatch, index: int) -> Tensor:
    """[N] bool, the packed tokens that a token may attend to."""
    layout = microbatch.layout
    sequence = layout.entry[index]
    in_sequence = (layout.entry <= sequence) & (sequence <= layout.exit)
    return in_sequence & (layout.positions <= layout.positions[index])


def _hidden_and_embeddings(policy: Model, microbatch: Microbatch) -> tuple[Tensor, list[Tensor]]:
    """The hidden states, and the embeddings [1, N, H] of each forward from which they are computed."""
    leaves: list[Tensor] = []

    def cut(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1].clone()  # some models write into the embeddings

    handle = policy.causal_lm.get_input_embeddings().register_forward_hook(cut)
    try:
        hidden = policy.hidden(microbatch)
    finally:
        handle.remove()
    return hidden, leaves
