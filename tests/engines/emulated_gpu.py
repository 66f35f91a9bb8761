"""What `engines` calls of the CUDA driver and of TensorRT, played on the CPU. An engine's plan is its ONNX graph."""

import numpy as np
import onnxruntime

from vla_mbpo.engines.cuda import CudaError, Device, NoGpu

NAME = "Played GPU"
KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_}
MOST = 64


class PlayedDriver:
    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.free_bytes = 8_000_000_000
        self.allocations_left = 1_000_000
        self.streams: set[int] = set()
        self._made = 0

    def device(self):  # as the real one
        try:
            self.make_current()
        except CudaError as error:
            raise NoGpu(f"no usable GPU: {error}") from None
        return Device(NAME, "SM89", self.free_bytes, 8_000_000_000, "13.0")

    def make_current(self):
        pass

    def new_stream(self):
        self._made += 1
        self.streams.add(self._made)
        return self._made

    def end_stream(self, stream):
        self.streams.remove(stream)

    def allocate(self, size):
        if not self.allocations_left:
            raise CudaError("cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY")
        self.allocations_left -= 1
        address = 4096 * (len(self.memory) + 1)
        self.memory[address] = np.zeros(size, np.uint8)
        return address

    def free(self, address):
        self.memory[address] = np.zeros(0, np.uint8)

    def upload(self, address, array, stream):
        assert stream in self.streams
        self.memory[address][: array.nbytes] = array.reshape(-1).view(np.uint8)

    def download(self, array, address, stream):
        assert stream in self.streams
        array.reshape(-1).view(np.uint8)[:] = self.memory[address][: array.nbytes]

    def synchronize(self, stream):
        assert stream in self.streams


class PlayedLibrary:
    """The module `tensorrt_rtx`."""

    class ILogger:
        ERROR = 1

        def __init__(self):
            pass

    class TensorIOMode:
        INPUT, OUTPUT = "in", "out"

    @staticmethod
    def nptype(kind):
        return kind

    class Runtime:
        def __init__(self, log):
            self._log = log

        def deserialize_cuda_engine(self, plan):
            try:
                return _Engine(bytes(plan))
            except Exception as error:
                self._log.log(1, f"not an engine: {error}")
                return None


class _Engine:
    device_memory_size_v2 = 1000

    def __init__(self, plan):
        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.inputs = {one.name: one for one in self.session.get_inputs()}
        self.outputs = {one.name: one for one in self.session.get_outputs()}
        self._names = [*self.inputs, *self.outputs]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index):
        return self._names[index]

    def get_tensor_mode(self, name):
        return "in" if name in self.inputs else "out"

    def get_tensor_dtype(self, name):
        return KINDS[(self.inputs | self.outputs)[name].type]

    def get_tensor_profile_shape(self, name, profile):
        return [[d if isinstance(d, int) else k for d in self.inputs[name].shape] for k in (1, 8, MOST)]

    def create_execution_context(self):
        return _Context(self)


class _Context:
    def __init__(self, engine):
        self.engine, self.shapes, self.addresses = engine, {}, {}

    def set_input_shape(self, name, shape):
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        if name in self.shapes:
            return self.shapes[name]
        described = {**self.engine.inputs, **self.engine.outputs}
        free = {
            symbol: size
            for one, shape in self.shapes.items()
            for symbol, size in zip(described[one].shape, shape, strict=True)
            if not isinstance(symbol, int)
        }
        return tuple(d if isinstance(d, int) else free[d] for d in described[name].shape)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        from vla_mbpo.engines import cuda

        driver, feed = cuda.driver(), {}
        for name in self.engine.inputs:
            feed[name] = np.empty(self.shapes[name], self.engine.get_tensor_dtype(name))
            driver.download(feed[name], self.addresses[name], stream)
        for name, found in zip(self.engine.outputs, self.engine.session.run(None, feed), strict=True):
            driver.upload(self.addresses[name], np.ascontiguousarray(found), stream)
        return True
