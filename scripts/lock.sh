#!/usr/bin/env bash
# Writes requirements/*.lock: every package with its version and SHA-256 hashes, for `pip install --require-hashes`.
# Run it after a change of setup.py or of requirements/*.txt. Needs `uv` (pip install uv).
set -euo pipefail
cd "$(dirname "$0")/.."

uv=${UV:-uv}
export UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never
lock() {
  local to=$1 python=$2
  shift 2
  "$uv" pip compile --quiet --universal --generate-hashes --no-annotate \
    --python-version "$python" --custom-compile-command scripts/lock.sh --output-file "requirements/$to" "$@"
}

lock wheels.lock 3.11 setup.py requirements/ros.txt          # ROS 2 from wheels: Python 3.11 to 3.14, x86_64
lock apt.lock 3.12 setup.py requirements/apt.txt --extra cameras --extra realsense --extra openpi  # ROS 2 from apt, its Python, its numpy
lock train.lock 3.12 setup.py requirements/apt.txt --extra train
