"""An evaluation that ends early, however it ends, goes on to the table of one that did not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from refinecam.attribution import LayerCAM, RandomCAM
from refinecam.cli import evaluate, run
from tests.command_lines import ROOT, evaluate_args

TABLES = ("per_image.parquet", "predictions.parquet", "summary.csv", "accuracy.csv")
MORE = ("--model.methods", "[RandomCAM, LayerCAM, HalfCAM]", "--data.batch_size", "2")


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    evaluate(evaluate_args(trained, output, *MORE))
    return output


def check_same(output, whole):
    for name in TABLES:
        assert (output / name).read_bytes() == (whole / name).read_bytes(), name
    assert sorted(path.name for path in (output / "maps").iterdir()) == sorted(
        path.name for path in (whole / "maps").iterdir()
    )
    assert not (output / "parts").exists()


def counted(monkeypatch, method):
    """Counts the images that a method is asked for."""
    real, asked = method.explain, []

    def counting(self, model, image, target):
        asked.append(len(image))
        return real(self, model, image, target)

    monkeypatch.setattr(method, "explain", counting)
    return asked


def test_interrupted_evaluation_computes_only_what_is_missing(trained, whole, tmp_path, monkeypatch):
    real, calls = RandomCAM.explain, []

    def failing(self, *args):
        calls.append(1)
        if len(calls) > 5:  # a map and Coherency's second one, for two batches and a half
            raise RuntimeError("interrupted")
        return real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(RandomCAM, "explain", failing)
        with pytest.raises(RuntimeError, match="interrupted") as held:  # as a notebook holds it, with all that it names
            evaluate(evaluate_args(trained, tmp_path, *MORE))
    assert sorted(set(pd.read_parquet(tmp_path / "parts/per_image")["index"])) == [0, 1, 2, 3]
    asked = counted(monkeypatch, LayerCAM)
    evaluate(evaluate_args(trained, tmp_path, *MORE))
    assert sum(asked) == 2 * 3  # three images were missing of seven
    assert held.traceback
    check_same(tmp_path, whole)
    asked.clear()
    evaluate(evaluate_args(trained, tmp_path, *MORE))
    assert asked == []
    check_same(tmp_path, whole)


def test_images_are_added(trained, whole, tmp_path, monkeypatch):
    evaluate(evaluate_args(trained, tmp_path, *MORE, "--data.test_size", "4"))
    asked = counted(monkeypatch, LayerCAM)
    evaluate(evaluate_args(trained, tmp_path, *MORE))
    assert sum(asked) == 2 * 3
    check_same(tmp_path, whole)


def test_methods_and_scores_are_added(trained, whole, tmp_path, monkeypatch):
    few = ("--model.methods", "[LayerCAM]", "--data.batch_size", "3", "--model.scores", "[road, iou]")
    evaluate(evaluate_args(trained, tmp_path, *few))
    asked = counted(monkeypatch, LayerCAM)
    evaluate(evaluate_args(trained, tmp_path, "--model.methods", "[RandomCAM, LayerCAM]", *few[2:]))
    assert sum(asked) == 6  # for the figure, which now has two methods
    asked.clear()
    evaluate(evaluate_args(trained, tmp_path, *MORE))
    assert sum(asked) > 7
    check_same(tmp_path, whole)
    with pytest.raises(SystemExit, match=r"error: output: .* has another evaluation: .* is in it and not asked for"):
        run(lambda: evaluate(evaluate_args(trained, tmp_path, *few)))
    with pytest.raises(SystemExit, match=r"data.images was 7, is 5. Name another folder, or replace"):
        run(lambda: evaluate(evaluate_args(trained, tmp_path, *MORE, "--data.test_size", "5")))
    evaluate(evaluate_args(trained, tmp_path, *few, "--overwrite", "true"))
    assert pd.read_parquet(tmp_path / "per_image.parquet")["method"].unique().tolist() == ["LayerCAM"]


def started(trained, output, *more):
    command = [sys.executable, "evaluate.py", *evaluate_args(trained, output, *MORE, *more)]
    with (output.parent / f"{output.name}.log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def wait_for_parts(output, count, process):
    until = time.monotonic() + 120
    while len(list((output / "parts/per_image").glob("[!.]*.parquet"))) < count:
        assert time.monotonic() < until
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_evaluation_goes_on(processes, trained, whole, tmp_path):
    output = tmp_path / "out"
    process = started(trained, output)
    wait_for_parts(output, processes, process)
    process.kill()
    process.wait()
    if processes == 1:
        evaluate(evaluate_args(trained, output, *MORE))
        check_same(output, whole)
        return
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert started(trained, output, *two).wait(timeout=300) == 0
    found, expected = (pd.read_parquet(folder / "per_image.parquet") for folder in (output, whole))
    pd.testing.assert_frame_equal(found, expected, atol=1e-5, rtol=0)  # other batches round differently


@pytest.mark.slow
def test_evaluation_survives_twenty_kills(trained, whole, tmp_path):
    """At moments within the time that a whole run takes here; what ends by itself is compared, and begun anew."""
    output, draws, killed = tmp_path / "out", random.Random(0), 0
    start = time.monotonic()
    process = started(trained, output)
    process.wait()
    duration = time.monotonic() - start
    for _ in range(20):
        if process.returncode == 0:
            check_same(output, whole)
            shutil.rmtree(output)
        process = started(trained, output)
        try:
            process.wait(timeout=draws.uniform(0.4, 1) * duration)
        except subprocess.TimeoutExpired:
            killed += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert killed >= 5
    evaluate(evaluate_args(trained, output, *MORE))
    check_same(output, whole)


@pytest.mark.parametrize("victim", ["first", "second"])
def test_one_process_killed_ends_the_other(victim, trained, tmp_path):
    output = tmp_path / "out"
    process = started(trained, output, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    wait_for_parts(output, 1, process)
    children = subprocess.run(["pgrep", "-g", str(process.pid), "-f", "evaluate.py"], capture_output=True, check=False)
    pids = sorted(map(int, children.stdout.split()))
    assert len(pids) == 2
    os.kill(pids[0] if victim == "first" else pids[1], signal.SIGKILL)
    until = time.monotonic() + 60
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < until, (tmp_path / "out.log").read_text()[-2000:]
        process.poll()
        time.sleep(0.2)
    assert process.wait() != 0


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False
