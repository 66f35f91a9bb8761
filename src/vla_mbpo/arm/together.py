"""Drivers of several arms whose rows were approved together: when one stops, all stop."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.driver import ArmDriver
from vla_mbpo.core.chunk import JointRows
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.core.state import RobotState, Trajectory
from vla_mbpo.core.verdict import Reason


class Drivers:
    """One ArmDriver per arm, on one clock. One thread.

    Attributes:
        drivers: in the order of the cell's arms.
    """

    def __init__(self, specs: Sequence[RobotSpec], config: DriverConfig | None = None) -> None:
        """Start without rows, at rest."""
        self.drivers = tuple(ArmDriver(spec, config) for spec in specs)

    def measure(self, states: Sequence[RobotState]) -> None:
        """Take the newest measured states."""
        for driver, state in zip(self.drivers, states, strict=True):
            driver.measure(state)

    def offer(self, rows: Sequence[JointRows], now: int) -> tuple[Reason, ...]:
        """Take the rows of all arms; when one refuses its own, all stop. Empty: taken."""
        for driver, own in zip(self.drivers, rows, strict=True):
            reasons = driver.offer(own, now)
            if reasons:
                self.stop(f"another arm refuses its rows: {reasons[0]}")
                return reasons
        return ()

    def tick(self, now: int) -> tuple[Trajectory | None, ...]:
        """One trajectory per arm; call it every ``config.tick``. A driver that stops by itself stops the others."""
        made = [driver.tick(now) for driver in self.drivers]
        why = next((driver.stop_reason for driver in self.drivers if driver.stop_reason), "")
        for index, driver in enumerate(self.drivers):
            if why and driver.clock.first_due(now) is not None:
                driver.stop(f"another arm stopped: {why}")
                made[index] = driver.tick(now)
        return tuple(made)

    def stop(self, reason: str, latch: bool = False) -> None:
        """Controlled stop of all arms."""
        for driver in self.drivers:
            driver.stop(reason, latch)

    def commanded(self, now: int) -> tuple[NDArray[np.float64] | None, ...]:
        """Set points, for ``CellGate.vet``."""
        return tuple(driver.commanded(now) for driver in self.drivers)

    def velocities(self, now: int) -> tuple[NDArray[np.float64] | None, ...]:
        """Of the set points [rad/s]."""
        return tuple(driver.velocity(now) for driver in self.drivers)

    def prefix(self, stamp: int) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        """Committed rows (d, n) and openings (d,) of each arm at an observation, the same d for all."""
        found = [driver.commitment(stamp).prefix(stamp, driver.spec.commit_rows) for driver in self.drivers]
        d = min(len(rows) for rows, _ in found)
        return [rows[:d] for rows, _ in found], [openings[:d] for _, openings in found]
