"""Execution of approved rows: on time, under the joint limits, ending at rest."""

from vla_mbpo.arm.commitment import Commitment
from vla_mbpo.arm.config import DriverConfig
from vla_mbpo.arm.driver import ArmDriver

__all__ = ["ArmDriver", "Commitment", "DriverConfig"]
