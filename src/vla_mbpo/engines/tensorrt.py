"""An engine that runs: TensorRT or TensorRT-RTX, with buffers of its own on the GPU."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.engines import cuda, libraries


class EngineFault(RuntimeError):
    """The library refused the engine, or failed to run it; the text is its own."""


class Engine:
    """One graph. Calls may come from any thread, one at a time."""

    def __init__(self, plan: bytes, library: str) -> None:
        """Deserialise and take the memory for the largest inputs of its profile.

        Raises:
            EngineFault: the library does not take it, or the GPU has no memory left for it.
            cuda.NoGpu: there is none.
        """
        trt = libraries.module(library)
        self._driver = cuda.driver()
        self._driver.make_current()
        self._log = _logger(trt)
        self._runtime = trt.Runtime(self._log)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineFault(f"{library} cannot load the engine: {self._log.last}")
        context = engine.create_execution_context()
        if context is None:
            raise EngineFault(f"{library} cannot run the engine: {self._log.last}")
        self._engine, self._context = engine, context
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._dtypes = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        profile = {name: [tuple(shape) for shape in engine.get_tensor_profile_shape(name, 0)] for name in self._inputs}
        for name, (_, _, largest) in profile.items():
            context.set_input_shape(name, largest)
        self._largest = {name: tuple(context.get_tensor_shape(name)) for name in names}
        sizes = {name: math.prod(self._largest[name]) * self._dtypes[name].itemsize for name in names}
        self._address: dict[str, int] = {}
        self._stream = 0
        try:
            for name, size in sizes.items():
                self._address[name] = self._driver.allocate(size)
                context.set_tensor_address(name, self._address[name])
            self._stream = self._driver.new_stream()
        except cuda.CudaError as error:
            self.close()
            raise EngineFault(str(error)) from None
        self.memory = int(engine.device_memory_size_v2) + sum(sizes.values())  # bytes on the GPU beside the weights
        # The first run of a shape compiles (TensorRT-RTX) or sets up: not while a robot waits.
        self.run(None, {name: np.zeros(usual, self._dtypes[name]) for name, (_, usual, _) in profile.items()})

    def run(self, names: Sequence[str] | None, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs by name, None: all. ConfigError: an input is missing or too large; EngineFault."""
        self._driver.make_current()
        held = []  # until the copies are done
        for name in self._inputs:
            require(name in feed, "engine input", name, f"given: {', '.join(feed)}")
            array = np.ascontiguousarray(feed[name], self._dtypes[name])
            fits = array.ndim == len(self._largest[name]) and all(
                size <= most for size, most in zip(array.shape, self._largest[name], strict=True)
            )
            require(fits, f"engine input {name}", array.shape, f"at most {self._largest[name]}")
            if not self._context.set_input_shape(name, array.shape):
                raise EngineFault(f"input {name} of shape {array.shape}: {self._log.last}")
            self._driver.upload(self._address[name], array, self._stream)
            held.append(array)
        if not self._context.execute_async_v3(self._stream):
            raise EngineFault(self._log.last or "the engine did not run")
        found = {}
        for name in self._outputs if names is None else names:
            found[name] = np.empty(tuple(self._context.get_tensor_shape(name)), self._dtypes[name])
            self._driver.download(found[name], self._address[name], self._stream)
        self._driver.synchronize(self._stream)
        return list(found.values())

    def close(self) -> None:
        """Give the memory back."""
        addresses, self._address = self._address, {}
        for address in addresses.values():
            self._driver.free(address)
        stream, self._stream = self._stream, 0
        if stream:
            self._driver.end_stream(stream)

    def __del__(self) -> None:
        if getattr(self, "_address", None):
            self.close()


def _logger(trt: Any) -> Any:
    """A logger that remembers the last error and prints nothing."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.last = " ".join(text.split())[:300]

    return Log()
