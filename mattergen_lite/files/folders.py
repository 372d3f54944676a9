"""Folders of results: made, checked for room and held by one run at a time, before any work.

What a killed run has left half written is removed when the next one claims the folder.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
RECORD = "run.json"  # of a finished run; written last
PARTIAL = ".partial"  # ends the name of a file that is being written
ROOM = 16 * 2**20  # bytes, without which a run is not begun
MAX_STEM = 150  # characters of a name in that of its temporary file


def check_finished(folder: Path) -> None:
    """Refuse a folder that holds no finished run.

    Raises:
        ValueError: If it does not.
    """
    if not (folder / RECORD).exists():
        raise ValueError(f"{folder} holds no finished run: expected the folder of one")


def check_free(folder: Path | None, *, overwrite: bool) -> None:
    """Refuse to mix a new run with an old one.

    Raises:
        ValueError: If the folder holds a finished run that may not be replaced.
    """
    if folder is not None and (folder / RECORD).exists() and not overwrite:
        raise ValueError(f"{folder} holds an earlier run: choose another folder, or --overwrite it")


@contextmanager
def claimed(folder: Path | None, timeout: float = 0.0) -> Iterator[None]:
    """Hold a folder: it exists, can be written and has room, and nobody else writes there.

    Without a folder there is nothing to hold.

    A folder that was made for this and is still empty is removed again.

    Raises:
        ValueError: If it cannot be made or written, is full, holds a pipe or a device, or another
            run holds it.
    """
    if folder is None:
        yield
        return
    with _held(folder, LOCK, timeout):
        check_plain(folder)
        _remove_partial(folder)
        yield


@contextmanager
def claimed_file(path: Path | None) -> Iterator[None]:
    """Hold a file that is to be written, as `claimed` holds a folder.

    Raises:
        ValueError: If it is a folder, or its own folder cannot be written.
    """
    if path is None:
        yield
        return
    with _refusing(path):
        if path.is_dir():
            raise ValueError(f"{path} is a folder: expected a file to write")
    with _held(path.parent, f".{path.name}{LOCK}"):
        yield


def check_plain(folder: Path) -> None:
    """Refuse a folder that holds anything but files and folders: reading a pipe may never end.

    Raises:
        ValueError: If it does; names it.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry)
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise ValueError(f"{path} is a pipe or a device: expected files only")


def is_first_process() -> bool:
    """Whether this is the first, or the only, process of a distributed run."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((rank for rank in ranks if rank), "0") == "0"


@contextmanager
def _held(folder: Path, lock: str, timeout: float = 0.0) -> Iterator[None]:
    _check_name(folder / lock)
    new = _make(folder)
    try:
        with _lock(folder, lock, timeout):
            _check_room(folder)
            yield
    finally:
        for path in new:  # not empty, if anything came of it
            with suppress(OSError):
                path.rmdir()


def _check_name(path: Path) -> None:
    """Refuse a name that is no text: it can be made, but not every library writes below it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path.parent).encode(errors="replace").decode()
        raise ValueError(f"cannot write to {shown}: expected a name in UTF-8") from None


def _make(folder: Path) -> list[Path]:
    """Make a folder with its parents; returns those that were made, the innermost first."""
    with _refusing(folder):
        chain = [folder, *folder.parents]
        new = [path for path in chain if not os.path.lexists(path)]
        folder.mkdir(parents=True, exist_ok=True)
    return new


@contextmanager
def _lock(folder: Path, name: str, timeout: float) -> Iterator[None]:
    path = folder / name
    lock = FileLock(path, timeout=timeout)
    with _refusing(folder):
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"another run is writing to {folder}: wait for its end or choose another place"
            ) from None
        except NotImplementedError:
            raise ValueError(
                f"{folder}: its file system has no locks: expected one that has"
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def held(path: Path, *, waits: bool = False) -> Iterator[bool]:
    """Hold a lock file, unless another process does and is not waited for; yields whether.

    Raises:
        ValueError: If the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=-1 if waits else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except NotImplementedError:
        raise ValueError(f"{path.parent}: expected a file system with locks") from None
    try:
        yield True
    finally:
        lock.release()


def _check_room(folder: Path) -> None:
    """Write so much for a moment: quotas and full disks show in no other way."""
    with _refusing(folder), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, ROOM)
        else:  # macOS, Windows
            file.write(bytes(ROOM))
            file.flush()


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what the system says against a path into a ValueError."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"cannot write to {_shown(path)}: {error.strerror or error}: expected a folder with "
            f"{ROOM // 2**20} MiB of room"
        ) from None


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) < 300 else f"{text[:100]}... ({len(text)} characters)"


def _remove_partial(folder: Path) -> None:
    """Remove what killed runs have left half written, in a folder and those in it."""
    for pattern in (f".*{PARTIAL}", f"*/.*{PARTIAL}"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it if the block succeeds and else vanishes.

    The temporary file is new, private and of a name that nobody can foresee, so that no link of
    somebody else leads elsewhere; a link at `path` itself is replaced, not followed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.name[:MAX_STEM]}.", suffix=PARTIAL, dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes private files
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> None:
    """Write a text file in UTF-8, which appears all at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files and folders of these names; links are removed, not followed."""
    for path in (folder / name for name in names):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
