"""Where graphs run: TensorRT, then ONNX Runtime on CUDA, then the CPU; and what really does. All are opened here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.engines import cuda, libraries
from vla_mbpo.engines.cache import Cache, Compiled, Key

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = ("auto", "tensorrt", "cuda", "cpu")
OFF_PATH = ("decode",)  # graphs that no chunk waits for: they stay on the CPU
CUDA_ARENA = 512 << 20  # bytes of GPU memory that ONNX Runtime may take for one graph

Feed = dict[str, NDArray[Any]]
Found = TypeVar("Found")
Run = Callable[[Sequence[str] | None, Feed], list[NDArray[Any]]]


class Unavailable(RuntimeError):
    """This provider cannot run this graph here; the text says why."""


@dataclass(frozen=True)
class Graph:
    """A loaded graph. One thread at a time.

    Attributes:
        name: as in its bundle, without suffixes.
        provider: what runs it, with the precision: tensorrt, tensorrt_rtx, cuda or cpu.
        passed_over: what comes before it and does not, and why.
        run: outputs by name (None: all, in the graph's order) of named inputs.
    """

    name: str
    provider: str
    run: Run
    passed_over: tuple[tuple[str, str], ...] = ()


def describe(graphs: Iterable[Graph]) -> str:
    """What runs what, and why nothing better, in one line for a log or /diagnostics."""
    alike: dict[tuple, list[str]] = {}
    for graph in graphs:
        alike.setdefault((graph.provider, graph.passed_over), []).append(graph.name)
    return "; ".join(f"{', '.join(names)}: {provider}{_why(over)}" for (provider, over), names in alike.items())


def _why(passed_over: tuple[tuple[str, str], ...]) -> str:
    reasons: dict[str, list[str]] = {}
    for provider, reason in passed_over:
        reasons.setdefault(reason, []).append(provider)
    texts = [f"not {' or '.join(providers)}: {reason}" for reason, providers in reasons.items()]
    return f" ({'; '.join(texts)})" if texts else ""


class Place(Protocol):
    """Who opens a model's graphs."""

    def open(self, path: Path, threads: int) -> Graph:
        """The graph of a file whose hash has been checked."""
        ...

    def warning(self, graphs: Iterable[Graph]) -> str:
        """What is not as was asked for, or an empty string."""
        ...

    def require_cpu(self, why: str) -> None:
        """ConfigError unless the CPU may run what cannot run elsewhere."""
        ...


@dataclass(frozen=True)
class Choice:
    """What will run a graph.

    Attributes:
        provider: of ``PROVIDERS`` without auto.
        compiled: its folder in the cache, where that is used.
        key, record: of its engine.
        passed_over: as in ``Graph``.
    """

    provider: str
    compiled: Compiled | None = None
    key: Key | None = None
    record: dict[str, Any] = field(default_factory=dict)
    passed_over: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Placement:
    """What a user chooses.

    Attributes:
        provider: auto takes the best there is and says what it passed over; another one must run, or it is an error.
        allow_fallback: unless this is true; then what comes after it may.
        owner: whose parameters these are, for messages.
        cache: of compiled graphs.
    """

    provider: str = "auto"
    allow_fallback: bool = False
    owner: str = "policy"
    cache: Cache = field(default_factory=Cache)

    def choose(self, path: Path) -> Choice:
        """What will run the graph, without loading it.

        Raises:
            ConfigError: what was asked for cannot, or the cache is damaged: that is never a reason to fall back.
        """
        return self._first(path, lambda choice: choice)

    def open(self, path: Path, threads: int) -> Graph:
        """Load the graph where it can run. ConfigError as ``choose``."""
        return self._first(path, lambda choice: _load(choice, path, threads))

    def _first(self, path: Path, use: Callable[[Choice], Found]) -> Found:
        """What ``use`` makes of the first choice that is available."""
        require(self.provider in PROVIDERS, f"{self.owner}.provider", self.provider, f"one of {', '.join(PROVIDERS)}")
        wanted = PROVIDERS[1:] if self.provider == "auto" else PROVIDERS[PROVIDERS.index(self.provider) :]
        passed: list[tuple[str, str]] = []
        for provider in wanted:
            try:
                return use(self._look(provider, path, tuple(passed)))
            except Unavailable as why:
                if self.provider != "auto" and not self.allow_fallback:
                    valid = f"{path.name}: {why} ({self.owner}.allow_fallback is false)"
                    raise ConfigError(f"{self.owner}.provider", provider, valid) from None
                passed.append((provider, str(why)))
        raise AssertionError("the CPU runs everything")

    def warning(self, graphs: Iterable[Graph]) -> str:
        """That something runs elsewhere than asked for, or an empty string; with auto nothing was."""
        elsewhere = [graph for graph in graphs if graph.passed_over] if self.provider != "auto" else []
        return f"fallback: {describe(elsewhere)}" if elsewhere else ""

    def require_cpu(self, why: str) -> None:
        """See ``Place``."""
        may = self.provider in ("auto", "cpu") or self.allow_fallback
        require(may, f"{self.owner}.provider", self.provider, f"auto or cpu: {why}, and those run on the CPU")

    def _look(self, provider: str, path: Path, passed: tuple[tuple[str, str], ...]) -> Choice:
        if provider == "cpu":
            return Choice("cpu", passed_over=passed)
        try:
            device = cuda.driver().device()
        except cuda.NoGpu as error:
            raise Unavailable(str(error)) from None
        if provider == "cuda":
            _require_cuda()
            compiled = self.cache.graph(path)
            if compiled is None and path.name.endswith(".int8.onnx"):
                raise Unavailable("no float graph of it: run vla-mbpo compile")
            return Choice("cuda", compiled, passed_over=passed)
        compiled = self.cache.graph(path)
        if compiled is None:
            raise Unavailable("not compiled: run vla-mbpo compile")
        return self._engine(compiled, device, passed)

    @staticmethod
    def _engine(compiled: Compiled, device: cuda.Device, passed: tuple[tuple[str, str], ...]) -> Choice:
        """The fastest precision that was verified on this GPU."""
        seen = f"no engine for {device.name} ({device.architecture})"
        for library in libraries.LIBRARIES:
            version = libraries.version(library)
            for precision in ("fp16", "fp32") if version else ():
                if precision not in compiled.record["onnx"]:
                    continue
                target = libraries.target(library, device.architecture, device.name)
                key = compiled.key(precision, library, version, target)
                record = compiled.engine(key)
                if record is None:
                    continue
                verified = record.get("verified") or {}
                if verified.get("gpu") == device.name and verified.get("ok") is True:
                    return Choice("tensorrt", compiled, key, record, passed)
                seen = f"the engine has not been verified on {device.name}"
        raise Unavailable(f"{seen}: run vla-mbpo compile")


def _load(choice: Choice, path: Path, threads: int) -> Graph:
    name = graph_name(path)
    if choice.provider == "cpu":
        return _on_cpu(path, threads, choice.passed_over)
    if choice.provider == "cuda":
        content = choice.compiled.onnx("fp32") if choice.compiled else path.read_bytes()
        return Graph(name, "cuda fp32", cuda_session(content, threads).run, choice.passed_over)
    from vla_mbpo.engines.tensorrt import Engine, EngineFault

    assert choice.compiled is not None and choice.key is not None
    plan = choice.compiled.plan(choice.key)
    try:
        engine = Engine(plan, choice.key.library)
    except (EngineFault, cuda.CudaError) as error:
        raise Unavailable(str(error)) from None
    return Graph(name, f"{choice.key.library} {choice.record['precision']}", engine.run, choice.passed_over)


class _Cpu:
    """The graphs as they are shipped, on the CPU: the same numbers everywhere."""

    def open(self, path: Path, threads: int) -> Graph:
        """See ``Place``."""
        return _on_cpu(path, threads)

    def warning(self, graphs: Iterable[Graph]) -> str:
        """Nothing can be."""
        return ""

    def require_cpu(self, why: str) -> None:
        """It may."""


CPU: Place = _Cpu()


def _on_cpu(path: Path, threads: int, passed_over: tuple[tuple[str, str], ...] = ()) -> Graph:
    precision = "int8" if path.name.endswith(".int8.onnx") else "fp32"
    return Graph(graph_name(path), f"cpu {precision}", cpu_session(path, threads).run, passed_over)


def shipped(folder: Path) -> dict[str, Path]:
    """The graphs of a bundle's folder that propose, vet or watch, by name."""
    return {graph_name(file): file for file in sorted(folder.glob("*.onnx")) if graph_name(file) not in OFF_PATH}


def graph_name(path: Path) -> str:
    """``step`` of step.int8.onnx."""
    return path.name.removesuffix(".onnx").removesuffix(".int8")


def cpu_session(model: Path | bytes, threads: int) -> "onnxruntime.InferenceSession":
    """CPU session with a fixed number of threads that do not spin (two contended spinning threads take seconds).

    ConfigError: ONNX Runtime cannot load it.
    """
    import onnxruntime  # who only asks what would run where does without

    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, _options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common type but this
        name, said = "graph" if isinstance(model, bytes) else str(model), " ".join(str(error).split())[-200:]
        one = "on a CPU without VNNI each weight of signed bytes belongs to one product"
        what = f"a graph that ONNX Runtime {onnxruntime.__version__} loads ({one}): {said}"
        raise ConfigError("graph", name, what) from error


def cuda_session(content: bytes, threads: int) -> "onnxruntime.InferenceSession":
    """Unavailable where ONNX Runtime would use the CPU instead, of which it says nothing by itself."""
    import onnxruntime

    _require_cuda()
    wanted = ("CUDAExecutionProvider", {"gpu_mem_limit": CUDA_ARENA, "arena_extend_strategy": "kSameAsRequested"})
    session = onnxruntime.InferenceSession(content, _options(threads), providers=[wanted, "CPUExecutionProvider"])
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise Unavailable(f"onnxruntime runs it on {session.get_providers()[0]}")
    return session


def _require_cuda() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Unavailable("this onnxruntime has no CUDA provider (package onnxruntime-gpu)")


def _options(threads: int) -> "onnxruntime.SessionOptions":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without VNNI, products of bytes are summed in 16 bits and cut off there: chunks were 0.2 rad off. This is exact.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    return options
