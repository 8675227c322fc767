"""Types of the keyword arguments of `burnish.sft` and the like, written by scripts/typed_settings.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from burnish.api.inputs import CallbackKeywords, Data, Function


class AdapterDict(TypedDict, total=False):
    """Trained weights: all of them, or an adapter (docs/adapters.md)."""

    kind: Literal[
        "full",
        "qlora",
        "lora",
        "vera",
        "randlora",
        "loha",
        "lokr",
        "ia3",
        "oft",
        "hra",
        "road",
        "miss",
        "delora",
        "gralora",
        "hira",
    ]
    """Adapter: full (none: all weights are trained), lora (low-rank matrices on frozen weights, arXiv 2106.09685),
    qlora (LoRA on 4-bit or 8-bit weights, arXiv 2305.14314; needs the extra `quant`), or another method of peft."""
    rank: int
    """Rank of LoRA's matrices."""
    alpha: float
    """LoRA's output is scaled by alpha / rank."""
    rslora: bool
    """Scales LoRA's output by alpha / √rank instead (arXiv 2312.03732), so that larger ranks learn as fast."""
    dropout: float
    """Dropout probability on the adapter's input; above 0, a step depends on its split into microbatches."""
    targets: str | Sequence[str]
    """Adapted layers: all-linear (without the head), attention, mlp; a regular expression that is searched in their
    full names; or a list of the last parts of their names."""
    layers: Sequence[int] | None
    """Indices of the adapted decoder layers, from 0; null: all layers."""
    modules_to_save: Sequence[str]
    """Modules that are fully trained and saved with the adapter, by the last parts of their names: [embed_tokens],
    [norm]."""
    target_experts: bool
    """Also adapts the tensors that store a layer's experts (Mixtral, Qwen MoE, gpt-oss)."""
    dora: bool
    """Weight-decomposed LoRA: trains the norm of each row of the weights separately from its direction (arXiv
    2402.09353)."""
    init: Literal["zero", "gaussian", "pissa", "olora"]
    """Initialization of LoRA's matrices: zero and gaussian differ in A alone; pissa (arXiv 2404.02948) and olora
    (2406.01775) start from a factorization of the weights."""
    rank_pattern: Mapping[str, int]
    """Ranks that differ from `rank`, by layer name or pattern: {down_proj: 32}."""
    alpha_pattern: Mapping[str, float]
    """Alphas that differ from `alpha`, by layer name or pattern: {down_proj: 64}."""
    loraplus_ratio: float
    """Learning rate of LoRA's B divided by that of A (LoRA+, arXiv 2402.12354, which recommends about 16)."""
    block_size: int
    """Block size of the rotations of oft and road."""
    bits: Literal[4, 8]
    """Bits per weight of qlora's base model."""
    quant_type: Literal["nf4", "fp4"]
    """Data type of 4-bit weights: nf4 or fp4."""
    double_quantization: bool
    """Also quantizes the scales of 4-bit weights: 4.13 instead of 4.5 bits per weight."""
    int8_threshold: float
    """With 8-bit weights, inputs above this threshold are computed in 16 bits (arXiv 2208.07339: 6, for models
    above 6 B parameters); 0: none are. Above 0, a step depends on its split into microbatches."""
    freeze: Sequence[str]
    r"""With kind: full, regular expressions that are searched in the names of weights, such as [embed_tokens,
    'layers\.[0-3]\.']: weights that match are not trained. A pattern after ! makes them trainable again; the last
    match decides."""


class CheckpointSettingsDict(TypedDict, total=False):
    """Checkpoints that are kept, and the weights of the final model."""

    keep_last: int
    """Number of newest checkpoints to keep."""
    keep_best: bool
    """Final model: the weights with the best evaluation (held-out loss, in a stage rl best_metric) instead of the
    last ones."""


class CriticSettingsDict(TypedDict, total=False):
    """The critic: its initial model, its optimizer and schedule, and its loss."""

    learning_rate: float | None
    """Peak learning rate; null: 1e-5 for full weights, 1e-4 for an adapter."""
    optimizer: OptimizerOptionsDict | str
    """The optimizer: its kind (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleSettingsDict | str
    """The learning-rate schedule: its kind (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""
    model: str
    """Initial model: policy (the model that the stage starts from), or a reward model or language model with the
    policy's tokenizer: stage:reward, a run, a folder or a hub name."""
    value_clip: float | None
    """Clips the change of a value within a batch of rollouts, unit of the reward, such as 0.2; null: the plain
    squared error."""
    value_warmup_steps: int
    """Value warm-up: steps at the beginning of the stage in which the critic is trained and the policy is not;
    whole batches of rollouts."""


class DistillCheckpointsDict(TypedDict, total=False):
    """Checkpoints that are kept, and the weights of the final model."""

    keep_last: int
    """Number of newest checkpoints to keep."""
    keep_best: bool
    """Final model: the weights with the best evaluation (held-out loss, in a stage rl best_metric) instead of the
    last ones."""
    best_metric: str
    """Metric of early_stopping and keep_best: teacher_kl (KL divergence from the teacher on held-out prompts; lower
    is better), reward, accuracy, or reward/NAME."""


class DistillEvaluationDict(TypedDict, total=False):
    """Evaluation on held-out prompts; needs eval_data or eval_share."""

    prompts: int
    """Number of held-out prompts, drawn by the seed, that are answered by greedy decoding at every evaluation:
    eval/reward, eval/accuracy, and the responses in samples.jsonl."""
    kl_prompts: int
    """Number of training prompts, drawn by the seed, on which the KL divergence from the policy at the start of the
    stage is measured at every evaluation (eval/start_kl, which predicts forgetting); 0: none."""
    teacher_prompts: int
    """Number of held-out prompts, drawn by the seed, on whose sampled responses student and teacher are compared at
    every evaluation: eval/teacher_kl, eval/teacher_agreement, eval/student_entropy; 0: none."""
    teacher_accuracy: bool
    """Grades greedy responses of the teacher too, once: eval/teacher_reward, eval/teacher_accuracy; needs a reward
    and a teacher that is a model."""


class DistillPolicyGradientDict(TypedDict, total=False):
    """Settings of the policy gradient, of loss: policy_gradient and of rewards."""

    loss_aggregation: Literal["token", "sequence", "fixed"] | None
    """Aggregation of the loss: token (mean over all tokens of the step), sequence (mean over a response's tokens,
    then over responses), fixed (sum over a response's tokens divided by fixed_length, then mean over responses)."""
    fixed_length: int | None
    """Divisor of loss_aggregation: fixed, tokens; null: max_new_tokens, or 1 with rloo."""
    old_logprobs: Literal["policy", "sampler", "recomputed"] | None
    """Denominator of the ratio: policy (the policy itself: ratio exactly 1), sampler (log-probabilities reported by
    the sampler), recomputed (by the trainer before the first update, one more forward pass); null: policy where a
    batch has one update and there is no replay, otherwise sampler."""
    importance_correction: Literal["tis", "mis"] | None
    """Importance weights π_old / sampler for a sampler whose probabilities differ from the trainer's (older
    weights, other kernels, quantization): tis (truncated at importance_correction_max), mis (masked: 0 outside
    importance_correction_min and importance_correction_max); null: no weights."""
    importance_correction_level: Literal["token", "sequence", "mean"] | None
    """Level of the importance weights: token, sequence (product over a response), mean (geometric mean over a
    response); null: mean with ratio_level: sequence, otherwise token."""
    importance_correction_max: float | None
    """Largest importance weight; null: 2."""
    importance_correction_min: float | None
    """Smallest importance weight, of importance_correction: mis; null: 0."""
    entropy_coef: float
    """Weight of the entropy bonus; with entropy_target its initial value."""
    entropy_target: float | None
    """Target entropy of the policy, nats per token: the bonus's weight rises while the entropy is lower, and falls
    while it is higher; null: the weight is constant."""
    entropy_coef_lr: float | None
    """Change of the entropy bonus's weight per step and nat below the target; null: 0.001."""
    entropy_coef_max: float | None
    """Largest weight of the entropy bonus with entropy_target; null: 0.1."""
    mask_truncated: bool
    """Overlong filtering: responses truncated at max_new_tokens count in the baseline of their group and are not
    trained."""
    clip_low: float | None
    """Clip range below 1, with several updates per batch: the ratio counts down to 1 - clip_low; null: 0.2."""
    clip_high: float | None
    """Clip range above 1, with several updates per batch: the ratio counts up to 1 + clip_high; null: 0.2."""


class EarlyStoppingSettingsDict(TypedDict, total=False):
    """Early stopping."""

    patience: int
    """Number of consecutive evaluations without improvement after which the stage ends."""
    min_delta: float
    """Minimum improvement: the held-out loss has to fall by more than this (in a stage rl, checkpoints.best_metric
    has to rise by more)."""


class FilterRulesDict(TypedDict, total=False):
    """Rules for flawed comparisons, applied before training: drop, keep, or error (stops the run)."""

    identical: Literal["drop", "error"]
    """Responses that are all the same."""
    tie: Literal["drop", "error"]
    """Responses of equal score."""
    prompts: Literal["drop", "error"]
    """Responses to different prompts."""
    empty: Literal["drop", "keep", "error"]
    """A response that is empty."""
    duplicate: Literal["drop", "keep", "error"]
    """A row that repeats an earlier one (rows repeated by a source's weight too)."""
    contradiction: Literal["drop", "keep", "error"]
    """Two rows with the opposite preference for the same responses."""
    contamination: Literal["drop", "keep", "error"]
    """A training row whose prompt is in eval_data."""
    max_chosen_longer_share: float
    """Stop if the better response is the longer one in a larger share of the training pairs."""
    min_rows_per_tag: int
    """Stop if fewer training rows carry a tag (column tags), or a pair of tags."""


class GaeOptionsDict(TypedDict, total=False):
    """Generalized advantage estimation (docs/methods/ppo.md)."""

    gamma: float
    """Discount of the rewards of later tokens."""
    gae_lambda: float | None
    """λ of the policy's advantages; null: 0.95."""
    critic_lambda: float
    """λ of the critic's returns (decoupled GAE); 1: the sum of the rewards that followed."""
    length_adaptive_alpha: float | None
    """Length-adaptive λ of the policy, 1 - 1 / (alpha · length of the response), such as 0.05 (VAPO); null:
    gae_lambda."""
    whiten_advantages: bool
    """Whitens the advantages of a batch of rollouts: mean 0 and standard deviation 1."""
    whiten_rewards: bool
    """Divides the rewards of tokens by their standard deviation over a batch of rollouts."""
    bootstrap_truncated: bool
    """Continues responses that were truncated at max_new_tokens by the critic's value; false: their end is the end
    of an episode."""


class GenerationEvalSettingsDict(TypedDict, total=False):
    """Generation on held-out prompts at every evaluation: eval/accuracy, and the responses in samples.jsonl."""

    generations: int
    """Number of held-out prompts, drawn by the seed, for which a response is generated; 0: none."""
    prompts_data: Data | None
    """Data of the prompts; each source names its own format. null: the held-out rows."""
    match: Literal["exact", "contains", "number"] | None
    """Rule by which a response is right: exact, contains, number (as in burnish eval); null: exact."""
    max_new_tokens: int | None
    """Maximum number of tokens of a response; null: 128."""


class OnlinePreferenceDict(TypedDict, total=False):
    """Preference learning from comparisons of the policy's own responses (docs/methods/grpo.md)."""

    loss: str | Mapping[str, float] | Function
    """Loss of pairs, rankings or verdicts (docs/prefer.md), or a weighted sum ({dpo: 1, sft: 0.1})."""
    beta: float | None
    """Implicit reward per nat of log-probability or log-ratio: higher values keep the policy closer to its
    reference; null: the loss's own default."""
    loss_options: PreferenceLossOptionsDict | Mapping[str, bool | int | float | str | None]
    """Further options of the loss, such as {label_smoothing: 0.1}; for your own loss, arguments of its class."""
    pairs: Literal["best_worst", "all"] | None
    """Pairs of responses to a prompt, for a loss of pairs: best_worst, or all pairs of different reward; null:
    best_worst."""


class OptimizerOptionsDict(TypedDict, total=False):
    """The optimizer and its options, with gradient clipping, weight decay and averaging of weights."""

    kind: Literal[
        "adamw",
        "adamw_8bit",
        "adamw_paged",
        "adamw_8bit_paged",
        "muon",
        "adafactor",
        "schedule_free",
        "lion",
        "lion_8bit",
        "sgd",
    ]
    """Optimizer: adamw, adamw_8bit, adamw_paged, adamw_8bit_paged, muon, adafactor, schedule_free, lion, lion_8bit,
    sgd; docs/optimizers.md has their memory, options and packages."""
    betas: Sequence[float] | None
    """Decay rates of the averages of gradients and of their squares; null: 0.9 and 0.999, for lion 0.9 and 0.99."""
    eps: float | None
    """Number added to AdamW's denominator; null: 1e-8."""
    momentum: float | None
    """Momentum of muon (null: 0.95) and sgd (null: 0.9)."""
    nesterov: bool | None
    """Nesterov momentum; null: on for muon, off for sgd."""
    beta2_decay: float | None
    """Exponent of adafactor's decay rate of squares, 1 - step^beta2_decay; null: -0.8."""
    weight_decay: float
    """Decoupled weight decay of matrices: a step subtracts this share times the learning rate (arXiv 1711.05101)."""
    no_weight_decay: Sequence[str]
    """Patterns in the names of matrices without weight decay, such as [embed]; vectors never have it."""
    stochastic_rounding: bool
    """Updates bfloat16 weights by stochastic rounding instead of float32 master weights: saves four bytes per
    trained weight."""
    ema_decay: float | None
    """Decay of an exponential moving average of the weights, such as 0.999; the average is evaluated and saved.
    null: no average."""
    max_grad_norm: float | None
    """Gradient clipping: maximum norm of the gradient; null: no clipping."""
    lr_multipliers: Mapping[str, float]
    """Factors of the learning rate by pattern in parameters' names, such as {embed: 0.1}; factors of several
    matching patterns multiply."""
    layerwise_lr_decay: float | None
    """Factor of the learning rate from each layer to the layer below it, such as 0.9; null: equal rates."""


class ParallelDict(TypedDict, total=False):
    """Several processes that train together (docs/parallel.md)."""

    data: Data | None
    """Copies of the weights, which share the rows of a step; auto: as many as the processes make."""
    shard: int | Literal["auto"]
    """Processes that keep a part of every weight each and gather it to compute (FSDP2); auto: all that are left."""
    tensor: int
    """Processes that compute the same rows, each with a slice of every layer (tensor parallelism)."""
    config: str | None
    """A DeepSpeed ZeRO JSON or an accelerate configuration, for what the other keys of parallel leave open; null:
    none."""
    cpu_offload: bool
    """Whether sharded weights, gradients and the optimizer stay in the memory of the CPU."""
    timeout_s: float
    """Seconds after which a process that does not answer counts as lost, and the run ends with its name."""


class PolicyGradientSettingsDict(TypedDict, total=False):
    """Settings of the policy gradient; null: those of the algorithm."""

    loss_aggregation: Literal["token", "sequence", "fixed"] | None
    """Aggregation of the loss: token (mean over all tokens of the step), sequence (mean over a response's tokens,
    then over responses), fixed (sum over a response's tokens divided by fixed_length, then mean over responses)."""
    fixed_length: int | None
    """Divisor of loss_aggregation: fixed, tokens; null: max_new_tokens, or 1 with rloo."""
    old_logprobs: Literal["policy", "sampler", "recomputed"] | None
    """Denominator of the ratio: policy (the policy itself: ratio exactly 1), sampler (log-probabilities reported by
    the sampler), recomputed (by the trainer before the first update, one more forward pass); null: policy where a
    batch has one update and there is no replay, otherwise sampler."""
    importance_correction: Literal["tis", "mis"] | None
    """Importance weights π_old / sampler for a sampler whose probabilities differ from the trainer's (older
    weights, other kernels, quantization): tis (truncated at importance_correction_max), mis (masked: 0 outside
    importance_correction_min and importance_correction_max); null: no weights."""
    importance_correction_level: Literal["token", "sequence", "mean"] | None
    """Level of the importance weights: token, sequence (product over a response), mean (geometric mean over a
    response); null: mean with ratio_level: sequence, otherwise token."""
    importance_correction_max: float | None
    """Largest importance weight; null: 2."""
    importance_correction_min: float | None
    """Smallest importance weight, of importance_correction: mis; null: 0."""
    entropy_coef: float
    """Weight of the entropy bonus; with entropy_target its initial value."""
    entropy_target: float | None
    """Target entropy of the policy, nats per token: the bonus's weight rises while the entropy is lower, and falls
    while it is higher; null: the weight is constant."""
    entropy_coef_lr: float | None
    """Change of the entropy bonus's weight per step and nat below the target; null: 0.001."""
    entropy_coef_max: float | None
    """Largest weight of the entropy bonus with entropy_target; null: 0.1."""
    mask_truncated: bool
    """Overlong filtering: responses truncated at max_new_tokens count in the baseline of their group and are not
    trained."""
    clip_low: float | None
    """Clip range below 1: the ratio counts down to 1 - clip_low; of clip_mode: ppo."""
    clip_high: float | None
    """Clip range above 1: the ratio counts up to 1 + clip_high; of clip_mode: ppo."""
    dual_clip: float | None
    """Dual clip: upper bound of the ratio where the advantage is negative; of clip_mode: ppo."""
    clip_max_weight: float | None
    """Largest importance weight of a token; of clip_mode: cispo."""
    tau_positive: float | None
    """Temperature of the soft clip where the advantage is positive; of clip_mode: sapo."""
    tau_negative: float | None
    """Temperature of the soft clip where the advantage is not positive; of clip_mode: sapo."""
    token_log_ratio_limit: float | None
    """Bound of each token's log-ratio before the mean over a response; of ratio_level: sequence."""
    reward_combination: Literal["sum", "normalized_sum"] | None
    """Combination of several rewards: sum, or normalized_sum (each is first normalized to mean 0 and standard
    deviation 1 in its group)."""
    baseline: Literal["group", "leave_one_out", "none"] | None
    """Baseline of rewards: group (mean of the group), leave_one_out (mean of the other responses), none."""
    advantage_scale: Literal["group", "batch", "whiten", "none"] | None
    """Normalization of advantages: group or batch (divide by the standard deviation of rewards), whiten (mean 0 and
    standard deviation 1 over the batch), none."""
    ratio_level: Literal["token", "sequence"] | None
    """Level of the importance ratio: token, or sequence (one ratio for all tokens of a response)."""
    clip_mode: Literal["ppo", "cispo", "sapo", "none"] | None
    """Clipping of the ratio: ppo (clip_low, clip_high, dual_clip), cispo (clip_max_weight), sapo (tau_positive,
    tau_negative), none."""
    kl_in: Literal["reward", "advantage", "loss"]
    """Place of the KL penalty, with kl_coef: the reward of a response, the advantage of each token, or the loss."""
    kl_estimator: Literal["k1", "k2", "k3"] | None
    """Estimator of the KL divergence: k2 or k3 in the loss, k1 in reward and advantage; null: k3 in the loss,
    otherwise k1."""


class PpoLossSettingsDict(TypedDict, total=False):
    """Settings of the policy's loss, the clipped surrogate."""

    loss_aggregation: Literal["token", "sequence", "fixed"] | None
    """Aggregation of the loss: token (mean over all tokens of the step), sequence (mean over a response's tokens,
    then over responses), fixed (sum over a response's tokens divided by fixed_length, then mean over responses);
    null: token."""
    fixed_length: int | None
    """Divisor of loss_aggregation: fixed, tokens; null: max_new_tokens."""
    old_logprobs: Literal["policy", "sampler", "recomputed"] | None
    """Denominator of the ratio: sampler (log-probabilities reported by the sampler), recomputed (by the trainer
    before the first update, one more forward pass), policy (the policy itself: ratio exactly 1); null: sampler, or
    policy with one step per batch."""
    importance_correction: Literal["tis", "mis"] | None
    """Importance weights π_old / sampler for a sampler whose probabilities differ from the trainer's (older
    weights, other kernels, quantization): tis (truncated at importance_correction_max), mis (masked: 0 outside
    importance_correction_min and importance_correction_max); null: no weights."""
    importance_correction_level: Literal["token", "sequence", "mean"] | None
    """Level of the importance weights: token, sequence (product over a response), mean (geometric mean over a
    response); null: mean with ratio_level: sequence, otherwise token."""
    importance_correction_max: float | None
    """Largest importance weight; null: 2."""
    importance_correction_min: float | None
    """Smallest importance weight, of importance_correction: mis; null: 0."""
    entropy_coef: float
    """Weight of the entropy bonus; with entropy_target its initial value."""
    entropy_target: float | None
    """Target entropy of the policy, nats per token: the bonus's weight rises while the entropy is lower, and falls
    while it is higher; null: the weight is constant."""
    entropy_coef_lr: float | None
    """Change of the entropy bonus's weight per step and nat below the target; null: 0.001."""
    entropy_coef_max: float | None
    """Largest weight of the entropy bonus with entropy_target; null: 0.1."""
    mask_truncated: bool
    """Overlong filtering: responses truncated at max_new_tokens are not trained, neither policy nor critic."""
    clip_low: float | None
    """Clip range below 1: the ratio counts down to 1 - clip_low; null: 0.2."""
    clip_high: float | None
    """Clip range above 1: the ratio counts up to 1 + clip_high; null: 0.2."""
    dual_clip: float | None
    """Dual clip: upper bound of the ratio where the advantage is negative, such as 3; null: none."""
    success_nll_coef: float
    """Weight of the negative log-likelihood of right responses (reward of at least success_threshold), such as 0.1
    (VAPO)."""


class PreferenceLossOptionsDict(TypedDict, total=False):
    """Options of preference losses; null: the loss's own default. In a weighted sum an option applies to all parts
    that have it."""

    label_smoothing: float | None
    """Assumed share of wrong labels; of cdpo, robust_dpo, exo, aot, simpo, alphapo, cpo, tpo."""
    margin: float | None
    """Target margin of the chosen over the rejected reward (γ), in the unit of rewards; of simpo, alphapo, tpo_l."""
    nll_coef: float | None
    """Weight of the negative log-likelihood of the best response; of cpo, tpo, tpo_l."""
    weight: float | None
    """Weight of the odds-ratio term (λ); of orpo."""
    per_token: bool | None
    """Means instead of sums of log-ratios over tokens; of ipo."""
    wpo: bool | None
    """Weights pairs by their probability under the policy (WPO)."""
    ld_alpha: float | None
    """Weight of tokens beyond the length of the shorter response (LD-DPO)."""
    divergence: str | None
    """f-divergence instead of DPO's reverse KL: reverse_kl, forward_kl, js or alpha."""
    divergence_alpha: float | None
    """α of divergence: alpha, from 0 to 1."""
    alpha: float | None
    """For alphapo its α; for beta_dpo the sensitivity of beta to the margins."""
    temperature: float | None
    """Temperature τ of discopop."""
    m0: float | None
    """Margin at which beta has its nominal value; of beta_dpo."""
    desirable_weight: float | None
    """Weight of desirable responses; of kto, apo_zero_unpaired."""
    undesirable_weight: float | None
    """Weight of undesirable responses; of kto, apo_zero_unpaired."""
    per: str | None
    """Mean of the log-likelihood over tokens or over responses: token or response; of sft."""


class PtxSettingsDict(TypedDict, total=False):
    """Likelihood of given text beside the policy gradient (PPO-ptx), which keeps what the policy could do before."""

    data: Data | None
    """Rows with responses or plain text, in the forms of the data of a stage sft."""
    coef: float
    """Weight of the mean cross-entropy of a token."""
    sequences_per_step: int
    """Rows per optimizer step of the policy."""


class ReplayDict(TypedDict, total=False):
    """Experience replay: graded groups of earlier steps are trained on again."""

    groups: int
    """Size of the replay buffer, groups."""
    fraction: float
    """Share of a step's groups that come from the replay buffer."""


class RewardLossOptionsDict(TypedDict, total=False):
    """Options of losses of reward models."""

    margin: float | None
    """Target difference of rewards per unit of difference of the data's scores (rows without margin or scores count
    as 1 and 0); of bradley_terry; null: 0."""


class RewardShapingDict(TypedDict, total=False):
    """Changes of the reward of a response before it is credited, in the order of these keys. Metrics of rewards are
    those before them."""

    normalize: Literal["none", "scale", "standardize"]
    """Running normalization over all graded responses of the stage so far: scale (divide by the standard
    deviation), standardize (also subtract the mean), none."""
    clip: float | None
    """Clips the (normalized) reward to [-clip, clip]; null: no clipping."""
    missing_end_penalty: float
    """Subtracted from the reward of a response without an end token: one that was truncated at max_new_tokens."""
    length_penalty_coef: float
    """Subtracted from the reward for every token of the response."""


class RlCheckpointsDict(TypedDict, total=False):
    """Checkpoints that are kept, and the weights of the final model."""

    keep_last: int
    """Number of newest checkpoints to keep."""
    keep_best: bool
    """Final model: the weights with the best evaluation (held-out loss, in a stage rl best_metric) instead of the
    last ones."""
    best_metric: str
    """Metric of early_stopping and keep_best: reward (mean over the held-out responses), accuracy (share of right
    ones), or reward/NAME (mean of one reward, which may have the weight 0)."""


class RlEvaluationDict(TypedDict, total=False):
    """Evaluation on held-out prompts; needs eval_data or eval_share."""

    prompts: int
    """Number of held-out prompts, drawn by the seed, that are answered by greedy decoding at every evaluation:
    eval/reward, eval/accuracy, and the responses in samples.jsonl."""
    kl_prompts: int
    """Number of training prompts, drawn by the seed, on which the KL divergence from the policy at the start of the
    stage is measured at every evaluation (eval/start_kl, which predicts forgetting); 0: none."""


class SamplingSettingsDict(TypedDict, total=False):
    """Settings of sampling. In a stage rl, settings that make the sampling distribution differ from the policy's
    need updates_per_batch: 1."""

    temperature: float
    """Sampling temperature: divides the logits, in sampling and in training."""
    top_p: float
    """Nucleus sampling: samples among the most probable tokens whose probabilities add up to top_p; in a stage rl
    only with updates_per_batch: 1. 1: all tokens."""
    top_k: int
    """Samples among the top_k most probable tokens; in a stage rl only with updates_per_batch: 1. 0: all tokens."""
    min_p: float
    """Samples among tokens with at least this share of the highest probability; in a stage rl only with
    updates_per_batch: 1. 0: all tokens."""
    repetition_penalty: float
    """Divides the positive logits of tokens that already occurred; in a stage rl only with updates_per_batch: 1. 1:
    no penalty."""
    stop: Sequence[str]
    """Stop strings that end a response, in addition to the model's end tokens; they stay in the response."""


class ScheduleSettingsDict(TypedDict, total=False):
    """Learning-rate schedule: its shape over the steps, as factors of the peak learning rate."""

    kind: Literal["constant", "linear", "cosine", "wsd", "polynomial", "inverse_sqrt", "cosine_restarts"] | None
    """Shape after the warmup: constant, linear, cosine, wsd, polynomial, inverse_sqrt, cosine_restarts; null:
    cosine, or constant with schedule_free."""
    warmup_ratio: float
    """Share of the steps with linear warmup."""
    decay_ratio: float | None
    """Share of the steps with decay, for wsd; null: 0.2."""
    min_lr_ratio: float | None
    """Final learning rate as a share of the peak; null: 0."""
    power: float | None
    """Exponent of polynomial; null: 2."""
    cycles: int | None
    """Number of cycles of cosine_restarts; null: 2."""


class SftLossOptionsDict(TypedDict, total=False):
    """Options of the loss cross_entropy."""

    label_smoothing: float
    """Label smoothing: share of the target distribution that is uniform over the vocabulary."""
    z_loss: float
    """Weight of the z-loss (log Z)²."""


class VisionDict(TypedDict, total=False):
    """Images of prompts, and the trained parts of a vision-language model (docs/vision.md)."""

    tower: Literal["frozen", "trained"]
    """Vision tower: frozen, or trained as the decoder is (all weights, or an adapter)."""
    projector: Literal["frozen", "trained"]
    """Projector between tower and decoder: frozen, or trained as the decoder is."""
    min_pixels: int | None
    """Smaller images are enlarged to this number of pixels; null: as the model's image processor has it."""
    max_pixels: int | None
    """Larger images are reduced to this number of pixels, which bounds the tokens of an image; null: as the model's
    image processor has it."""
    folder: str | None
    """Folder in which relative paths of images begin; null: the folder of the data file."""


class RecipeKeywords(CallbackKeywords, total=False):
    """Settings at the top of a recipe, and callbacks."""

    adapter: AdapterDict | str
    """Trained weights: all of them, or an adapter."""
    vision: VisionDict
    """Images of prompts and trained parts, of a vision-language model."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"]
    """Data type of the weights; auto: that of the checkpoint. 16-bit weights are trained with float32 master
    weights."""
    seed: int
    """Seed of the order of the data, of initialization and of sampling."""
    device: Literal["auto", "cpu", "cuda"]
    """Device: auto (CUDA if available), cpu or cuda."""
    parallel: ParallelDict
    """Processes that train together."""
    trackers: Sequence[Literal["tensorboard", "wandb", "trackio"]]
    """Experiment trackers: tensorboard, wandb, trackio; each needs the extra of its name. []: none."""
    project: str
    """Project name for trackers."""
    run_name: str | None
    """Run name for trackers; null: the name of the run folder."""
    deterministic: bool
    """Uses deterministic algorithms only, which exact resume needs."""


class SftKeywords(RecipeKeywords, total=False):
    """Settings of a stage, and those of a recipe: Supervised fine-tuning."""

    learning_rate: float | None
    """Peak learning rate; null: 2e-5 for full weights, 2e-4 for LoRA, 2e-3 for adapters that train only vectors; a
    fifth of it for lion, fifty times it for adafactor."""
    optimizer: OptimizerOptionsDict | str
    """The optimizer: its kind (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleSettingsDict | str
    """The learning-rate schedule: its kind (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""
    format: str | Function | None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: Mapping[str, str]
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: str | None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"]
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: Mapping[str, bool | int | float | str | None]
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant
    turns without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: Literal["text", "tokens"]
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: int | None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Literal["auto", "error", "truncate", "drop_turns", "drop"]
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run;
    error stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the
    conversation, drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: float
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: int | None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a
    CPU, 4096 on a GPU, or the longest row."""
    start_from: str | None
    """Earlier stage of the recipe whose model the stage starts from, such as sft or sft-2; null: the stage before
    it (the first stage starts from model)."""
    eval_data: Data | None
    """Held-out data, in the same forms as data; null: none, or eval_share."""
    eval_share: float | None
    """Share of the prompts of data whose rows are held out for evaluation, such as 0.05, instead of eval_data;
    null: none. Rows with the same prompt are on the same side."""
    add_tokens: Literal["template"] | Sequence[str] | None
    """Special tokens to add to tokenizer and model where they are missing: template (the markers of chat_template),
    or a list; null: none."""
    epochs: float | None
    """Number of passes over the usable rows; null: 1, unless max_steps is given."""
    max_steps: int | None
    """Number of optimizer steps, instead of epochs; null: the length of the epochs."""
    gradient_checkpointing: bool | int
    """Recomputes layers in the backward pass: less memory, about a third more time. 2: every second layer, 3: every
    third, as compromises."""
    eval_every: int | None
    """Steps between evaluations; null: at both ends (before the first step and after the last)."""
    checkpoint_every: int | None
    """Steps between checkpoints; null: a tenth of the stage's steps."""
    log_every: int
    """Steps between lines of progress; metrics.jsonl has a line for every step."""
    dry_run: bool | None
    """Computes the largest microbatch before the first step, so that a lack of memory shows at once; null: true on
    CUDA, false elsewhere."""
    early_stopping: EarlyStoppingSettingsDict | None
    """Early stopping, such as {patience: 3}; null: the stage runs to its last step."""
    checkpoints: CheckpointSettingsDict
    """Checkpoints that are kept, and the weights of the final model."""
    sequences_per_step: int
    """Rows per optimizer step: the batch size that determines the result."""
    evaluation: GenerationEvalSettingsDict
    """Generation on held-out prompts at every evaluation."""
    loss: str | Function
    """Loss: cross_entropy, or your own file.py:name (docs/methods/sft.md)."""
    loss_options: SftLossOptionsDict | Mapping[str, bool | int | float | str | None]
    """Options of the loss, such as {label_smoothing: 0.1}; for your own loss, arguments of its class."""
    neftune_alpha: float | None
    """Scale of the noise on embeddings in training (NEFTune, arXiv 2310.05914: 5, 10 or 15); null: no noise."""


class PreferKeywords(RecipeKeywords, total=False):
    """Settings of a stage, and those of a recipe: Preference learning: from pairs (chosen and rejected), rankings,
    or labels of single responses."""

    learning_rate: float | None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""
    optimizer: OptimizerOptionsDict | str
    """The optimizer: its kind (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleSettingsDict | str
    """The learning-rate schedule: its kind (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""
    format: str | Function | None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: Mapping[str, str]
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: str | None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"]
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: Mapping[str, bool | int | float | str | None]
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant
    turns without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: Literal["text", "tokens"]
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: int | None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Literal["auto", "error", "truncate", "drop_turns", "drop"]
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run;
    error stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the
    conversation, drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: float
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: int | None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a
    CPU, 4096 on a GPU, or the longest row."""
    start_from: str | None
    """Earlier stage of the recipe whose model the stage starts from, such as sft or sft-2; null: the stage before
    it (the first stage starts from model)."""
    eval_data: Data | None
    """Held-out data, in the same forms as data; null: none, or eval_share."""
    eval_share: float | None
    """Share of the prompts of data whose rows are held out for evaluation, such as 0.05, instead of eval_data;
    null: none. Rows with the same prompt are on the same side."""
    add_tokens: Literal["template"] | Sequence[str] | None
    """Special tokens to add to tokenizer and model where they are missing: template (the markers of chat_template),
    or a list; null: none."""
    epochs: float | None
    """Number of passes over the usable rows; null: 1, unless max_steps is given."""
    max_steps: int | None
    """Number of optimizer steps, instead of epochs; null: the length of the epochs."""
    gradient_checkpointing: bool | int
    """Recomputes layers in the backward pass: less memory, about a third more time. 2: every second layer, 3: every
    third, as compromises."""
    eval_every: int | None
    """Steps between evaluations; null: at both ends (before the first step and after the last)."""
    checkpoint_every: int | None
    """Steps between checkpoints; null: a tenth of the stage's steps."""
    log_every: int
    """Steps between lines of progress; metrics.jsonl has a line for every step."""
    dry_run: bool | None
    """Computes the largest microbatch before the first step, so that a lack of memory shows at once; null: true on
    CUDA, false elsewhere."""
    early_stopping: EarlyStoppingSettingsDict | None
    """Early stopping, such as {patience: 3}; null: the stage runs to its last step."""
    checkpoints: CheckpointSettingsDict
    """Checkpoints that are kept, and the weights of the final model."""
    sequences_per_step: int
    """Rows per optimizer step: the batch size that determines the result."""
    evaluation: GenerationEvalSettingsDict
    """Generation on held-out prompts at every evaluation."""
    loss: str | Mapping[str, float] | Function
    """Loss: a name (docs/prefer.md), a weighted sum ({dpo: 1, sft: 0.1}), or your own file.py:name."""
    beta: float | None
    """Implicit reward per nat of log-probability or log-ratio: higher values keep the policy closer to its
    reference; null: the loss's own default."""
    loss_options: PreferenceLossOptionsDict | Mapping[str, bool | int | float | str | None]
    """Further options of the loss, such as {label_smoothing: 0.1}; for your own loss, arguments of its class."""
    reference: Literal["precomputed", "precomputed_in_memory", "online", "none"] | None
    """How the reference's log-probabilities are computed: precomputed (once, kept in the cache),
    precomputed_in_memory (once), online (in each step), none; null: precomputed, or online with
    reference_sync_steps, or none if the loss has no reference."""
    reference_model: str | None
    """Reference model, with the policy's tokenizer; also stage:NAME, an earlier stage of the recipe; null: the
    policy at the start of the stage."""
    reference_sync_steps: int | None
    """Steps between updates of the reference towards the policy (TR-DPO); null: the reference is fixed."""
    reference_sync_alpha: float
    """Share of the policy in the updated reference; 1: the reference becomes the policy."""
    filters: FilterRulesDict
    """Treatment of flawed comparisons."""


class RewardModelKeywords(RecipeKeywords, total=False):
    """Settings of a stage, and those of a recipe: Reward model training: a value for a response, learned from
    comparisons or scores."""

    learning_rate: float | None
    """Peak learning rate; null: 2e-5 for full weights, 2e-4 for LoRA, 2e-3 for adapters that train only vectors; a
    fifth of it for lion, fifty times it for adafactor."""
    optimizer: OptimizerOptionsDict | str
    """The optimizer: its kind (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleSettingsDict | str
    """The learning-rate schedule: its kind (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""
    format: str | Function | None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: Mapping[str, str]
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: str | None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"]
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: Mapping[str, bool | int | float | str | None]
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant
    turns without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: Literal["text", "tokens"]
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: int | None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Literal["auto", "error", "truncate", "drop_turns", "drop"]
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run;
    error stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the
    conversation, drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: float
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: int | None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a
    CPU, 4096 on a GPU, or the longest row."""
    start_from: str | None
    """Earlier stage of the recipe whose model the stage starts from, such as sft or sft-2; null: the stage before
    it (the first stage starts from model)."""
    eval_data: Data | None
    """Held-out data, in the same forms as data; null: none, or eval_share."""
    eval_share: float | None
    """Share of the prompts of data whose rows are held out for evaluation, such as 0.05, instead of eval_data;
    null: none. Rows with the same prompt are on the same side."""
    add_tokens: Literal["template"] | Sequence[str] | None
    """Special tokens to add to tokenizer and model where they are missing: template (the markers of chat_template),
    or a list; null: none."""
    epochs: float | None
    """Number of passes over the usable rows; null: 1, unless max_steps is given."""
    max_steps: int | None
    """Number of optimizer steps, instead of epochs; null: the length of the epochs."""
    gradient_checkpointing: bool | int
    """Recomputes layers in the backward pass: less memory, about a third more time. 2: every second layer, 3: every
    third, as compromises."""
    eval_every: int | None
    """Steps between evaluations; null: at both ends (before the first step and after the last)."""
    checkpoint_every: int | None
    """Steps between checkpoints; null: a tenth of the stage's steps."""
    log_every: int
    """Steps between lines of progress; metrics.jsonl has a line for every step."""
    dry_run: bool | None
    """Computes the largest microbatch before the first step, so that a lack of memory shows at once; null: true on
    CUDA, false elsewhere."""
    early_stopping: EarlyStoppingSettingsDict | None
    """Early stopping, such as {patience: 3}; null: the stage runs to its last step."""
    checkpoints: CheckpointSettingsDict
    """Checkpoints that are kept, and the weights of the final model."""
    sequences_per_step: int
    """Rows per optimizer step: the batch size that determines the result."""
    evaluation: GenerationEvalSettingsDict
    """Generation on held-out prompts at every evaluation."""
    loss: str | Function
    """Loss: bradley_terry (pairs), plackett_luce (rankings), regression (scores), step_cross_entropy or
    step_regression (process rewards: a label for each step), or your own file.py:name (docs/methods/reward.md)."""
    scores: Sequence[str] | None
    """Columns with the scores of a response, such as [helpfulness, correctness], each with its own output of the
    model; of regression. null: rows have one score."""
    center_coef: float | None
    """Weight of (chosen + rejected)², which centers rewards at 0 (0.01 in arXiv 2312.09244); of bradley_terry;
    null: 0."""
    loss_options: RewardLossOptionsDict | Mapping[str, bool | int | float | str | None]
    """Further options of the loss, such as {margin: 1}; for your own loss, arguments of its class."""
    filters: FilterRulesDict
    """Treatment of flawed comparisons."""


class RlKeywords(RecipeKeywords, total=False):
    """Settings of a stage, and those of a recipe: Reinforcement learning: the policy generates responses, rewards
    grade them, and better ones become more probable."""

    algorithm: str
    """Algorithm: grpo, dr_grpo, dapo, gspo, cispo, sapo, gmpo, rloo, gdpo, reinforce_pp, or online_dpo with the key
    preference (docs/methods/grpo.md)."""
    kl_coef: float
    """Weight of the KL divergence from the reference, which is the policy at the start of the stage; 0: no penalty,
    and no reference is computed."""
    updates_per_batch: int
    """Optimizer steps per batch of rollouts, each on its own groups_per_step."""
    replay: ReplayDict | None
    """Experience replay of groups of earlier steps, such as {groups: 256, fraction: 0.25}; null: new groups only."""
    policy_gradient: PolicyGradientSettingsDict
    """Settings that replace parts of the algorithm; not for online_dpo."""
    learning_rate: float | None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""
    optimizer: OptimizerOptionsDict | str
    """The optimizer: its kind (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleSettingsDict | str
    """The learning-rate schedule: its kind (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""
    format: str | Function | None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: Mapping[str, str]
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: str | None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"]
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: Mapping[str, bool | int | float | str | None]
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant
    turns without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: Literal["text", "tokens"]
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: int | None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Literal["auto", "error", "truncate", "drop_turns", "drop"]
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run;
    error stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the
    conversation, drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: float
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: int | None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a
    CPU, 4096 on a GPU, or the longest row."""
    start_from: str | None
    """Earlier stage of the recipe whose model the stage starts from, such as sft or sft-2; null: the stage before
    it (the first stage starts from model)."""
    eval_data: Data | None
    """Held-out data, in the same forms as data; null: none, or eval_share."""
    eval_share: float | None
    """Share of the prompts of data whose rows are held out for evaluation, such as 0.05, instead of eval_data;
    null: none. Rows with the same prompt are on the same side."""
    add_tokens: Literal["template"] | Sequence[str] | None
    """Special tokens to add to tokenizer and model where they are missing: template (the markers of chat_template),
    or a list; null: none."""
    epochs: float | None
    """Number of passes over the usable rows; null: 1, unless max_steps is given."""
    max_steps: int | None
    """Number of optimizer steps, instead of epochs; null: the length of the epochs."""
    gradient_checkpointing: bool | int
    """Recomputes layers in the backward pass: less memory, about a third more time. 2: every second layer, 3: every
    third, as compromises."""
    eval_every: int | None
    """Steps between evaluations; null: at both ends (before the first step and after the last)."""
    checkpoint_every: int | None
    """Steps between checkpoints; null: a tenth of the stage's steps."""
    log_every: int
    """Steps between lines of progress; metrics.jsonl has a line for every step."""
    dry_run: bool | None
    """Computes the largest microbatch before the first step, so that a lack of memory shows at once; null: true on
    CUDA, false elsewhere."""
    early_stopping: EarlyStoppingSettingsDict | None
    """Early stopping, such as {patience: 3}; null: the stage runs to its last step."""
    checkpoints: RlCheckpointsDict
    """Checkpoints that are kept, and the weights of the final model."""
    max_new_tokens: int
    """Maximum number of tokens of a response."""
    reward_workers: int | None
    """Number of processes that compute rewards; null: one per core, at most 8."""
    reward_shaping: RewardShapingDict
    """Changes of rewards before they are credited: normalization, clipping, penalties, such as
    {missing_end_penalty: 1}."""
    responses_per_prompt: int
    """Number of responses sampled for each prompt: the group size."""
    groups_per_step: int
    """Prompts per optimizer step, each with its responses: the batch size that determines the result."""
    sampling: SamplingSettingsDict
    """Sampling of responses."""
    curriculum: bool
    """Curriculum: draws prompts that are solved about half the time more often; false: each prompt once per epoch."""
    success_threshold: float
    """Smallest reward of a response that counts as right, in eval/accuracy and for the curriculum."""
    evaluation: RlEvaluationDict
    """Evaluation on held-out prompts."""
    stop_on_alerts: Sequence[
        Literal[
            "equal_rewards",
            "entropy_collapse",
            "zero_reward",
            "length_drift",
            "ungraded",
            "repetition",
            "kl_drift",
            "reward_hacking",
            "critic_error",
            "teacher_gap",
        ]
    ]
    """Alerts that end the stage: equal_rewards, entropy_collapse, zero_reward, length_drift, ungraded, repetition,
    kl_drift, reward_hacking, in a stage ppo critic_error, in a stage distill teacher_gap (docs/watch.md); []: none
    does."""
    log_samples_every: int
    """Steps between those whose best, worst and most surprising responses are written to samples.jsonl."""
    preference: OnlinePreferenceDict | None
    """With algorithm: online_dpo, the preference loss and its pairs, such as {loss: ipo, beta: 0.2}; null: dpo on
    the best and the worst response."""
    dynamic_sampling: bool | None
    """Dynamic sampling: groups whose rewards are all equal are replaced by further prompts. null: where rewards
    alone have a gradient; with kl_coef or an entropy bonus such groups are trained on, for these terms."""
    max_resamples: int
    """With dynamic sampling, maximum number of prompts to sample per group of the batch. 1: groups are dropped
    without replacement."""


class PpoKeywords(RecipeKeywords, total=False):
    """Settings of a stage, and those of a recipe: PPO: reinforcement learning with a learned value function (a
    critic), and the KL divergence from the reference in the reward of every token."""

    learning_rate: float | None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""
    optimizer: OptimizerOptionsDict | str
    """The optimizer: its kind (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleSettingsDict | str
    """The learning-rate schedule: its kind (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""
    format: str | Function | None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: Mapping[str, str]
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: str | None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"]
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: Mapping[str, bool | int | float | str | None]
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant
    turns without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: Literal["text", "tokens"]
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: int | None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Literal["auto", "error", "truncate", "drop_turns", "drop"]
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run;
    error stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the
    conversation, drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: float
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: int | None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a
    CPU, 4096 on a GPU, or the longest row."""
    start_from: str | None
    """Earlier stage of the recipe whose model the stage starts from, such as sft or sft-2; null: the stage before
    it (the first stage starts from model)."""
    eval_data: Data | None
    """Held-out data, in the same forms as data; null: none, or eval_share."""
    eval_share: float | None
    """Share of the prompts of data whose rows are held out for evaluation, such as 0.05, instead of eval_data;
    null: none. Rows with the same prompt are on the same side."""
    add_tokens: Literal["template"] | Sequence[str] | None
    """Special tokens to add to tokenizer and model where they are missing: template (the markers of chat_template),
    or a list; null: none."""
    epochs: float | None
    """Number of passes over the usable rows; null: 1, unless max_steps is given."""
    max_steps: int | None
    """Number of optimizer steps, instead of epochs; null: the length of the epochs."""
    gradient_checkpointing: bool | int
    """Recomputes layers in the backward pass: less memory, about a third more time. 2: every second layer, 3: every
    third, as compromises."""
    eval_every: int | None
    """Steps between evaluations; null: at both ends (before the first step and after the last)."""
    checkpoint_every: int | None
    """Steps between checkpoints; null: a tenth of the stage's steps."""
    log_every: int
    """Steps between lines of progress; metrics.jsonl has a line for every step."""
    dry_run: bool | None
    """Computes the largest microbatch before the first step, so that a lack of memory shows at once; null: true on
    CUDA, false elsewhere."""
    early_stopping: EarlyStoppingSettingsDict | None
    """Early stopping, such as {patience: 3}; null: the stage runs to its last step."""
    checkpoints: RlCheckpointsDict
    """Checkpoints that are kept, and the weights of the final model."""
    max_new_tokens: int
    """Maximum number of tokens of a response."""
    reward_workers: int | None
    """Number of processes that compute rewards; null: one per core, at most 8."""
    reward_shaping: RewardShapingDict
    """Changes of rewards before they are credited: normalization, clipping, penalties, such as
    {missing_end_penalty: 1}."""
    responses_per_prompt: int
    """Number of responses sampled for each prompt."""
    groups_per_step: int
    """Prompts per optimizer step, each with its responses: the batch size that determines the result."""
    sampling: SamplingSettingsDict
    """Sampling of responses."""
    curriculum: bool
    """Curriculum: draws prompts that are solved about half the time more often; false: each prompt once per epoch."""
    success_threshold: float
    """Smallest reward of a response that counts as right, in eval/accuracy and for the curriculum."""
    evaluation: RlEvaluationDict
    """Evaluation on held-out prompts."""
    stop_on_alerts: Sequence[
        Literal[
            "equal_rewards",
            "entropy_collapse",
            "zero_reward",
            "length_drift",
            "ungraded",
            "repetition",
            "kl_drift",
            "reward_hacking",
            "critic_error",
            "teacher_gap",
        ]
    ]
    """Alerts that end the stage: equal_rewards, entropy_collapse, zero_reward, length_drift, ungraded, repetition,
    kl_drift, reward_hacking, in a stage ppo critic_error, in a stage distill teacher_gap (docs/watch.md); []: none
    does."""
    log_samples_every: int
    """Steps between those whose best, worst and most surprising responses are written to samples.jsonl."""
    minibatches_per_epoch: int
    """Optimizer steps of one pass over a batch of rollouts, which has minibatches_per_epoch · groups_per_step
    prompts."""
    epochs_per_batch: int
    """Number of passes over a batch of rollouts; its prompts are reshuffled for each."""
    kl_coef: float
    """Weight of the KL divergence from the reference, which is the policy at the start of the stage, in the reward
    of every token; 0: no penalty, and no reference is computed."""
    kl_estimator: Literal["k1", "k2", "k3"]
    """Estimator of the KL divergence: k1 (log-ratio; its policy gradient is that of the divergence), k2, k3 (never
    negative, smaller variance, another gradient: docs/methods/ppo.md)."""
    kl_control: Literal["fixed", "adaptive"]
    """Control of kl_coef: fixed, or adaptive (proportional control that keeps kl_target)."""
    kl_target: float | None
    """KL divergence of a response, nats, that kl_control: adaptive keeps, such as 6."""
    kl_coef_gain: float | None
    """Gain of kl_control: adaptive; a batch changes kl_coef by at most a fifth of the gain, 2 % with 0.1. null:
    0.1."""
    kl_limit: float | None
    """Early stop of a batch: once the policy is further than this from the one that sampled the batch, nats per
    token, such as 0.02, the remaining steps of the batch train the critic only; null: no limit."""
    gae: GaeOptionsDict
    """Generalized advantage estimation."""
    policy_gradient: PpoLossSettingsDict
    """Settings of the policy's loss."""
    critic: CriticSettingsDict
    """The critic."""
    ptx: PtxSettingsDict | None
    """PPO-ptx: likelihood of given text beside the policy gradient, such as {data: demos.jsonl, coef: 1}; null:
    none."""


class DistillKeywords(RecipeKeywords, total=False):
    """Settings of a stage, and those of a recipe: Distillation: a student learns the token probabilities of a
    teacher, on its own responses (on-policy) or on given ones."""

    learning_rate: float | None
    """Peak learning rate; null: 1e-5 for full weights, 1e-4 for an adapter."""
    optimizer: OptimizerOptionsDict | str
    """The optimizer: its kind (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleSettingsDict | str
    """The learning-rate schedule: its kind (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""
    format: str | Function | None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: Mapping[str, str]
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: str | None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"]
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: Mapping[str, bool | int | float | str | None]
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant
    turns without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: Literal["text", "tokens"]
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: int | None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Literal["auto", "error", "truncate", "drop_turns", "drop"]
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run;
    error stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the
    conversation, drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: float
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: int | None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a
    CPU, 4096 on a GPU, or the longest row."""
    start_from: str | None
    """Earlier stage of the recipe whose model the stage starts from, such as sft or sft-2; null: the stage before
    it (the first stage starts from model)."""
    eval_data: Data | None
    """Held-out data, in the same forms as data; null: none, or eval_share."""
    eval_share: float | None
    """Share of the prompts of data whose rows are held out for evaluation, such as 0.05, instead of eval_data;
    null: none. Rows with the same prompt are on the same side."""
    add_tokens: Literal["template"] | Sequence[str] | None
    """Special tokens to add to tokenizer and model where they are missing: template (the markers of chat_template),
    or a list; null: none."""
    epochs: float | None
    """Number of passes over the usable rows; null: 1, unless max_steps is given."""
    max_steps: int | None
    """Number of optimizer steps, instead of epochs; null: the length of the epochs."""
    gradient_checkpointing: bool | int
    """Recomputes layers in the backward pass: less memory, about a third more time. 2: every second layer, 3: every
    third, as compromises."""
    eval_every: int | None
    """Steps between evaluations; null: at both ends (before the first step and after the last)."""
    checkpoint_every: int | None
    """Steps between checkpoints; null: a tenth of the stage's steps."""
    log_every: int
    """Steps between lines of progress; metrics.jsonl has a line for every step."""
    dry_run: bool | None
    """Computes the largest microbatch before the first step, so that a lack of memory shows at once; null: true on
    CUDA, false elsewhere."""
    early_stopping: EarlyStoppingSettingsDict | None
    """Early stopping, such as {patience: 3}; null: the stage runs to its last step."""
    checkpoints: DistillCheckpointsDict
    """Checkpoints that are kept, and the weights of the final model."""
    max_new_tokens: int
    """Maximum number of tokens of a response."""
    reward_workers: int | None
    """Number of processes that compute rewards; null: one per core, at most 8."""
    reward_shaping: RewardShapingDict
    """Changes of rewards before they are credited: normalization, clipping, penalties, such as
    {missing_end_penalty: 1}."""
    responses_per_prompt: int
    """Number of responses sampled for each prompt: the group size."""
    groups_per_step: int
    """Prompts per optimizer step, each with its responses (with response_source: data, rows): the batch size that
    determines the result."""
    sampling: SamplingSettingsDict
    """Sampling of responses."""
    curriculum: bool
    """Curriculum: draws prompts that are solved about half the time more often; false: each prompt once per epoch."""
    success_threshold: float
    """Smallest reward of a response that counts as right, in eval/accuracy and for the curriculum."""
    evaluation: DistillEvaluationDict
    """Evaluation on held-out prompts."""
    stop_on_alerts: Sequence[
        Literal[
            "equal_rewards",
            "entropy_collapse",
            "zero_reward",
            "length_drift",
            "ungraded",
            "repetition",
            "kl_drift",
            "reward_hacking",
            "critic_error",
            "teacher_gap",
        ]
    ]
    """Alerts that end the stage: equal_rewards, entropy_collapse, zero_reward, length_drift, ungraded, repetition,
    kl_drift, reward_hacking, in a stage ppo critic_error, in a stage distill teacher_gap (docs/watch.md); []: none
    does."""
    log_samples_every: int
    """Steps between those whose best, worst and most surprising responses are written to samples.jsonl."""
    loss: Literal["top_k", "full", "policy_gradient", "uld", "cross_entropy"] | Function
    """Loss: top_k (divergence on the teacher's most probable tokens and the rest as one bucket), full (over the
    whole vocabulary), policy_gradient (reverse KL of the sampled tokens as an advantage), uld (sorted
    probabilities, for another tokenizer), cross_entropy (likelihood of the teacher's text)."""
    divergence: Literal["reverse_kl", "forward_kl", "jsd"] | None
    """Divergence of top_k and full: reverse_kl (KL from student to teacher), forward_kl, jsd (generalized
    Jensen-Shannon, GKD); null: reverse_kl."""
    jsd_beta: float | None
    """β of divergence: jsd, between forward_kl (towards 0) and reverse_kl (towards 1); null: 0.5."""
    top_k: int | None
    """Number of the teacher's tokens of loss: top_k; null: 32, of a server 20."""
    temperature: float | None
    """Divisor of the logits of student and teacher in the divergence; null: sampling.temperature."""
    teacher_coef: float
    """Weight of the teacher's part of the loss."""
    response_source: Literal["student", "teacher", "data"]
    """Responses that are learned from: student (on-policy), teacher (written by the teacher once, before the first
    step), data (those of the rows)."""
    on_policy_fraction: float
    """Weight of the student's own responses in the loss, GKD's λ: below 1, each step also has the responses of as
    many rows of data, with the rest of the weight."""
    special_tokens: Literal["train", "mask"]
    """Special tokens in responses, the end token included: train, which needs a teacher that ends its turns with
    the same token, or mask."""
    reward_coef: float
    """Weight of the policy gradient of the rewards (reward minus the mean of its group); 0: rewards are measured
    only."""
    updates_per_batch: int
    """Optimizer steps per batch of responses, each on its own prompts; with several, all but the first are slightly
    off-policy."""
    policy_gradient: DistillPolicyGradientDict
    """Settings of the policy gradient, of loss: policy_gradient and of reward_coef."""


class ChatKeywords(TypedDict, total=False):
    """Settings of a conversation."""

    max_new_tokens: int
    """Maximum number of tokens of a response."""
    temperature: float
    """Sampling temperature: divides the logits; 0: greedy decoding."""
    top_p: float
    """Nucleus sampling: samples among the most probable tokens whose probabilities add up to top_p; 1: all tokens."""
    top_k: int
    """Samples among the top_k most probable tokens; 0: all tokens."""
    seed: int
    """Seed of sampling, and of the rows that count draws."""


class GenerateKeywords(TypedDict, total=False):
    """Settings of generation."""

    temperature: float
    """Sampling temperature: divides the logits; 0: greedy decoding."""
    top_p: float
    """Nucleus sampling: samples among the most probable tokens whose probabilities add up to top_p; in a stage rl
    only with updates_per_batch: 1. 1: all tokens."""
    top_k: int
    """Samples among the top_k most probable tokens; in a stage rl only with updates_per_batch: 1. 0: all tokens."""
    min_p: float
    """Samples among tokens with at least this share of the highest probability; in a stage rl only with
    updates_per_batch: 1. 0: all tokens."""
    repetition_penalty: float
    """Divides the positive logits of tokens that already occurred; in a stage rl only with updates_per_batch: 1. 1:
    no penalty."""
    stop: Sequence[str]
    """Stop strings that end a response, in addition to the model's end tokens; they stay in the response."""
    format: str | Function | None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: Mapping[str, str]
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: str | None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"]
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: Mapping[str, bool | int | float | str | None]
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant
    turns without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: Literal["text", "tokens"]
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: int | None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Literal["auto", "error", "truncate", "drop_turns", "drop"]
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run;
    error stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the
    conversation, drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: float
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: int | None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a
    CPU, 4096 on a GPU, or the longest row."""
    max_new_tokens: int
    """Maximum number of tokens of a response."""
    split: str | None
    """Split of a hub dataset or a folder; null: train, or the only one."""
    count: int | None
    """Number of rows to draw by the seed; null: all rows."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"]
    """Data type of the weights; auto: that of the checkpoint."""
    stop_ids: Sequence[int]
    """Ids of tokens that end a response, in addition to the model's end tokens."""
    seed: int
    """Seed of sampling, and of the rows that count draws."""
    responses_per_prompt: int
    """Number of responses to each prompt."""
    system: str | None
    """System prompt of conversations without one; null: none."""
    prefix: str
    """Text at the beginning of every response."""
    logprobs: bool
    """Also writes token ids and their log-probabilities."""


class EvalKeywords(TypedDict, total=False):
    """Settings of evaluation; with verifier, of pass@k."""

    temperature: float
    """Sampling temperature: divides the logits; 0: greedy decoding."""
    top_p: float
    """Nucleus sampling: samples among the most probable tokens whose probabilities add up to top_p; 1: all tokens."""
    top_k: int
    """Samples among the top_k most probable tokens; 0: all tokens."""
    min_p: float
    """Samples among tokens with at least this share of the highest probability; in a stage rl only with
    updates_per_batch: 1. 0: all tokens."""
    repetition_penalty: float
    """Divides the positive logits of tokens that already occurred; in a stage rl only with updates_per_batch: 1. 1:
    no penalty."""
    stop: Sequence[str]
    """Stop strings that end a response, in addition to the model's end tokens; they stay in the response."""
    format: str | Function | None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: Mapping[str, str]
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: str | None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"]
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: Mapping[str, bool | int | float | str | None]
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant
    turns without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: Literal["text", "tokens"]
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: int | None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Literal["auto", "error", "truncate", "drop_turns", "drop"]
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run;
    error stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the
    conversation, drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: float
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: int | None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a
    CPU, 4096 on a GPU, or the longest row."""
    max_new_tokens: int
    """Maximum number of tokens of a response."""
    split: str | None
    """Split of a hub dataset or a folder; null: train, or the only one."""
    count: int | None
    """Number of rows to draw by the seed; null: all rows."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"]
    """Data type of the weights; auto: that of the checkpoint."""
    stop_ids: Sequence[int]
    """Ids of tokens that end a response, in addition to the model's end tokens."""
    seed: int
    """Seed of sampling, and of the rows that count draws."""
    verifier: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
    """Reward that grades responses, in the forms of `reward` in a stage rl."""
    responses_per_prompt: int
    """Number of responses to each prompt."""
    k: Sequence[int]
    """Values of k in pass@k, the probability that one of k responses is right, such as [1, 8]."""
    success_threshold: float
    """Smallest reward of a right response."""
    match: Literal["exact", "contains", "number"] | None
    """Rule by which a response is right: exact, contains, number; null: no generation, only the loss."""
    reference: str | None
    """For pairs, a reference model: the implicit reward is the sum of log-ratios to it; null: none."""
