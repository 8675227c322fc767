"""The report: one file with everything in it, whatever the run folder lacks, and no word of it becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.errors import DivergenceError, Interrupted
from burnish.watch.journal_lines import MetricsLine, SampleLine
from burnish.watch.report import Headline, ending, headlines, pair_samples, refresh_report, write_report
from tests.watch.conftest import ENVIRONMENT, SET, metrics_of, sample, write_lines

VOID = {"meta", "link", "br", "path"}


class Page(HTMLParser):
    """What a browser would make of the page: tags, attributes, texts; asserts that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self._open[-1:] == ["script"] else self.texts).append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def read(folder, state=None) -> Page:
    return Page(write_report(folder, state).read_text())


def test_everything_is_on_it(run_folder):
    text = read(run_folder(), "finished").text
    for expected in (
        "brass",
        "finished",
        "sft, 100 steps",
        "builtin/tiny",
        "3.5",
        "0.5",
        "10 %",
        "85 %",
        "0:00:50",
        "25 %",
    ):
        assert expected in text
    for expected in (
        "Loss",
        "Accuracy",
        "Gradient norm",
        "prompt 3",
        "answer 0/7",
        "answer 100/3",
        "Before training",
        "After 100 steps",
    ):
        assert expected in text
    for expected in (*SET["notes"], "It is 2.<|end|>", "254,339", "34.6 %", ENVIRONMENT["command"], "2.13.0"):
        assert expected in text
    assert "cuda" not in text, "what the machine has not is left out"


def test_the_page_is_self_contained(run_folder):
    text = write_report(run_folder()).read_text()
    places = ("src", "href", "srcset", "action")
    assert {value for _, name, value in Page(text).attributes if name in places} == {"data:,"}
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_allows_its_own_script_alone(run_folder):
    page = read(run_folder())
    [script] = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src")]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


NASTY = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&lt;{{ 7 * 7 }}"


def test_no_text_becomes_markup(run_folder):
    folder = run_folder()
    nasty = [sample(step, 3, NASTY, prompt=NASTY, reference=NASTY) for step in (0, 100)]
    harmless = [sample(step, 3, "x", prompt="x", reference="x") for step in (0, 100)]
    tags = []
    for samples, word in ((harmless, "x"), (nasty, NASTY)):
        write_lines(folder / "samples.jsonl", samples)
        alert = {"stage": "sft", "step": 1, "alert": word, "message": word, "count": 1}
        write_lines(
            folder / "metrics.jsonl", [metrics_of(1), metrics_of(2), {**metrics_of(3), f"train/{word}": 1.0}, alert]
        )
        (folder / "recipe.yaml").write_text(f"model: {word}  # {word}\n")
        data = {**SET, "source": word, "format": word, "notes": [word], "example": [[word, True]]}
        (folder / "data.json").write_text(json.dumps({"stages": [{"stage": word, "mixture": [word], "sets": [data]}]}))
        (folder / "environment.json").write_text(json.dumps({word: word, "versions": {word: word}}))
        page = read(folder)
        tags.append(page.tags)
    assert tags[0] == tags[1]
    assert page.text.count(NASTY) >= 12
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


@given(st.text(max_size=60))
@settings(max_examples=30)
def test_any_text_can_be_read_on_it(tmp_path_factory, text):
    """Control characters and long runs of empty lines are spelled out, all else stands as it is."""
    folder = tmp_path_factory.mktemp("run")
    write_lines(folder / "samples.jsonl", [sample(0, 1, text)])
    page = read(folder)
    assert page.tags.count("article") == 1
    plain = re.sub(r"[\x00-\x1f\n]+", "", text)
    if plain == text and text.strip():
        assert text in page.text


@pytest.mark.parametrize("missing", ["metrics.jsonl", "samples.jsonl", "recipe.yaml", "data.json", "environment.json"])
def test_sections_of_missing_files_are_left_out(run_folder, missing):
    folder = run_folder()
    (folder / missing).unlink()
    assert "brass" in read(folder).text


def test_an_empty_folder_has_a_report_too(tmp_path):
    assert "No training steps yet" in read(tmp_path, "interrupted").text


def test_half_a_last_line_is_left_out(run_folder):
    folder = run_folder()
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (folder / name).open("ab") as file:
            file.write(b'{"stage": "sft", "step": 101, "response": "caf\xc3')
    text = read(folder).text
    assert "sft, 100 steps" in text
    assert "caf" not in text


def test_a_long_run_is_thinned_and_says_so(run_folder):
    folder = run_folder()
    lines = [
        {"stage": "sft", "step": step, "train/loss": 1 + step % 7, "train/grad_norm": 1.0} for step in range(1, 100_001)
    ]
    lines[54_321]["train/loss"] = 99.0
    write_lines(folder / "metrics.jsonl", lines)
    path = write_report(folder)
    assert path.stat().st_size < 2e6
    text = Page(path.read_text()).text
    assert "100,000 points; the curve shows the lowest and the highest" in text
    [loss] = re.findall(r'data-label="train" d="([^"]+)"', path.read_text())[:1]
    heights = [float(pair.split()[1]) for pair in loss[1:].split("L")]
    assert sorted(heights)[1] > 4 * sorted(heights)[0], "the one step that stands out is drawn"


def test_the_report_is_whole_or_the_old_one(run_folder, monkeypatch):
    folder = run_folder()
    before = write_report(folder).read_text()
    messages = []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    refresh_report(folder, "running", messages.append)
    assert messages == ["report.html cannot be written: No space left on device"]
    assert (folder / "report.html").read_text() == before
    assert not list(folder.glob(".*partial"))


def test_the_state_is_given_or_follows_from_the_files(run_folder):
    folder = run_folder()
    badge = re.compile(r'<span class="state (\w+)">')
    assert badge.findall(write_report(folder).read_text()) == ["interrupted"]
    assert badge.findall(write_report(folder, "running").read_text()) == ["running"]
    (folder / "finished.json").write_text("{}")
    assert badge.findall(write_report(folder).read_text()) == ["finished"]


def test_how_a_stage_ended():
    errors = [None, Interrupted(), KeyboardInterrupt(), DivergenceError(), ValueError()]
    assert [ending(error) for error in errors] == ["running", "interrupted", "interrupted", "diverged", "failed"]


def test_headlines_by_hand():
    lines = [MetricsLine.from_line(metrics_of(step)) for step in range(1, 5)]
    assert headlines(lines)[:3] == [
        Headline("Training loss", "2.083", "2.083"),  # the same ten steps at both ends: (4 + 2 + 4/3 + 1) / 4
        Headline("Tokens", "400"),
        Headline("Training time", "0:00:02"),
    ]
    before, after = MetricsLine("sft", 0, {"eval/loss": 3.0}), MetricsLine("sft", 4, {"eval/loss": 1.0})
    assert headlines([before, *lines, after])[0] == Headline("Held-out loss", "1", "3")
    assert headlines([before]) == [Headline("Held-out loss", "3")]
    assert headlines([]) == []


def test_samples_are_paired_by_index():
    lines = [sample(step, index, f"{step}/{index}") for step in (0, 5, 9) for index in (2, 1)]
    pairs = pair_samples([SampleLine.from_line(line) for line in [*lines, sample(9, 4, "new")]])
    assert [(pair.prompt, [answer.response for _, answer in pair.responses]) for pair in pairs] == [
        ("prompt 1", ["0/1", "9/1"]),
        ("prompt 2", ["0/2", "9/2"]),
        ("prompt 4", ["new"]),
    ]


def test_settings_have_their_origins(run_folder):
    page = write_report(run_folder()).read_text()
    settings = re.findall(r"<code>([^<]*)</code><span>([^<]*)</span>", page)
    assert ("seed: 0", "default") in settings
    assert ("      learning_rate: 0.001", "default of optimizer.kind: adamw with full weights") in settings
    assert ("  - sft:", "") in settings
    assert ("      data: &#34;rows #1.jsonl&#34;", "command line") in settings


def test_the_value_of_a_policy_gradient_is_no_headline():
    """It is 0 on average; the reward shows progress."""
    lines = [MetricsLine("rl", step, {"train/loss": 1e-9, "rollout/reward": 0.1 * step}) for step in (1, 2)]
    lines.append(MetricsLine("rl", 2, {"eval/reward": 0.5, "eval/accuracy": 0.5}))
    assert [headline.title for headline in headlines(lines)] == ["Accuracy", "Held-out reward"]
