"""The systemd unit: what it promises in its comments holds in its settings."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"


def unit() -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / "muster.service")
    return parser


def test_the_unit_runs_up_from_the_checkout() -> None:
    service = unit()["Service"]
    python, script, command = service["ExecStart"].split()
    assert python.startswith(service["WorkingDirectory"])
    assert (DEPLOY.parent / script).exists()
    assert (DEPLOY.parent / "crm" / "management" / "commands" / f"{command}.py").exists()


def test_a_crash_of_up_leaves_workers_alone_and_a_stop_has_time() -> None:
    """[L10, L13]"""
    service = unit()["Service"]
    assert service["KillMode"] == "process"
    assert int(service["TimeoutStopSec"]) > 20
    assert service["Delegate"] == "yes"
