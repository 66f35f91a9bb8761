"""Node `sway`: the policy node of a dry run without a model bundle. It proposes a small motion of the last joint."""

from collections.abc import Sequence
from typing import Any

from vla_mbpo.nodes.policy import PolicyNode
from vla_mbpo.nodes.process import run
from vla_mbpo.policy.sway import SwaySession


class SwayNode(PolicyNode):
    """Looks as often as the policy does, at whole observations, so that cameras and joint states are tried too."""

    def _load(self, release: str) -> tuple[Any, str]:
        return SwaySession(self._spec), SwaySession.version


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run(lambda: SwayNode("policy"), argv)
