"""Fetching the official archive: resumable, checked, and unpacked so that no half of it is taken for the data set."""

import errno
import hashlib
import os
import re
import shutil
import stat
import zlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile, ZipInfo

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn, track

from refinecam.core.errors import InputError

URL = "https://download.visinf.tu-darmstadt.de/data/funnybirds/FunnyBirds.zip"
BLOCK = 1 << 20
BROKEN = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)  # zipfile's, for what it cannot unpack


def fetch_archive(url: str, folder: str | Path, sha256: str | None = None, timeout: float = 60) -> None:
    """Download a zip archive and unpack the data set in it as ``folder``.

    What was downloaded lies in ``<folder>.zip.part`` until the end: a later call goes on from there. ``folder`` itself
    appears in one step, when everything is unpacked.

    Args:
        url: of the archive.
        folder: where the folder of the archive that has ``classes.json`` ends up; must not exist.
        sha256: of the archive, in hexadecimal. The authors publish none, hence by default what is checked is the size
            that the server states and the checksum of each file, which guards against accidents, not against malice.
        timeout: seconds without an answer after which to give up.

    Raises:
        InputError: if the server cannot be reached or breaks off, the archive is damaged, has another hash, has an
            entry that would lie outside of its folder, or no ``classes.json``.
    """
    folder = Path(folder)
    by_hand = (
        f"download {url} by hand and unpack it as {folder}, or draw a stand-in: python -m refinecam.data.funnybirds "
        f"{folder}"
    )
    if os.path.lexists(folder):
        raise InputError(f"folder: {folder} is there already; remove it to fetch it anew")
    part = folder.with_name(f"{folder.name}.zip.part")
    unpacked = folder.with_name(f"{folder.name}.unpacking")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, timeout)
    except (OSError, HTTPException) as error:
        kept = f" ({part} is kept: another try goes on from there)" if part.exists() else ""
        raise InputError(f"download: {url} cannot be fetched: {error}; try again{kept}, or {by_hand}") from error
    try:
        _check_hash(part, sha256)
        shutil.rmtree(unpacked, ignore_errors=True)  # of a try that was killed
        top = _unpack(part, unpacked)
        os.rename(top, folder)
    except BROKEN as error:
        part.unlink()  # it is complete, so that there is nothing to go on with
        raise InputError(
            f"download: {url} is no intact archive of FunnyBirds: {error}; try again, or {by_hand}"
        ) from error
    except OSError as error:
        raise InputError(
            f"download: {part} cannot be unpacked as {folder}: {error}; make room or set permissions, then try again"
        ) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    part.unlink()


def _download(url: str, part: Path, timeout: float) -> None:
    """Bring ``part`` to its full size.

    Raises:
        OSError: if this fails; what has come so far is kept.
    """
    have = part.stat().st_size if part.exists() else 0
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}), timeout=timeout)
    except HTTPError as error:
        if error.code != 416 or not have:
            raise
        if _total(error.headers.get("Content-Range")) == have:  # nothing lies behind what we have: it is complete
            return
        part.unlink()  # longer than the archive: of another one
        have = 0
        response = urlopen(url, timeout=timeout)
    with response:
        if response.status == 206 and _start(response.headers.get("Content-Range")) == have:
            total = _total(response.headers.get("Content-Range"))
        else:
            if response.status == 206:
                raise OSError(f"the server sent another range than from byte {have}")
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            if total and total == have:
                return
            have = 0  # the server sends all of it, whatever was asked for
        _write(response, part, have, total)
    size = part.stat().st_size
    if total is not None and size != total:
        raise OSError(f"the connection broke off after {size} of {total} bytes")


def _write(response: HTTPResponse, part: Path, have: int, total: int | None) -> None:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with part.open("ab" if have else "wb") as file, Progress(*columns) as progress:
        task = progress.add_task("Downloading FunnyBirds", total=total, completed=have)
        while block := response.read(BLOCK):
            file.write(block)
            progress.advance(task, len(block))


def _start(content_range: str | None) -> int | None:
    result = re.match(r"bytes (\d+)-", content_range or "")
    return int(result[1]) if result else None


def _total(content_range: str | None) -> int | None:
    result = re.search(r"/(\d+)$", content_range or "")
    return int(result[1]) if result else None


def _check_hash(archive: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with archive.open("rb") as file:
        result = hashlib.file_digest(file, "sha256").hexdigest()
    if result != sha256.lower():
        raise BadZipFile(f"its SHA-256 is {result}, not {sha256}")


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive and return the folder in it that is the data set.

    Every file's checksum is compared on the way, so the archive is not read a second time for that.
    """
    with ZipFile(archive) as packed:
        entries = packed.infolist()
        for entry in entries:
            _check_entry(entry)
        names = [PurePosixPath(entry.filename) for entry in entries if not entry.is_dir()]
        tops = [name.parent for name in names if name.name == "classes.json" and "__MACOSX" not in name.parts]
        if not tops:
            raise BadZipFile("there is no classes.json in it")
        size, free = sum(entry.file_size for entry in entries), shutil.disk_usage(archive.parent).free
        if size > free:
            raise OSError(errno.ENOSPC, f"it unpacks to {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
        for entry in track(entries, "Unpacking FunnyBirds"):
            packed.extract(entry, folder)
    return folder / min(tops, key=lambda top: len(top.parts))


def _check_entry(entry: ZipInfo) -> None:
    """Refuse what could be written outside of the folder; links could lead there."""
    name = PureWindowsPath(entry.filename)  # takes both kinds of slashes, and drives, for what they are
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.anchor or ".." in name.parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadZipFile(f"its entry {entry.filename!r} is a link, or lies outside of the folder")
