"""Further keys of other tools, each with ours. Part of the table `aliases.OTHER_TOOLS`.

Keys with the same answer stand together. An answer begins with a key of ours, or says that nothing is needed or that
it is not available, and why. `other_tools` lists which tool has which key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def same(*answers: tuple[str, str]) -> dict[str, str]:
    """Key → answer, of pairs of an answer and the keys (separated by spaces) that it is for."""
    return {key: answer for answer, keys in answers for key in keys.split()}


_LAYOUT = "parallel.config, which reads a DeepSpeed JSON or an accelerate configuration; or parallel.shard: auto"
_NO_LONG = "not available: a sequence is not divided among processes (context parallelism); parallel.tensor cuts layers"
_STARTED = "not needed: burnish run … --nproc N, torchrun or accelerate launch start the processes (docs/parallel.md)"
_NO_IMAGES = "not available: video and audio are not trained on yet"
_PACKED = "always on: rows are packed without padding and never see each other"
_FILLED = "not needed: microbatches are filled up to tokens_per_microbatch tokens"
_ATTENTION = (
    "not needed: packed rows have their own attention, made of torch's kernels (SDPA on a CPU, FlexAttention on CUDA)"
)
_LOSS_IN_CHUNKS = "not needed for the loss, whose logits are never kept; other fused kernels are not available"
_LOADING = "not needed: loading a model has no such settings"
_WRITES = "not needed in a run: burnish merge or burnish export writes a model afterwards"
_TOKEN = "not needed: the token of `hf auth login`, or HF_TOKEN of the environment, is used"
_CACHE = "not needed: tokens are cached under a hash of rows, template and tokenizer"
_PROCESSES = "not needed: the number of processes that tokenize follows from the number of rows"
_LOADER = "not needed: rows are tokenized into a cache and read from it, without a data loader"
_MIXTURE = "data: a list of sources, each with a count or a weight (times that each row is seen, no probability)"
_STREAM = "data: [{path: owner/name, stream: 10000}], which fetches the first 10000 rows"
_SYSTEM = "not available as a setting: a row has its system message as first message, or in the column system"
_SHUFFLED = "not available: each epoch has an order of its own, given by seed"
_FROZEN = "adapter.freeze, regular expressions of frozen weights; a pattern after ! unfreezes"
_PATTERN = "adapter.targets: a regular expression, searched in the full names of layers"
_PARTS = "format: file.py:function, which returns a row in a known format"

MODEL: Mapping[str, str] = same(
    ("model, at the top of the recipe", "base_model_config model_name"),
    (
        "not available: download the revision into a folder (`hf download NAME --revision REVISION --local-dir "
        "FOLDER`), and give the folder as model",
        "model_revision revision_of_model revision",
    ),
    ("not available: no code that comes with a model or a data set is run", "trust_remote_code"),
    ("not needed: they are the model's own", "tokenizer_config tokenizer_type tokenizer_use_fast use_fast_tokenizer"),
    ("not needed: they are the model's own", "tokenizer_name_or_path eos_token pad_token pad_token_id bos_token"),
    ("not needed: it is read from the model's config.json", "model_type type_of_model is_llama_derived_model"),
    ("not needed: it is read from the model's config.json", "task_type problem_type lora_task_type"),
    (_LOADING, "low_cpu_mem_usage use_exact_model_name fix_tokenizer use_cache local_repo_path load_args"),
    (_LOADING, "model_kwargs model_init_kwargs print_param_status offload_folder"),
    ("device: cpu or cuda, at the top of the recipe: a model is on one device", "device_map max_memory use_cpu"),
    ("device: cpu or cuda, at the top of the recipe: a model is on one device", "no_cuda gpu_memory_limit"),
    (_TOKEN, "hub_token hf_hub_token hf_use_auth_token token ms_hub_token use_auth_token"),
    ("not needed: names are those of the Hugging Face hub", "use_hf"),
    ("not needed: HF_HOME is the folder of downloads, BURNISH_CACHE that of tokens", "cache_dir"),
    ("not available: change rope_scaling in the config.json of a local copy of the model", "rope_scaling"),
    ("not available: change max_position_embeddings in a local copy of the model", "max_model_len"),
    ("not available: training starts from a trained model", "train_from_scratch reinit_weights"),
    ("not available: mixtures of experts are trained without a balance loss", "router_aux_loss_coef"),
    ("not available: mixtures of experts are trained without a balance loss", "moe_aux_loss_coef"),
    (_ATTENTION, "attn_implementation attn_impl flash_attn flash_attention flash_attention_2 sdp_attention"),
    (_ATTENTION, "xformers_attention flex_attention eager_attention flash_optimum use_flash_attention_2"),
    ("not available: attention is that of the model", "s2_attention shift_attn mixture_of_depths use_pose"),
    (_LOSS_IN_CHUNKS, "use_liger_kernel use_liger_loss enable_liger_kernel liger_kernel_config use_liger"),
    (_LOSS_IN_CHUNKS, "liger_fused_linear_cross_entropy liger_rope liger_rms_norm liger_glu_activation"),
    (_LOSS_IN_CHUNKS, "cut_cross_entropy flash_attn_cross_entropy flash_attn_rms_norm use_unsloth"),
    (_LOSS_IN_CHUNKS, "dpo_use_logits_to_keep use_logits_to_keep use_v1_kernels unsloth_cross_entropy_loss"),
    ("not available: plugins of other tools cannot be loaded", "plugins external_plugins custom_register_path"),
    ("dtype: bfloat16 or float32, at the top of the recipe", "bfloat16 float16 float32 load_in_16bit"),
    ("dtype: bfloat16, with optimizer.stochastic_rounding: true for no float32 master weights", "pure_bf16"),
    ("not available: weights are float32 or bfloat16 (or 4 and 8 bits below an adapter)", "fp8 qat quantization"),
    ("not needed: evaluation has the data type of training", "bf16_full_eval fp16_full_eval infer_dtype"),
    ("not available: products have the type of dtype", "tf32"),
    ("not needed: log-probabilities and sums are float32", "cast_lm_head_to_fp32 upcast_lmhead_output"),
    ("not available: layers compute in dtype", "upcast_layernorm half_precision_backend"),
    (
        "not available: of all code only FlexAttention is compiled",
        "torch_compile torch_compile_backend torch_compile_mode jit_mode_eval",
    ),
    ("not available: gradient_checkpointing and adapter.kind: qlora save memory", "activation_offloading"),
    ("gradient_checkpointing: true, or 2 for every second layer", "gradient_checkpointing_kwargs use_reentrant_gc"),
    ("gradient_checkpointing: true, or 2 for every second layer", "activation_checkpointing use_unsloth_gc"),
    ("gradient_checkpointing: true, or 2 for every second layer", "use_gradient_checkpointing"),
    ("gradient_checkpointing: false (the default)", "disable_gradient_checkpointing"),
    ("add_tokens", "resize_model_vocab"),
    ("not available: a token of the tokenizer keeps its name", "added_tokens_overrides map_eos_token"),
    ("not needed: new rows of the embedding begin as the mean of all others", "mean_resizing_embeddings"),
    ("not available: the embedding keeps its rows", "shrink_embeddings fix_untrained_tokens"),
    ("vision.tower: frozen (the default) or trained", "freeze_vit freeze_vision_tower finetune_vision_layers"),
    ("vision.projector: trained (the default) or frozen", "freeze_aligner freeze_multi_modal_projector"),
    (
        "adapter.freeze, with patterns of names such as [language_model]",
        "freeze_llm freeze_language_model finetune_language_layers",
    ),
    ("vision.max_pixels", "max_pixels image_max_pixels"),
    ("vision.min_pixels", "image_min_pixels"),
    ("vision.folder", "media_dir"),
    ("optimizer.lr_multipliers, such as {visual: 0.1}: factors of learning_rate", "vit_lr"),
    ("not needed: the image processor is the model's own", "processor_type"),
    (_NO_IMAGES, "video_max_pixels log_multimodal"),
    (_LAYOUT, "deepspeed fsdp fsdp_config parallelism_config"),
    (_NO_LONG, "sequence_parallel_degree sequence_parallel_size context_parallel_size"),
    ("parallel.tensor", "tensor_parallel_size deepspeed_autotp_size"),
    ("parallel.shard", "dp_shard_size zero_hpz_partition_size"),
    ("not needed: sharded weights are those of FSDP2", "fsdp_version"),
    ("not needed: the model at the end is one folder", "fsdp_final_state_dict_type"),
    ("not needed: the sampler gathers sharded weights once for all responses", "ds3_gather_for_generation"),
    ("not available: processes are started by --nproc N, torchrun or accelerate launch", "use_ray use_mca"),
    (_STARTED, "accelerator_config local_rank world_size nproc_per_node num_processes ddp ddp_backend"),
    ("parallel.timeout_s", "ddp_timeout"),
    ("not needed: gradients are summed once a step", "ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph"),
    ("not needed: gradients are summed once a step", "ddp_find_unused_parameters"),
    ("not needed: process 0 writes and speaks", "log_on_each_node save_on_each_node"),
    (
        "not needed: the loss of a step is divided by the step's trained tokens, however it is split",
        "average_tokens_across_devices",
    ),
)
"""Keys about the model, its kernels and devices."""

ADAPTER: Mapping[str, str] = same(
    ("adapter.kind: full (the default), lora, qlora, …", "train_type tuner_type full_finetuning lora"),
    ("not needed: adapters are made by peft", "tuner_backend"),
    ("model, at the top of the recipe: the folder of an adapter goes on", "adapters adapter_folder"),
    ("not available: merge the earlier adapter into its base first (burnish merge)", "create_new_adapter"),
    (_PATTERN, "target_regex layers_pattern peft_layers_pattern"),
    ("adapter.targets: attention, mlp, a list, or a regular expression", "finetune_attention_modules"),
    ("adapter.targets: attention, mlp, a list, or a regular expression", "finetune_mlp_modules oft_target"),
    ("adapter.init", "init_weights"),
    ("adapter.loraplus_ratio", "lorap_lr_ratio"),
    ("adapter.rank, with adapter.kind: vera", "vera_rank"),
    ("adapter.dropout", "module_dropout vera_dropout"),
    ("adapter.block_size, with adapter.kind: oft", "oft_block_size oft_rank"),
    ("not available: an adapter trains no biases", "lora_bias bias"),
    ("not needed: the layers' own form is known", "lora_fan_in_fan_out lora_on_cpu"),
    ("not available: adapters have the model's type", "lora_dtype peft_autocast_adapter_dtype"),
    ("not available: there are no fused kernels of adapters", "lora_mlp_kernel lora_qkv_kernel lora_o_kernel"),
    ("not available: adapter.init is zero, gaussian, pissa or olora", "loftq_config lora_ga_batch_size"),
    ("not needed: the rows of added tokens are trained under LoRA too", "peft_trainable_token_indices"),
    ("not available: layers are not copied", "peft_layer_replication use_llama_pro llamapro_num_new_blocks"),
    ("not available: the adapter is not merged and restarted during a run", "relora relora_steps relora_prune_ratio"),
    (_FROZEN, "freeze_parameters freeze_parameters_regex freeze_parameters_ratio trainable_parameters"),
    (_FROZEN, "trainable_parameters_regex freeze_extra_modules"),
    ("adapter.kind: qlora with adapter.bits: 4 or 8, by bitsandbytes", "quant_bits quant_method bnb_config_kwargs"),
    ("adapter.kind: qlora with adapter.bits: 4 or 8, by bitsandbytes", "quantization_method"),
    ("not available: other quantized checkpoints than those of bitsandbytes are refused", "gptq hqq_axis"),
    ("not needed: the model is on one device", "quantization_device_map"),
    ("not available: quantized weights are stored as bitsandbytes does by default", "bnb_4bit_quant_storage"),
    (_WRITES, "merge_lora export_dir export_size export_device export_hub_model_id save_method max_shard_size"),
    ("not available: exports are not quantized, and GGUF is not written", "export_quantization_bit"),
)
"""Keys about adapters, quantization and frozen weights."""

DATA: Mapping[str, str] = same(
    ("data", "dataset_path train_dataset pretraining_dataset"),
    ("data: the path of the file, or a pattern", "data_files"),
    ("data: owner/name:config[split]", "dataset_config dataset_train_split subset dataset_config_name"),
    ("not needed: data is a path or a hub name, and no list of data sets is kept", "dataset_dir custom_dataset_info"),
    ("not needed: the form of a file is recognized by its name", "ds_type data_dir"),
    ("eval_data", "test_datasets val_dataset eval_data_path dataset_test_split test_file validation_file"),
    ("eval_share, a share such as 0.05", "test_split_size"),
    ("data, with #500 at the end of the path: 500 rows drawn by the seed", "max_samples max_train_samples shards"),
    ("data, with #500 at the end of the path: 500 rows drawn by the seed", "dataset_shard_num"),
    ("eval_data, with #500 at the end of the path", "max_eval_samples eval_limit"),
    (_STREAM, "streaming dataset_streaming buffer_size shuffle_buffer_size"),
    (_MIXTURE, "mix_strategy interleave_probs interleave_prob stopping_strategy dataset_mixer"),
    (_SHUFFLED, "shuffle_dataset disable_shuffling dataset_shuffle train_dataloader_shuffle shuffle_merged_datasets"),
    ("seed, at the top of the recipe: it gives the order of rows too", "data_seed random_state"),
    ("deterministic: true (the default), at the top of the recipe", "full_determinism"),
    ("columns: {text: NAME}", "dataset_text_field text_column"),
    ("columns: {messages: NAME}", "field_messages"),
    (_PARTS, "message_property_mappings field_instruction field_output field_input message_field_role formatting_func"),
    (_PARTS, "message_field_content preprocessor formatting dataset_kwargs"),
    ("format, where it is not recognized by the columns: chat, alpaca, …, or file.py:function", "type"),
    (_SYSTEM, "default_system default_system_message system system_prompt"),
    ("not needed: the chat template writes tools", "tool_format agent_template"),
    ("chat_template: a name, or a .jinja file", "chat_template_jinja conversation_template template_path"),
    ("not needed: templates are Jinja", "template_backend use_chat_template standardize_sharegpt"),
    ("chat_template_kwargs: {enable_thinking: false}", "enable_thinking"),
    ("train_on: everything, for true; leave it out for false", "train_on_prompt"),
    ("train_on: assistant (the default)", "train_on_responses_only train_on_completions_only"),
    ("train_on: assistant, last or everything; a message may have a weight of its own", "loss_scale"),
    ("not needed: trained parts are found by the template, not by marker texts", "instruction_part response_part"),
    ("not needed: trained parts are found by the template, not by marker texts", "response_template"),
    ("always on: the end token of a trained turn is trained", "train_on_eos train_on_eot eot_tokens"),
    ("special_tokens_in_text: text (the default)", "split_special_tokens"),
    ("overlong: drop, truncate, drop_turns or error", "truncation_strategy excess_length_strategy"),
    ("not needed: rows that are too short to train are reported", "min_sample_len"),
    ("max_length: prompt and response together", "max_prompt_len max_source_length max_target_length model_max_length"),
    (_PROCESSES, "preprocessing_num_workers dataset_processes packing_num_proc num_proc"),
    (_CACHE, "overwrite_cache load_from_cache_file dataset_prepared_path tokenized_path cached_dataset lazy_tokenize"),
    (_CACHE, "preprocessing_batch_size skip_prepare_dataset dataset_keep_in_memory push_dataset_to_hub"),
    ("not available: duplicates are counted by burnish data profile", "dataset_exact_deduplication"),
    ("not needed: columns without use are named in the report", "remove_unused_columns label_names"),
    ("not needed: a broken row stops the run; max_invalid_fraction allows some", "strict ignore_data_skip"),
    (_PACKED, "neat_packing eval_packing eval_sample_packing batch_flattening dpo_padding_free"),
    (_FILLED, "packing_strategy packing_length sample_packing_bin_size sample_packing_group_size"),
    (_FILLED, "sample_packing_eff_est total_num_tokens packing_cache"),
    ("not needed: nothing is padded", "pad_to_sequence_len pad_to_multiple_of padding_side"),
    ("not needed: nothing is padded", "ignore_pad_token_for_loss label_pad_token_id"),
    ("not needed: packed rows have no padding, so rows need no grouping by length", "group_by_length"),
    ("not needed: packed rows have no padding, so rows need no grouping by length", "length_column_name"),
    ("curriculum in a stage rl; elsewhere rows are drawn in the order of seed", "train_sampling_strategy"),
    ("curriculum in a stage rl; elsewhere rows are drawn in the order of seed", "curriculum_sampling"),
    (_LOADER, "dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor dataloader_in_order"),
    (_LOADER, "dataloader_persistent_workers dataloader_multiprocessing_context"),
    ("not needed: only the last step of a run may have fewer rows", "dataloader_drop_last"),
)
"""Keys about data, templates and lengths."""


def union(*tables: Mapping[str, str]) -> dict[str, str]:
    """All tables in one; no key may be in two of them."""
    merged: dict[str, str] = {}
    for table in tables:
        assert not (twice := merged.keys() & table.keys()), f"{_listed(twice)} has two answers"
        merged |= table
    return merged


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
