"""A gamepad of SDL's own in this process, in place of hardware."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vla_mbpo.teleop.gamepad import AXES, BUTTONS, load

NAME = "Virtual Controller"
_GAMECONTROLLER = 1  # SDL_JOYSTICK_TYPE_GAMECONTROLLER
_INIT = 0x2000  # SDL_INIT_GAMECONTROLLER


def _sdl() -> Any:
    """The very library that pygame-ce brings and has loaded."""
    package = Path(str(load()[0].__file__)).parent
    (path,) = (package.parent / "pygame_ce.libs").glob("libSDL2-2*")
    sdl = ctypes.CDLL(str(path))
    sdl.SDL_JoystickOpen.restype = sdl.SDL_JoystickFromInstanceID.restype = ctypes.c_void_p
    sdl.SDL_JoystickClose.argtypes = [ctypes.c_void_p]
    sdl.SDL_JoystickSetVirtualAxis.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int16]
    sdl.SDL_JoystickSetVirtualButton.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint8]
    sdl.SDL_GetError.restype = ctypes.c_char_p
    return sdl


class VirtualPad:
    """Use in the thread that polls. What is set here is seen at the next poll."""

    def __init__(self) -> None:
        """Plugged in."""
        os.environ["SDL_GAMECONTROLLER_IGNORE_DEVICES_EXCEPT"] = "0x0000/0x0000"  # hides real ones
        self._sdl = _sdl()
        self._check(self._sdl.SDL_InitSubSystem(_INIT))
        self._joystick: int | None = None
        self.plug()

    def plug(self) -> None:
        """Connect, with all at rest."""
        index = self._check(self._sdl.SDL_JoystickAttachVirtual(_GAMECONTROLLER, AXES, BUTTONS, 0))
        self._instance = self._sdl.SDL_JoystickGetDeviceInstanceID(index)
        self._joystick = self._sdl.SDL_JoystickOpen(index)
        assert self._joystick

    def unplug(self) -> None:
        """Disconnect; what was held stays held until the device is gone."""
        indices = range(self._sdl.SDL_NumJoysticks())
        index = next(i for i in indices if self._sdl.SDL_JoystickGetDeviceInstanceID(i) == self._instance)
        self._check(self._sdl.SDL_JoystickDetachVirtual(index))
        self._sdl.SDL_JoystickClose(self._joystick)
        self._joystick = None

    def axis(self, index: int, value: float) -> None:
        """Move an axis: a stick from -1 (left, forward) to 1 as SDL has it, a trigger from 0 to 1 (held down)."""
        raw = round(65535 * value) - 32768 if index >= 4 else max(round(32768 * value), -32768)
        self._check(self._sdl.SDL_JoystickSetVirtualAxis(self._joystick, index, min(raw, 32767)))

    def press(self, button: int) -> None:
        """Hold a button down."""
        self._check(self._sdl.SDL_JoystickSetVirtualButton(self._joystick, button, 1))

    def release(self, button: int) -> None:
        """Let a button go."""
        self._check(self._sdl.SDL_JoystickSetVirtualButton(self._joystick, button, 0))

    def tap(self, button: int) -> None:
        """Press and release between two polls."""
        for move in (self.press, self.release):
            move(button)
            self._sdl.SDL_JoystickUpdate()

    def close(self) -> None:
        """Leave SDL as it was."""
        if self._joystick is not None:
            self.unplug()
        self._sdl.SDL_QuitSubSystem(_INIT)

    def _check(self, result: int) -> int:
        assert result >= 0, self._sdl.SDL_GetError()
        return result


@pytest.fixture
def pad() -> Iterator[VirtualPad]:
    """A gamepad, plugged in."""
    made = VirtualPad()
    yield made
    made.close()
