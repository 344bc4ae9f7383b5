"""Tests that race on purpose: the only ones that are tried again, each with the reason and a bound.

Such a test weakens pyruntime, attacks it, and fails if the attack does not succeed: within its bound of rounds and
seconds an attacker may lose each race on a busy machine. Whether pyruntime withstands an attack is never tried again,
nor is a test that is not in this list. The last lines of a run count the retries.
"""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.runner import runtestprotocol

# The start of a test's id -> why it may fail, and how often it is tried again at most.
RACES = {
    "tests/security/test_cve_2016_9962.py::test_a_dumpable_process_is_caught": (
        "the attacker must reach a process of exec in the moment in which it is dumpable",
        2,
    ),
    "tests/security/test_cve_2016_9962.py::test_a_dumpable_init_is_caught": (
        "the attacker must reach another container's init in the moment in which it is dumpable",
        2,
    ),
    "tests/security/test_cve_2019_5736.py::test_an_unsealed_interpreter_is_caught": (
        "the attacker must open the interpreter while it runs in the container",
        2,
    ),
    "tests/security/test_cve_2021_30465.py::test_a_path_string_is_caught": (
        "a directory must be exchanged for a link between the check and the mount",
        2,
    ),
    "tests/security/test_cve_2024_45310.py::test_a_path_string_is_caught": (
        "a directory must be exchanged for a link between the check and the mkdir",
        2,
    ),
    "tests/security/test_cve_2025_52565.py::test_a_terminal_by_name_is_caught": (
        "/dev/console must be exchanged between the open of the terminal and its mount",
        2,
    ),
}


def bound(item: pytest.Item) -> int:
    """How often the test is tried again at most: 0 for one that does not race."""
    return next((most for start, (_, most) in RACES.items() if item.nodeid.partition("[")[0] == start), 0)


class Retries:
    """The plugin."""

    def __init__(self) -> None:
        self.retried: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: pytest.Item | None) -> bool | None:
        """Run a test of the list until it passes or its bound is reached; report the last try."""
        most = bound(item)
        if most == 0:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for _ in range(most):
            if not any(report.when == "call" and report.failed for report in reports):
                break
            why = next(report.longreprtext for report in reports if report.failed)
            self.retried.append(f"{item.nodeid}: {why.splitlines()[-1]}")
            item._initrequest()
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Count the retries, none included."""
        count = len(self.retried)
        terminalreporter.write_line(f"retries of tests that race on purpose (tests/support/races.py): {count}")
        for line in self.retried:
            terminalreporter.write_line(f"RETRIED {line}")
