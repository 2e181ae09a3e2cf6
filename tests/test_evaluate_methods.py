"""evaluate.py with every attribution method."""

import pandas as pd
import pytest
import yaml

from refinecam.attribution import METHODS, parse_methods
from refinecam.cli import evaluate
from tests.command_lines import ROOT, evaluate_args

SCORES = ["complexity", "coherency", "average_drop", "road", "arcc", "cosine_similarity", "roc_auc"]


def methods_of(config):
    return yaml.safe_load((ROOT / "configs/evaluate" / config).read_text())["model"]["methods"]


def test_the_config_names_every_method():
    assert {type(method) for method in parse_methods(methods_of("methods.yaml"))} == {
        m for m in METHODS.values() if m.__module__.startswith("refinecam.")
    }


@pytest.fixture(scope="module")
def table(trained, tmp_path_factory):
    return score_all(trained, tmp_path_factory.mktemp("methods"))


def score_all(trained, output, *more):
    fewer = {"LIME": "LIME(samples=30, segments=10, alpha=1e-5)", "KernelSHAP": "KernelSHAP(samples=30, segments=10)"}
    methods = [fewer.get(name, name) for name in methods_of("methods.yaml")]
    shown = ["--data.test_size", "4", "--data.batch_size", "2", "--data.controls", "false"]
    evaluate(evaluate_args(trained, output, "--model.methods", str(methods), *shown, *more))
    assert (output / "maps.png").stat().st_size > 10_000
    return pd.read_parquet(output / "per_image.parquet")


def test_every_method_is_scored(table):
    names = table["method"] + table["aggregator"]
    assert names.value_counts().tolist() == [4] * len(set(zip(table["method"], table["stage"], strict=True)))
    found = table.groupby(["method", "stage"])[SCORES].count()
    assert (found.min(axis=1) >= 2).all(), found  # one map or another may be constant


def test_bfloat16_changes_little(trained, table, tmp_path):
    found = score_all(trained, tmp_path, "--trainer.precision", "bf16-mixed")
    assert found["method"].tolist() == table["method"].tolist()
    difference = (found[SCORES] - table[SCORES]).abs().groupby([table["method"], table["stage"]]).median()
    assert (difference["complexity"] < 0.1).all(), difference["complexity"]
    assert (difference["coherency"] < 0.2).all(), difference["coherency"]
    assert (difference["road"] < 0.2).all(), difference["road"]
