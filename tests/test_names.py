"""Every test file has a name of its own: they are in no package, so that pytest imports them by it."""

from collections import Counter
from pathlib import Path


def test_no_two_test_files_have_the_same_name():
    """Incident: `make test-slow` collected nothing; `make test` has the two in runs of its own, and passed."""
    names = Counter(file.name for file in Path(__file__).parent.rglob("*.py") if file.name != "conftest.py")
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []
