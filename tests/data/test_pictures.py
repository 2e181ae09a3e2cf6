"""Folders of pictures, with links."""

import numpy as np
from PIL import Image

from refinecam.data.pictures import pictures_in


def test_linked_folders_are_read_once_each(tmp_path):
    """In the same order on every machine, whatever the links."""
    folder, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    for place in (folder / "b", folder / "a", elsewhere):
        place.mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(place / "x.png")
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (folder / "again").symlink_to(folder / "a", target_is_directory=True)
    (folder / "b/loop").symlink_to(folder, target_is_directory=True)
    found = [str(path.relative_to(folder)) for path in pictures_in(folder)]
    assert sorted(found) == found
    assert len(found) == 3
    assert "linked/x.png" in found
    assert [path.name for path in pictures_in(elsewhere, below=False)] == ["x.png"]
