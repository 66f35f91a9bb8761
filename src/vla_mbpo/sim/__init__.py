"""Simulated robot: a MuJoCo table-top behind the interfaces of a real arm."""
