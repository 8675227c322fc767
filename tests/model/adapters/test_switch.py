"""Several adapters on one base: each computes as if it were alone, and trains alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.beside import with_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.adapters.switch import ActiveAdapters, active_with
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.model.value_head import new_value_head
from burnish.types import Score
from tests.conftest import make_groups
from tests.families import FAMILIES
from tests.model.adapters.cases import CASES

SHAPES = [(9, [3, 12, 1]), (1, [8]), (15, [2, 2])]
LORA = AdapterSettings(rank=4, alpha=8.0)
WHOLE = AdapterSettings(rank=4, modules_to_save=("lm_head",))


def beside(title: str) -> AdapterSettings:
    """The settings of a second adapter of the same kind."""
    return LORA if CASES[title].settings.init in ("pissa", "olora") else CASES[title].settings


def plain_base(family: str = "llama") -> PreTrainedModel:
    torch.manual_seed(0)
    base = FAMILIES[family]().train()
    install(base)
    return base


def shared(
    first: AdapterSettings = LORA,
    second: AdapterSettings = LORA,
    *,
    critic_head: nn.Linear | None = None,
    rows: tuple[int, ...] = (),
    family: str = "llama",
) -> tuple[Model, Model]:
    """A policy and a critic on one base, whose adapters have random weights."""
    policy = Model(add_adapter(plain_base(family), first, rows), tokenizer=None)
    critic = with_adapter(policy, "critic", second, critic_head)
    for seed, model in enumerate((policy, critic), start=1):
        move(model, seed)
    return policy, critic


def alone(critic: Model, settings: AdapterSettings, rows: tuple[int, ...] = (), family: str = "llama") -> Model:
    """The second adapter with its weights as the only one of a base."""
    model = Model(add_adapter(plain_base(family), settings, rows), tokenizer=None)
    weights = {name.replace(".critic", ".default"): p for name, p in critic.trained_parameters()}
    with torch.no_grad():
        for name, parameter in model.trained_parameters():
            parameter.copy_(weights[name])
    return model


def move(model: Model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in model.trained_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)


def scores(model: Model, kind: Score = Score.LOGPROB) -> Tensor:
    [microbatch] = model.pack(make_groups(SHAPES, holes=True), 200)
    return model.score(microbatch, [kind]).of(kind)


def flags(model: PeftModel) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def active(model: PeftModel) -> list[object]:
    return [copy.copy(vars(layer)["_active_adapter"]) for layer in model.modules() if "_active_adapter" in vars(layer)]


def gradients(model: Model) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("title", CASES)
def test_each_adapter_computes_as_if_it_were_alone(title: str) -> None:
    policy, critic = shared(CASES[title].settings, beside(title))
    before, at_rest, resting = flags(policy.model), active(policy.model), scores(policy).detach()
    mine = scores(critic).detach()
    assert torch.equal(mine, scores(alone(critic, beside(title))).detach())
    assert not torch.equal(mine, resting)
    assert torch.equal(scores(policy).detach(), resting)
    assert flags(policy.model) == before
    assert active(policy.model) == at_rest


@pytest.mark.parametrize("title", CASES)
def test_gradients_reach_only_the_active_adapter(title: str) -> None:
    policy, critic = shared(CASES[title].settings, beside(title))
    own = [{name for name, _ in model.trained_parameters()} for model in (policy, critic)]
    assert not own[0] & own[1]
    assert own[0] | own[1] == {name for name, trains in flags(policy.model).items() if trains}
    for model, names in zip((policy, critic), own, strict=True):
        policy.model.zero_grad()
        scores(model).sum().backward()
        assert gradients(model).keys() == names


@pytest.mark.parametrize(
    ("family", "first", "settings"),
    [
        ("llama", WHOLE, WHOLE),
        ("llama", WHOLE, LORA),
        ("llama", LORA, WHOLE),
        ("llama-tied", WHOLE, LORA),
        ("llama-tied", LORA, WHOLE),
    ],
)
def test_modules_that_train_whole(family: str, first: AdapterSettings, settings: AdapterSettings) -> None:
    policy, critic = shared(first, settings, family=family)
    assert torch.equal(scores(critic), scores(alone(critic, settings, family=family)))
    at_rest = scores(policy)
    at_rest.sum().backward()
    assert gradients(policy).keys() == {name for name, _ in policy.trained_parameters()}
    assert torch.equal(scores(policy), at_rest)


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
def test_rows_of_added_tokens_train_in_each_adapter(family: str) -> None:
    rows = (5, 7)
    _, critic = shared(rows=rows, family=family)
    assert any("trainable_tokens_delta.critic" in name for name, _ in critic.trained_parameters())
    assert torch.equal(scores(critic), scores(alone(critic, LORA, rows, family)))
    scores(critic).sum().backward()
    assert gradients(critic).keys() == {name for name, _ in critic.trained_parameters()}


def test_pissa_stays_with_its_initial_factors() -> None:
    policy, _ = shared(CASES["PiSSA"].settings)
    assert active_with(policy.model, "default") == ("default", "initial")
    named = Model(policy.model, tokenizer=None, adapter="default")
    with ActiveAdapters(policy.model, ("critic",)):
        found = scores(named)
    assert torch.equal(found, scores(policy))
    assert {name for name, _ in named.trained_parameters()} == {name for name, _ in policy.trained_parameters()}


def test_no_adapter_is_the_base() -> None:
    policy, _ = shared()
    base = plain_base()
    with ActiveAdapters(policy.model, ()):
        assert torch.equal(scores(policy), scores(Model(base, tokenizer=None)))


def test_activations_nest_and_errors_restore() -> None:
    policy, critic = shared()
    at_rest, before = active(policy.model), flags(policy.model)
    both = ActiveAdapters(policy.model, ("critic",))
    with both:
        inside, found = active(policy.model), scores(critic)
        with ActiveAdapters(policy.model, ("default",)), both:
            assert active(policy.model) == inside
        assert active(policy.model) == inside
        with pytest.raises(KeyError), ActiveAdapters(policy.model, ("default",)):
            raise KeyError
        assert active(policy.model) == inside
        assert torch.equal(scores(critic), found)
    assert active(policy.model) == at_rest
    assert flags(policy.model) == before
    with pytest.raises(AssertionError, match="has the adapters default, critic, not judge"):
        ActiveAdapters(policy.model, ("judge",))


def test_two_optimizers_update_each_its_own_role() -> None:
    policy, critic = shared(critic_head=new_value_head(32, seed=3))
    kinds = {policy: Score.LOGPROB, critic: Score.VALUE}
    optimizers = {role: torch.optim.SGD([p for _, p in role.trained_parameters()], lr=0.1) for role in kinds}
    for role, other in ((policy, critic), (critic, policy)):
        mine, theirs = scores(role, kinds[role]).detach(), scores(other, kinds[other]).detach()
        optimizers[role].zero_grad()
        scores(role, kinds[role]).sum().backward()
        optimizers[role].step()
        assert not torch.equal(scores(role, kinds[role]), mine)
        assert torch.equal(scores(other, kinds[other]), theirs)


def test_the_value_of_a_critic_by_hand() -> None:
    head = new_value_head(32, seed=3)
    policy, critic = shared(critic_head=head)
    [microbatch] = critic.pack(make_groups(SHAPES, holes=True), 200)
    with ActiveAdapters(policy.model, ("critic",)):
        hidden = policy.hidden(microbatch)
    expected = (hidden @ head.weight[0])[microbatch.token_positions]
    assert torch.allclose(scores(critic, Score.VALUE), expected, rtol=1e-5, atol=1e-6)
    assert {name for name, _ in critic.trained_parameters()} >= {"critic_head.weight"}
    assert not policy.is_reward_model
    assert head.weight.std().item() == pytest.approx(1 / math.sqrt(33), rel=0.3)


@pytest.mark.parametrize("every", [1, 2])
def test_checkpointed_layers_are_computed_again_with_the_adapter_of_their_forward(every: int) -> None:
    """Though another adapter is active in the backward."""
    found = []
    for checkpoints in (False, True):
        base = plain_base()
        if checkpoints:
            base.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)
        policy = Model(add_adapter(base, LORA), tokenizer=None)
        critic = with_adapter(policy, "critic", LORA, new_value_head(32))
        for seed, model in enumerate((policy, critic), start=1):
            move(model, seed)
        one, other = scores(critic, Score.VALUE).sum(), scores(policy).sum()
        with ActiveAdapters(policy.model, ("critic",)):
            other.backward(retain_graph=True)
            other.backward()
        one.backward()
        found.append(gradients(policy))
    assert found[0].keys() == found[1].keys() == {name for name, trains in flags(policy.model).items() if trains}
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_snapshot_of_a_role_holds_its_weights_alone() -> None:
    _, critic = shared(critic_head=new_value_head(32))
    before = scores(critic, Score.VALUE).detach()
    snapshot = Snapshot(critic)
    tensors, _ = snapshot.state_dict()
    assert tensors.keys() == {f"weights/{name}" for name, _ in critic.trained_parameters()}
    move(critic, 5)
    assert not torch.equal(scores(critic, Score.VALUE), before)
    with snapshot.in_place() as earlier:
        assert torch.equal(scores(earlier, Score.VALUE), before)


def test_other_adapters_cost_nothing() -> None:
    policy, _ = shared()
    single = Model(add_adapter(plain_base(), LORA), tokenizer=None)
    assert policy.cost == single.cost
    assert policy.training_cost == single.training_cost


def test_what_cannot_stand_beside_a_policy() -> None:
    base = FAMILIES["llama"]()
    with pytest.raises(ModelError, match="roles share a base that is frozen"):
        with_adapter(Model(base, tokenizer=None), "critic", LORA)
    policy = Model(add_adapter(base, LORA, (5, 7)), tokenizer=None)
    for settings, words in (
        (CASES["IA3"].settings, "of one kind"),
        (CASES["PiSSA"].settings, "remove init"),
        (AdapterSettings(modules_to_save=("embed_tokens",)), "embed_tokens out of modules_to_save"),
        (AdapterSettings(targets=("nothing",)), "adapter.targets names nothing"),
    ):
        with pytest.raises(ModelError, match=words):
            with_adapter(policy, "critic", settings)
    assert list(policy.model.peft_config) == ["default"]
    tied = Model(add_adapter(FAMILIES["llama-tied"](), WHOLE), tokenizer=None)
    with pytest.raises(ModelError, match="keeps embedding and head tied in one adapter"):
        with_adapter(tied, "critic", WHOLE)
