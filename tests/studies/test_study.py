"""The study command: what it plans, evaluates, takes from what is there, and refuses."""

import pandas as pd
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refinecam.core.errors import InputError
from refinecam.studies import STUDIES
from refinecam.studies.plan import Evaluation, evaluations, read_plan, united
from refinecam.studies.tables import stack
from refinecam.study import PLAN, evaluation_arguments, run_study
from tests.command_lines import ROOT

OPTIONS = {
    "data.scenes": 4,
    "data.held_out_scenes": 2,
    "data.num_workers": 0,
    "data.batch_size": 3,
    "model.only_correct": False,
    "trainer.enable_progress_bar": False,
    "trainer.accelerator": "cpu",
}


@pytest.fixture
def plan(trained, tmp_path):
    """A plan of tiny shapes."""
    entry = {
        "config": str(ROOT / "configs/evaluate/shapes.yaml"),
        "truth": "cosine_similarity",
        "size": "data.test_size",
        "images": 3,
        "options": OPTIONS,
        "networks": {"tiny": {"model.checkpoint": str(trained / "weights/best.ckpt")}},
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"shapes": entry, "other": entry}))
    return path


def test_study_evaluates_what_is_missing_and_the_next_one_goes_on(plan, tmp_path, capfd):
    given = ["--plan", str(plan), "--results", str(tmp_path / "results")]
    run_study(["stages", *given, "--dry-run"])
    assert "about 0.0 h for GradCAM++(stage=0), GradCAM++(stage=1)" in capfd.readouterr().out
    run_study(["stages", *given])
    run_study(["stages", *given])
    folder = tmp_path / "results/stages"
    table = pd.read_csv(folder / "stages.csv")
    assert table.groupby(["score", "cam", "kind"]).size().eq(4).all()
    assert (table["images"] <= 3).all()
    for name in ("stages.md", "stages.tex", "stages-shapes-tiny.png", "stages-shapes-tiny.pdf"):
        assert (folder / name).stat().st_size > 100
    (events,) = folder.glob("events.out.tfevents.*")  # of two runs of the study
    shown = EventAccumulator(str(events)).Reload().Tags()
    assert shown["images"] == ["stages-shapes-tiny"]
    assert shown["tensors"] == ["stages/text_summary"]
    assert r"\toprule" in (folder / "stages.tex").read_text()
    first = pd.read_parquet(tmp_path / "results/shapes-tiny/per_image.parquet")
    assert set(first["data"]) == {"shapes on procedural backgrounds, seed 0"}
    assert set(first["checkpoint"]) == {"weights/best.ckpt"}
    capfd.readouterr()

    run_study(["qualitative", *given])  # adds methods to the same evaluation
    assert "shapes-tiny: 4 of 10 methods to evaluate" in capfd.readouterr().out
    second = pd.read_parquet(tmp_path / "results/shapes-tiny/per_image.parquet")
    (asked,) = read_plan(plan)["shapes"].networks
    rows = stack([Evaluation(read_plan(plan)["shapes"], asked, tmp_path / "results/shapes-tiny", ("LayerCAM",), ())])
    assert set(rows["title"]) == {"LayerCAM, stage -1"}  # of all that the studies before have evaluated
    keys = ["index", "method", "stage", "aggregator"]
    together = first.merge(second, on=keys, suffixes=("", "_again"))
    assert len(together) == len(first) < len(second)
    assert (together["arcc"].eq(together["arcc_again"]) | together["arcc"].isna()).all()

    with pytest.raises(InputError, match=r"images: .*shapes-tiny has 3, not 2; name that, or other results"):
        run_study(["correlation", *given, "--images", "2"])
    run_study(["qualitative", *given, "--images", "5", "--dry-run"])
    assert "5 images, about 0.0 h for 2 more images" in capfd.readouterr().out
    content = yaml.safe_load(plan.read_text())
    own = content["shapes"]["networks"]["tiny"]
    for change, message in (
        ({"model.only_correct": True}, "model.only_correct: .*shapes-tiny has False, not True"),
        ({"model.checkpoint": "shapes-resnet18"}, "networks: .*shapes-tiny is of other weights than shapes-resnet18"),
    ):
        content["shapes"]["networks"] = {"tiny": own | change}
        (tmp_path / "changed.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(InputError, match=message):
            run_study(["stages", *given, "--plan", str(tmp_path / "changed.yaml"), "--dry-run"])
    run_study(["correlation", *given, "--no-evaluate", "--output", str(tmp_path / "elsewhere")])
    printed = capfd.readouterr().out
    assert "left out of" in printed
    assert "ScoreCAM(stage=0)" in printed
    assert "agrees best" not in printed  # of fewer than five methods
    run_study(["refine", *given, "--no-evaluate", "--output", str(tmp_path / "elsewhere")])
    assert "RefineCAM has a higher arcc than its CAM at the shallowest stage" in capfd.readouterr().out
    assert (tmp_path / "elsewhere/claims.md").exists()


def test_verdict_takes_all_studies_and_one_evaluation_for_each_network(plan, tmp_path, capfd):
    run_study(["verdict", "--plan", str(plan), "--results", str(tmp_path), "--dry-run", "--images", "7"])
    lines = [line for line in capfd.readouterr().out.splitlines() if str(tmp_path) in line]
    assert [line.partition(":")[0].removeprefix(f"{tmp_path}/") for line in lines] == [
        "shapes-tiny",
        "sensitivity/evaluations/shapes-tiny",
        "sensitivity/evaluations/shapes-tiny-label-of-all",
        "sensitivity/evaluations/shapes-tiny-predicted-of-all",
    ]
    assert "7 images" in lines[0]


def test_a_network_that_is_not_there_yet_is_planned_without_its_time(plan, tmp_path, capfd):
    content = yaml.safe_load(plan.read_text())
    content["shapes"]["networks"] = {"later": {"model.checkpoint": "later.ckpt"}, **content["shapes"]["networks"]}
    plan.write_text(yaml.safe_dump(content))
    run_study(["stages", "--plan", str(plan), "--results", str(tmp_path), "--dry-run"])
    printed = capfd.readouterr().out
    assert "later: checkpoint: there is no file later.ckpt" in printed
    assert "an unknown time for GradCAM++(stage=0)" in printed
    assert "about 0.0 h on one process here" in printed


def test_methods_can_be_left_out_and_a_variant_has_its_options(plan, tmp_path, capfd):
    given = ["--plan", str(plan), "--results", str(tmp_path), "--no-evaluate"]
    run_study(["sensitivity", *given, "--dry-run", "--without", "GradCAM++", "HalfCAM"])
    (first, *_) = capfd.readouterr().out.splitlines()
    assert first.partition(" h for ")[2] == (
        "LayerCAM, LayerCAM(stage=0), RefineCAM(LayerCAM, aggregator='product'), InputXGradient, RandomCAM, All1sCAM"
    )
    with pytest.raises(InputError, match=r"without: there is no LIMEE; there are .*LIME"):
        run_study(["sensitivity", *given, "--without", "LIMEE"])
    study = STUDIES["sensitivity"]
    (_, _, varied) = evaluations(study.needs(()), read_plan(plan), tmp_path, (), study.variants)
    arguments = evaluation_arguments(varied)
    assert arguments[arguments.index("--model.target") + 1] == "predicted"


def test_plan_of_the_project_names_what_studies_ask():
    sets = read_plan(ROOT / PLAN)
    for study in STUDIES.values():
        planned = evaluations(study.needs(("LIME",)), sets, ROOT)
        assert planned
        for evaluation in united(planned):
            assert evaluation.passes() > 0
            assert evaluation_arguments(evaluation)[:2] == ["--config", evaluation.data.config]
            assert (ROOT / evaluation.data.config).is_file()


def test_methods_that_are_written_differently_are_one(plan, tmp_path):
    data = read_plan(plan)["shapes"]
    first = Evaluation(data, "tiny", tmp_path, ("RefineCAM(LayerCAM)", "LayerCAM"), ())
    second = first._replace(methods=("RefineCAM(LayerCAM, aggregator='product')", "LayerCAM(stage=-1)", "GradCAM"))
    (whole,) = united([first, second])
    assert whole.methods == ("RefineCAM(LayerCAM)", "LayerCAM", "GradCAM")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan", "none.yaml"], "plan: none.yaml cannot be read"),
        (["--images", "0"], "images: expected a whole number"),
        (["--data", "cats"], "data: there is no cats in .*; there are other, shapes"),
        (["--backbones", "resnet19"], "networks: there is no resnet19 in the plan; there are tiny, tiny"),
    ],
)
def test_wrong_arguments(arguments, message, plan):
    given = arguments if "--plan" in arguments else ["--plan", str(plan), *arguments]
    with pytest.raises(InputError, match=message):
        run_study(["stages", *given])


@pytest.mark.parametrize("text", ["", "[]", "shapes: 3", "shapes: {config: a}", "a: [", "shapes:"])
def test_wrong_plans(text, tmp_path):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(InputError, match=r"plan\.yaml is not as configs/studies\.yaml"):
        run_study(["stages", "--plan", str(tmp_path / "plan.yaml")])


def test_a_plan_with_other_names(plan, tmp_path):
    content = yaml.safe_load(plan.read_text())
    plan.write_text(yaml.safe_dump({"mine": content["shapes"]}))
    with pytest.raises(InputError, match=r"plan: stages asks for data named imagenet or shapes, and .* has mine"):
        run_study(["stages", "--plan", str(plan)])


def test_evaluation_that_fails_is_one_line(plan, tmp_path):
    content = yaml.safe_load(plan.read_text())
    content["shapes"]["networks"]["tiny"]["model.checkpoint"] = str(tmp_path / "none.ckpt")
    plan.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"study: the evaluation into .*shapes-tiny failed"):
        run_study(["stages", "--plan", str(plan), "--results", str(tmp_path)])
