"""Fetching the archive from a server of our own."""

import hashlib
import http.server
import io
import socket
import stat
import threading
import zipfile

import pytest
import torch

from refinecam.core.errors import InputError
from refinecam.data import FunnyBirdsDataModule
from refinecam.data.funnybirds import FunnyBirds
from refinecam.data.funnybirds.archive import fetch_archive
from tests.data.funnybirds.files import SIZE, as_is


class Server:
    """An archive on localhost: in whole or from a byte on, cut off, with a false length, or as an error."""

    def __init__(self, body):
        self.body, self.ranges, self.cut, self.status, self.requests = body, True, None, None, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                asked = self.headers.get("Range")
                outer.requests.append(asked)
                start = int(asked[6:-1]) if asked and outer.ranges else 0
                size = len(outer.body)
                status = outer.status or (416 if start >= size else 206 if asked and outer.ranges else 200)
                sent = outer.body[start:] if status < 400 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                if status in (206, 416):
                    what = f"{start}-{size - 1}" if status == 206 else "*"
                    self.send_header("Content-Range", f"bytes {what}/{size}")
                self.end_headers()
                self.wfile.write(sent[: outer.cut])

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/FunnyBirds.zip"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def packed(entries):
    """A zip with these files, not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def archive(folder):
    files = {str(path.relative_to(folder.parent)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    junk = {"__MACOSX/classes.json": b"?", "readme.txt": b"about"}
    return packed(junk | {name: path.read_bytes() for name, path in files.items()})


@pytest.fixture
def server(archive):
    server = Server(archive)
    yield server
    server.close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "FunnyBirds"


def left(target):
    """What lies beside the data set."""
    return sorted(path.name for path in target.parent.iterdir())


def test_archive_is_fetched_by_the_data_module(server, target, folder, monkeypatch):
    monkeypatch.setattr("refinecam.data.funnybirds.module.URL", server.url)
    module = FunnyBirdsDataModule(folder=str(target), download=True, image_size=SIZE)
    assert len(module.classes) == 50
    module.prepare_data()
    assert left(target) == ["FunnyBirds"]
    assert torch.equal(FunnyBirds(target, "test", as_is())[1]["image"], FunnyBirds(folder, "test", as_is())[1]["image"])
    with pytest.raises(InputError, match="has 3 classes, not the 50 that the network was built for"):
        module.setup("fit")
    again = FunnyBirdsDataModule(folder=str(target), download=True, image_size=SIZE)
    again.prepare_data()
    again.setup("fit")
    assert server.requests == [None]
    with pytest.raises(InputError, match="is there already"):
        fetch_archive(server.url, target)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on(server, target, archive, ranges):
    server.cut, server.ranges = 5000, ranges
    with pytest.raises(InputError, match=rf"broke off after 5000 of {len(archive)} bytes; try again .*is kept"):
        fetch_archive(server.url, target)
    assert left(target) == ["FunnyBirds.zip.part"]
    server.cut = None
    fetch_archive(server.url, target, sha256=hashlib.sha256(archive).hexdigest())
    assert server.requests == [None, "bytes=5000-"]
    assert left(target) == ["FunnyBirds"]
    assert (target / "classes.json").is_file()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_finished_download_is_not_repeated(server, target, archive, ranges):
    server.ranges = ranges
    target.parent.mkdir()
    target.with_name("FunnyBirds.zip.part").write_bytes(archive)
    (target.with_name("FunnyBirds.unpacking") / "half").mkdir(parents=True)
    fetch_archive(server.url, target)
    assert left(target) == ["FunnyBirds"]
    assert not (target / "half").exists()


def test_a_part_of_another_archive_is_dropped(server, target, archive):
    target.parent.mkdir()
    target.with_name("FunnyBirds.zip.part").write_bytes(bytes(len(archive) + 1))
    fetch_archive(server.url, target)
    assert left(target) == ["FunnyBirds"]
    assert server.requests[-1] is None


def damaged(archive):
    """The archive with one wrong byte, in the content of a list."""
    place = archive.index(b"bg_objects")
    return archive[:place] + b"?" + archive[place + 1 :]


def linked():
    link = zipfile.ZipInfo("FunnyBirds/test")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return packed({"FunnyBirds/classes.json": b"[]", link: b"/etc"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda archive: b"no zip", "no intact archive of FunnyBirds: File is not a zip file; try again, or download"),
        (lambda archive: archive[:-100], "no intact archive"),
        (damaged, "Bad CRC-32"),
        (lambda archive: packed({"birds/parts.json": b"[]"}), "there is no classes.json in it"),
        (lambda archive: packed({"F/classes.json": b"[]", "../evil": b""}), r"entry '../evil' is a link, or lies out"),
        (lambda archive: packed({"F/classes.json": b"[]", "F/../../evil": b""}), "entry 'F/../../evil'"),
        (lambda archive: packed({"F/classes.json": b"[]", "..\\evil": b""}), "evil' is a link, or lies outside"),
        (lambda archive: packed({"F/classes.json": b"[]", "/tmp/evil": b""}), "entry '/tmp/evil'"),
        (lambda archive: linked(), "entry 'FunnyBirds/test' is a link"),
    ],
)
def test_archives_that_cannot_be_used(server, target, archive, body, message):
    server.body = body(archive)
    with pytest.raises(InputError, match=message) as found:
        fetch_archive(server.url, target)
    assert "\n" not in str(found.value)
    assert left(target) == []
    assert [path.name for path in target.parents[1].iterdir()] == ["data"]


def test_another_hash(server, target):
    with pytest.raises(InputError, match=r"its SHA-256 is [0-9a-f]{64}, not 0000"):
        fetch_archive(server.url, target, sha256="0" * 64)
    assert left(target) == []


def test_errors_of_the_server(server, target):
    server.status = 404
    by_hand = rf"download {server.url} by hand and unpack it as {target}, or draw a stand-in: python -m refinecam"
    with pytest.raises(InputError, match=rf"HTTP Error 404: Not Found; try again, or {by_hand}"):
        fetch_archive(server.url, target)
    assert left(target) == []


def test_without_a_network(target):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/FunnyBirds.zip"
        with pytest.raises(InputError, match=rf"{url} cannot be fetched: .*refused.*, or download {url} by hand"):
            fetch_archive(url, target)
    assert left(target) == []


def test_a_full_disk(server, target, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(InputError, match="No space left on device; make room or set permissions, then try again"):
        fetch_archive(server.url, target)
    assert left(target) == ["FunnyBirds.zip.part"]
