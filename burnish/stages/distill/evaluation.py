"""Evaluators of a stage distill: the divergence from the teacher on held-out prompts, and the teacher's own reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from burnish.data.prompts import TokenizedPrompt
from burnish.evaluate.detokenize import response_decoder
from burnish.evaluate.evaluator import EvalResult, Evaluator
from burnish.evaluate.reward_eval import RewardEval
from burnish.evaluate.start_kl import drawn_prompts
from burnish.evaluate.teacher_kl import TeacherKL
from burnish.evaluate.teacher_reward import TeacherReward
from burnish.rollouts.worker import SingleTurn
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.stages.distill.data import DistillData
from burnish.stages.distill.off_policy import teacher_ends
from burnish.stages.distill.sources import LocalSource
from burnish.stages.distill.teachers import Teachers, with_mask
from burnish.stages.on_policy.build import Rolling
from burnish.watch.parts import OnPart


def teacher_evaluators(data: DistillData, rolling: Rolling, teachers: Teachers) -> Sequence[Evaluator]:
    """Evaluators of the divergence from the teacher, and of its own responses."""
    settings, held_out, seed = data.settings, data.held_out, data.context.recipe.seed
    if held_out is None:
        return ()
    found: list[Evaluator] = []
    drawn = drawn_prompts(held_out.tokenized, settings.evaluation.teacher_prompts, seed)
    if drawn and (teachers.sources or teachers.servers):  # a table has no other rows
        whole = replace(settings.params(seed), top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
        measure, budget = with_mask(data, teachers.measure), data.tokens_per_microbatch
        found.append(
            TeacherKL(
                drawn,
                rolling.sampler,
                whole,
                measure,
                teachers.measured,
                budget,
                teachers.measured_temperature,
                data.context.world,
            )
        )
    sources = teachers.sources
    if settings.evaluation.teacher_accuracy and settings.rewards and _is_one_model(data, sources):
        found.append(TeacherReward(_graded(data, sources[0])))
    return found


def _is_one_model(data: DistillData, sources: Sequence[LocalSource]) -> bool:
    """Whether all rows have one teacher, which is a model of its own."""
    return len(data.settings.teachers) == 1 and len(sources) == 1 and sources[0].settings.kind == "model"


def _graded(data: DistillData, source: LocalSource) -> Callable[[OnPart], EvalResult]:
    """Grades the teacher's greedy responses to the held-out prompts."""
    settings, renderer, ends = data.settings, source.renderer, teacher_ends(data, source)
    greedy = SamplingParams(max_new_tokens=settings.max_new_tokens, temperature=0.0, stop=settings.sampling.stop)

    def seen(prompt: TokenizedPrompt) -> TokenizedPrompt:
        return prompt if renderer is None else replace(prompt, tokens=renderer.prompt(prompt.task))

    def evaluate(on_part: OnPart) -> EvalResult:
        with source.opened() as teacher:
            sampler, decode = sampler_of(teacher, ends), response_decoder(teacher.tokenizer, ends)
            worker = SingleTurn(teacher, sampler, data.judge, decode, greedy, data.context.world)
            prompts = [seen(prompt) for prompt in data.held_out_prompts()]
            return RewardEval(prompts, worker, settings.success_threshold, data.context.world).evaluate(
                teacher, on_part
            )

    return evaluate
