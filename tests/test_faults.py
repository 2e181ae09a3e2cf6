"""What goes wrong in long runs: signals, full disks, networks that are broken. One line, and what is there stays."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from refinecam.cli import evaluate, run
from refinecam.core.errors import InputError
from refinecam.core.files import WholeCheckpoints, write_file
from refinecam.data.pictures import read_rgb
from refinecam.evaluation.store import Results
from refinecam.metrics.functional import complexity, deletion, insertion
from refinecam.models import load_network
from tests.command_lines import ROOT, evaluate_args

LONG = (
    "--model.methods",
    "[RandomCAM, LIME(samples=1000000)]",
    "--data.batch_size",
    "2",
    "--model.scores",
    "[complexity]",
)


def started(trained, output, *more):
    command = [sys.executable, "evaluate.py", *evaluate_args(trained, output, *LONG, *more)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )
    until = time.monotonic() + 120
    while not (output / "parts/evaluation.json").exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(2)  # into the first batch
    return process


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGTERM, 143, "error: stopped by SIGTERM; what is written so far stays"), (signal.SIGINT, 130, "")],
)
def test_signal_ends_a_long_batch_at_once(number, status, line, trained, tmp_path):
    process = started(trained, tmp_path / "out")
    process.send_signal(number)
    try:
        _, shown = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == status
    assert line in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("to_child", "number"), [(True, signal.SIGTERM), (False, signal.SIGTERM), (False, signal.SIGKILL)]
)
def test_signal_to_one_of_two_processes_ends_both(to_child, number, trained, tmp_path):
    process = started(trained, tmp_path / "out", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "evaluate.py"], capture_output=True, check=True)
    (child,) = map(int, found.stdout.split())
    os.kill(child if to_child else process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    until = time.monotonic() + 20
    while alive(child):
        assert time.monotonic() < until
        time.sleep(0.1)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_full_disk_is_one_line_and_keeps_what_is_there(trained, tmp_path, monkeypatch):
    real, count = pd.DataFrame.to_parquet, []

    def full(self, path, **options):
        count.append(path)
        if len(count) > 3:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, path, **options)

    args = evaluate_args(trained, tmp_path, "--model.methods", "[HalfCAM]", "--data.batch_size", "2")
    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_parquet", full)
        with pytest.raises(SystemExit, match=r"error: .*parts/per_image.*: No space left on device; make room"):
            run(lambda: evaluate(args))
    assert len(pd.read_parquet(tmp_path / "parts/per_image")) == 2
    evaluate(args)
    assert len(pd.read_parquet(tmp_path / "per_image.parquet")) == 7


def test_file_is_whole_or_the_earlier_one(tmp_path):
    path = tmp_path / "file.txt"
    write_file(path, lambda beside: beside.write_text("earlier"))

    def failing(beside):
        beside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*file.txt"):
        write_file(path, failing)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file.txt", "earlier")]


def test_checkpoint_is_whole_or_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "weights" / "last.ckpt"
    checkpoints = WholeCheckpoints()
    checkpoints.save_checkpoint({"step": 1}, path)

    def failing(content, target):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_checkpoint({"step": 2}, path)
    assert checkpoints.load_checkpoint(path) == {"step": 1}


def test_network_that_puts_out_nan_is_refused(trained, tmp_path, monkeypatch):
    network = load_network(trained / "weights/best.ckpt")
    network.fc.weight.data[:] = torch.nan
    monkeypatch.setattr("refinecam.models.choice.build_network", lambda weights: network)
    with pytest.raises(SystemExit, match=r"error: checkpoint: the network's output for image 0 is not finite; are its"):
        run(lambda: evaluate(evaluate_args(trained, tmp_path)))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (torch.OutOfMemoryError("CUDA out of memory\nmore"), r"there is not enough memory \(CUDA out of memory\)"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "use fewer data.num_workers"),
        (RuntimeError("Connection closed by peer [127.0.0.1]:1"), "another process of this run has ended"),
    ],
)
def test_faults_of_others_are_one_line(error, line):
    def fail():
        raise error

    with pytest.raises(SystemExit, match=f"error: .*{line}"):
        run(fail)
    with pytest.raises(RuntimeError, match="mat1"):
        run(lambda: torch.zeros(2, 3) @ torch.zeros(2, 3))


class Killed(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        os._exit(1)


def test_worker_that_dies_is_one_line():
    with pytest.raises(SystemExit, match="error: a process that reads the data was killed"):
        run(lambda: list(torch.utils.data.DataLoader(Killed(), num_workers=1)))


def test_name_that_no_folder_can_have():
    with pytest.raises(InputError, match=r"output: .* is no name of a folder"):
        Results("runs/a\0b")


def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"root: .*pipe.png cannot be read \(it is no file\); remove it"):
        read_rgb(tmp_path / "pipe.png", "root", "remove it")


def test_rounding_and_half_precision_are_taken(tiny_net):
    maps = torch.rand(1, 1, 24, 32).clamp(0, 1)
    maps[0, 0, 0, 0] = 1 + 1.2e-7
    assert complexity(maps).isfinite().all()
    fine = torch.from_numpy(np.linspace(0, 1, 224 * 224).reshape(1, 1, 224, 224)).bfloat16()
    assert complexity(fine).item() == pytest.approx(fine.double().mean().item(), abs=1e-6)
    empty = torch.zeros(0, 3, 24, 32), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, 24, 32)
    for score in (insertion, deletion):
        assert score(tiny_net, *empty).shape == (0,)
