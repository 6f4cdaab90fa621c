"""Look up the published advisories for every locked version: `make check-advisories`.

Exit code 0: none are known. 1: some are. 3: they could not be looked up, so nothing is known.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
LOCKS = ("pipeline", "vllm-cpu", "vllm-gpu")
# Has published advisories: an index without an advisory service answers as if it had none.
PROBE = "jinja2==2.4.1"
NO_ANSWER = 3


def main() -> int:
    """Print what is known about each lock."""
    if not knows_advisories():
        print(
            "check-advisories: could not look up advisories: the package index does not answer for "
            f"{PROBE}, which has some. Nothing was checked; run it where PyPI is reached.",
            file=sys.stderr,
        )
        return NO_ANSWER
    answers = {lock: audit(FOLDER / f"{lock}.txt", "--require-hashes") for lock in LOCKS}
    for lock, packages in answers.items():
        print(*report(lock, packages), sep="\n")
    if any(packages is None for packages in answers.values()):
        return NO_ANSWER
    return int(
        any(package.get("vulns") for packages in answers.values() for package in packages or [])
    )


def knows_advisories() -> bool:
    """Return whether the service that pip-audit queries has advisories at all."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.txt"
        probe.write_text(PROBE, encoding="utf-8")
        return any(package.get("vulns") for package in audit(probe, "--no-deps") or [])


def audit(requirements: Path, *options: str) -> list[dict[str, Any]] | None:
    """Return pip-audit's answer for each package, or None if there was no answer."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--disable-pip"]
        command += [*options, "-r", str(requirements), "--format", "json", "--output", str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # pip-audit exits with 1 for advisories as for its own errors, but then writes no file.
        if not answer.exists():
            print((done.stderr.strip() or "no answer").splitlines()[-1], file=sys.stderr)
            return None
        packages: list[dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))[
            "dependencies"
        ]
        return packages


def report(lock: str, packages: list[dict[str, Any]] | None) -> Iterator[str]:
    """Return the lines about one lock: advisories, packages without an answer, and the totals."""
    if packages is None:
        yield f"requirements/{lock}.txt: not checked"
        return
    known = [(package, one) for package in packages for one in package.get("vulns", [])]
    for package, one in known:
        names = " ".join([one["id"], *one.get("aliases", [])])
        fixed = ", ".join(one["fix_versions"]) or "no version"
        version = f"{package['name']} {package['version']}"
        yield f"requirements/{lock}.txt: {version}: {names}; fixed in {fixed}"
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        yield f"requirements/{lock}.txt: no answer about {', '.join(unknown)}"
    looked_up = len(packages) - len(unknown)
    yield f"requirements/{lock}.txt: {looked_up} packages, {len(known)} advisories"


if __name__ == "__main__":
    sys.exit(main())
