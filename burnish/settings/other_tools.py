"""Which keys TRL, axolotl, LLaMA-Factory, Unsloth and ms-swift have: the order of the tables of docs/coming-from.md.

`aliases.OTHER_TOOLS` has the answer to a key that is not ours; a key that is ours needs none, unless its meaning
differs (`remarks`). Names are those of the tools' documentation in November 2026; a tool may have further ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def _topics(**topics: str) -> Mapping[str, tuple[str, ...]]:
    """Topic → keys, which are separated by spaces; underlines in a topic stand for spaces."""
    return MappingProxyType({topic.replace("_", " "): tuple(keys.split()) for topic, keys in topics.items()})


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, its keys by topic, and what differs in keys that are ours too."""

    name: str
    keys: Mapping[str, tuple[str, ...]]
    remarks: Mapping[str, str] = field(default_factory=dict)
    """Key that is also ours → what to write here; other keys of the same name have the same meaning."""

    @property
    def all_keys(self) -> tuple[str, ...]:
        """The keys of all topics."""
        return tuple(key for keys in self.keys.values() for key in keys)


_ADAM = "adam_beta1 adam_beta2 adam_epsilon"
_HUB = "push_to_hub hub_model_id hub_strategy hub_token hub_private_repo"
_DISTRIBUTED = (
    "deepspeed fsdp fsdp_config ddp_backend ddp_timeout ddp_find_unused_parameters ddp_bucket_cap_mb local_rank"
)
_LOADER = "dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor dataloader_drop_last"
_BETA = (
    "beta in a stage prefer; kl_coef in a stage rl; jsd_beta in a stage distill, with divergence: jsd (of GKD, 0 is "
    "divergence: forward_kl and 1 is reverse_kl)"
)
_SAMPLED = (
    "sampling.temperature, with the other keys of the group sampling, in a stage rl, ppo or distill; temperature in "
    "commands"
)
_TOP_K = "sampling.top_k in a stage rl (top_k in a stage distill is of its loss); top_k in commands"

_TRL = Tool(
    "TRL",
    _topics(
        model="model_name_or_path model_revision dtype torch_dtype attn_implementation trust_remote_code "
        "model_init_kwargs router_aux_loss_coef eos_token pad_token chat_template_path use_liger_kernel torch_compile "
        "gradient_checkpointing gradient_checkpointing_kwargs activation_offloading use_cpu",
        data="dataset_name dataset_config dataset_train_split dataset_test_split dataset_streaming datasets "
        "train_dataset eval_dataset test_split_size dataset_text_field dataset_num_proc dataset_kwargs formatting_func "
        "shuffle_dataset max_length truncation_mode packing packing_strategy padding_free eval_packing "
        "pad_to_multiple_of completion_only_loss assistant_only_loss remove_unused_columns chat_template_kwargs "
        "train_sampling_strategy "
        f"{_LOADER}",
        batch_and_length="per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_steps "
        "auto_find_batch_size average_tokens_across_devices",
        optimizer="learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps warmup_ratio optim optim_args "
        f"weight_decay {_ADAM} max_grad_norm label_smoothing_factor neftune_noise_alpha bf16 fp16 tf32 seed data_seed "
        "full_determinism",
        adapters="use_peft lora_r lora_alpha lora_dropout lora_target_modules lora_target_parameters "
        "lora_modules_to_save lora_task_type use_rslora use_dora load_in_4bit load_in_8bit bnb_4bit_quant_type "
        "use_bnb_nested_quant bnb_4bit_quant_storage",
        evaluation_and_checkpoints="eval_strategy eval_steps eval_on_start per_device_eval_batch_size "
        "eval_accumulation_steps save_strategy save_steps save_total_limit save_only_model load_best_model_at_end "
        "metric_for_best_model greater_is_better resume_from_checkpoint output_dir overwrite_output_dir do_train "
        "do_eval",
        logging="logging_steps logging_strategy logging_first_step logging_dir report_to run_name project disable_tqdm "
        f"include_num_input_tokens_seen logging_nan_inf_filter {_HUB}",
        preferences_and_rewards="loss_type loss_weights beta label_smoothing ref_model precompute_ref_log_probs "
        "precompute_ref_batch_size sync_ref_model ref_model_mixup_alpha ref_model_sync_steps f_divergence_type "
        "f_alpha_divergence_coef use_weighting discopop_tau ld_alpha disable_dropout desirable_weight "
        "undesirable_weight cpo_alpha simpo_gamma max_prompt_length max_completion_length generate_during_eval "
        "center_rewards_coefficient num_labels",
        reinforcement_learning="reward_funcs reward_weights num_generations num_generations_eval "
        "generation_batch_size steps_per_generation num_iterations temperature top_p top_k min_p repetition_penalty "
        "generation_kwargs epsilon epsilon_high delta scale_rewards normalize_advantages importance_sampling_level "
        "mask_truncated_completions multi_objective_aggregation entropy_coef use_adaptive_entropy entropy_target "
        "top_entropy_quantile sapo_temperature_pos sapo_temperature_neg off_policy_mask_threshold reward_clip_range "
        "use_vllm vllm_mode vllm_gpu_memory_utilization vllm_tensor_parallel_size vllm_server_base_url "
        "vllm_importance_sampling_correction vllm_importance_sampling_mode vllm_importance_sampling_clip_max "
        "use_transformers_paged max_tool_calling_iterations log_completions num_completions_to_print",
        distillation="teacher_model_name_or_path teacher_model_revision teacher_model_init_kwargs "
        "teacher_tokenizer_name_or_path lmbda seq_kd use_uld_loss uld_token_merge_strategy uld_use_hybrid_loss "
        "uld_crossentropy_weight uld_student_temperature uld_skip_student_eos rkl_advantage single_step_decomposition",
        distributed=f"{_DISTRIBUTED} accelerator_config ds3_gather_for_generation",
    ),
    {
        "beta": _BETA,
        "temperature": _SAMPLED,
        "top_k": _TOP_K,
        "max_length": "max_length; longer rows are not cut silently: see overlong",
        "max_steps": "max_steps; without it, the length is that of epochs (there is no -1)",
    },
)
_AXOLOTL = Tool(
    "axolotl",
    _topics(
        model="base_model base_model_config revision_of_model model_type tokenizer_config tokenizer_type "
        "tokenizer_use_fast trust_remote_code resize_token_embeddings_to_32x mean_resizing_embeddings "
        "shrink_embeddings flash_attention xformers_attention sdp_attention flex_attention s2_attention "
        "eager_attention flash_attn_cross_entropy cut_cross_entropy liger_fused_linear_cross_entropy liger_rope "
        "torch_compile gradient_checkpointing gradient_checkpointing_kwargs activation_offloading bf16 fp16 fp8 tf32 "
        "bfloat16 float16 device_map max_memory plugins special_tokens tokens added_tokens_overrides",
        data="datasets test_datasets pretraining_dataset path type ds_type data_files name split shards field_messages "
        "message_property_mappings roles_to_train train_on_eos chat_template chat_template_jinja "
        "default_system_message train_on_inputs val_set_size shuffle_merged_datasets dataset_prepared_path "
        "dataset_processes dataset_num_proc dataset_exact_deduplication dataset_keep_in_memory skip_prepare_dataset "
        "push_dataset_to_hub streaming sequence_len excess_length_strategy min_sample_len sample_packing "
        "eval_sample_packing pad_to_sequence_len sample_packing_bin_size sample_packing_group_size batch_flattening "
        f"group_by_length curriculum_sampling remove_unused_columns {_LOADER}",
        batch_and_length="micro_batch_size gradient_accumulation_steps batch_size eval_batch_size num_epochs max_steps "
        "auto_find_batch_size",
        optimizer="learning_rate lr_scheduler lr_scheduler_kwargs cosine_min_lr_ratio cosine_constant_lr_ratio "
        "lr_div_factor warmup_steps warmup_ratio optimizer optim_args optim_target_modules weight_decay "
        f"{_ADAM} max_grad_norm lr_groups embedding_lr noisy_embedding_alpha neftune_noise_alpha seed",
        adapters="adapter lora_model_dir lora_r lora_alpha lora_dropout lora_target_modules lora_target_linear "
        "lora_target_parameters lora_modules_to_save lora_fan_in_fan_out peft_layers_to_transform peft_layers_pattern "
        "peft_use_dora peft_use_rslora peft_init_lora_weights loraplus_lr_ratio loraplus_lr_embedding load_in_4bit "
        "load_in_8bit bnb_config_kwargs gptq lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_on_cpu merge_lora "
        "relora unfrozen_parameters",
        evaluation_and_checkpoints="eval_steps evals_per_epoch eval_strategy eval_table_size eval_max_new_tokens "
        "eval_causal_lm_metrics do_bench_eval early_stopping_patience load_best_model_at_end metric_for_best_model "
        "save_steps saves_per_epoch save_strategy save_total_limit save_only_model save_safetensors "
        "resume_from_checkpoint auto_resume_from_checkpoints output_dir",
        logging="logging_steps use_tensorboard wandb_project wandb_name wandb_entity wandb_mode wandb_watch "
        "wandb_log_model use_mlflow mlflow_tracking_uri use_comet loss_watchdog_threshold loss_watchdog_patience "
        "include_tokens_per_second profiler_steps hub_model_id hub_strategy hf_use_auth_token strict debug",
        preferences_and_rewards="rl rl_beta dpo_use_weighting dpo_label_smoothing dpo_norm_loss dpo_padding_free "
        "dpo_use_logits_to_keep orpo_alpha rpo_alpha simpo_gamma cpo_alpha kto_desirable_weight "
        "kto_undesirable_weight max_prompt_len reward_model process_reward_model num_labels center_rewards_coefficient",
        reinforcement_learning="trl vllm num_generations max_completion_length reward_funcs reward_weights "
        "temperature top_p top_k min_p repetition_penalty num_iterations epsilon epsilon_high delta scale_rewards "
        "loss_type mask_truncated_completions sync_ref_model ref_model_mixup_alpha ref_model_sync_steps use_vllm "
        "vllm_gpu_memory_utilization vllm_server_host log_completions",
        distillation="kd_trainer kd_alpha kd_ce_alpha kd_temperature kd_beta kd_normalize_topk kd_online_server "
        "kd_online_server_base_url kd_online_topk kd_online_timeout",
        distributed=f"{_DISTRIBUTED} fsdp_version ddp ddp_broadcast_buffers world_size sequence_parallel_degree "
        "context_parallel_size tensor_parallel_size dp_shard_size accelerator_config",
    ),
    {
        "adapter": "adapter: lora or qlora, at the top of the recipe; with settings a mapping, {kind: lora, rank: 16}",
        "optimizer": "optimizer, the kind or a mapping with its settings; its names are at the end of this page",
        "special_tokens": "add_tokens (the tokenizer's own begin and end token stay as they are)",
        "path": "data: the path, or a list of sources with path, weight and count",
        "name": "the configuration of a hub set is in the path, owner/name:config; name is what reports call a source",
        "temperature": _SAMPLED,
        "top_k": _TOP_K,
    },
)
_LLAMA_FACTORY = Tool(
    "LLaMA-Factory",
    _topics(
        model="model_name_or_path adapter_name_or_path model_revision cache_dir trust_remote_code use_fast_tokenizer "
        "resize_vocab add_tokens add_special_tokens split_special_tokens rope_scaling flash_attn shift_attn "
        "use_unsloth enable_liger_kernel disable_gradient_checkpointing use_unsloth_gc use_reentrant_gc "
        "upcast_layernorm upcast_lmhead_output moe_aux_loss_coef mixture_of_depths low_cpu_mem_usage "
        "train_from_scratch hf_hub_token bf16 fp16 pure_bf16 infer_dtype infer_backend",
        data="dataset dataset_dir eval_dataset media_dir template cutoff_len train_on_prompt mask_history streaming "
        "buffer_size mix_strategy interleave_probs overwrite_cache preprocessing_batch_size preprocessing_num_workers "
        "max_samples val_size eval_on_each_dataset ignore_pad_token_for_loss packing neat_packing tool_format "
        "default_system enable_thinking tokenized_path disable_shuffling group_by_length remove_unused_columns "
        f"{_LOADER}",
        batch_and_length="per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_steps",
        optimizer="learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps warmup_ratio optim optim_args "
        f"weight_decay {_ADAM} max_grad_norm neftune_noise_alpha use_galore galore_rank use_apollo apollo_rank "
        "use_badam badam_mode use_adam_mini use_muon seed data_seed",
        adapters="finetuning_type lora_rank lora_alpha lora_dropout lora_target loraplus_lr_ratio "
        "loraplus_lr_embedding use_rslora use_dora pissa_init pissa_iter pissa_convert create_new_adapter "
        "additional_target module_dropout oft_block_size freeze_trainable_layers freeze_trainable_modules "
        "freeze_extra_modules use_llama_pro quantization_bit quantization_type quantization_method "
        "double_quantization quantization_device_map",
        evaluation_and_checkpoints="do_train do_eval do_predict predict_with_generate compute_accuracy eval_strategy "
        "eval_steps per_device_eval_batch_size eval_num_beams early_stopping_steps load_best_model_at_end "
        "metric_for_best_model save_steps save_strategy save_total_limit save_only_model resume_from_checkpoint "
        "output_dir overwrite_output_dir export_dir export_size export_device export_quantization_bit",
        logging="logging_steps plot_loss report_to run_name use_swanlab swanlab_project swanlab_mode "
        f"include_num_input_tokens_seen include_effective_tokens_per_second {_HUB}",
        preferences_and_rewards="stage pref_loss pref_beta pref_ftx pref_bco_weight dpo_label_smoothing simpo_gamma "
        "kto_chosen_weight kto_rejected_weight ld_alpha ref_model ref_model_adapters ref_model_quantization_bit "
        "use_dft_loss",
        reinforcement_learning="reward_model reward_model_adapters reward_model_type ppo_epochs ppo_buffer_size "
        "ppo_score_norm ppo_target ppo_whiten_rewards do_sample temperature top_p top_k num_beams max_new_tokens "
        "repetition_penalty length_penalty vllm_maxlen vllm_gpu_util",
        distributed=f"{_DISTRIBUTED} use_ray use_mca",
    ),
    {
        "add_tokens": "add_tokens; added tokens are special tokens here",
        "template": "chat_template: a model with a template of its own needs none",
        "temperature": _SAMPLED,
        "top_k": _TOP_K,
    },
)
_UNSLOTH = Tool(
    "Unsloth",
    _topics(
        model="model_name max_seq_length dtype load_in_4bit load_in_8bit load_in_16bit full_finetuning token "
        "device_map rope_scaling fix_tokenizer trust_remote_code use_gradient_checkpointing resize_model_vocab "
        "revision use_exact_model_name fast_inference gpu_memory_utilization max_lora_rank float8_kv_cache "
        "random_state",
        adapters="r target_modules target_parameters lora_alpha lora_dropout bias layers_to_transform layers_pattern "
        "use_rslora modules_to_save init_lora_weights loftq_config finetune_vision_layers finetune_language_layers "
        "finetune_attention_modules finetune_mlp_modules",
        data="chat_template map_eos_token train_on_responses_only instruction_part response_part standardize_sharegpt "
        "dataset_text_field dataset_num_proc packing",
        training="per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_steps learning_rate "
        "embedding_learning_rate lr_scheduler_type warmup_steps warmup_ratio optim weight_decay max_grad_norm seed "
        "logging_steps save_steps eval_steps report_to output_dir resume_from_checkpoint",
        saving="save_method quantization_method push_to_hub",
        reinforcement_learning="num_generations max_prompt_length max_completion_length reward_funcs temperature min_p "
        "beta epsilon epsilon_high delta loss_type scale_rewards mask_truncated_completions use_vllm vllm_mode",
    ),
    {"beta": _BETA, "temperature": _SAMPLED},
)
_SWIFT = Tool(
    "ms-swift",
    _topics(
        model="model model_type model_revision task_type torch_dtype attn_impl use_hf hub_token device_map max_memory "
        "rope_scaling max_model_len new_special_tokens num_labels problem_type model_kwargs local_repo_path "
        "use_liger_kernel gradient_checkpointing gradient_checkpointing_kwargs external_plugins custom_register_path",
        data="dataset val_dataset cached_dataset split_dataset_ratio data_seed dataset_num_proc load_from_cache_file "
        "dataset_shuffle streaming interleave_prob stopping_strategy shuffle_buffer_size columns strict "
        "custom_dataset_info template system max_length truncation_strategy max_pixels agent_template "
        "use_chat_template template_backend padding_free padding_side packing packing_length packing_num_proc "
        f"lazy_tokenize loss_scale enable_thinking remove_unused_columns {_LOADER}",
        batch_and_length="per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_epochs "
        "max_steps",
        optimizer="learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_ratio optimizer weight_decay adam_beta1 "
        "adam_beta2 max_grad_norm neftune_noise_alpha use_galore lisa_activated_layers seed full_determinism "
        "average_tokens_across_devices",
        adapters="train_type tuner_type tuner_backend adapters target_modules target_regex target_parameters "
        "init_weights modules_to_save lora_rank lora_alpha lora_dropout lora_bias lora_dtype lorap_lr_ratio use_dora "
        "use_rslora vera_rank freeze_parameters freeze_parameters_regex freeze_parameters_ratio trainable_parameters "
        "freeze_llm freeze_vit freeze_aligner quant_method quant_bits bnb_4bit_compute_dtype bnb_4bit_quant_type "
        "bnb_4bit_use_double_quant merge_lora",
        evaluation_and_checkpoints="eval_strategy eval_steps per_device_eval_batch_size predict_with_generate metric "
        "acc_strategy metric_for_best_model greater_is_better early_stop_interval save_strategy save_steps "
        "save_total_limit save_only_model resume_from_checkpoint resume_only_model ignore_data_skip output_dir "
        "add_version create_checkpoint_symlink max_shard_size",
        logging="logging_steps logging_first_step logging_dir report_to run_name swanlab_project push_to_hub "
        "hub_model_id",
        preferences_and_rewards="rlhf_type ref_model ref_adapters beta label_smoothing loss_type loss_weights "
        "rpo_alpha ld_alpha discopop_tau cpo_alpha simpo_gamma desirable_weight undesirable_weight "
        "center_rewards_coefficient "
        "enable_dft_loss enable_channel_loss",
        reinforcement_learning="num_generations max_completion_length reward_funcs reward_weights reward_model "
        "temperature top_k top_p repetition_penalty stop_words num_iterations epsilon epsilon_high delta "
        "importance_sampling_level scale_rewards advantage_estimator kl_in_reward dynamic_sample max_resample_times "
        "overlong_filter soft_max_length soft_cache_length top_entropy_quantile sync_ref_model "
        "rollout_importance_sampling_mode use_vllm vllm_mode vllm_gpu_memory_utilization vllm_max_model_len "
        "sleep_level multi_turn_scheduler log_completions vf_coef cliprange_value",
        distillation="teacher_model teacher_adapters teacher_model_type teacher_model_revision teacher_deepspeed "
        "offload_teacher_model lmbda seq_kd sft_alpha gkd_logits_topk teacher_model_server",
        distributed="deepspeed fsdp ddp_backend ddp_timeout ddp_find_unused_parameters sequence_parallel_size "
        "zero_hpz_partition_size deepspeed_autotp_size use_ray",
    ),
    {
        "beta": _BETA,
        "columns": "columns, the other way round: {field of the format: column of the data}",
        "optimizer": "optimizer.kind, one of the built-in ones",
        "template": "chat_template: a model with a template of its own needs none",
        "temperature": _SAMPLED,
        "top_k": _TOP_K,
    },
)

TOOLS: Mapping[str, Tool] = MappingProxyType(
    {"trl": _TRL, "axolotl": _AXOLOTL, "llama-factory": _LLAMA_FACTORY, "unsloth": _UNSLOTH, "ms-swift": _SWIFT}
)
"""Anchor in docs/coming-from.md → the tool."""
