"""Package `vla_mbpo`: the same file serves pip (bdist_wheel, editable_wheel) and colcon (install, develop)."""

import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "vla_mbpo"

# Every executable of this package: `vla-mbpo` and one per node, for `ros2 run vla_mbpo NODE` and launch files.
NODES = (
    "arm_driver camera failure_detector gate imagination joy lifecycle_manager markers mock_arm monitor policy "
    "recorder sim sway task teleop trainer".split()
)
EXECUTABLES = {"vla-mbpo": "vla_mbpo.cli:main", **{node: "vla_mbpo.nodes.__main__:main" for node in NODES}}

RUNTIME = [
    "cryptography>=41,<51",
    "mcap>=1.5,<2",
    "mink>=0.0.13,<2",
    "mujoco>=3.3,<5",  # gate and kinematics; the tabletop's scenes want 4 (sim/scene.py), Meta-World 3.3.0
    "numpy>=1.26,<3",
    "onnxruntime>=1.20,<2",
    "pillow>=10.1,<14",
    "pygame-ce>=2.5,<3",
    "PyYAML>=6,<7",
    "rich>=13,<16",
    "ruckig>=0.14,<1",
    "scipy>=1.11,<2",
]
EXPORT = ["av>=15,<19", "pyarrow>=20,<27"]
TEST = [
    "hypothesis>=6.100,<7",
    "pytest>=8.2,<10",
    "pytest-rerunfailures>=15,<17",
    "pytest-xdist>=3.6,<4",
    "rosbags>=0.10.11,<0.12",
]
# Before 4.14 corners are half a pixel off; the Python module of 5.0 has no calibrateHandEye.
CALIBRATE = ["opencv-python-headless>=4.14,<5"]
REALSENSE = ["pyrealsense2>=2.58.4,<2.60"]  # tested at both ends; needs the system's libusb-1.0-0
OPENPI = ["msgpack>=1.0.5,<2", "websockets>=15.0,<18"]  # tested at 1.0.5 and 1.2.4, 15.0 and 17.4
# Builds engines without a GPU. Proprietary; a 91 MiB wheel for x86_64 that a robot without an NVIDIA GPU does not need.
ENGINES = ["tensorrt-rtx>=1.7.1,<1.8; platform_machine == 'x86_64'"]
# An outside benchmark, in an environment of its own: physics differs between versions of MuJoCo (docs/benchmark.md).
METAWORLD = ["metaworld==3.1.1", "mujoco==3.3.0", "packaging>=23"]
EXTRAS = {
    "calibrate": CALIBRATE,
    "cameras": ["av>=15,<19"],
    "realsense": REALSENSE,
    "export": EXPORT,
    "engines": ENGINES,
    "train": [
        "matplotlib>=3.8,<4",
        "onnx>=1.17,<2",
        "onnxscript>=0.5,<1",
        "onnxslim>=0.1.50,<0.2",
        "safetensors>=0.4,<1",
        "torch==2.13.0",
    ],
    "ray": ["ray>=2.60,<3"],
    "metaworld": METAWORLD,
    "openpi": OPENPI,
    "test": TEST,  # under this name `colcon test` looks for pytest
    "dev": [
        *CALIBRATE,
        *ENGINES,
        *EXPORT,
        *OPENPI,
        *REALSENSE,
        *TEST,
        "axe-playwright-python==0.1.8",
        "mypy>=1.15,<3",
        "playwright==1.65.2",
        "ruff>=0.17,<0.18",
        "types-PyYAML>=6,<7",
    ],
}


LEFT_OUT = Path("models/training")  # what training starts from; no robot needs it


def tree(folder: str) -> list[tuple[str, list[str]]]:
    """Every file below ``folder``, for the same place below share/vla_mbpo."""
    by_folder: dict[Path, list[str]] = {}
    for file in sorted(Path(folder).rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and LEFT_OUT not in file.parents:
            by_folder.setdefault(file.parent, []).append(file.as_posix())
    return [(f"share/{NAME}/{parent.as_posix()}", files) for parent, files in by_folder.items()]


def forwarders(place: str, target: str) -> tuple[str, list[str]]:
    """One script per executable, to be installed in ``place``, that runs its namesake in ``target``."""
    up = "/".join(".." for _ in Path(place).parts)
    folder = Path("build/forwarders")
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXECUTABLES:
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "$(dirname "$0")/{up}/{target}/{name}" "$@"\n')
        script.chmod(0o755)
    return place, [(folder / name).as_posix() for name in EXECUTABLES]


# pip ignores setup.cfg's script folders and fills bin/, colcon fills lib/vla_mbpo: forward from the other one.
# (An editable install has no data files; scripts/setup.sh links the checkout's instead.)
data_files: list[tuple[str, list[str]]] = []
if "bdist_wheel" in sys.argv:
    data_files.append(forwarders(f"lib/{NAME}", "bin"))
elif {"install", "develop", "symlink_data", "install_data"} & set(sys.argv):
    data_files.append(forwarders("bin", f"lib/{NAME}"))

data_files += [
    ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
    (f"share/{NAME}", ["package.xml"]),
]
for folder in ("launch", "config", "models", "calibration"):
    data_files += tree(folder)

setup(
    name=NAME,
    version="0.1.0",
    description="Vision-language-action control in which no action chunk reaches the arm unvetted",
    license="Apache-2.0",
    maintainer="vla_mbpo maintainers",
    maintainer_email="maintainers@example.com",
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={"vla_mbpo.monitor": ["static/*"]},
    data_files=data_files,
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    entry_points={"console_scripts": [f"{name} = {target}" for name, target in EXECUTABLES.items()]},
    zip_safe=False,
)
