"""Who writes tokens: prompts → groups of responses, with the log-probabilities that training will compute again."""

from burnish.sampling.base import Prompt, Sampler, Watcher
from burnish.sampling.choice import SamplingParams
from burnish.sampling.in_process import InProcess, open_sampler, plain_sampler, sampler_of
from burnish.sampling.local import LocalSampler
from burnish.sampling.plain import PlainSampler

__all__ = [
    "InProcess",
    "LocalSampler",
    "PlainSampler",
    "Prompt",
    "Sampler",
    "SamplingParams",
    "Watcher",
    "open_sampler",
    "plain_sampler",
    "sampler_of",
]
