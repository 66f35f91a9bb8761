"""The CUDA driver, by ctypes: what an engine needs to run (one device), and no package for it."""

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


class CudaError(RuntimeError):
    """A call of the driver failed; the text names it."""


class NoGpu(RuntimeError):
    """There is no NVIDIA driver or no device; the text says which."""


@dataclass(frozen=True)
class Device:
    """The first GPU.

    Attributes:
        name: as the driver says it.
        architecture: SM and the compute capability's digits, as in SM89.
        free, total: memory [bytes].
        driver: version of the CUDA interface, as in 13.0.
    """

    name: str
    architecture: str
    free: int
    total: int
    driver: str


class Driver:
    """The primary context of device 0. Any thread."""

    def __init__(self) -> None:
        """Raises NoGpu."""
        try:
            self._lib = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise NoGpu("no NVIDIA driver (libcuda.so.1)") from None
        try:
            self._call("cuInit", 0)
            self._device = ctypes.c_int()
            self._call("cuDeviceGet", ctypes.byref(self._device), 0)
            self._context = ctypes.c_void_p()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        except CudaError as error:
            raise NoGpu(f"no usable GPU: {error}") from None

    def new_stream(self) -> int:
        """Handle of a stream of its own: who waits for it waits for nothing else."""
        self.make_current()
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), 1)
        return int(stream.value or 0)

    def end_stream(self, stream: int) -> None:
        """Give back what ``new_stream`` gave."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def make_current(self) -> None:
        """Have the calling thread use the context."""
        self._call("cuCtxSetCurrent", self._context)

    def device(self) -> Device:
        """What the GPU is, and how much of its memory is free now. NoGpu: its driver fails."""
        try:
            return self._device_now()
        except CudaError as error:
            raise NoGpu(f"no usable GPU: {error}") from None

    def _device_now(self) -> Device:
        self.make_current()
        name, version = ctypes.create_string_buffer(128), ctypes.c_int()
        self._call("cuDeviceGetName", name, 128, self._device)
        self._call("cuDriverGetVersion", ctypes.byref(version))
        numbers = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
            numbers.append(str(value.value))
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        said = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return Device(name.value.decode(), f"SM{''.join(numbers)}", free.value, total.value, said)

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes on the device."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        return address.value

    def free(self, address: int) -> None:
        """Give back what ``allocate`` gave."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Queue the copy of a contiguous array to the device."""
        here, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), here, size, ctypes.c_void_p(stream))

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Queue the copy back; ``array`` holds it after ``synchronize``."""
        here, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", here, ctypes.c_uint64(address), size, ctypes.c_void_p(stream))

    def synchronize(self, stream: int) -> None:
        """Wait for all that is queued there."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._lib, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._lib.cuGetErrorName(code, ctypes.byref(text))
            raise CudaError(f"{name}: {(text.value or b'').decode() or code}")


@functools.cache
def driver() -> Driver:
    """The process's driver. NoGpu: there is none."""
    return Driver()
