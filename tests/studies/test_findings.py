"""Each study finds what is in rows that were made so, and says undecided where there is nothing."""

import numpy as np
import pandas as pd
import pytest

from refinecam.attribution import parse_methods
from refinecam.evaluation.table import title_of
from refinecam.studies import STUDIES
from refinecam.studies.base import Claim
from refinecam.studies.methods import AGGREGATORS, CAMS, TRIVIAL
from refinecam.studies.statistics import Interval, pearson
from refinecam.studies.tables import LABEL_FREE, images_by_methods

IMAGES = 40
PIXEL = ("InputXGradient", "IntegratedGradients", "DeepLift", "LIME(samples=25)", "KernelSHAP(samples=25)")


def rows_of(make, keys, data="shapes"):
    """Rows with the scores that ``make(method, stage, aggregator, image, rng)`` gives."""
    rng = np.random.default_rng(0)
    rows = []
    for method, stage, aggregator in keys:
        named = {"method": method, "stage": stage, "aggregator": aggregator}
        for index in range(IMAGES):
            noise = {score: rng.random() for score in (*LABEL_FREE, "cosine_similarity")}
            scores = noise | make(method, stage, aggregator, index, rng)
            rows.append(
                {
                    "data": data,
                    "network": "n",
                    "variant": "",
                    "index": index,
                    "title": title_of(named),
                    **named,
                    **scores,
                }
            )
    return pd.DataFrame(rows)


def verdicts(claims, text):
    return [claim.verdict for claim in claims if text in claim.text]


def test_verdicts():
    def of(low, high):
        return Claim("", "", "", Interval((low + high) / 2, low, high, 9)).verdict

    assert (of(0.1, 0.2), of(-0.1, 0.2), of(-0.2, -0.1)) == ("held", "undecided", "did not hold")
    assert of(np.nan, np.nan) == "undecided"


def test_trivial():
    keys = [*((cam, "-1", "") for cam in CAMS), *((name, "", "") for name in TRIVIAL)]

    def make(method, stage, aggregator, index, rng):
        trivial = method in TRIVIAL
        return {"adcc": 0.9 if trivial else 0.2, "average_drop": 0.1 if trivial else 0.8,
                "road": 0.0 if trivial else 0.5, "arcc": 0.6 if trivial else 0.1}  # fmt: skip

    found = STUDIES["trivial"].find(rows_of(make, keys))
    assert verdicts(found.claims, "adcc is fooled") == verdicts(found.claims, "average_drop is fooled") == ["held"]
    assert verdicts(found.claims, "road is not fooled") == ["held"]
    assert verdicts(found.claims, "arcc is not fooled") == ["did not hold"]  # each against CAMs at the deepest stage
    assert len(found.tables["trivial"]) == len(LABEL_FREE) * len(keys)


@pytest.mark.parametrize(("best", "verdict"), [("arcc", "held"), ("road", "did not hold")])
def test_correlation(best, verdict):
    def make(method, stage, aggregator, index, rng):
        truth = rng.random()
        return {"cosine_similarity": truth, best: truth + 0.1 * rng.normal(), "complexity": -truth + 0.8 * rng.normal()}

    keys = [*((cam, "0", "") for cam in CAMS), *((name, "", "") for name in PIXEL)]
    rows = rows_of(make, keys)
    found = STUDIES["correlation"].find(rows)
    assert verdicts(found.claims, "agrees best") == [verdict, verdict]
    table = found.tables["correlation"].set_index(["correlation", "score"])
    expected = pearson(rows[best].to_numpy(), rows["cosine_similarity"].to_numpy())
    assert table.loc[("pearson", best), "pooled"] == pytest.approx(expected)
    assert table.loc[("pearson", "complexity"), "pooled"] > 0.1  # lower complexity is better, so its sign is turned
    assert (table["methods"] == len(keys)).all()


def test_refine():
    keys = [(cam, stage, "") for cam in CAMS for stage in ("0", "-1")]
    keys += [(f"RefineCAM({cam})", "0", "product") for cam in CAMS]

    def make(method, stage, aggregator, index, rng):
        level = {"product": 0.6, "": 0.8 if stage == "-1" else 0.4}[aggregator]
        return {"arcc": level + 0.01 * rng.normal() + 0.3 * (index % 2)}

    rows = rows_of(make, keys)
    rows = rows[rows["method"] != "RefineCAM(ScoreCAM)"]
    found = STUDIES["refine"].find(rows)
    assert verdicts(found.claims, "higher arcc than its CAM at the shallowest") == ["held"]
    assert verdicts(found.claims, "higher arcc than its CAM at the deepest") == ["did not hold"]
    assert verdicts(found.claims, "higher cosine_similarity than its CAM at the deepest") == ["undecided"]
    table = found.tables["refine"].query("score == 'arcc'").set_index(["cam", "against"])
    assert "ScoreCAM" not in table.index.get_level_values(0)
    assert table.loc[("LayerCAM", "shallowest"), "difference"] == pytest.approx(0.2, abs=0.01)
    assert table.loc[("LayerCAM", "shallowest"), "wins"] == 1
    assert table.loc[("LayerCAM", "deepest"), "wins"] == 0


def test_aggregators():
    keys = [(f"RefineCAM({cam})", "0", aggregator) for cam in CAMS for aggregator in AGGREGATORS]
    found = STUDIES["aggregators"].find(rows_of(lambda m, s, a, i, r: {"arcc": 0.7 if a == "product" else 0.5}, keys))
    assert verdicts(found.claims, "the product joins") == ["held"] * len(CAMS)
    table = found.tables["aggregators"].set_index(["method", "aggregator"])
    assert table.loc[("LayerCAM", "product"), "published"] == 0.74


def test_stages():
    keys = [(cam, stage, "") for cam in ("GradCAM++", "LayerCAM") for stage in ("0", "1", "2", "-1")]
    keys += [(f"RefineCAM({cam})", stage, "product") for cam in ("GradCAM++", "LayerCAM") for stage in "012"]
    level = {"0": 0.1, "1": 0.2, "2": 0.3, "-1": 0.4}
    table = STUDIES["stages"].find(rows_of(lambda m, s, a, i, r: {"arcc": level[s]}, keys)).tables["stages"]
    own = table.query("score == 'arcc' and cam == 'LayerCAM'")
    assert own["mean"].round(6).tolist() == [0.1, 0.2, 0.3, 0.4] * 2


def test_activations():
    study = STUDIES["activations"]
    methods, _ = study.needs(())["shapes"]
    parsed = [parse_methods(text)[0] for text in methods]
    keys = [(method.name, method.stage_title, method.aggregator or "") for method in parsed]
    assert len({*keys}) == 18

    def make(method, stage, aggregator, index, rng):
        empty = aggregator and "activations" not in method and index < 10
        return {"arcc": np.nan if empty else 0.6 if "rectified" in method else 0.5, "mass_accuracy": 0.3}

    found = study.find(rows_of(make, keys))
    gain = "rectified activations give a refined LayerCAM with a higher arcc"
    assert verdicts(found.claims, gain) == ["held", "held", "undecided"]
    gain, rival = "centered activations give a refined LayerCAM with a higher arcc", "minus signed, refined"
    (claim,) = [c for c in found.claims if gain in c.text and rival in c.effect]
    assert claim.estimate.value == pytest.approx(0.5 * 10 / IMAGES)  # its rival is empty on ten images
    table = found.tables["activations"].set_index(["score", "map", "activations"])
    assert table.loc[("arcc", "GradCAM++, refined", "signed"), "empty"] == 10
    assert table.loc[("arcc", "GradCAM++, shallowest", "signed"), "empty"] == 0
    assert (table["images"] == IMAGES).all()
    signed = [key for key in keys if "activations" not in key[0]]
    found = study.find(rows_of(make, signed))
    assert not found.claims
    assert set(found.tables["activations"]["activations"]) == {"signed"}


def test_sensitivity():
    study = STUDIES["sensitivity"]
    _, variants = study.needs(())["shapes"]
    keys = [("GradCAM++", "-1", ""), ("LayerCAM", "-1", ""), ("GradCAM++", "0", ""), ("LayerCAM", "0", "")]
    keys += [(f"RefineCAM({cam})", "0", "product") for cam in ("GradCAM++", "LayerCAM")]
    keys += [(name, "", "") for name in TRIVIAL]

    def make(method, stage, aggregator, index, rng):
        real = 0.2 if method in TRIVIAL else 0.6
        refined = real + 0.1 * (aggregator == "product")
        return {**dict.fromkeys(("arcc", *variants), refined), variants[0]: 0.7 if method == "HalfCAM" else refined}

    found = study.find(rows_of(make, keys))
    assert verdicts(found.claims, "refining beats") == ["held"]
    assert verdicts(found.claims, "real maps beat") == ["did not hold"]
    ranks = found.tables["sensitivity"].groupby("variant")["kendall with default"].first()
    assert ranks["arcc"] == ranks[variants[1]] == 1 > ranks[variants[0]]
    assert not study.find(rows_of(make, keys)[["data", "network", "variant", "index", "title", "arcc"]]).claims


def test_sensitivity_to_the_images_and_the_explained_class():
    study = STUDIES["sensitivity"]
    keys = [(cam, stage, "") for cam in ("GradCAM++", "LayerCAM") for stage in ("-1", "0")]
    keys += [(f"RefineCAM({cam})", "0", "product") for cam in ("GradCAM++", "LayerCAM")]
    keys += [(name, "", "") for name in TRIVIAL]

    def of(gain):
        return rows_of(lambda m, s, aggregator, i, r: {"arcc": 0.5 + gain * (aggregator == "product")}, keys)

    label, predicted = study.variants
    rows = [of(0.1), of(0.2).assign(variant=label), of(-0.1).assign(variant=predicted)]
    found = study.find(pd.concat(rows, ignore_index=True))
    means = found.tables["sensitivity-conclusions"].set_index(["conclusion", "variant"])["value"]
    refining = means["refining beats the shallowest stage"].round(6).to_dict()
    assert refining == {"arcc": 0.1, f"arcc, {label}": 0.2, f"arcc, {predicted}": -0.1}
    assert verdicts(found.claims, "refining beats") == ["did not hold"]


def test_images_without_a_map_are_missing_values():
    rows = rows_of(lambda *_: {}, [("A", "", ""), ("B", "", "")])
    rows = rows[~((rows["title"] == "B") & (rows["index"] == 3))]
    values = images_by_methods(rows, "arcc", ["A", "B", "C"])
    assert values.shape == (IMAGES, 3)
    assert np.isnan(values[3, 1])
    assert np.isnan(values[:, 2]).all()
    assert np.isfinite(values).sum() == 2 * IMAGES - 1


@pytest.mark.parametrize("study", [study for study in STUDIES.values() if study.name != "qualitative"])
@pytest.mark.parametrize("score", ["arcc", "road", "cosine_similarity"])
def test_evaluations_with_one_score(study, score):
    keys = [(cam, stage, "") for cam in CAMS for stage in ("0", "-1")]
    keys += [*((name, "", "") for name in (*TRIVIAL, *PIXEL)), ("RefineCAM(LayerCAM)", "0", "product")]
    others = {*LABEL_FREE, "cosine_similarity"} - {score}
    study.find(rows_of(lambda *_: {}, keys).drop(columns=list(others)))


@pytest.mark.parametrize("study", [study for study in STUDIES.values() if study.name != "qualitative"])
def test_a_network_with_fewer_methods_than_another(study):
    """Each network's findings are of its own methods, whichever were evaluated for others."""
    keys = [(cam, stage, "") for cam in CAMS for stage in ("0", "-1")]
    keys += [*((name, "", "") for name in (*TRIVIAL, *PIXEL))]
    keys += [(f"RefineCAM({cam})", "0", aggregator) for cam in CAMS for aggregator in AGGREGATORS]
    whole = rows_of(lambda *_: {}, keys)
    few = rows_of(lambda *_: {}, [("LayerCAM", "0", ""), ("LayerCAM", "-1", "")]).assign(network="few")
    together = study.find(pd.concat([whole, few], ignore_index=True))
    alone = study.find(whole)
    of_whole = [claim for claim in together.claims if claim.where == "shapes, n"]
    assert [str(c) for c in of_whole] == [str(c) for c in alone.claims]
    assert all(claim.verdict == "undecided" for claim in together.claims if claim.where != "shapes, n")


@pytest.mark.parametrize("study", [study for study in STUDIES.values() if study.name != "qualitative"])
@pytest.mark.parametrize("kept", ["RandomCAM", "LayerCAM, stage 0", "RefineCAM(LayerCAM), stage 0, product"])
def test_what_is_not_evaluated_is_left_out(study, kept):
    keys = [("RandomCAM", "", ""), ("LayerCAM", "0", ""), ("RefineCAM(LayerCAM)", "0", "product")]
    rows = rows_of(lambda *_: {}, keys)
    found = study.find(rows[rows["title"] == kept])
    assert all(claim.verdict == "undecided" for claim in found.claims)


def test_an_image_without_ground_truth_is_left_out_and_an_empty_map_is_not():
    rows = rows_of(lambda m, *_: {"iou": 0.4}, [("A", "", ""), ("B", "", "")])
    rows.loc[(rows["index"] < 10) | ((rows["index"] == 20) & (rows["title"] == "A")), "iou"] = np.nan
    values = images_by_methods(rows, "iou", ["A", "B"], empty=0)
    assert np.isnan(values[:10]).all()
    assert values[20].tolist() == [0, 0.4]
    assert (values[[*range(10, 20), *range(21, IMAGES)]] == 0.4).all()


def test_a_map_that_is_empty_counts_as_0():
    keys = [(cam, stage, "") for cam in CAMS for stage in ("0", "-1")]
    keys += [(f"RefineCAM({cam})", "0", "product") for cam in CAMS]
    rows = rows_of(lambda m, s, a, i, r: {"arcc": 0.5 + 0.1 * (a == "product")}, keys)
    rows.loc[(rows["method"] == "RefineCAM(ShapleyCAM)") & (rows["index"] < 10), "arcc"] = np.nan
    (claim,) = [c for c in STUDIES["refine"].find(rows).claims if "arcc than its CAM at the shallowest" in c.text]
    assert claim.estimate.images == IMAGES
    assert claim.estimate.value == pytest.approx(0.1 - 0.6 * 10 / IMAGES / len(CAMS))
