"""Simulated robot: a MuJoCo table-top behind the interfaces of a real arm."""

import os

# MuJoCo reads MUJOCO_GL once, when it is first imported.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
