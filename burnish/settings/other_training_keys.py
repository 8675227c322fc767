"""Keys of other tools about training, evaluation, preferences and reinforcement learning, each with ours.

The second part of the table that `other_keys` begins.
"""

from __future__ import annotations

from collections.abc import Mapping

from burnish.settings.other_keys import same

_ONE_LOSS = "not available: write it as a loss of your own, loss: file.py:name"
_NO_VLLM = "not available: responses are sampled in the trainer's process, not by vLLM"
_TEACHER = "teacher in a stage distill: a run, a folder, a hub name or the address of a server"
_NO_HYBRID = "not available: loss: uld compares sorted probabilities of all tokens, shared or not"
_NO_LIKELIHOOD = "not available: rows are learned by the teacher's probabilities; their likelihood is a stage sft"
_NO_TURNS = "not available: a response is one turn, without tools"
_LITTLE_MEMORY = (
    "not available: optimizer.kind: adafactor, adamw_8bit or lion_8bit, or an adapter, save optimizer memory here"
)
_UPLOAD = "not needed in a run: afterwards burnish export RUN --output FOLDER --push OWNER/NAME uploads the model"
_STAGE = (
    "not needed: the command, or the key below stages in a recipe, names the stage: sft (also continued pre-training), "
    "prefer (DPO, KTO, ORPO, SimPO), reward, rl, ppo, distill"
)
_COMMAND = "not needed: the command says what is done; burnish eval and burnish generate take a trained model"
_CHECKPOINTS = "checkpoint_every (steps; the default is a tenth of the stage)"
_EVALUATIONS = "eval_every (steps; with eval_data, a stage also evaluates before its first step and after its last)"
_EVERY_STEP = "not needed: metrics.jsonl has a line for every step"
_COUNTED = "always on: metrics.jsonl has tokens_per_second and tokens_seen"
_RESUME = "not needed: the same command again resumes the run"
_NEW_FOLDER = (
    "not needed: the same command resumes, --fresh starts anew; other settings get a folder of their own without output"
)
_TRACKERS = "trackers: tensorboard, wandb or trackio; no other tracker is supported"
_WANDB = "not needed: W&B reads its own variables, such as WANDB_ENTITY and WANDB_MODE"
_REWARD_MODEL = "reward: {name: reward_model, model: FOLDER}"
_REFERENCE = "reference_model, with the policy's tokenizer; without it the policy as the stage began"

TRAINING: Mapping[str, str] = same(
    (_STAGE, "stage rl rlhf_type task training_type"),
    (_COMMAND, "do_train do_eval do_predict do_causal_lm_eval"),
    ("epochs", "max_epochs n_epochs total_epochs"),
    (
        "not needed: tokens_per_microbatch bounds the memory of evaluations too",
        "per_device_eval_batch_size eval_batch_size eval_accumulation_steps",
    ),
    ("schedule.warmup_ratio (a share of the run)", "num_warmup_steps warmup_iters"),
    ("schedule.decay_ratio, with schedule.kind: wsd", "num_decay_steps"),
    ("not available: the warmup is linear and begins at 0", "lr_div_factor lr_quadratic_warmup"),
    ("not available: schedule.kind: wsd also holds the rate before it falls", "cosine_constant_lr_ratio"),
    ("optimizer.lr_multipliers, such as {embed: 0.1}: factors of learning_rate", "embedding_lr_scale lr_embedding"),
    ("optimizer.kind: muon", "use_muon"),
    ("not available: see optimizer.kind for the optimizers that there are", "use_adam_mini torchdistx_path"),
    (_LITTLE_MEMORY, "optim_target_modules use_galore galore_rank galore_target galore_scale galore_target_modules"),
    (_LITTLE_MEMORY, "use_apollo apollo_rank apollo_target use_badam badam_mode lisa_activated_layers"),
    (_LITTLE_MEMORY, "lisa_n_layers lisa_step_interval"),
    ("loss_options.label_smoothing", "label_smoothing_eps dpo_label_smoothing"),
    (_ONE_LOSS, "use_dft_loss enable_dft_loss enable_channel_loss use_eaft_loss compute_loss_func"),
    (_CHECKPOINTS, "save_interval checkpointing_steps"),
    ("checkpoint_every, in steps: the steps of an epoch divided by this number", "saves_per_epoch"),
    ("not needed: checkpoint_every, in steps, sets the checkpoints", "save_strategy"),
    ("checkpoints.keep_last", "max_checkpoints"),
    ("not available: a checkpoint holds all that an exact resume needs", "save_only_model use_flash_ckpt"),
    ("not needed: model/ in the run folder is the finished model", "create_checkpoint_symlink add_version"),
    ("always on: weights are written as safetensors", "save_safetensors safe_serialization"),
    (_RESUME, "resume_from_checkpoint auto_resume_from_checkpoints resume restore_callback_states_from_checkpoint"),
    ("model: the folder of the earlier run, at the top of the recipe, begins with its weights", "resume_only_model"),
    (_NEW_FOLDER, "overwrite_output_dir"),
    (_EVALUATIONS, "eval_on_start eval_delay eval_interval"),
    ("eval_every, in steps: the steps of an epoch divided by this number", "evals_per_epoch"),
    ("not needed: eval_every, in steps, evaluates during the stage", "eval_strategy evaluation_strategy"),
    ("early_stopping.patience", "early_stop_interval"),
    ("checkpoints.keep_best", "save_best_model"),
    ("not needed: the direction follows from the metric", "greater_is_better"),
    ("not needed: evaluations keep nothing but sums", "prediction_loss_only batch_eval_metrics eval_do_concat_batches"),
    ("not available: evaluation.generations compares whole responses", "compute_accuracy acc_strategy"),
    ("evaluation.match: exact, contains or number", "metric eval_causal_lm_metrics compute_metrics"),
    ("evaluation.generations (how many held-out prompts are answered)", "generate_during_eval"),
    ("not available: held-out data are evaluated together", "eval_on_each_dataset"),
    ("not available: run a benchmark on the served model (burnish serve)", "do_bench_eval eval_use_evalscope"),
    ("not available: held-out prompts are answered greedily", "eval_num_beams num_beams do_sample length_penalty"),
    (_EVERY_STEP, "logging_strategy logging_first_step"),
    ("not needed: progress is a line on a terminal, and lines in a pipe", "disable_tqdm log_level log_level_replica"),
    ("not available: a metric that is NaN or infinite ends the run", "logging_nan_inf_filter"),
    ("not needed: alerts report a loss that rises, and NaN ends the run", "loss_watchdog_threshold"),
    ("not needed: alerts report a loss that rises, and NaN ends the run", "loss_watchdog_patience"),
    (_COUNTED, "include_tokens_per_second include_num_input_tokens_seen include_effective_tokens_per_second"),
    ("always on: report.html in the run folder has the curves", "plot_loss"),
    ("not available: there is no profiler of its own", "debug profiler_steps"),
    ("not needed: memory_gib is in metrics.jsonl", "skip_memory_metrics torch_empty_cache_steps gc_steps"),
    (_UPLOAD, "push_to_hub hub_model_id hub_strategy hub_private_repo hub_always_push hub_revision"),
    ("trackers: tensorboard", "use_tensorboard"),
    ("trackers: wandb", "use_wandb"),
    (_WANDB, "wandb_entity wandb_mode wandb_watch wandb_run_id wandb_log_model"),
    (_TRACKERS, "use_mlflow mlflow_tracking_uri mlflow_experiment_name use_comet comet_api_key use_swanlab"),
    (_TRACKERS, "swanlab_project swanlab_mode swanlab_exp_name"),
    ("project, at the top of the recipe", "project_name"),
    ("run_name, at the top of the recipe", "wandb_run_name experiment_name exp_name"),
    ("output, at the top of the recipe: trackers write into the run folder", "logging_path"),
)
"""Keys about the run: length, optimizer, checkpoints, evaluation, logging."""

PREFERENCES: Mapping[str, str] = same(
    ("beta", "rl_beta"),
    ("loss: dpo_norm", "dpo_norm_loss"),
    ("loss_options.wpo", "dpo_use_weighting"),
    ("loss: a weighted sum, such as {dpo: 1, bco: 0.1}", "pref_bco_weight"),
    (_REFERENCE, "ref_model_name_or_path reference_model_name_or_path"),
    ("reference_model: the folder of the adapter", "ref_model_adapters"),
    ("not available: the reference has the data type of the policy", "ref_model_quantization_bit"),
    ("not needed: a model is found by its folder or hub name", "ref_model_type ref_model_revision"),
    ("not needed: dropout of the checkpoint's configuration is always off", "disable_dropout"),
    ("not needed: the command burnish reward trains a reward model", "process_reward_model"),
    ("not needed: only decoders are trained", "is_encoder_decoder"),
)
"""Keys about preference learning and reward models."""

REINFORCEMENT: Mapping[str, str] = same(
    (
        "responses_per_prompt, reward and the other keys of a stage rl: there is no group of keys for another library",
        "trl",
    ),
    (_NO_VLLM, "vllm vllm_mode vllm_device vllm_dtype vllm_server_host vllm_server_port vllm_server_base_url"),
    (_NO_VLLM, "vllm_server_timeout vllm_gpu_memory_utilization vllm_max_model_len vllm_max_model_length"),
    (_NO_VLLM, "vllm_tensor_parallel_size vllm_enable_prefix_caching vllm_enable_sleep_mode vllm_model_impl"),
    (_NO_VLLM, "vllm_structured_outputs_regex vllm_guided_decoding_regex vllm_maxlen vllm_gpu_util vllm_group_port"),
    (_NO_VLLM, "fast_inference gpu_memory_utilization max_lora_rank float8_kv_cache sleep_level"),
    ("not needed: burnish serve uses vLLM where it is installed", "infer_backend vllm_enforce_eager"),
    ("not needed: a finished response is replaced by the next one at once", "use_transformers_paged"),
    ("not needed: a finished response is replaced by the next one at once", "use_transformers_continuous_batching"),
    ("not needed: the sampler's cache has no settings", "cache_implementation use_kv_cache"),
    ("sampling, a group with temperature, top_p, top_k, min_p, repetition_penalty and stop", "generation_kwargs"),
    ("sampling.stop", "stop_words"),
    ("not available in training: burnish generate has logprobs=true", "logprobs top_logprobs"),
    ("responses_per_prompt", "n_samples_per_prompt group_size"),
    ("groups_per_step (prompts of an optimizer step)", "rollout_batch_size ppo_mini_batch_size"),
    (_REWARD_MODEL, "reward_adapters reward_model_adapters reward_model_type reward_model_quantization_bit"),
    (_REWARD_MODEL, "reward_model_path reward_model_name_or_path"),
    ("reward_shaping.clip", "reward_clip_range cliprange_reward"),
    ("reward_shaping.missing_end_penalty", "missing_eos_penalty"),
    ("reward: {name: overlong, max_length: …, buffer: …}", "soft_max_length soft_cache_length"),
    ("policy_gradient.advantage_scale: whiten; gae.whiten_advantages in a stage ppo", "normalize_advantages"),
    ("gae.whiten_rewards in a stage ppo; policy_gradient.advantage_scale: whiten in a stage rl", "whiten_rewards"),
    ("policy_gradient.kl_in: reward", "kl_in_reward"),
    ("dynamic_sampling", "dynamic_sample"),
    ("max_resamples", "max_resample_times"),
    ("policy_gradient.mask_truncated", "overlong_filter"),
    ("policy_gradient.importance_correction: tis or mis", "rollout_importance_sampling_mode"),
    ("policy_gradient.importance_correction_max", "rollout_importance_sampling_threshold"),
    ("policy_gradient.importance_correction_max", "vllm_importance_sampling_clip_max"),
    ("policy_gradient.importance_correction_min", "vllm_importance_sampling_clip_min"),
    ("policy_gradient.importance_correction: mis also leaves out tokens that are far off", "off_policy_mask_threshold"),
    ("not needed: the weight of the entropy bonus is never negative", "entropy_coef_min"),
    ("not available: all tokens of a response are trained", "top_entropy_quantile log_entropy"),
    ("not available: algorithm has no vespo", "vespo_k_pos vespo_k_neg vespo_lambda_pos vespo_lambda_neg"),
    ("not available: policy_gradient.kl_in and kl_estimator choose the estimate", "use_bias_correction_kl"),
    ("log_samples_every (samples.jsonl)", "log_unique_prompts log_completions_hub_repo num_sample_generations"),
    (_NO_TURNS, "max_tool_calling_iterations multi_turn_scheduler max_turns environment_factory gym_env"),
    ("not needed in a stage ppo: the critic has an optimizer of its own, critic.learning_rate", "vf_coef"),
    ("critic.value_clip in a stage ppo", "cliprange_value value_clip_range"),
    ("gae.gae_lambda in a stage ppo", "lam lambd"),
    ("epochs_per_batch in a stage ppo", "num_ppo_epochs"),
    ("minibatches_per_epoch in a stage ppo", "num_mini_batches"),
    ("groups_per_step and minibatches_per_epoch in a stage ppo: their product is a batch", "ppo_buffer_size"),
    ("reward_shaping.normalize: scale or standardize", "ppo_score_norm use_score_norm use_score_scaling"),
    ("kl_target in a stage ppo, with kl_control: adaptive", "ppo_target target_kl adap_kl_ctrl"),
    ("gae.whiten_rewards in a stage ppo", "ppo_whiten_rewards"),
    ("tokens_per_microbatch", "local_rollout_forward_batch_size"),
    ("critic.learning_rate in a stage ppo", "critic_learning_rate"),
    ("critic.model in a stage ppo", "value_model value_model_path critic_pretrain"),
    ("kl_coef in a stage ppo, the weight of the first batch", "init_kl_coef init_kl_coeff"),
    ("critic.value_warmup_steps in a stage ppo", "critic_warmup"),
    (_TEACHER, "teacher_model teacher_model_name_or_path teacher_model_path teacher_name"),
    ("teacher: the folder of the adapter, or its run", "teacher_adapters teacher_lora_path"),
    ("teacher.url", "teacher_model_server teacher_server_url kd_online_server_base_url"),
    ("teacher.server.timeout", "kd_online_timeout"),
    ("teacher.placement: in_turns", "offload_teacher_model"),
    ("not needed: a teacher has the tokenizer of its own folder", "teacher_tokenizer_name_or_path"),
    (
        "dtype, at the top of the recipe, is that of the teacher too (auto: its checkpoint's)",
        "teacher_model_init_kwargs",
    ),
    ("not needed: a model is found by its folder or hub name", "teacher_model_type teacher_model_revision"),
    ("not available: each process holds the whole teacher", "teacher_deepspeed"),
    ("not needed: the command burnish distill, or a stage distill", "kd_trainer kd_online_server"),
    ("on_policy_fraction, a weight of the student's own responses (not the share of the batches)", "lmbda"),
    ("response_source: teacher", "seq_kd"),
    ("divergence: forward_kl, reverse_kl, or jsd with jsd_beta", "kl_type kd_beta kd_loss_type"),
    ("divergence: jsd, with jsd_beta", "mixed_kl_weight"),
    ("top_k in a stage distill", "topk_logits_k kd_online_topk gkd_logits_topk distill_topk"),
    ("not needed: all tokens beyond top_k are one bucket with its exact mass", "kd_normalize_topk zero_outside_topk"),
    ("temperature in a stage distill", "kd_temperature distill_temperature"),
    ("teacher_coef", "kd_alpha kl_penalty_coef distill_loss_coef"),
    (_NO_LIKELIHOOD, "kd_ce_alpha sft_alpha uld_crossentropy_weight"),
    ("loss: uld (or policy_gradient, by the bytes of tokens), in a stage distill", "use_uld_loss use_extended_uld"),
    ("not needed: tokens are compared in runs that span the same bytes", "uld_token_merge_strategy"),
    (_NO_HYBRID, "uld_use_hybrid_loss uld_hybrid_matched_weight uld_hybrid_unmatched_weight"),
    ("teacher_coef", "uld_distillation_weight"),
    ("temperature in a stage distill: one for both models", "uld_student_temperature uld_teacher_temperature"),
    ("special_tokens: mask leaves special tokens out of the loss", "uld_skip_student_eos uld_skip_teacher_eos"),
    ("loss: policy_gradient in a stage distill: the reverse KL of sampled tokens", "rkl_advantage"),
    ("loss: top_k or full in a stage distill: the exact term of each step", "single_step_decomposition"),
)
"""Keys about reinforcement learning and distillation."""
