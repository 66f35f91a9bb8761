"""Recorded attempts as a LeRobotDataset v3 (parquet, MP4 and their description), and back. Needs the extra `export`."""
