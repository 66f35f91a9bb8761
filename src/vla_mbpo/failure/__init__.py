"""Failure detection: scores of an attempt as it goes on, and conformal bands on them. No rclpy, no torch."""
