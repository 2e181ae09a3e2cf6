import shutil

import pytest

from tests.data.funnybirds.files import write_birds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "birds"
    folder.mkdir()
    write_birds(folder)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copied")
