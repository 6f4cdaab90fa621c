"""Other users of this machine can neither enter INTENT_HOME nor read what we write in it."""

import contextlib
import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tasks.settings.home_layout import HomeLayout

PRIVATE_UMASK = 0o077


def close_home(home: Path) -> None:
    """Create the folder with mode 0700, or take the permissions of others from an existing one.

    This also shuts files of an older version in it, whose own modes are not changed. A folder of
    another user (a mounted volume), and one that holds only other things, keeps its mode.
    """
    with contextlib.suppress(OSError):  # read-only: a later write says so
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = home.stat().st_mode
        if mode & PRIVATE_UMASK and _is_ours(home):
            home.chmod(stat.S_IMODE(mode) & ~PRIVATE_UMASK)


def _is_ours(home: Path) -> bool:
    """Whether the folder is for this user only: INTENT_HOME=/tmp must not shut /tmp."""
    status = home.stat()
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_ISVTX:
        return False
    layout = HomeLayout(home)
    known = {p.relative_to(layout.root).parts[0] for p in vars(layout).values() if p != layout.root}
    there = {path.name for path in home.iterdir()} - {"lost+found"}
    return not there or bool(there & known)


@functools.cache
def set_private_umask() -> int:
    """Give new files of this process and its children no permissions for others.

    Returns the umask of the user.
    """
    return os.umask(PRIVATE_UMASK)


def create_shared_folder(folder: Path, home: Path) -> None:
    """Create a folder that may be outside of the home, where the user's umask applies."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        is_below = folder.resolve().is_relative_to(home.resolve())
        folder.chmod(0o777 & ~(PRIVATE_UMASK if is_below else set_private_umask()))


def copy_modes(folder: Path, to: Path) -> None:
    """Give everything in `to`, and `to` itself, the permissions of the folder."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    for parent, _, names in os.walk(to):
        os.chmod(parent, mode)
        for name in names:
            os.chmod(Path(parent, name), mode & 0o666)


@contextlib.contextmanager
def users_umask() -> Iterator[None]:
    """Write files at a path that the user chose with the user's umask."""
    former = os.umask(set_private_umask())
    try:
        yield
    finally:
        os.umask(former)


@contextlib.contextmanager
def private_umask() -> Iterator[None]:
    """Write files in the home within a block of `users_umask`."""
    former = os.umask(PRIVATE_UMASK)
    try:
        yield
    finally:
        os.umask(former)
