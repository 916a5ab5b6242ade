"""Look the pinned dependencies up among known vulnerabilities: `python scripts/audit.py`, from the repository.

pip-audit asks PyPI. Where that cannot be reached, or answers nothing, this says that nothing was audited, and is no
failure: a check that depends on somebody else's server must not stop the work, nor pass in silence. A vulnerability is
a failure, unless `[tool.epochd.accepted-advisories]` in pyproject.toml gives a reason to live with it.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ("build.txt", "dev.txt")
"""The small one first: where nothing in it can be looked up, the other is not tried. dev.txt pins what every other lock
does, and more."""
SECONDS = 90


def main() -> int:
    """Audit every lock; 1 when there is a vulnerability that nobody has accepted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    accepted = project["tool"]["epochd"]["accepted-advisories"]
    vulnerable = False
    for lock in LOCKS:
        found = dependencies(ROOT / "requirements" / lock)
        if not any("vulns" in one for one in found):
            say(f"NOTHING IN {lock} OR AFTER IT WAS AUDITED: whoever was asked knows no advisories")
            break
        faults, remarks = judge(found, accepted)
        for one in (*remarks, *faults):
            say(f"{lock}: {one}")
        vulnerable = vulnerable or bool(faults)
    return int(vulnerable)


def judge(found: list[dict[str, Any]], accepted: Collection[str]) -> tuple[list[str], list[str]]:
    """What is wrong with these dependencies, and what else is to be said of them."""
    unknown = [one["name"] for one in found if "skip_reason" in one]
    remarks = [f"not audited: {', '.join(unknown)}"] if unknown else []
    faults = [
        f"{one['name']} {one['version']} has {vulnerability['id']}; "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for one in found
        for vulnerability in one.get("vulns", ())
        if not {vulnerability["id"], *vulnerability["aliases"]} & set(accepted)
    ]
    return faults, [*remarks, f"{len(found) - len(unknown)} audited, {len(faults)} vulnerabilities that nobody accepts"]


def dependencies(lock: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each; nothing, and a word about it, where it could not be asked."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", "5", "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)  # noqa: S603 - ours
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        say(f"the advisory service did not answer within {SECONDS} s")
        return []
    except (json.JSONDecodeError, KeyError):
        reason = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        say(f"it could not ask: {reason[0][:200]}")
        return []
    return found


def say(text: str) -> None:
    """Tell people."""
    print(f"pip-audit: {text}", file=sys.stderr)  # noqa: T201 - a script


if __name__ == "__main__":
    sys.exit(main())
