"""A real PostgreSQL server for tests, where one is installed: in its own folder, on loopback."""

import contextlib
import glob
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_PASSWORD = "hush-Kd8sLw"


def find_programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`."""
    found = shutil.which("initdb") or next(iter(glob.glob("/usr/lib/postgresql/*/bin/initdb")), "")
    return Path(found).parent if found else None


@contextlib.contextmanager
def running_postgres(folder: Path, port: int) -> Iterator[str]:
    """Its URL, with a user, a password and an empty database `intent`; stopped afterwards."""
    programs, data = find_programs(), folder / "data"
    assert programs is not None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "password").write_text(_PASSWORD)
    # It refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        for parent in (folder, *folder.parents[:3]):
            with contextlib.suppress(PermissionError):
                parent.chmod(parent.stat().st_mode | 0o055)
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, *arguments],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    run("initdb", "-D", str(data), "-U", "intent", "--pwfile=password", "-A", "scram-sha-256")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    run("pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+asyncpg://intent:{_PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
