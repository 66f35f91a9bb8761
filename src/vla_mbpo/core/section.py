"""A YAML mapping read key by key, so that a missing, wrong or misspelt key is refused by name."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require


class Section:
    """One mapping of the file, read key by key; ``end`` refuses what nobody has read."""

    def __init__(self, raw: Any, where: str) -> None:
        require(isinstance(raw, dict), where, raw, "expected a mapping")
        self._left, self.where = dict(raw), where

    def __contains__(self, key: str) -> bool:
        """Whether it is there and nobody has read it, be it empty."""
        return key in self._left

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = None, needed: bool = False) -> Any:
        """The value of ``key``. ConfigError: of another kind, or missing though ``needed``."""
        value = self._left.pop(key, None)
        if value is None:
            require(not needed, f"{self.where}.{key}", None, "needed")
            return default
        kinds = kind if isinstance(kind, tuple) else (kind,)
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        require(fits, f"{self.where}.{key}", value, f"expected {' or '.join(one.__name__ for one in kinds)}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """A number from ``low`` to ``high``."""
        value = self.take(key, (int, float), default, needed=default is None)
        require(low <= value <= high, f"{self.where}.{key}", value, f"expected a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer from ``low`` to ``high``."""
        value = self.take(key, int, default, needed=default is None)
        require(low <= value <= high, f"{self.where}.{key}", value, f"expected an integer from {low} to {high}")
        return int(value)

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """One of ``choices``."""
        value = self.take(key, str, default, needed=default is None)
        require(value in choices, f"{self.where}.{key}", value, f"one of {', '.join(choices)}")
        return str(value)

    def array(self, key: str, default: float | None = None, n: int | None = None) -> NDArray[np.float64]:
        """Finite numbers of any shape, or ``n`` of them; needed where there is no ``default``."""
        value = self._left.pop(key, default)
        require(value is not None, f"{self.where}.{key}", None, "needed")
        text = "numbers" if n is None else f"{n} numbers"
        try:
            found = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise ConfigError(f"{self.where}.{key}", value, f"expected {text}") from None
        require(n is None or found.shape == (n,), f"{self.where}.{key}", value, f"expected {text}")
        require(bool(np.isfinite(found).all()), f"{self.where}.{key}", value, "expected finite numbers")
        return found

    def section(self, key: str, needed: bool = True) -> "Section":
        """A mapping below this one; empty where it may be missing and is."""
        return Section(self.take(key, dict, {}, needed), f"{self.where}.{key}")

    def items(self) -> list[tuple[str, Any]]:
        """All that is left."""
        left, self._left = self._left, {}
        return [(str(key), value) for key, value in left.items()]

    def end(self) -> None:
        """ConfigError: a key that nobody has asked for, such as one with a typing mistake."""
        require(not self._left, self.where, ", ".join(map(str, self._left)), "keys that are not known here")
