"""Look-up on the hub: one request, a message that says why it failed, and none for a name that can only be a path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

import burnish
from burnish import hub
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import main
from burnish.data.read import read_rows
from burnish.errors import DataError, ModelError
from burnish.export.card import card
from burnish.model.load import load_policy, load_tokenizer
from burnish.model.open import ModelRef, find_model, open_model
from burnish.stages.context import StageContext
from tests.adapters import change_json, write_adapter, write_rows_of
from tests.stages.small import recipe_of, write_world

httpx = __import__(HfHubHTTPError.__mro__[1].__module__.partition(".")[0])
"""The library that huggingface_hub sends its requests with."""

Answer = Callable[[object], object]


def answers(status: int, code: str = "") -> Answer:
    return lambda request: httpx.Response(status, headers={"X-Error-Code": code} if code else {}, request=request)


def unreachable(request: object) -> object:
    raise httpx.ConnectError("Name or service not known", request=request)


FOUND = answers(200)
CAUSES: dict[str, tuple[Answer, list[str]]] = {
    "not found": (answers(401, "RepoNotFound"), ["has no", "hf auth login"]),
    "gated": (answers(403, "GatedRepo"), ["gated", "accept its conditions on https://", "hf auth login"]),
    "no network": (unreachable, ["cannot be reached", "Name or service not known", "check the network"]),
    "out of order": (answers(503), ["status 503", "try again later"]),
}


@contextmanager
def fake_hub(answer: Answer) -> Iterator[list[str]]:
    """The requests for files of a name, to each of which the hub gives this answer."""
    requests: list[str] = []

    def handle(request: object) -> object:
        if "/api/" in str(request.url):  # the registry of agents that the library asks for once a day
            return httpx.Response(404, request=request)
        requests.append(f"{request.method} {request.url}")
        return answer(request)

    hub._request.cache_clear()
    huggingface_hub.set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(handle)))
    try:
        yield requests
    finally:
        huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)
        hub._request.cache_clear()


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


MODELS: dict[str, Callable[[str], object]] = {
    "tokenizer": load_tokenizer,
    "training": load_policy,
    "reading": open_model,
    "reference": find_model,
}


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("use", MODELS)
def test_a_model_is_asked_for_once(use: str, cause: str) -> None:
    answer, words = CAUSES[cause]
    with fake_hub(answer) as requests, pytest.raises(ModelError) as caught:
        MODELS[use]("owner/name")
    assert len(requests) == 1
    assert requests[0].endswith("/owner/name/resolve/main/config.json")
    assert all(word in str(caught.value) for word in ("owner/name is no folder here", *words)), str(caught.value)


@pytest.mark.parametrize("cause", CAUSES)
def test_a_data_set_is_asked_for_once(cause: str) -> None:
    answer, words = CAUSES[cause]
    with fake_hub(answer) as requests, pytest.raises(DataError) as caught:
        read_rows("owner/name:main[test]")
    assert len(requests) == 1
    assert "/datasets/owner/name/resolve/main/" in requests[0]
    assert all(word in str(caught.value) for word in ("owner/name:main[test] is no file here", *words))


def test_a_revision_that_is_not_there() -> None:
    with fake_hub(answers(404, "RevisionNotFound")) as requests, pytest.raises(DataError, match="no revision 'v9'"):
        read_rows("owner/name@v9")
    assert len(requests) == 1


def test_nothing_is_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with fake_hub(FOUND) as requests:
        with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
            open_model("owner/name")
        with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
            read_rows("owner/name")
    assert requests == []


def test_what_was_fetched_before_is_used_without_a_network(own_hub_cache: Path) -> None:
    """One request for the whole process of loading; the libraries send none."""
    snapshot = own_hub_cache / "models--owner--name" / "snapshots" / ("a" * 40)
    write_untrained(snapshot, hidden_size=32, layers=1)
    (own_hub_cache / "models--owner--name" / "refs").mkdir()
    (own_hub_cache / "models--owner--name" / "refs" / "main").write_text("a" * 40)
    for answer in (unreachable, answers(503), answers(403, "GatedRepo")):
        with fake_hub(answer) as requests:
            opened = open_model("owner/name")
        assert opened.kind == "model"
        assert set(requests) == {requests[0]}
        assert not constants.HF_HUB_OFFLINE


def test_a_data_set_that_was_fetched_before_is_used_without_a_network(tmp_path: Path) -> None:
    file = write_rows_of(tmp_path, {"question": "2+2?", "answer": "4"})
    cache = tmp_path / "datasets"
    datasets.load_dataset("json", data_files={"train": str(file)}, cache_dir=str(cache))
    [folder] = (cache / "json").glob("*/*/*/")
    place = cache / "owner___gsm8_k" / "default" / "0.0.0" / folder.name  # as `datasets` writes GSM8K
    folder.rename(place.parent.mkdir(parents=True) or place)
    (place / "json-train.arrow").rename(place / "gsm8_k-train.arrow")
    change_json(place / "dataset_info.json", config_name="default", dataset_name="gsm8_k")
    with fake_hub(unreachable) as requests:
        assert list(read_rows("owner/GSM8K")) == [{"question": "2+2?", "answer": "4"}]
        with pytest.raises(DataError, match="cannot be reached"):
            read_rows("owner/other")
    assert len(requests) == 2
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_name_that_the_hub_has_is_asked_for_once_in_a_process() -> None:
    with fake_hub(answers(404, "EntryNotFound")) as requests:
        assert [hub.look_up("owner/name", "model") for _ in range(3)] == ["online"] * 3
        assert hub.look_up("owner/name", "dataset") == "online"
    assert len(requests) == 2


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_untrained(tmp_path / "runs" / "lora", hidden_size=32, layers=1)
    write_rows_of(tmp_path / "runs", {"question": "2+2?", "answer": "4"}).rename(tmp_path / "runs" / "rows.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["runs/lroa", "./runs/lroa", "runs/lra/", "/no/such/folder", "a/b/c", "model.safetensors"]
)
@pytest.mark.parametrize("use", MODELS)
def test_a_model_that_is_a_path_is_never_looked_up(here: Path, use: str, name: str) -> None:
    with fake_hub(FOUND) as requests, pytest.raises(ModelError) as caught:
        MODELS[use](name)
    assert requests == []
    assert "never looked up on the hub" in caught.value.rule
    near = "runs/lora" if "runs" in name else ""
    assert (f"did you mean {'./' if name.startswith('./') else ''}{near}?" in caught.value.remedy) == bool(near)


@pytest.mark.parametrize("name", ["runs/rows", "runs/rosw", "runs/rows.jsonll", "./rows", "a/b/c", "runs/rwos.jsonl"])
def test_data_that_are_a_path_are_never_looked_up(here: Path, name: str) -> None:
    with fake_hub(FOUND) as requests, pytest.raises(DataError, match="does not exist") as caught:
        read_rows(name)
    assert requests == []
    assert ("did you mean runs/rows.jsonl?" in str(caught.value)) == name.startswith("runs/r")


def test_the_nearest_folder_is_named_beside_the_answer_of_the_hub(here: Path) -> None:
    with fake_hub(answers(401, "RepoNotFound")) as requests:
        with pytest.raises(ModelError, match=r"did you mean runs/lora\? Otherwise correct the name"):
            open_model("run/lora")
        with pytest.raises(DataError, match=r"did you mean runs/rows\.jsonl\? Otherwise correct the name"):
            read_rows("run/rows")
    assert len(requests) == 2


def test_references_bases_and_reward_models(here: Path, world: Path) -> None:
    with fake_hub(FOUND) as requests:
        context = StageContext.of(recipe_of(world, "prefer"))
        assert context.reader.max_positions
        with pytest.raises(ModelError, match=r"did you mean runs/lora\?"):
            burnish.prefer(
                model=str(world / "model"), data=str(world / "pairs.jsonl"), output="out", reference_model="runs/lroa"
            )
        reward = {"name": "reward_model", "model": "runs/lroa"}
        with pytest.raises(ModelError, match=r"did you mean runs/lora\?"):
            burnish.rl(model=str(world / "model"), data=str(world / "train.jsonl"), output="rl", reward=reward)
        write_adapter(here / "adapter", here / "runs" / "lora")
        with pytest.raises(ModelError, match=r"did you mean runs/lora\?"):
            open_model("adapter", base="runs/lroa")
    assert requests == []


def test_the_command_says_it_in_a_few_lines(capfd: pytest.CaptureFixture[str], here: Path) -> None:
    with fake_hub(unreachable) as requests, pytest.raises(SystemExit) as ended:
        main(["sft", "--model", "owner/name", "--data", "runs/rows.jsonl"])
    captured = capfd.readouterr()
    assert ended.value.code == 2
    assert len(requests) == 1
    assert captured.out == ""
    assert [line[:9] for line in captured.err.splitlines()] == ["burnish 0", "burnish: ", "  rule: a", "  to do: "]


def test_a_model_card_asks_once_for_the_card_of_its_base() -> None:
    named = ModelRef("owner/name", "owner/name", "model", None)
    with fake_hub(unreachable) as requests:
        text = card("mine", named, None, form="merged", dtype="bfloat16", checked="fine")
    assert "base_model: owner/name" in text
    assert len(requests) == 1
