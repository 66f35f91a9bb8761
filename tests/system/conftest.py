import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from fixtures import bundle, graph, ros_domain  # noqa: E402, F401
