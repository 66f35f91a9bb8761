"""No file and no network message is unpickled anywhere: what is loaded is data, never code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [*sorted((ROOT / "src").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]
CODE += [*sorted((ROOT / "scripts").glob("*.py")), *sorted((ROOT / "launch").glob("*.py")), ROOT / "setup.py"]

# Modules whose loaders run code that the data names.
FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
FORBIDDEN |= {"msgpack_numpy"}  # unpickles arrays of objects
# The exceptions, both of training and in memory only: what goes to worker processes that this program has started
# itself or to a Ray cluster that the user names, and what learners under torchrun tell each other (docs/scaling.md).
# Nothing of it is written to disk or read from there, and no node of the robot imports either.
IN_MEMORY = {"src/vla_mbpo/spread.py": {"pickle"}, "src/vla_mbpo/training/ranks.py": {"objects"}}
OBJECTS = "all_gather_object gather_object broadcast_object_list scatter_object_list send_object_list recv_object_list"


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
            first = node.args[0]
            found |= {first.value.split(".")[0]} if isinstance(first, ast.Constant) else set()
    return found


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _owner(node: ast.Call) -> str:
    value = node.func.value if isinstance(node.func, ast.Attribute) else None
    return value.id if isinstance(value, ast.Name) else ""


def _says(node: ast.Call, name: str, value: object) -> bool:
    return any(k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is value for k in node.keywords)


def unsafe(tree: ast.AST) -> list[str]:
    """Loaders that may unpickle, and evaluation of text."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner, called = _owner(node), _called(node)
        kwargs = {keyword.arg for keyword in node.keywords}
        bad = {
            "torch.load": owner == "torch" and called in ("load", "save"),
            "allow_pickle": "allow_pickle" in kwargs and not _says(node, "allow_pickle", False),
            "yaml": owner == "yaml" and called in ("load", "load_all", "unsafe_load", "full_load"),
            "objects": called in OBJECTS.split(),  # of torch.distributed
            "read_pickle": called in ("read_pickle", "to_pickle"),
            "eval": owner == "" and isinstance(node.func, ast.Name) and called in ("eval", "exec"),
        }
        found += [name for name, is_bad in bad.items() if is_bad]
    return found


@pytest.mark.parametrize("text", ["import pickle", "from joblib import load", "importlib.import_module('dill')"])
def test_the_scan_sees_imports(text):
    assert imported(ast.parse(text)) & FORBIDDEN


@pytest.mark.parametrize(
    "text",
    ["torch.load(f)", "np.load(f, allow_pickle=True)", "np.load(f, allow_pickle=x)", "yaml.load(f)", "eval(text)"],
)
def test_the_scan_sees_calls(text):
    assert unsafe(ast.parse(text))


def test_nothing_in_the_tree_unpickles():
    assert len(CODE) > 150
    found = {}
    for file in CODE:
        name, tree = file.relative_to(ROOT).as_posix(), ast.parse(file.read_text())
        if faults := (imported(tree) & FORBIDDEN) | set(unsafe(tree)):
            found[name] = faults
    assert found == IN_MEMORY


@pytest.mark.parametrize("name", IN_MEMORY)
def test_the_exceptions_touch_no_file(name):
    """What is pickled there stays between this program and its workers."""
    calls = [node for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, ast.Call)]
    assert {_called(node) for node in calls if _owner(node) == "pickle"} <= {"dumps", "loads"}
    assert not {"open", "read_bytes", "write_bytes", "read_text", "write_text"} & {_called(node) for node in calls}


def test_no_node_imports_the_exceptions():
    """What runs on the robot: nodes and what they import of this package, at whatever depth."""
    seen, left = set(), [f"vla_mbpo.nodes.{file.stem}" for file in (ROOT / "src/vla_mbpo/nodes").glob("*.py")]
    while left:
        name = left.pop()
        file = ROOT / "src" / f"{name.replace('.', '/')}.py"
        if name in seen or not file.is_file():
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                left += [node.module, *(f"{node.module}.{found.name}" for found in node.names)]
            elif isinstance(node, ast.Import):
                left += [found.name for found in node.names]
    assert "vla_mbpo.gate.gate" in seen
    assert not {name.removeprefix("src/").removesuffix(".py").replace("/", ".") for name in IN_MEMORY} & seen


def test_no_file_of_the_tree_is_a_pickle():
    """Shipped models and data: safetensors, ONNX, npz without objects, JSON."""
    kinds = {file.suffix for place in ("models", "calibration") for file in (ROOT / place).rglob("*") if file.is_file()}
    assert kinds <= {".onnx", ".json", ".npz", ".safetensors", ".yaml", ".sig"}
