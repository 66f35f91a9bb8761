"""The gate: every chunk is checked against every limit before its rows may reach the arm."""

from vla_mbpo.gate.config import GateConfig
from vla_mbpo.gate.gate import Gate
from vla_mbpo.gate.machine import Mode, StateMachine

__all__ = ["Gate", "GateConfig", "Mode", "StateMachine"]
