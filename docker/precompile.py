"""Compile modules without bytecode, so that programs start fast on a read-only root.

The bytecode contains a hash instead of a time, so that image builds are reproducible.
"""

import py_compile
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path


def main(folders: list[str]) -> None:
    found = [str(path) for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    missing = [path for path in found if not Path(cache_from_source(path)).exists()]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_compile, missing, chunksize=32))


def _compile(path: str) -> None:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    try:
        py_compile.compile(path, doraise=True, invalidation_mode=mode)
    except (py_compile.PyCompileError, FileExistsError):
        pass  # templates and tests for other Python versions, which are never imported


if __name__ == "__main__":
    main(sys.argv[1:])
