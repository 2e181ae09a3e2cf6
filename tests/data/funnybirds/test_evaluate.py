"""train.py and evaluate.py on our own birds: FunnyBirds' scores beside the others, from YAML to files."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from refinecam.cli import evaluate, run, train
from refinecam.core.errors import InputError
from tests.command_lines import ROOT, read_events

METHODS = ["GradCAM++", "RefineCAM(LayerCAM)", "InputXGradient", "RandomCAM"]
TINY = ["--data.num_workers", "0", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def trained_birds(birds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained_birds")
    config = str(ROOT / "configs/train/birds-scratch.yaml")
    args = ["--config", config, *TINY, "--data.folder", str(birds), "--model.image_size", "64"]
    args += ["--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "1", "--data.batch_size", "8"]
    args += ["--trainer.log_every_n_steps", "1", "--pictures.images", "2"]
    args += ["--checkpoint.dirpath", str(folder), "--trainer.logger.init_args.save_dir", str(folder)]
    train(args)
    return folder / "best.ckpt"


def test_a_training_goes_on_in_its_own_colors(birds, trained_birds):
    args = ["--config", str(ROOT / "configs/train/birds-scratch.yaml"), *TINY, "--data.folder", str(birds)]
    args += ["--model.image_size", "64", "--trainer.logger", "false", "--data.normalize", "true"]
    with pytest.raises(InputError, match=r"ckpt_path: .*last.ckpt was trained on colors in \[0, 1\]"):
        train([*args, "--ckpt_path", str(trained_birds.with_name("last.ckpt"))])


def birds_args(checkpoint, folder, output, *more):
    args = ["--config", str(ROOT / "configs/evaluate/funnybirds.yaml"), *TINY, "--data.folder", str(folder)]
    args += ["--model.checkpoint", str(checkpoint), "--model.methods", str(METHODS), "--output", str(output)]
    return [*args, "--data.test_size", "7", "--data.batch_size", "3", "--model.only_correct", "false", *more]


@pytest.fixture(scope="module")
def evaluated_birds(birds, trained_birds, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated_birds")
    evaluate(birds_args(trained_birds, birds, output))
    return output


def test_tables_have_funnybirds_scores_beside_the_others(evaluated_birds):
    table = pd.read_parquet(evaluated_birds / "per_image.parquet")
    assert len(table) == 7 * len(METHODS)
    assert {"road", "arcc", "average_drop", "single_deletion", "target_sensitivity"} < set(table.columns)
    assert "cosine_similarity" not in table.columns
    curves = pd.read_parquet(evaluated_birds / "funnybirds.parquet")
    assert len(curves) == len(table)
    joined = table.merge(curves, on=["index", "method", "stage", "aggregator"], suffixes=("", "_again"))
    for name in ("single_deletion", "target_sensitivity"):
        pd.testing.assert_series_equal(joined[name], joined[f"{name}_again"], check_names=False)


def test_summary_is_what_the_table_gives(evaluated_birds):
    curves = pd.read_parquet(evaluated_birds / "funnybirds.parquet")
    summary = pd.read_csv(evaluated_birds / "funnybirds.csv", keep_default_na=False).set_index("method")
    assert len(summary) == len(METHODS)
    for method, rows in curves.groupby("method"):
        means = [np.nanmean(np.stack(rows[name].tolist()).astype(float), axis=0) for name in ("csdc", "pc", "dc")]
        means.append(1 - np.nanmean(np.stack(rows["distracted"].tolist()).astype(float), axis=0))
        complete = (means[0] + means[1] + means[2]) / 3 + means[3]
        best = int(np.argmax(complete))
        row = summary.loc[method]
        assert row["threshold"] == pytest.approx(np.linspace(0.01, 0.5, 80)[best])
        assert row["completeness"] == pytest.approx(complete[best] / 2)
        assert row["csdc"] == pytest.approx(means[0][best])
        assert float(row["correctness"]) == pytest.approx(rows["single_deletion"].mean())
        assert row["images"] == 7


def test_report_and_logs_have_them(evaluated_birds):
    text = (evaluated_birds / "summary.md").read_text()
    assert "| method | stage | FunnyBirds | Completeness | Correctness | Contrastivity |" in " ".join(text.split())
    assert "FunnyBirds over 7 images" in text
    (logs,) = evaluated_birds.glob("version_*")
    assert [event.step for event in read_events(logs / "RandomCAM").Scalars("headline/funnybirds")] == [7]


def test_batches_and_processes_do_not_matter(birds, trained_birds, tmp_path):
    # In float64: GradCAM++ weighs 2 x 2 positions here, and its coherency in float32 is off by 1e-5 for any batch.

    def arguments(name, *more):
        return birds_args(trained_birds, birds, tmp_path / name, "--trainer.precision", "64-true", *more)

    evaluate(arguments("three"))
    evaluate(arguments("one", "--data.batch_size", "1"))
    two = arguments("two", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    subprocess.run([sys.executable, "evaluate.py", *two], cwd=ROOT, check=True, timeout=300)
    for name in ("one", "two"):
        expected, found = (pd.read_csv(folder / "funnybirds.csv") for folder in (tmp_path / "three", tmp_path / name))
        pd.testing.assert_frame_equal(found, expected, atol=1e-6, rtol=0)
        expected, found = (
            pd.read_parquet(folder / "per_image.parquet") for folder in (tmp_path / "three", tmp_path / name)
        )
        pd.testing.assert_frame_equal(found, expected, atol=1e-6, rtol=0)


def test_misclassified_birds_count_for_funnybirds_alone(birds, trained_birds, evaluated_birds, tmp_path):
    evaluate(birds_args(trained_birds, birds, tmp_path, "--model.only_correct", "true"))
    expected, found = (pd.read_csv(folder / "funnybirds.csv") for folder in (evaluated_birds, tmp_path))
    pd.testing.assert_frame_equal(found, expected, atol=1e-6, rtol=0)
    table = pd.read_parquet(tmp_path / "per_image.parquet")
    assert table["skipped"].any()  # a network of two epochs
    assert table.loc[table["skipped"], "road"].isna().all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.folder", "nowhere"], "nowhere"),
        (
            ["--data.normalize", "true"],
            "best.ckpt was trained on colors in [0, 1], which these data are not; give other weights",
        ),
        (["--model.checkpoint", "shapes-resnet18"], "the network has 6 classes, the data have 12"),
    ],
)
def test_bad_input_ends_with_one_line(birds, trained_birds, tmp_path, more, message):
    with pytest.raises(SystemExit) as stop:
        run(lambda: evaluate(birds_args(trained_birds, birds, tmp_path, *more)))
    assert str(stop.value).startswith("error: ")
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)


def test_a_broken_file_that_a_worker_reads_ends_with_one_line(birds, trained_birds, tmp_path):
    copied = shutil.copytree(birds, tmp_path / "birds")
    broken = sorted(copied.glob("test_interventions/*/*/body_eye.png"))[0]
    broken.write_bytes(b"nothing")
    args = birds_args(trained_birds, copied, tmp_path / "out", "--data.test_size", "12", "--data.num_workers", "1")
    with pytest.raises(SystemExit) as stop:
        run(lambda: evaluate(args))
    assert str(stop.value).startswith(f"error: folder: {broken} cannot be read")
    assert "\n" not in str(stop.value)


def test_help_of_the_data_set_that_is_named():
    done = subprocess.run(
        [sys.executable, "evaluate.py", "--data", "FunnyBirdsDataModule", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--data.interventions" in done.stdout
    assert "--data.backgrounds" not in done.stdout
