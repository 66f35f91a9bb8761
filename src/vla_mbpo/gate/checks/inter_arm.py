"""No arm touches another."""

from typing import ClassVar

from vla_mbpo.gate.checks.self_collision import SelfCollision


class InterArm(SelfCollision):
    """Refuses rows that bring links of two arms closer together than the cell's margin.

    Its context is that of all arms as one robot (``Cell.joined``): rows of the same due time, points between them, the
    brakes after the last row.
    """

    name: ClassVar[str] = "inter_arm"
