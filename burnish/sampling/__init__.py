"""Who writes tokens: prompts → groups of responses, with the log-probabilities that training will compute again."""

from burnish.sampling.base import Prompt, Sampler
from burnish.sampling.choice import SamplingParams
from burnish.sampling.local import LocalSampler

__all__ = ["LocalSampler", "Prompt", "Sampler", "SamplingParams"]
