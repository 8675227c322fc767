"""The run folder: whose it is, what may continue in it, and what a kill leaves."""

import itertools
import json
import os
import signal
import socket

import pytest
import safetensors.torch

from burnish.errors import RunError
from burnish.runs.checkpoint import Checkpoint, save_checkpoint
from burnish.runs.folder import RunFolder

IDENTITY = {"seed": 1, "stages": [{"sft": {"lr": 1e-4, "betas": (0.9, 0.95)}}], "limit": float("inf")}


def opened(path, identity=IDENTITY):
    return RunFolder.open(path, "model: tiny\n", identity)


def names(path):
    return sorted(child.name for child in path.iterdir())


def refused(path, identity=IDENTITY):
    with pytest.raises(RunError) as caught:
        opened(path, identity)
    assert caught.value.rule
    assert caught.value.remedy
    return caught.value


# Opening


def test_a_new_folder_and_the_same_again(tmp_path):
    path = tmp_path / "deep" / "run"
    for _ in range(2):
        with opened(path) as run:
            assert run.path == path
            assert run.finished is None
        assert names(path) == [".lock", "identity.json", "recipe.yaml"]
    assert (path / "recipe.yaml").read_text() == "model: tiny\n"


def test_a_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opened((tmp_path / "run").relative_to(tmp_path)) as run:
        assert run.path == tmp_path / "run"


def test_an_empty_folder_of_the_users(tmp_path):
    (tmp_path / "lost+found").mkdir()
    with opened(tmp_path):
        pass


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    assert "is a file" in refused(path).given
    assert path.read_text() == "mine"


@pytest.mark.parametrize("below", ["file/run", "file/deep/run"])
def test_a_path_under_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refused(tmp_path / below).given


def test_what_the_kernel_does_not_let_us_write(tmp_path):
    if not os.path.isdir("/proc/self"):
        pytest.skip("no /proc here")
    from_kernel = type(tmp_path)("/proc")
    assert "cannot be written" in refused(from_kernel / "burnish-run").given


def test_a_folder_without_write_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    try:
        assert "cannot be written" in refused(tmp_path).given
        assert "cannot be written" in refused(tmp_path / "run").given
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("start_run", [False, True])
def test_a_read_only_mount(tmp_path, secluded, start_run):
    if start_run:
        RunFolder.open(tmp_path, "recipe", {"seed": 1}).close()
    before = names(tmp_path)
    status, (given,) = secluded.run("read_only", tmp_path)
    assert status == 0
    assert "Read-only file system" in given
    assert names(tmp_path) == before


def test_a_full_disk_from_the_beginning(tmp_path, secluded):
    assert secluded.run("full_disk", tmp_path) == (0, ["done"])


@pytest.mark.parametrize("files", [["notes.txt"], ["recipe.yaml"], [".lock", "recipe.yaml"], ["model/w"]])
def test_files_of_something_else_are_refused_and_left_alone(tmp_path, files):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = names(tmp_path)
    error = refused(tmp_path)
    assert files[-1].split("/")[0] in error.given
    assert names(tmp_path) == before
    assert all((tmp_path / name).read_text() == "mine" for name in files)


# Identity


def start_run(path):
    """A run with something to lose."""
    with opened(path):
        save_checkpoint(path, Checkpoint(1, {}, {}), keep=None)


def test_before_the_first_checkpoint_a_folder_may_begin_anew(tmp_path):
    opened(tmp_path, {"seed": 2}).close()
    with opened(tmp_path) as run:
        run.append_metrics([{"step": 1}])
    assert json.loads((tmp_path / "identity.json").read_text())["identity"]["seed"] == 1
    opened(tmp_path, {"seed": 3}).close()
    assert json.loads((tmp_path / "identity.json").read_text())["identity"] == {"seed": 3}


def test_a_finished_run_is_not_begun_anew(tmp_path):
    with opened(tmp_path) as run:
        run.mark_finished({})
    refused(tmp_path, {"seed": 2})


def test_every_difference_is_listed(tmp_path):
    start_run(tmp_path)
    other = {
        "seed": 2,
        "stages": [{"sft": {"lr": 1e-4, "betas": (0.9, 0.99)}}, {"rl": {}}],
        "limit": float("inf"),
        "new": None,
    }
    given = refused(tmp_path, other).given
    assert given.splitlines()[1:] == [
        "    new: absent before, null now",
        "    seed: 1 before, 2 now",
        "    stages.0.sft.betas.1: 0.95 before, 0.99 now",
        "    stages.1.rl: absent before, {} now",
    ]
    opened(tmp_path).close()


def test_order_and_tuples_are_no_difference(tmp_path):
    opened(tmp_path).close()
    same = {"limit": float("inf"), "stages": ({"sft": {"betas": [0.9, 0.95], "lr": 1e-4}},), "seed": 1}
    opened(tmp_path, same).close()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 3, "identity": {}}', '{"format": 1}'])
def test_an_identity_that_is_not_ours(tmp_path, text):
    (tmp_path / "identity.json").write_text(text)
    assert "identity.json" in refused(tmp_path).given
    assert (tmp_path / "identity.json").read_text() == text


def test_a_run_of_an_earlier_version_is_not_continued(tmp_path):
    opened(tmp_path).close()
    path = tmp_path / "identity.json"
    path.write_text(path.read_text().replace('"format":2', '"format":1').replace('"format": 2', '"format": 1'))
    assert "earlier version of Burnish" in refused(tmp_path).given


# The lock


def test_two_holders_in_one_process(tmp_path):
    with opened(tmp_path):
        given = refused(tmp_path).given
        assert f"process {os.getpid()} on {socket.gethostname()}" in given
    opened(tmp_path).close()


def test_the_lock_of_another_process_and_its_death(tmp_path, fork_server):
    pid = fork_server.start("hold", tmp_path)
    fork_server.read_until("done")
    assert f"process {pid} on {socket.gethostname()}" in refused(tmp_path, {"seed": 1}).given
    fork_server.kill(pid)
    opened(tmp_path, {"seed": 1}).close()


def test_an_orphaned_worker_does_not_hold_the_lock(tmp_path, fork_server):
    pid = fork_server.start("orphan", tmp_path)
    worker = int(fork_server.read_until("done")[-1].removeprefix("done "))
    try:
        fork_server.kill(pid)
        opened(tmp_path, {"seed": 1}).close()
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_refusal_releases_the_lock(tmp_path):
    start_run(tmp_path)
    refused(tmp_path, {})
    opened(tmp_path).close()


def test_closing_twice(tmp_path):
    run = opened(tmp_path)
    run.close()
    run.close()


# Finished


def test_finished(tmp_path):
    with opened(tmp_path) as run:
        run.mark_finished({"steps": 3, "loss": float("nan"), "name": "ß"})
        assert run.finished == {"steps": 3, "loss": None, "name": "ß"}
    with opened(tmp_path) as run:
        assert run.finished == {"steps": 3, "loss": None, "name": "ß"}


def test_finished_but_unreadable(tmp_path):
    with opened(tmp_path) as run:
        (tmp_path / "finished.json").write_text("{")
        with pytest.raises(RunError, match=r"finished\.json"):
            _ = run.finished


# Replacing a folder


def test_replace(tmp_path):
    with opened(tmp_path) as run:
        for text in ("one", "two"):
            path = run.replace_folder("model", lambda folder, text=text: (folder / "w").write_text(text) and None)
            assert names(path) == ["w"]
            assert (path / "w").read_text() == text
    assert names(tmp_path) == [".lock", "identity.json", "model", "recipe.yaml"]


def test_a_writer_that_fails_leaves_the_old_one(tmp_path):
    def fail(folder):
        (folder / "w").write_text("half")
        raise KeyboardInterrupt

    with opened(tmp_path) as run:
        run.replace_folder("model", lambda folder: (folder / "w").write_text("old") and None)
        with pytest.raises(KeyboardInterrupt):
            run.replace_folder("model", fail)
        assert (tmp_path / "model/w").read_text() == "old"
        assert ".model.partial" not in names(tmp_path)


# Kills


def test_killed_at_every_operation_of_a_run(tmp_path, fork_server):
    for moment in itertools.count(1):
        path = tmp_path / str(moment)
        status, lines_of_child = fork_server.run("life", path, count=2, kill_at=moment)
        # The same again as a resumed run would do it.
        with RunFolder.open(path, "recipe", {"seed": 1}) as run:
            check_life(path, run, lines_of_child)
        assert not [name for name in names(path) if name.endswith((".partial", ".new", ".trash"))]
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert moment > 60


def check_life(path, run, lines_of_child):
    assert (path / "recipe.yaml").read_text() == "recipe"
    metrics = path / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    assert len(lines) >= sum(line.startswith("done") for line in lines_of_child)
    models = sum(line.startswith("model") for line in lines_of_child)
    if models or (path / "model").exists():
        version = int((path / "model/deep/config.json").read_text())
        assert models <= version <= models + 1
        assert safetensors.torch.load_file(path / "model/model.safetensors")["w"].tolist() == [version] * 4
    assert run.finished == {"steps": 2} if "finished" in lines_of_child else run.finished in (None, {"steps": 2})


def test_opening_clears_what_a_killed_save_left(tmp_path):
    with opened(tmp_path) as run:
        save_checkpoint(run.path, Checkpoint(1, {}, {}), None)
    for name in (".step-2.partial", ".step-0.trash"):
        (tmp_path / "checkpoints" / name).mkdir()
    opened(tmp_path).close()
    assert names(tmp_path / "checkpoints") == ["step-1"]


def test_journals_pass_through(tmp_path):
    with opened(tmp_path) as run:
        run.append_metrics([{"stage": "sft", "step": 1, "train/loss": float("nan")}])
        offsets = run.offsets()
        run.append_metrics([{"step": 2}])
        run.append_samples([{"step": 2, "response": "a"}])
        run.cut(offsets)
        assert (tmp_path / "samples.jsonl").read_text() == ""
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"stage": "sft", "step": 1, "train/loss": None}
