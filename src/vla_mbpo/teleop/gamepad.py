"""A gamepad through SDL's game controller interface, with the layout, signs and ranges of ROS's game_controller_node.

Axes: 0 LEFTX, 1 LEFTY, 2 RIGHTX, 3 RIGHTY, 4 TRIGGERLEFT, 5 TRIGGERRIGHT. Buttons: 0 A, 1 B, 2 X, 3 Y, 4 BACK, 5 GUIDE,
6 START, 7 LEFTSTICK, 8 RIGHTSTICK, 9 LEFTSHOULDER, 10 RIGHTSHOULDER, 11 to 14 DPAD_UP, _DOWN, _LEFT, _RIGHT, 15 MISC1,
16 to 19 PADDLE1 to PADDLE4, 20 TOUCHPAD.
"""

import math
import os
from collections.abc import Container
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

AXES, BUTTONS = 6, 21
_FULL = 32767  # SDL's value for a stick at its end and a trigger held down; towards the other end it is -32768
# What SDL reads when it starts: no window, no focus to wait for, and SIGTERM stays with the process.
ENVIRONMENT = {
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS": "1",
    "SDL_NO_SIGNAL_HANDLERS": "1",
    "SDL_VIDEODRIVER": "offscreen",  # "dummy" would take the keyboard of a text console, and with it Ctrl-C
}


class GamepadState(NamedTuple):
    """One reading.

    Attributes:
        axes: (6,). Sticks -1 to 1, left and forward positive; triggers 0 to -1, held down -1.
        buttons: (21,) of 0 or 1, 1 is pressed.
    """

    axes: tuple[float, ...]
    buttons: tuple[int, ...]


def axis_value(raw: int, deadzone: float) -> float:
    """SDL's axis value as game_controller_node gives it: the sign turned, the rest of the range stretched.

    Args:
        raw: -32768 to 32767; a trigger's is 0 to 32767.
        deadzone: part of the range around 0 that counts as 0; 0 to below 1.
    """
    value = max(raw / _FULL, -1.0)
    outside = max(abs(value) - deadzone, 0.0) / (1.0 - deadzone)
    return math.copysign(outside, -value) if outside else 0.0


@cache
def load() -> tuple[ModuleType, ModuleType]:
    """The modules pygame and its controller, without a trace in the process; SDL is not started.

    Raises:
        ImportError: without pygame-ce.
    """
    os.environ.update(ENVIRONMENT)
    import pygame
    from pygame._sdl2 import controller

    pygame.quit()  # the import put handlers on SIGQUIT and the fault signals: this gives them back, and ends all of SDL
    return pygame, controller


class Gamepad:
    """The first gamepad that SDL knows; it may come and go. All calls from one thread."""

    def __init__(self, deadzone: float) -> None:
        """Nothing is opened yet. ``deadzone``: see ``axis_value``."""
        self._deadzone = deadzone
        self._pad: Any = None
        self._last: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name of the connected gamepad, or an empty string."""
        return "" if self._pad is None else self._pad.name or "unnamed"

    def open(self) -> None:
        """Start SDL. It need not find a gamepad.

        Raises:
            ImportError: without pygame-ce.
            pygame.error: SDL does not start.
        """
        self._pygame, self._controller = load()
        self._controller.init()
        self._pygame.display.init()  # SDL hands out events, and sees gamepads come and go, only with a video driver

    def poll(self) -> GamepadState | None:
        """Current state, or None when no gamepad is connected. At least one None lies between two gamepads.

        A button that changed and changed back since the last call is reported as changed in this one, so that a short
        tap is not lost.
        """
        kinds = (self._pygame.CONTROLLERBUTTONDOWN, self._pygame.CONTROLLERBUTTONUP)
        events = [event for event in self._pygame.event.get() if event.type in kinds]
        if self._pad is None:
            self._pad = self._find()
            if self._pad is None:
                return None
            self._instance = self._pad.as_joystick().get_instance_id()  # the pad's own `id` is its place in the list
            return self._read(())
        if not self._pad.attached():
            self.close()
            return None
        return self._read({event.button for event in events if event.instance_id == self._instance})

    def close(self) -> None:
        """Let go of the gamepad. SDL stays: pygame would end it for all of the process."""
        if self._pad is not None:
            self._pad.quit()
        self._pad, self._last = None, ()

    def _read(self, moved: Container[int]) -> GamepadState:
        buttons = tuple(int(self._pad.get_button(index)) for index in range(BUTTONS))
        if self._last:
            pairs = enumerate(zip(buttons, self._last, strict=True))
            buttons = tuple(1 - was if index in moved else now for index, (now, was) in pairs)
        self._last = buttons
        axes = tuple(axis_value(self._pad.get_axis(index), self._deadzone) for index in range(AXES))
        return GamepadState(axes, buttons)

    def _find(self) -> Any:
        for index in range(self._controller.get_count()):
            if self._controller.is_controller(index):
                try:
                    return self._controller.Controller(index)
                except self._pygame.error:  # gone again, or not ours to open
                    continue
        return None
