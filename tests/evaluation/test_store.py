"""The folder of an evaluation: what is joined, what is refused, and who may write."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from refinecam.core.errors import InputError
from refinecam.evaluation.store import Results

METHODS = [["b", "", ""], ["a", "0", "product"]]


def about(**changes):
    scores = [{"name": "road"}]
    return {"identity": {"weights": "x", "data": {"seed": "0"}}, "methods": METHODS, "scores": scores, **changes}


def row(index, method=0, **scores):
    keys = dict(zip(("method", "stage", "aggregator"), METHODS[method], strict=True))
    return {"index": index, **keys, "label": 1, "skipped": False, **scores}


@pytest.fixture
def results(tmp_path):
    made = Results(tmp_path / "out")
    yield made
    made.close()


def start(results, overwrite=False, **changes):
    results.close()
    results.start(about(**changes), overwrite)
    return results.earlier()


def fill(results, indices, **scores):
    results.add("predictions", f"rank{min(indices):03d}", [{"index": i, "label": 1} for i in indices])
    results.add("per_image", f"rank{min(indices):03d}", [row(i, m, **scores) for i in indices for m in (1, 0)])


def test_rows_of_all_processes_are_merged_in_order(results):
    start(results)
    fill(results, [2, 3], road=0.5)
    fill(results, [0, 1], road=0.25)
    results.merge(kept=0)
    table = results.tables()["per_image"]
    assert table["index"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["method"].tolist() == ["b", "a"] * 4
    assert table["road"].tolist() == [0.25] * 4 + [0.5] * 4
    assert results.about["tables"] == ["per_image", "predictions"]
    assert not results.parts.exists()
    assert not list(results.folder.glob("*tmp*"))


@pytest.mark.parametrize("finished", [False, True])
def test_earlier_rows_are_found_again(finished, results):
    start(results)
    fill(results, [0, 1], road=float("nan"))
    if finished:
        results.merge(kept=0)
    earlier = start(results, scores=[{"name": "road"}, {"name": "arcc"}])
    assert earlier.predicted == {0, 1}
    assert np.isnan(earlier.row(1, METHODS[0], ["road"])["road"])  # undefined, not missing
    assert earlier.row(1, METHODS[0], ["road", "arcc"]) is None
    assert earlier.row(2, METHODS[0], ["road"]) is None
    assert earlier.row(1, ("c", "", ""), ["road"]) is None
    start(results, methods=[*METHODS, ["c", "", ""]], scores=[{"name": "road"}, {"name": "arcc"}])
    with pytest.raises(InputError, match="has 4 rows of 2 images and 3 methods; run the same again"):
        results.merge(kept=0)


def test_folder_that_is_not_shared_is_named(results):
    with pytest.raises(
        InputError, match=r"output: what the first process writes into .* use a folder that all machines"
    ):
        results.earlier()


def test_newest_row_counts(results):
    start(results)
    fill(results, [0], road=0.25)
    start(results)
    fill(results, [0], road=0.75)
    results.merge(kept=0)
    assert results.tables()["per_image"]["road"].tolist() == [0.75, 0.75]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity": {"weights": "y", "data": {"seed": "0"}}}, "weights was 'x', is 'y'"),
        ({"identity": {"weights": "x", "data": {"seed": "1"}}}, "data.seed was '0', is '1'"),
        ({"methods": METHODS[:1]}, "a, 0, product is in it and not asked for"),
        ({"scores": [{"name": "arcc"}]}, "road is in it and not asked for"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_evaluation_is_refused_or_replaced(finished, changes, message, results):
    start(results)
    fill(results, [0], road=0.25)
    if finished:
        results.merge(kept=0)
    with pytest.raises(InputError, match=message):
        start(results, **changes)
    kept = pd.concat(map(pd.read_parquet, results.folder.rglob("*per_image*.parquet"))) if finished else None
    earlier = start(results, overwrite=True, **changes)
    assert not earlier.predicted
    if finished:
        assert len(kept) == len(results.tables()["per_image"]) == 2  # until the new one is complete
    earlier = start(results, **changes)  # goes on with the new one
    assert not earlier.predicted


def test_only_one_evaluation_writes(results):
    start(results)
    other = Results(results.folder)
    with pytest.raises(InputError, match=r"output: .* is being written by process \d+ on .*; wait for it, or name"):
        other.start(about())
    code = f"from refinecam.evaluation.store import Results; Results({str(results.folder)!r}).start({about()!r})"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "is being written by" in done.stderr
    results.close()
    other.start(about())
    other.close()


def test_maps_are_kept_with_their_methods(results):
    start(results)
    for index in (5, 3):
        results.keep(index, {"map: a": np.zeros(2), "image": np.ones(1)})
    assert results.has_maps(5, ["a"])
    assert not results.has_maps(5, ["a", "b"])
    assert not results.has_maps(4, ["a"])
    fill(results, [0], road=0.0)
    results.merge(kept=1)
    assert [path.name for path in (results.folder / "maps").iterdir()] == ["000000003.npz"]
    start(results)
    assert results.has_maps(3, ["a"])
    start(results, overwrite=True)
    assert not results.has_maps(3, ["a"])


def test_half_written_files_of_a_killed_process_are_no_parts(results):
    start(results)
    fill(results, [0], road=0.25)
    for name in ("per_image/.1.0000-rank.parquet", "maps/.1.000000000.npz"):
        (results.parts / name).write_bytes(b"half")
    assert start(results).predicted == {0}
    results.merge(kept=1)
    assert len(results.tables()["per_image"]) == 2
    assert not list((results.folder / "maps").iterdir())


def test_part_that_cannot_be_read_is_named(results):
    start(results)
    fill(results, [0], road=0.25)
    (part,) = (results.parts / "per_image").iterdir()
    part.write_bytes(b"")
    with pytest.raises(InputError, match=rf"output: .*{part.name} cannot be read .*; delete it, and evaluate again"):
        start(results)
