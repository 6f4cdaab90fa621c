"""Copy checkpoints to the store during a training, so that another machine can resume from them.

Nothing is copied to a directory store, because it is on this machine's own or mounted disk.
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

# The Trainer writes this file last; without it a checkpoint is incomplete.
_LAST = "trainer_state.json"
_LOOK_EVERY_S = 2


class CheckpointMirror:
    """Keeps a copy of the newest complete checkpoint in the store while it is open.

    A failing store does not stop the training: the failure is logged, and the next checkpoint is
    uploaded.
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
                self._push()  # the checkpoint that a stopped training saved at its end

    def forget(self) -> None:
        """Delete the checkpoints from the store after the training has finished."""
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
            logger.info("resuming from %s, downloaded from the store", newest)
            self._kept = newest

    def _list_local(self) -> list[str]:
        """List the complete checkpoints on this machine, newest last."""
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
            # Hard links, because the training may delete a checkpoint during its upload.
            shutil.copytree(
                self._folder / CHECKPOINTS_FOLDER / newest, staged, copy_function=os.link
            )
            upload_folder(self._store, staged, f"{self._prefix}/{newest}", last=_LAST)
            for file in list(self._store.list(f"{self._prefix}/")):
                if file.key.split("/")[-2] != newest:
                    self._store.delete(file.key)
        except (StorageError, OSError, shutil.Error) as error:
            logger.warning("could not upload %s to the store: %s", newest, error)
        else:
            self._kept = newest
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _step(name: str) -> int:
    return int(name.rpartition("-")[2])
