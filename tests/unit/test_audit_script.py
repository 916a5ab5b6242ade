"""`scripts/audit.py`: what counts as a fault, and that nothing passes in silence."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit.py"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of(name: str, *advisories: str) -> dict[str, Any]:
    """As pip-audit tells of a dependency."""
    vulns = [{"id": one, "aliases": [f"CVE-{one}"], "fix_versions": ["2"], "description": ""} for one in advisories]
    return {"name": name, "version": "1", "vulns": vulns}


def test_a_vulnerability_is_a_fault_unless_it_is_accepted_by_any_of_its_names(audit: ModuleType) -> None:
    found = [of("sound"), of("broken", "PYSEC-1", "PYSEC-2", "PYSEC-3")]
    faults, _ = audit.judge(found, {"PYSEC-1": "a reason", "CVE-PYSEC-3": "another"})
    assert faults == ["broken 1 has PYSEC-2; fixed in 2"]


def test_what_could_not_be_looked_up_is_named(audit: ModuleType) -> None:
    faults, remarks = audit.judge([of("sound"), {"name": "strange", "skip_reason": "unknown"}], {})
    assert faults == []
    assert remarks == ["not audited: strange", "1 audited, 0 vulnerabilities that nobody accepts"]


@pytest.mark.parametrize("found", [[], [{"name": "strange", "skip_reason": "unknown"}]])
def test_an_audit_of_nothing_says_so(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: list[Any]
) -> None:
    monkeypatch.setattr(audit, "dependencies", lambda lock: found)
    assert audit.main() == 0
    assert "NOTHING IN build.txt OR AFTER IT WAS AUDITED" in capsys.readouterr().err


def test_a_vulnerable_lock_fails(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "dependencies", lambda lock: [of("broken", "PYSEC-1")])
    assert audit.main() == 1
