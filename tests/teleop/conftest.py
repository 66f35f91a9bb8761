from virtual_pad import pad  # noqa: F401
