"""Parameters of a node as one table: declared with descriptions and ranges, checked when they are set."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_mbpo.core.errors import ConfigError

_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string", list: "strings"}
_BUILT_IN = ("use_sim_time", "start_type_description_service")


@dataclass(frozen=True)
class Param:
    """One parameter.

    Attributes:
        name: as in params.yaml; dots make groups.
        default: value without configuration; its type is the parameter's type.
        description: one line, with the unit.
        lower, upper: closed range of a number.
        choices: allowed strings.
    """

    name: str
    default: bool | int | float | str | list[str]
    description: str
    lower: float | None = None
    upper: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def valid(self) -> str:
        """What the parameter may hold, in words."""
        if self.choices:
            return f"choose one of: {', '.join(self.choices)}"
        kind = _KINDS[type(self.default)]
        return f"expected {kind}" if self.lower is None else f"expected {kind} from {self.lower} to {self.upper}"

    def check(self, owner: str, value: Any) -> Any:
        """The value in the parameter's own type.

        Raises:
            ConfigError: naming ``owner.name``, the value and what is valid.
        """
        kind = type(self.default)
        if self.choices and isinstance(value, bool):  # YAML reads an unquoted on/off as a boolean
            value = "on" if value else "off"
        if kind is float and type(value) is int:
            value = float(value)
        ok = type(value) is kind and (not self.choices or value in self.choices)
        if ok and self.lower is not None and self.upper is not None:
            ok = self.lower <= value <= self.upper
        if not ok:
            raise ConfigError(f"{owner}.{self.name}", value, self.valid)
        return value

    def descriptor(self) -> ParameterDescriptor:
        """Description and range for `ros2 param describe`."""
        result = ParameterDescriptor(description=self.description)
        if self.choices:
            result.additional_constraints = self.valid
        elif self.lower is not None and self.upper is not None:
            if isinstance(self.default, int):
                result.integer_range = [IntegerRange(from_value=int(self.lower), to_value=int(self.upper), step=1)]
            else:
                bounds = FloatingPointRange(from_value=float(self.lower), to_value=float(self.upper), step=0.0)
                result.floating_point_range = [bounds]
        return result


class Parameters:
    """The declared parameters of one node. They can be changed while the node is unconfigured."""

    def __init__(self, node: Node, table: Iterable[Param]) -> None:
        """Declare ``table`` on a node made with ``automatically_declare_parameters_from_overrides``.

        Raises:
            ConfigError: for a value out of range, of another type, or of an unknown name.
        """
        self._node = node
        self._table = {param.name: param for param in table}
        owner = node.get_name()
        given = {name: p.value for name, p in node.get_parameters_by_prefix("").items() if name not in _BUILT_IN}
        for name, value in given.items():
            if name not in self._table:
                raise ConfigError(f"{owner}.{name}", value, f"parameters of {owner}: {', '.join(self._table)}")
            node.undeclare_parameter(name)
        for name, param in self._table.items():
            value = param.check(owner, given.get(name, param.default))
            node.declare_parameter(name, value, param.descriptor(), ignore_override=True)
        self._locked = False
        node.add_on_set_parameters_callback(self._on_set)

    def __getitem__(self, name: str) -> Any:
        """Current value."""
        return self._node.get_parameter(name).value

    def lock(self, locked: bool) -> None:
        """Refuse (or allow) changes: the node has read its parameters."""
        self._locked = locked

    def _on_set(self, changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            param = self._table.get(change.name)
            if param is None:
                continue
            if self._locked:
                reason = f"{change.name} can only be changed while {self._node.get_name()} is unconfigured"
                return SetParametersResult(successful=False, reason=reason)
            try:
                param.check(self._node.get_name(), change.value)
            except ConfigError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)
