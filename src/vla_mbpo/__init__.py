"""Vetted vision-language-action control: chunks are imagined, risk-checked and gated before the arm moves."""

import os

# MuJoCo reads MUJOCO_GL once, when any module first imports it.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
