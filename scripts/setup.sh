#!/usr/bin/env bash
# Installs all that `make demo` (and with the argument `dev`, `make test`) needs: system packages, a virtual environment,
# ROS 2 from wheels, the message package and this package. Each step leaves a stamp with the hash of what it was made
# from and is done again only when that changes, so a second call takes well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-${VIRTUAL_ENV:-.venv}}
stamps=$venv/.vla_mbpo
messages=ros2_ws/src/vla_mbpo_msgs transforms=ros2_ws/wheels/tf2_msgs

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
fail() {
  printf '[setup] error: %s\n' "$*" >&2
  exit 1
}

# stale NAME FILE...: true unless step NAME was last done with exactly these files.
stale() {
  local name=$1
  shift
  wanted="$(cat "$@" | sha256sum | cut -c1-64)"
  [[ "$(cat "$stamps/$name" 2>/dev/null)" != "$wanted" ]]
}
done_with() { echo "$wanted" >"$stamps/$1"; }

# The interpreter that the virtual environment is made with.
suitable_python() {
  local python
  for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  return 1
}

# --- system packages -------------------------------------------------------------------------------------------------
# g++ and Python's headers build the messages; EGL and Mesa render the simulated cameras without a display.
system_packages() {
  local needed=(g++ libegl1 libgl1 libgl1-mesa-dri) missing=()
  # Only the distribution's Pythons need the packages that Debian splits off them.
  local python=$venv/bin/python name=python3 version='import sys; print("python%d.%d" % sys.version_info[:2])'
  if [[ ! -x $python ]]; then
    python=$(suitable_python) || python=python3  # which may come with what is installed here
  fi
  [[ "$("$python" -c "$version" 2>/dev/null)" == "$(python3 -c "$version" 2>/dev/null)" ]] ||
    name=$("$python" -c "$version")
  if [[ ! -x $venv/bin/python ]]; then
    "$python" -c 'import ensurepip' 2>/dev/null || needed+=("$name-venv")
  fi
  "$python" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' \
    2>/dev/null || needed+=("$name-dev")
  if [[ "${1:-}" == dev ]]; then needed+=(libusb-1.0-0); fi  # librealsense, for the tests of cameras
  # The page's browser tests (`make test-slow`), which are skipped without. Ubuntu has it as a snap only.
  if [[ -n "${BROWSER:-}" && "$(. /etc/os-release 2>/dev/null && echo "${ID:-}")" == debian ]]; then
    if ((EUID == 0)) || command -v sudo >/dev/null; then needed+=(chromium); fi
  fi
  if ! command -v dpkg-query >/dev/null; then
    command -v g++ >/dev/null ||
      fail "not a Debian or Ubuntu system: install the equivalents of ${needed[*]} yourself, then run this again"
    return
  fi
  local package
  for package in "${needed[@]}"; do
    [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      fail "these system packages are missing and there is no sudo; as root run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing system packages: ${missing[*]}"
  "${as_root[@]}" apt-get -qq update || say "the package lists could not be updated, going on with the old ones"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" \
    >/dev/null || fail "apt-get install ${missing[*]} failed"
}

# --- virtual environment ---------------------------------------------------------------------------------------------
virtual_environment() {
  if [[ ! -x $venv/bin/python ]]; then
    [[ "$(uname -sm)" == "Linux x86_64" ]] ||
      fail "ROS 2 wheels exist for Linux x86_64 only: use a ROS 2 install with colcon here"
    local python
    python=$(suitable_python) || fail "Python 3.11 to 3.14 is needed; set PYTHON=/path/to/python"
    say "making the virtual environment $venv"
    "$python" -m venv "$venv" || fail "$python cannot make a virtual environment"
  fi
  mkdir -p "$stamps"
}

# -qq: errors only; warnings about indexes that the user's pip configuration names are none of ours.
pip() { "$venv/bin/python" -m pip --disable-pip-version-check install -qq "$@"; }

# --- Python packages -------------------------------------------------------------------------------------------------
# An editable install has no data files. ROS tools look for packages below the environment's share/ and for executables
# in lib/<package>: give them links, through which they see the checkout as it is now.
link_for_ros() {
  local share=$venv/share/vla_mbpo index=$venv/share/ament_index/resource_index/packages name
  mkdir -p "$share" "$index" "$venv/lib/vla_mbpo"
  ln -sfn "$PWD/resource/vla_mbpo" "$index/vla_mbpo"
  for name in package.xml config models calibration; do
    ln -sfn "$PWD/$name" "$share/$name"
  done
  [[ -L $share/launch ]] && rm "$share/launch"
  mkdir -p "$share/launch"
  ln -sf "$PWD"/launch/*.py "$share/launch/"  # ros2 launch looks for files and follows no links to folders
  for name in $("$venv/bin/python" -c 'from importlib.metadata import distribution
print(*(e.name for e in distribution("vla_mbpo").entry_points))'); do
    ln -sfn "../../bin/$name" "$venv/lib/vla_mbpo/$name"
  done
}

runtime() {
  local inputs=(requirements/ros.txt setup.py setup.cfg)
  stale runtime "${inputs[@]}" || return 0
  say "installing ROS 2 wheels and the runtime packages (640 MB on disk, some minutes)"
  pip -r requirements/ros.txt -e .
  link_for_ros
  done_with runtime
}

message_package() {
  local inputs
  mapfile -t inputs < <(find "$messages" -type f | LC_ALL=C sort)
  stale messages "${inputs[@]}" requirements/ros.txt || return 0
  say "building the ROS 2 messages (1 to 3 minutes)"
  CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2} pip --force-reinstall --no-deps "./$messages"
  done_with messages
}

# The message of /tf, for `up --markers`; the rest does without.
transform_message() {
  local inputs
  mapfile -t inputs < <(find "$transforms" -type f | LC_ALL=C sort)
  stale transforms "${inputs[@]}" requirements/ros.txt "$messages/wheels.cmake" || return 0
  say "building the message of /tf (a minute)"
  CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2} pip --force-reinstall --no-deps "./$transforms"
  done_with transforms
}

development() {
  stale development setup.py || return 0
  # PyPI's torch is a large CUDA build; a pip configuration that names an index with CPU builds gets the small one.
  say "installing the training and development packages (torch: some minutes)"
  pip -e '.[train,dev]'
  done_with development
}

# In an environment of its own (VENV): Meta-World wants another MuJoCo, and needs no ROS.
metaworld() {
  stale metaworld setup.py || return 0
  say "installing Meta-World and the training packages (torch: some minutes)"
  pip -e '.[train,metaworld,test]'
  done_with metaworld
}

# Nothing of a sourced ROS install or of another environment's wheels may mix in.
unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH _ROS_WHEELS_BOOTSTRAP_COMPLETE

system_packages "${1:-}"
virtual_environment
if [[ "${1:-}" == metaworld ]]; then
  metaworld
  exit
fi
runtime
message_package
case "${1:-}" in
  "") ;;
  tf) transform_message ;;
  dev)
    transform_message
    development
    ;;
  *) fail "unknown argument '$1'; usage: scripts/setup.sh [tf|dev|metaworld]" ;;
esac
