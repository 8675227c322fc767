"""Where the package may name a device, and where its hot path may turn something into numbers of the host, with the
reason. Held by `test_scan.py`: what is not here fails, and so does what is here and no longer there."""

from __future__ import annotations

from collections.abc import Mapping

from tests.device.scan import Place

_OF_THE_HOST = "packing happens before the move: its tensors are the host's"
_BEFORE_PACKING = "groups before packing: their tensors are the host's"
_OF_IMAGES = "places and positions of images are the host's"
_CONFIGURATION = "reads a number of the configuration, no tensor"

DEVICES: Mapping[Place, str] = {
    Place("checks/cost.py", "_free"): "how much memory is free is asked of another place",
    Place("checks/resuming.py", "same_bits_after_a_kill"): "a CPU repeats its bits without deterministic algorithms",
    Place("checks/subject.py", "Subject.forget_models"): "another process needs the memory that torch has set aside",
    Place("model/flex.py", "supports_flex"): "the choice between the two kernels of packed attention",
    Place("model/flex.py", "_block_mask"): "uncompiled, a CPU makes the mask as well, and tests need no compiler",
    Place("model/load.py", "default_device"): "the one place that chooses a device where none is asked for",
    Place("parallel/fsdp.py", "shard"): "pinned memory makes copies to a GPU faster, and needs CUDA",
    Place("parallel/processes.py", "Processes._loaded"): "tensors of another process's GPU come to this one's",
    Place("parallel/processes.py", "joined"): "GPUs communicate by NCCL, CPUs by gloo",
    Place("stages/start.py", "_own_device"): "of several GPUs, each process has that of its number",
    Place("model/probe.py", "_random_state"): "each device has a generator of its own",
    Place("model/products.py", "HeadMatrix.of"): "CUDA multiplies narrow numbers into wide sums, a CPU does not",
    Place("model/scoring.py", "<module>"): "the size of a chunk of logits, by the kind of device",
    Place("optim/libraries.py", "_require_cuda"): "paged states move between a GPU's memory and the machine's",
    Place("stages/distill/sources.py", "_InTurns._loaded"): "a teacher's memory is given back after its turn",
    Place("stages/models.py", "load_frozen"): "each device has a generator of its own",
    Place("stages/models.py", "device_of"): "refuses a device that is not there",
    Place("stages/reader.py", "<module>"): "the default of tokens_per_microbatch, by the kind of device",
    Place("recipe/recipe.py", "Recipe"): "the values of the key `device`",
    Place("api/settings_types.py", "RecipeKeywords"): "the same values, as a type",
    Place(
        "settings/stage.py", "TrainingSettings.has_dry_run"
    ): "by default only a GPU's memory is tried before the first step",
    Place("train/dry_run.py", "dry_run"): "each device has a generator of its own",
    Place("runs/random_state.py", "capture_random"): "each device has a generator of its own",
    Place("runs/random_state.py", "restore_random"): "each device has a generator of its own",
    Place("sampling/local.py", "<module>"): "the size of a chunk of logits, by the kind of device",
    Place("rewards/load_scoring_model.py", "load_scoring_model"): "each device has a generator of its own",
    Place("layout.py", "move"): "copies to CUDA do not wait if they come from pinned memory",
    Place("watch/environment.py", "environment"): "tells which device and which CUDA it is",
    Place("watch/meter.py", "peak_memory_gib"): "torch counts a GPU's memory, the system a process's",
    Place("watch/peak.py", "measured_peak"): "what is measured here is no part of the run's memory",
    Place("watch/peak.py", "_wait"): "time is measured",
}
"""Where ``"cuda"``, ``.cuda`` or ``.is_cuda`` may stand."""

WAITS: Mapping[Place, str] = {
    Place("losses/policy/entropy.py", "EntropyControl.observe"): (
        "the next step's weight follows from this step's entropy; once a step, only with entropy_target"
    ),
    Place("losses/base.py", "_weighs"): _BEFORE_PACKING,
    Place("losses/policy/gradient.py", "PolicyGradient.has_signal"): "coefficients, which are numbers",
    Place("losses/policy/gradient.py", "_has_advantage"): _BEFORE_PACKING,
    Place("losses/policy/success_nll.py", "WithSuccessNll.has_signal"): _BEFORE_PACKING,
    Place("model/flex.py", "_attend"): "text of a constant",
    Place("model/flex.py", "layout_mask.visible"): "text of a constant",
    Place("model/head.py", "_scale"): _CONFIGURATION,
    Place("model/head.py", "_softcap"): _CONFIGURATION,
    Place("model/llama4.py", "chunk_of"): _CONFIGURATION,
    Place("model/noise.py", "draw_noise"): (
        "a sequence's noise comes from a hash of its group's number; once a microbatch, only with NEFTune"
    ),
    Place(
        "optim/optimizer.py", "Optimizer.load_state_dict"
    ): "a generator's state is the host's; once, when a run goes on",
    Place("optim/rates.py", "layer_of"): "a part of a name",
    Place("microbatch.py", "Part.cost"): _OF_THE_HOST,
    Place("packing.py", "count_denominators"): _OF_THE_HOST,
    Place("microbatch.py", "build"): _OF_THE_HOST,
    Place("microbatch.py", "_place"): _OF_THE_HOST,
    Place("model/vision.py", "Vision.positions"): _OF_IMAGES,
    Place("model/vision.py", "Vision.shift"): _OF_IMAGES,
    Place("model/vision.py", "Vision.require_media"): _OF_IMAGES,
    Place("types.py", "place_images"): _OF_IMAGES,
    Place("model/segments.py", "_two_way"): "once a segment, only of rows with images in models whose images see ahead",
    Place("microbatch.py", "_membership"): _OF_THE_HOST,
    Place("microbatch.py", "_score_prompt"): _OF_THE_HOST,
    Place("microbatch.py", "_score_response"): _OF_THE_HOST,
    Place("layout.py", "join_layouts"): _OF_THE_HOST,
    Place("microbatch.py", "_rounds"): _OF_THE_HOST,
    Place("sampling/choice.py", "draw"): "behind a condition that only a CPU meets, where nothing is waited for",
    Place("model/decoding.py", "Prefill.of"): "packed positions of prompts, which are the host's",
    Place("sampling/local.py", "_Generation._remove_finished"): "a list of rows",
    Place("sampling/sequences.py", "SamplingJob.choose"): (
        "whether a response ends is decided by its token, so the tokens of a chunk are read, in one transfer"
    ),
    Place("types.py", "Group.__post_init__"): "groups are the host's",
}
"""Where the hot path may read numbers."""
