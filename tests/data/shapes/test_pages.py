import shutil

import pytest
from PIL import Image

from refinecam.data.pictures import read_rgb
from refinecam.data.shapes.pages import page_of, read_splits


def contents(pictures):
    return {picture.tobytes() for picture in pictures}


def test_no_picture_is_in_two_splits(page_folder):
    shutil.copy(page_folder / "book1_s0_0_0.jpg", page_folder / "book9_s9_0_0.jpg")  # the same bytes, another page
    (page_folder / "val").mkdir()
    shutil.copy(page_folder / "book1_s1_0_0.jpg", page_folder / "val" / "book1_s1_0_0.jpg")
    splits = read_splits(page_folder)
    assert sum(len(pictures) for pictures in splits.values()) == 12  # copies count once
    assert all(splits.values())
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not contents(splits[a]) & contents(splits[b])


def test_pages_stay_together(page_folder):
    splits = read_splits(page_folder)
    assert {name: len(pictures) for name, pictures in splits.items()} == {"train": 8, "val": 2, "test": 2}


def test_split_is_deterministic(page_folder):
    first, again = read_splits(page_folder), read_splits(page_folder)
    assert all(contents(first[name]) == contents(again[name]) for name in first)


def test_page_names(tmp_path):
    assert page_of(tmp_path / "book2_s11_512_0.jpg") == "book2_s11"
    assert page_of(tmp_path / "photo_7.png") == "photo_7"
    assert page_of(tmp_path / "IMG_20240101_123456.jpg") == "IMG_20240101_123456"


def test_trailing_bytes_do_not_make_a_photo_truncated(page_folder):
    path = page_folder / "book1_s3_0_0.jpg"
    path.write_bytes(path.read_bytes() + b"x" * 2000)  # as phones append them
    read_splits(page_folder)


def test_gray_and_transparent_images_are_read_as_rgb(tmp_path):
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (9, 7)).save(tmp_path / f"{mode}.png")
        assert read_rgb(tmp_path / f"{mode}.png", "backgrounds", "remove it").shape == (7, 9, 3)


def test_bad_folders(tmp_path, page_folder):
    with pytest.raises(ValueError, match=r"backgrounds: there is no folder .*nowhere"):
        read_splits(tmp_path / "nowhere")
    few = tmp_path / "few"
    few.mkdir()
    with pytest.raises(ValueError, match="0 images of 0 different pages; at least 3"):
        read_splits(few)
    for name in ("book1_s0_0_0.jpg", "book1_s0_256_0.jpg", "book1_s1_0_0.jpg"):
        shutil.copy(page_folder / name, few / name)
    with pytest.raises(ValueError, match="3 images of 2 different pages"):
        read_splits(few)


@pytest.mark.parametrize("keep", [0, 40, 0.6])
def test_unreadable_image_is_named(page_folder, keep):
    path = page_folder / "book1_s3_0_0.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(ValueError, match=r"book1_s3_0_0.jpg cannot be read \("):
        read_splits(page_folder)
