"""Which pictures are listed, and with which labels."""

import random
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from refinecam.core.errors import InputError
from refinecam.data.images.listing import choose, imagenet_classes, list_pictures

WNIDS = ("n01440764", "n01443537", "n02123045")


def draw(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (value % 256, 0, 0)).save(path)
    return path


def labels_of(listing):
    return {p.file.relative_to(listing.root).as_posix(): p.label for p in listing.pictures}


def test_folders_are_classes_by_name(tmp_path):
    for name in ("dog/2.png", "dog/more/1.jpg", "cat/a.PNG", "cat/.hidden.png", "empty/readme.txt", ".cache/x/1.png"):
        path = tmp_path / name
        draw(path.with_suffix(".png")).rename(path) if path.suffix != ".txt" else draw(tmp_path / "tmp.png")
    listing = list_pictures(tmp_path)
    assert listing.classes == ("cat", "dog")
    assert labels_of(listing) == {"cat/a.PNG": 0, "dog/2.png": 1, "dog/more/1.jpg": 1}
    assert [p.index for p in listing.pictures] == [0, 1, 2]


def test_folders_count_more_than_a_table_beside_them(tmp_path):
    """As in Imagenette, whose table is of other labels; numbers are names like others."""
    for name in ("1", "10", "2"):
        draw(tmp_path / "val" / name / "1.png")
    (tmp_path / "noisy.csv").write_text("path,label\nval/1/1.png,7\n")
    listing = list_pictures(tmp_path)
    assert listing.classes == ("1", "10", "2")
    assert [p.label for p in listing.pictures] == [0, 1, 2]


@pytest.mark.parametrize("folder", ["", "val", "test"])
def test_wnids_have_the_labels_of_imagenet(folder, tmp_path):
    for wnid in WNIDS:
        draw(tmp_path / folder / wnid / "1.png")
    if folder == "val":  # torchvision's layout has the training images beside it
        draw(tmp_path / "train" / WNIDS[0] / "1.png")
    listing = list_pictures(tmp_path)
    assert [p.label for p in listing.pictures] == [0, 1, 281]
    assert len(listing.classes) == 1000
    assert listing.classes[281] == "tabby"
    draw(tmp_path / folder / "n99999999" / "1.png")
    with pytest.raises(InputError, match="n99999999, which is none of ImageNet's 1000 classes"):
        list_pictures(tmp_path)


@pytest.mark.parametrize(
    ("name", "lines", "expected", "classes"),
    [
        ("labels.csv", ["file,label", "a.png,dog", "b.png,cat"], [1, 0], ("cat", "dog")),
        ("labels.csv", ["a.png,dog", 'b.png,"a, cat"'], [1, 0], ("a, cat", "dog")),
        ("labels.csv", ["a.png,7", "b.png,3"], [7, 3], ()),
        ("labels.csv", ["file;label", "a.png;10.0", "b.png;2.0"], [10, 2], ()),
        ("labels.csv", ["a.png,n02123045", "b.png,n01440764"], [281, 0], 1000),
        ("val.txt", ["a.png 65", "b.png 970"], [65, 970], ()),
        ("labels.txt", ["n02123045", "n01440764"], [281, 0], 1000),
    ],
)
def test_table_has_the_labels(name, lines, expected, classes, tmp_path):
    for file in ("a.png", "b.png"):
        draw(tmp_path / file)
    table = tmp_path / name
    table.write_text("\n".join(lines) + "\n")
    listing = list_pictures(tmp_path, None if name.endswith("csv") else table)
    assert [p.label for p in listing.pictures] == expected
    assert classes in (listing.classes, len(listing.classes))


def test_imagenets_flat_folder_is_read_with_its_devkit(tmp_path):
    """The numbers of the ground truth are the devkit's, in another order than the networks'."""
    wnids = [*WNIDS, "n00001740"]
    kind = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("num_children", "f8")]
    synsets = np.array(
        [(number, wnid, int(number == 4)) for number, wnid in zip((3, 1, 2, 4), wnids, strict=True)], kind
    )
    devkit = tmp_path / "ILSVRC2012_devkit_t12/data"
    devkit.mkdir(parents=True)
    for number in range(1, 4):
        draw(tmp_path / f"ILSVRC2012_val_{number:08d}.png")
    (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n3\n1\n")
    with pytest.raises(InputError, match=r"meta.mat cannot be read; copy it there from the devkit"):
        list_pictures(tmp_path)
    savemat(devkit / "meta.mat", {"synsets": synsets})
    assert [p.label for p in list_pictures(tmp_path).pictures] == [281, 0, 1]
    for number, wnid in zip(range(1, 4), WNIDS, strict=True):  # sorted into folders, which then count
        (tmp_path / "val" / wnid).mkdir(parents=True)
        (tmp_path / f"ILSVRC2012_val_{number:08d}.png").rename(tmp_path / "val" / wnid / f"{number}.png")
    assert [p.label for p in list_pictures(tmp_path).pictures] == [0, 1, 281]


def test_subset_depends_on_the_names_alone(tmp_path):
    for i in range(40):
        draw(tmp_path / "a" / ("cat" if i % 4 else "dog") / f"{i}.png", i)
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    listing = list_pictures(tmp_path / "a")
    names = [p.file.name for p in choose(listing, 10, False, 0)]
    assert names == [p.file.name for p in choose(list_pictures(tmp_path / "elsewhere"), 10, False, 0)]
    assert names != [p.file.name for p in choose(listing, 10, False, 1)]
    assert len(set(names)) == 10
    assert set(names) < {p.file.name for p in choose(listing, 11, False, 0)}  # a larger one has it, too
    random.Random(0).shuffle(listing.pictures)
    assert names == [p.file.name for p in choose(listing, 10, False, 0)]
    assert choose(listing, None, False, 0) == listing.pictures
    labels = [p.label for p in choose(listing, 10, True, 0)]
    assert labels.count(0) == labels.count(1) == 5
    assert [p.label for p in choose(listing, 30, True, 0)].count(1) == 10  # all there are
    with pytest.raises(InputError, match="subset: there are 40 pictures, got 41"):
        choose(listing, 41, False, 0)


@pytest.mark.parametrize(
    ("files", "labels", "message"),
    [
        ([], None, "root: .* has no folders with pictures; expected .*/CLASS/"),
        (["a.png"], None, "root: .* has no folders with pictures"),
        (["cat/a.png"], None, "has one class, 'cat'; a classifier needs at least two"),
        (["a.png"], "a.png,cat\nc.png,dog\nd.png,dog", "names .*c.png and 1 more, which are not there"),
        (["a.png", "b.png"], "a.png,-1\nb.png,2", "has the label -1; expected classes' names, or numbers from 0"),
        (["a.png", "b.png"], "a.png,1\nb.png,", "has not a file and a label on each line"),
        (["a.png", "b.png"], "a.png\nb.png", "has not a file and a label on each line"),
        (["cat/a.png", "dog/b.png", "ant/note.txt"], None, "ant has no pictures, and classes are numbered by folders"),
        (["a.png"], "", "has not a file and a label on each line"),
    ],
)
def test_folder_that_cannot_be_used(files, labels, message, tmp_path):
    for file in files:
        draw(tmp_path / file) if file.endswith("png") else (tmp_path / file).parent.mkdir()
    table = None
    if labels is not None:
        table = tmp_path / "labels.csv"
        table.write_text(labels)
    with pytest.raises(InputError, match=message):
        list_pictures(tmp_path, table)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="root: there is no folder"):
        list_pictures(tmp_path / "none")
    with pytest.raises(InputError, match="labels: there is no file"):
        list_pictures(tmp_path, tmp_path / "none.csv")


def test_imagenet_classes_are_those_of_the_networks():
    names = list(imagenet_classes().values())
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
