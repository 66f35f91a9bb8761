import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from fixtures import bundle, graph, ros_domain  # noqa: E402, F401


def pytest_terminal_summary(terminalreporter):
    """One line per fault: seconds from it to a measured standstill, and the bound."""
    reports = [r for name in ("passed", "failed") for r in terminalreporter.stats.get(name, [])]
    rows = [(r.nodeid.split("::")[-1], value) for r in reports for key, value in r.user_properties if key == "to rest"]
    if rows:
        terminalreporter.section("faults: seconds to rest")
        for name, (took, limit) in rows:
            terminalreporter.write_line(f"{name:60} {took:5.2f}  at most {limit:5.2f}")
