"""Why a look at the scene gave no chunk."""

REASONS = ("unreachable", "late", "server_error", "malformed", "oversized", "shape", "not_finite", "reach")
PROPOSED = ("not_finite", "reach")  # what a policy itself proposes now and then; the others are faults of who runs it


class NoChunk(RuntimeError):
    """A foreign policy gave nothing that may be proposed; ``reason`` is one of REASONS, the text says more."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"no chunk, {reason}: {text}")
        self.reason, self.text = reason, text

    def __reduce__(self) -> tuple[type["NoChunk"], tuple[str, str]]:
        """What carries it out of a worker process: by default only the message would."""
        return type(self), (self.reason, self.text)
