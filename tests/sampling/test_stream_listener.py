"""Both samplers report every token and every group to a listener."""

import pytest
import torch

from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.sampling.base import Prompt, StreamListener
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.sampling.plain import PlainSampler
from burnish.types import Group


class Notes(StreamListener):
    def __init__(self) -> None:
        self.tokens: dict[tuple[int, int], list[int]] = {}
        self.groups: dict[int, Group] = {}

    def token(self, place: int, index: int, token: int) -> None:
        assert place not in self.groups, "a group is reported when it is complete"
        self.tokens.setdefault((place, index), []).append(token)

    def group(self, place: int, group: Group) -> None:
        self.groups[place] = group


@pytest.mark.parametrize("kind", ["local", "plain"])
def test_everything_is_reported(float64_model, kind):
    model = float64_model("llama")
    install(model)
    local = LocalSampler(Model(model, tokenizer=None), [7], 256, max_sequences=3)
    sampler = local if kind == "local" else PlainSampler(model, None, [7], 256, max_sequences=3)
    prompts = [Prompt(torch.tensor(tokens), key) for key, tokens in enumerate([[1, 2], [3], [4, 5]])]
    notes = Notes()
    groups = sampler.sample(prompts, 3, SamplingParams(max_new_tokens=15, temperature=1.5), listener=notes)
    assert [notes.groups[place] for place in range(3)] == groups
    reported = [[notes.tokens[place, index] for index in range(3)] for place in range(3)]
    assert reported == [[response.tokens.tolist() for response in group.responses] for group in groups]
