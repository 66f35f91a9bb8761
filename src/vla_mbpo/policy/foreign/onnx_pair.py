"""A policy of one or two ONNX graphs of anybody's, run here as its description says."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.engines.sessions import cpu_session
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.foreign.description import Description
from vla_mbpo.policy.foreign.errors import NoChunk
from vla_mbpo.policy.foreign.session import FloatArray, ForeignSession

TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip


class OnnxSession(ForeignSession):
    """Encoder once per look, Euler steps once per candidate. ONNX Runtime on the CPU."""

    def __init__(self, bundle: Bundle, description: Description, spec: RobotSpec, threads: int = 1) -> None:
        """ConfigError: a graph is missing, cannot be read, or has other inputs and outputs than described."""
        super().__init__(bundle, description, spec)
        assert description.graphs is not None
        self._graphs = graphs = description.graphs
        self._encoder = _opened(bundle, graphs.encoder, threads)
        self._step = _opened(bundle, graphs.step, threads) if graphs.step else None
        reads = description.reads
        given = {*reads.pictures, *reads.numbers, *filter(None, [reads.instruction])}
        written = {*graphs.carry.values(), *filter(None, [graphs.features])}
        if self._step is None:
            written.add(description.actions.key)
        else:
            taken = {*graphs.carry, graphs.noise, graphs.time}
            self._step_types = _fits(graphs.step, self._step, taken, {graphs.velocity})
        self._types = _fits(graphs.encoder, self._encoder, given, written)

    def facts(self) -> dict[str, object]:
        """Where the graphs run."""
        return {"providers": ", ".join(filter(None, (self._graphs.encoder, self._graphs.step))) + ": cpu"}

    def _answers(
        self, observation: Observation, instruction: str, scale: FloatArray, rng: np.random.Generator
    ) -> Iterator[Any]:
        told = self._observed.inputs(observation)
        if self.description.reads.instruction:
            told[self.description.reads.instruction] = self.description.reads.known[instruction]
        inputs = {name: array[None].astype(self._types[name]) for name, array in told.items()}
        names = [output.name for output in self._encoder.get_outputs()]
        seen = dict(zip(names, _run(self._encoder, inputs), strict=True))
        if self._graphs.features:
            self._features = np.asarray(seen[self._graphs.features], np.float32).ravel()
        if self._step is None:
            yield _first(seen[self.description.actions.key])
            return
        for one in scale:
            yield self._integrated(self._step, seen, one, rng)

    def _integrated(
        self, step: onnxruntime.InferenceSession, seen: dict[str, Any], scale: float, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Actions (rows, columns) from noise, by Euler steps."""
        graphs, actions, types = self._graphs, self.description.actions, self._step_types
        rows = np.float32(scale) * rng.standard_normal((1, actions.rows, actions.columns), np.float32)
        width = (graphs.end - graphs.begin) / graphs.steps
        carried = {name: seen[output] for name, output in graphs.carry.items()}
        shape = {0: (), 1: (1,), 2: (1, actions.rows)}[self._time_dimensions(step)]
        for index in range(graphs.steps):
            time = np.full(shape, graphs.begin + index * width, types[graphs.time])
            inputs = {**carried, graphs.noise: rows.astype(types[graphs.noise]), graphs.time: time}
            velocity = _run(step, inputs, [graphs.velocity])[0]
            if velocity.shape != rows.shape:
                raise NoChunk("shape", f"{graphs.velocity!r} has the shape {velocity.shape}, expected {rows.shape}")
            rows = rows + width * velocity.astype(np.float32)
        return rows[0]

    def _time_dimensions(self, step: onnxruntime.InferenceSession) -> int:
        """Of the step's time: a number, one per candidate, or one per row."""
        found = next(len(given.shape) for given in step.get_inputs() if given.name == self._graphs.time)
        require(found <= 2, f"{self._graphs.step}: {self._graphs.time}", f"{found} dimensions", "0, 1 or 2")
        return found


def _opened(bundle: Bundle, name: str, threads: int) -> onnxruntime.InferenceSession:
    require(name in bundle.manifest["files"], f"bundle {bundle.path.name}", f"without {name}", "a file of the manifest")
    try:
        return cpu_session(bundle.path / name, threads)
    except ConfigError as error:
        raise ConfigError(f"bundle {bundle.path.name}: {name}", "not loaded", error.valid) from error


def _fits(name: str, graph: onnxruntime.InferenceSession, given: set[str], read: set[str]) -> dict[str, Any]:
    """Numpy type of each input. ConfigError: inputs are not those that are given, or an output is missing."""
    inputs, outputs = {one.name: one for one in graph.get_inputs()}, {one.name for one in graph.get_outputs()}
    require(set(inputs) == given, f"{name}: inputs", sorted(inputs), f"the description gives {sorted(given)}")
    require(read <= outputs, f"{name}: outputs", sorted(outputs), f"the description reads {sorted(read)}")
    for one in inputs.values():
        require(one.type in TYPES, f"{name}: {one.name}", one.type, f"one of {', '.join(TYPES)}")
    return {key: TYPES[one.type] for key, one in inputs.items()}


def _run(graph: onnxruntime.InferenceSession, inputs: dict[str, Any], names: list[str] | None = None) -> list[Any]:
    try:
        return graph.run(names, inputs)
    except Exception as error:  # of many classes: shapes and types that do not fit the graph
        raise NoChunk("shape", " ".join(str(error).split())[:300]) from error


def _first(batch: Any) -> Any:
    """The one answer of a batch of one."""
    return batch[0] if isinstance(batch, np.ndarray) and batch.ndim and len(batch) == 1 else batch
