"""evaluate.py on tiny data, from YAML to files."""

import shutil
import subprocess
import sys
import warnings

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import TQDMProgressBar

from refinecam.attribution import RandomCAM
from refinecam.cli import evaluate, run, train
from refinecam.commands import make_report
from refinecam.configuration import EvaluateCLI, build
from refinecam.data import ShapesDataModule
from refinecam.evaluation import Evaluator, report
from tests.command_lines import DATA, METHODS, ROOT, evaluate_args, read_events, train_args


def test_evaluation_writes_table_summary_figure_and_logs(evaluated):
    table = pd.read_parquet(evaluated / "per_image.parquet")
    assert len(table) == 7 * len(METHODS)
    assert table["index"].tolist() == sorted(table["index"])
    assert table["method"].unique().tolist() == [
        "GradCAM++",
        "LayerCAM",
        "RefineCAM(LayerCAM)",
        "RandomCAM",
        "All1sCAM",
    ]
    assert table["stage"].unique().tolist() == ["-1", "0", ""]
    scores = ["cosine_similarity", "iou", "mass_accuracy", "pointing_game", "roc_auc", "average_drop", "coherency"]
    scores += ["complexity", "adcc", "road", "arcc", "increase_in_confidence"]
    names = ["index", "method", "stage", "aggregator", "label", "predicted", "target", "skipped"]
    assert table.columns.tolist()[:8] == names
    assert sorted(table.columns[8:-3]) == sorted(scores)
    assert table.columns.tolist()[-3:] == ["backbone", "checkpoint", "data"]
    assert (table["target"] == table["label"]).all()
    assert not table["skipped"].any()
    summary = pd.read_csv(evaluated / "summary.csv", keep_default_na=False)
    for row in summary.itertuples():
        values = table[(table["method"] == row.method) & (table["stage"] == str(row.stage))][row.score].dropna()
        assert float(row.mean) == pytest.approx(values.mean(), abs=1e-9)
        assert float(row.std) == pytest.approx(values.std(ddof=0), abs=1e-6)
        assert (int(row.scored), int(row.undefined), int(row.skipped)) == (len(values), 7 - len(values), 0)
    text = (evaluated / "summary.md").read_text()
    assert "| RefineCAM(LayerCAM), product | 0 |" in " ".join(text.split())
    assert "20, 40, 60, 80% of LeRF minus MoRF, not halved" in text
    assert (evaluated / "maps.png").stat().st_size > 10_000
    assert not (evaluated / "parts").exists()
    (logs,) = evaluated.glob("version_*")
    events = read_events(logs)
    assert not events.Tags()["scalars"]  # a chart of one dot says less than the tables
    own = read_events(logs / "RefineCAM(LayerCAM),_stage_0,_product")
    values = table[table["method"] == "RefineCAM(LayerCAM)"].sort_values("index")["arcc"].dropna()
    curve = own.Scalars("headline/arcc")
    assert [event.value for event in curve] == pytest.approx(values.expanding().mean().tolist())
    assert curve[-1].step <= 7
    assert "_hparams_/session_start_info" in own.summary_metadata
    assert yaml.safe_load((logs / "hparams.yaml").read_text())["backbone"] == "resnet18"
    assert {"accuracy/text_summary", "headlines/text_summary", "summary/text_summary"} <= {*events.Tags()["tensors"]}
    text = (evaluated / "accuracy.md").read_text()
    assert text.startswith(
        "resnet18 (weights/best.ckpt), shapes on procedural backgrounds, seed 0: 7 images, accuracy "
    )
    assert "Fewer than 50 images are too few to judge controls and factors" in text
    assert "maps" in events.Tags()["images"]


def test_the_classifier_alone(trained, tmp_path, capsys):
    (tmp_path / "maps.png").write_text("an earlier run's")
    args = ["--config", str(ROOT / "configs/evaluate/shapes-accuracy.yaml"), *DATA, "--trainer.enable_progress_bar"]
    args += ["false", "--trainer.accelerator", "cpu", "--model.checkpoint", str(trained / "weights/best.ckpt")]
    evaluate([*args, "--data.test_size", "60", "--data.batch_size", "15", "--output", str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir() if path.is_file() and path.name[0] != "."}
    assert names == {"predictions.parquet", "accuracy.csv", "accuracy.md", "evaluation.json"}
    printed = capsys.readouterr().out
    assert "| size | 20-25 px |" in " ".join(printed.split())
    assert "predictions.parquet, accuracy.csv, accuracy.md, TensorBoard logs" in printed  # what this run wrote
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    assert predictions["index"].tolist() == list(range(120))
    tables = pd.read_csv(tmp_path / "accuracy.csv", keep_default_na=False).set_index(["style", "group", "name"])
    for style, of_style in predictions.groupby("style"):
        table = tables.loc[style]
        right = of_style["label"] == of_style["predicted"]
        assert len(right) == 60
        assert float(table.loc[("all", ""), "accuracy"]) == pytest.approx(right.mean())
        assert table.loc["size"].index.tolist() == ["80-100 px", "40-50 px", "20-25 px"]
        assert table.loc["control"].index.tolist() == ["shape removed", "other background", "gray background"]
        assert table.loc["predicted from"].index.tolist() == ["color", "position", "size"]
    (logs,) = tmp_path.glob("version_*")
    assert "accuracy/text_summary" in read_events(logs).Tags()["tensors"]


def test_same_scores_for_another_batch_size_and_for_the_saved_config(trained, evaluated, tmp_path):
    expected = pd.read_parquet(evaluated / "per_image.parquet")
    evaluate(evaluate_args(trained, tmp_path / "a", "--data.batch_size", "7"))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a/per_image.parquet"), expected, atol=1e-5, rtol=0)
    (config,) = evaluated.glob("version_*/config.yaml")
    evaluate(["--config", str(config), "--output", str(tmp_path / "b")])
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "b/per_image.parquet"), expected)


def test_two_processes_give_the_table_of_one(trained, evaluated, tmp_path):
    args = evaluate_args(trained, tmp_path, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    subprocess.run([sys.executable, "evaluate.py", *args], cwd=ROOT, check=True, timeout=300)
    expected, found = (pd.read_parquet(folder / "per_image.parquet") for folder in (evaluated, tmp_path))
    pd.testing.assert_frame_equal(found, expected, atol=1e-5, rtol=0)
    expected, found = (pd.read_csv(folder / "summary.csv") for folder in (evaluated, tmp_path))
    pd.testing.assert_frame_equal(found, expected, atol=1e-6, rtol=0)
    expected, found = (pd.read_parquet(folder / "predictions.parquet") for folder in (evaluated, tmp_path))
    pd.testing.assert_frame_equal(found, expected)
    assert (tmp_path / "accuracy.csv").read_text() == (evaluated / "accuracy.csv").read_text()


def test_workers_do_not_matter_and_one_image_is_enough(trained, evaluated, tmp_path):
    expected = pd.read_parquet(evaluated / "per_image.parquet")
    evaluate(evaluate_args(trained, tmp_path / "a", "--data.num_workers", "2"))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a/per_image.parquet"), expected)
    evaluate(evaluate_args(trained, tmp_path / "b", "--data.test_size", "1"))
    found = pd.read_parquet(tmp_path / "b/per_image.parquet")
    pd.testing.assert_frame_equal(found, expected[expected["index"] == 0], atol=1e-5, rtol=0)


def test_more_processes_than_images(trained, evaluated, tmp_path):
    args = evaluate_args(trained, tmp_path, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    subprocess.run([sys.executable, "evaluate.py", *args, "--data.test_size", "1"], cwd=ROOT, timeout=200, check=True)
    expected = pd.read_parquet(evaluated / "per_image.parquet")
    found = pd.read_parquet(tmp_path / "per_image.parquet")
    pd.testing.assert_frame_equal(found, expected[expected["index"] == 0], atol=1e-5, rtol=0)


def test_misclassified_images_are_skipped_and_counted(trained, tmp_path):
    args = evaluate_args(trained, tmp_path, "--model.only_correct", "true", "--model.methods", "[RandomCAM]")
    evaluate(args)
    table = pd.read_parquet(tmp_path / "per_image.parquet")
    wrong = table["label"] != table["predicted"]
    assert wrong.any()
    assert (table["skipped"] == wrong).all()
    assert table.loc[wrong, "road"].isna().all()
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert (summary["skipped"] == wrong.sum()).all()
    assert (summary["scored"] == (~wrong).sum()).all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model.backbone", "resnet81"], "use backbone resnet18"),
        (["--model.backbone", "vgg11"], "holds a 'resnet18', not a 'vgg11'"),
        (["--model.checkpoint", "nowhere.ckpt"], "checkpoint: there is no file nowhere.ckpt"),
        (["--model.methods", "[GradCam]"], "methods: there is no 'GradCam'; did you mean GradCAM?"),
        (["--model.methods", "[GradCAM, GradCAM]"], "methods: 'GradCAM, stage -1' is there twice"),
        (["--model.methods", "[GradCAM(stage=9)]"], "stage: no stage 9; there are 0 (layer1)"),
        (["--model.scores", "[beauty]"], "scores: there is no 'beauty'; there are"),
        (["--model.scores", "[road, road]"], "scores: 'road' is there twice"),
        (["--model.scores", "[road(noise=-1)]"], "noise: expected a number from 0 on, got -1"),
        (["--trainer.limit_test_batches", "0"], "trainer: no batch was evaluated"),
        (["--data.backgrounds", "nowhere"], "backgrounds: there is no folder nowhere"),
        (["--model.scores", "[arcc(percentiles=(0, 50))]"], "percentiles: expected numbers in (0, 100)"),
        (["--model.image_size", "96"], "was trained at 64 px, not at 96 px; use image_size 64"),
        (["--data.image_size", "96"], "data.image_size: the data follow the model; instead of 96 here"),
        (["--trainer.inference_mode", "true"], "Trainer(inference_mode=False)"),
    ],
)
def test_bad_input_ends_with_one_line_and_spoils_nothing(trained, tmp_path, more, message):
    (tmp_path / "parts").mkdir()
    earlier = [tmp_path / "per_image.parquet", tmp_path / "summary.md", tmp_path / "parts/rank000-000000.parquet"]
    for path in earlier:
        path.write_text("an earlier run's")
    with pytest.raises(SystemExit) as stop:
        run(lambda: evaluate(evaluate_args(trained, tmp_path, *more)))
    assert str(stop.value).startswith("error: ")
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)
    kept = [*tmp_path.glob("per_image.parquet"), *tmp_path.glob("summary.md"), *tmp_path.glob("parts*/rank000-000000*")]
    assert [path.read_text() for path in kept] == ["an earlier run's"] * 3


def test_checkpoint_of_other_classes_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(ShapesDataModule, "classes", ("one", "two"))
    with pytest.raises(SystemExit, match="the network has 6 classes, the data have 2"):
        run(lambda: evaluate(evaluate_args(trained, tmp_path)))
    with pytest.raises(SystemExit, match="has 6 classes, the data have 2"):
        run(lambda: train([*train_args(tmp_path), "--ckpt_path", str(trained / "weights/last.ckpt")]))


def test_maps_without_contrast_are_reported(trained, tmp_path, monkeypatch):
    real = RandomCAM.__call__

    def spoiled(self, model, image, target):
        maps = real(self, model, image, target)
        maps[0] = 0.5
        maps[1:2] = float("nan")
        return maps

    monkeypatch.setattr(RandomCAM, "__call__", spoiled)
    with pytest.warns(
        UserWarning, match="RandomCAM: 5 maps are constant or not finite"
    ):  # two of each batch of three, one alone
        evaluate(evaluate_args(trained, tmp_path, "--model.methods", "[RandomCAM, HalfCAM]"))
    summary = pd.read_csv(tmp_path / "summary.csv").set_index(["method", "score"])
    assert tuple(summary.loc[("RandomCAM", "arcc"), ["scored", "undefined"]]) == (2, 5)
    assert tuple(summary.loc[("HalfCAM", "arcc"), ["scored", "undefined"]]) == (7, 0)


def test_deterministic_algorithms_are_enough(trained, evaluated, tmp_path):
    evaluate(evaluate_args(trained, tmp_path, "--trainer.deterministic", "true"))
    torch.use_deterministic_algorithms(False)
    expected, found = (pd.read_parquet(folder / "per_image.parquet") for folder in (evaluated, tmp_path))
    pd.testing.assert_frame_equal(found, expected, atol=1e-6, rtol=0)


def test_an_interrupted_evaluation_keeps_its_rows(trained, tmp_path, monkeypatch):
    real, calls = RandomCAM.__call__, []

    def failing(self, *args):
        calls.append(1)
        if len(calls) > 4:  # the map and Coherency's second one, for two batches
            raise RuntimeError("interrupted")
        return real(self, *args)

    monkeypatch.setattr(RandomCAM, "__call__", failing)
    with pytest.raises(RuntimeError, match="interrupted"):
        evaluate(evaluate_args(trained, tmp_path, "--model.methods", "[RandomCAM]"))
    assert sorted(pd.read_parquet(tmp_path / "parts/per_image")["index"]) == [0, 1, 2, 3, 4, 5]


def test_an_output_that_is_a_file(trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit, match=r"error: .*file.*: .*or name another path"):
        run(lambda: evaluate(evaluate_args(trained, tmp_path / "file")))
    assert (tmp_path / "file").read_text() == "mine"


def test_the_time_that_is_left_is_shown(trained, tmp_path):
    args = evaluate_args(trained, tmp_path)
    for asked, bar in (("true", TQDMProgressBar), ("false", type(None))):
        args[args.index("--trainer.enable_progress_bar") + 1] = asked
        trainer = build(EvaluateCLI, Evaluator, args, inference_mode=False).trainer
        assert isinstance(trainer.progress_bar_callback, bar)


def test_metrics_and_table_agree_and_the_report_can_be_made_again(trained, tmp_path):
    """What the Metric classes say, over all batches, is the mean of the table's column."""
    (tmp_path / "summary.md").write_text("an earlier run's")
    parts = build(EvaluateCLI, Evaluator, evaluate_args(trained, tmp_path), inference_mode=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*before the ``update`` method")
        parts.trainer.test(parts.model, parts.datamodule, verbose=False)
    table = pd.read_parquet(tmp_path / "per_image.parquet")
    compared = 0
    for method, metrics in zip(parts.model.methods, parts.model.metrics, strict=True):
        own = table[
            (table["method"] == method.name) & (table["stage"] == ("" if method.stage is None else str(method.stage)))
        ]
        for metric in metrics:
            values = own[metric.title].dropna().astype("float64")
            assert metric.summary().mean == pytest.approx(values.mean(), abs=1e-9)
            assert metric.summary()[2:] == (len(values), 7 - len(values), 0)
            assert float(parts.trainer.callback_metrics[f"{metric.title}/{method.title}"]) == pytest.approx(
                values.mean(), rel=1e-6
            )
            compared += 1
    assert compared == len(METHODS) * 12
    files = ["summary.md", "summary.csv", "accuracy.md", "accuracy.csv", "maps.png"]
    first = {name: (tmp_path / name).read_bytes() for name in files}
    for name in files:
        (tmp_path / name).unlink()
    report(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in files} == first


def test_a_folder_without_an_evaluation_has_no_report(tmp_path):
    with pytest.raises(ValueError, match=r"folder: .* has no evaluation.json"):
        report(tmp_path)


def test_a_score_is_computed_in_several_variants(trained, tmp_path):
    chosen = "[arcc, arcc(percentiles=(10, 50)), road(ranking='percentile'), insertion(steps=3)]"
    args = evaluate_args(trained, tmp_path, "--model.scores", chosen, "--model.methods", "[GradCAM]")
    evaluate([*args, "--data.test_size", "3"])
    table = pd.read_parquet(tmp_path / "per_image.parquet")
    names = ["arcc", "arcc(percentiles=(10, 50))", "road(ranking='percentile')", "insertion(steps=3)"]
    assert table.columns.tolist()[8:] == [*names, "backbone", "checkpoint", "data"]
    assert (table[names[0]] != table[names[1]]).any()
    text = (tmp_path / "summary.md").read_text()
    assert "mean over 10, 50%" in text
    assert "by grad-cam's percentile rule" in text


@pytest.mark.parametrize("program", ["train.py", "evaluate.py"])
def test_help_teaches(program):
    done = subprocess.run([sys.executable, program, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.split())  # however wide the terminal
    assert "folder of images, searched recursively" in words
    own_first = ["--config", " --model.checkpoint ", " --data.backgrounds ", "--help-all"]
    assert sorted(own_first, key=words.index) == own_first
    assert len(done.stdout.splitlines()) < 250


def test_report_command_logs_the_figure(evaluated, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(evaluated, folder, ignore=shutil.ignore_patterns("version_*"))
    make_report([str(folder)])
    (logs,) = folder.glob("version_*")
    tags = read_events(logs).Tags()
    assert tags["images"] == ["maps"]
    assert read_events(logs / "RandomCAM").Scalars("headline/arcc")
