"""Execution of approved rows: on time, under the joint limits, ending at rest."""
