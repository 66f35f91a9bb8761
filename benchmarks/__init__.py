"""Benchmarks: each module prints a table and, with --json, writes its result file."""
