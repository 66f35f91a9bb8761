"""The gate's parameters of its checks, and of the arm driver that it runs ahead; and the gate that they make."""

from vla_mbpo.arm import config as driver
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.gate.config import RANGES, GateConfig, slowed
from vla_mbpo.gate.drive import Drive
from vla_mbpo.gate.gate import Gate
from vla_mbpo.nodes.parameters import Param, Parameters

_CHECKS, _DRIVER = GateConfig(), driver.DriverConfig()
PARAMETERS = (
    *(Param(f"checks.{name}", getattr(_CHECKS, name), f"GateConfig.{name}", *RANGES[name]) for name in RANGES),
    *(
        Param(f"driver.{name}", getattr(_DRIVER, name), f"arm_driver's {name}, s", *driver.RANGES[name])
        for name in driver.SHAPING  # bringup.py takes over what somebody says of the driver
    ),
)


def gate_of(spec: RobotSpec, parameters: Parameters, share: float | None = None) -> Gate:
    """The gate that ``parameters`` ask for; ``share``: of the speed limits that chunks may use, where that is less.

    ConfigError: numbers that do not go together, or an action type without a complete set of checks.
    """
    config = GateConfig(**{name: parameters[f"checks.{name}"] for name in RANGES})
    motion = driver.DriverConfig(**{name: parameters[f"driver.{name}"] for name in driver.SHAPING})
    return Gate(spec, config if share is None else slowed(config, share), Drive(spec, motion))
