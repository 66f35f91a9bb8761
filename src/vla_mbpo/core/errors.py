"""Errors that tell the user which field is wrong, what it holds and what it may hold."""


class ConfigError(ValueError):
    """A configuration value cannot be used.

    The message is one line: ``<field>: <value> is not valid; <valid>``.
    """

    def __init__(self, field: str, value: object, valid: str) -> None:
        super().__init__(f"{field}: {value!r} is not valid; {valid}")
        self.field = field
        self.value = value
        self.valid = valid

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[str, object, str]]:
        """What carries it out of a worker process: by default only the message would."""
        return type(self), (self.field, self.value, self.valid)


def require(ok: bool, field: str, value: object, valid: str) -> None:
    """Raise ConfigError unless ``ok``."""
    if not ok:
        raise ConfigError(field, value, valid)
