"""The chunk belongs to now."""

from typing import ClassVar

from vla_mbpo.core.chunk import ActionChunk
from vla_mbpo.core.verdict import Reason
from vla_mbpo.gate.checks.check import Context, FloatArray, Stage


class Age:
    """Refuses chunks of an old or future observation, expired ones, and ones whose rows are all past."""

    name: ClassVar[str] = "age"
    stage: ClassVar[Stage] = Stage.VALUES

    def __call__(self, chunk: ActionChunk, rows: FloatArray, context: Context) -> Reason | None:
        """See Check."""
        age = (context.now - chunk.observation_stamp) / 1e9
        config = context.config
        if age > config.max_chunk_age:
            return Reason(self.name, -1, "observation_stamp", age, config.max_chunk_age)
        if age < -config.max_future:
            return Reason(self.name, -1, "observation_stamp", age, -config.max_future, "from the future")
        if context.now > chunk.expiry:
            return Reason(self.name, -1, "expiry", (context.now - chunk.expiry) / 1e9, 0.0)
        if context.first_to_come(chunk) >= chunk.horizon:
            late = (context.now - chunk.due(chunk.horizon - 1)) / 1e9
            return Reason(self.name, chunk.horizon - 1, "due", late, 0.0, "every row is past")
        return None
