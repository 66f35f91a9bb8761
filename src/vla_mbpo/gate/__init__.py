"""The gate: every chunk is checked against every limit before its rows may reach the arm."""
