"""Checkpoints of a training under way, kept in the store: another machine goes on from them.

A directory store is this machine's own, or one it mounts: its checkpoints are not copied there.
"""

import logging
import os
import shutil
import threading
from pathlib import Path
from types import TracebackType

from intent_core.errors import StorageError
from intent_core.training.protocol import CHECKPOINTS_FOLDER
from tasks.storage.objects import ObjectStore, download_folder, upload_folder

logger = logging.getLogger(__name__)

# Trainer writes this file last: without it a checkpoint is torn.
_LAST = "trainer_state.json"
_LOOK_EVERY_S = 2


class CheckpointMirror:
    """While it is open, the newest whole checkpoint of a training folder is in the store, too.

    A store that fails costs no training: that is logged, and tried again at the next one.
    """

    def __init__(self, store: ObjectStore, prefix: str, folder: Path) -> None:
        self._store = store
        self._prefix = f"{prefix}/{CHECKPOINTS_FOLDER}"
        self._folder = folder
        self._kept = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_up)

    def __enter__(self) -> "CheckpointMirror":
        if self._store.local_root() is None:
            self._fetch()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
            if kind is not None:
                self._push()  # what a stopped training saved at its end

    def forget(self) -> None:
        """The training is finished: its checkpoints have no use."""
        if self._store.local_root() is None:
            for file in list(self._store.list(f"{self._prefix}/")):
                self._store.delete(file.key)

    def _keep_up(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            self._push()

    def _fetch(self) -> None:
        if self._list_local():
            return
        whole = [
            file.key.split("/")[-2]
            for file in self._store.list(f"{self._prefix}/")
            if file.key.endswith(f"/{_LAST}")
        ]
        if whole:
            newest = max(whole, key=_step)
            target = self._folder / CHECKPOINTS_FOLDER / newest
            download_folder(self._store, f"{self._prefix}/{newest}", target, last=_LAST)
            logger.info("training goes on from %s, which another machine left in the store", newest)
            self._kept = newest

    def _list_local(self) -> list[str]:
        """Whole checkpoints here, the newest last."""
        states = (self._folder / CHECKPOINTS_FOLDER).glob(f"checkpoint-*/{_LAST}")
        return sorted((path.parent.name for path in states), key=_step)

    def _push(self) -> None:
        local = self._list_local()
        if not local or local[-1] == self._kept:
            return
        newest = local[-1]
        staged = self._folder / ".mirrored"
        try:
            shutil.rmtree(staged, ignore_errors=True)
            # By links: the training may remove a checkpoint while it is sent.
            shutil.copytree(
                self._folder / CHECKPOINTS_FOLDER / newest, staged, copy_function=os.link
            )
            upload_folder(self._store, staged, f"{self._prefix}/{newest}", last=_LAST)
            for file in list(self._store.list(f"{self._prefix}/")):
                if file.key.split("/")[-2] != newest:
                    self._store.delete(file.key)
        except (StorageError, OSError, shutil.Error) as error:
            logger.warning("%s is not in the store yet: %s", newest, error)
        else:
            self._kept = newest
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _step(name: str) -> int:
    return int(name.rpartition("-")[2])
