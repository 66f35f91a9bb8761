"""A policy behind an openpi-compatible websocket server (`scripts/serve_policy.py` there)."""

import time
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.foreign import wire
from vla_mbpo.policy.foreign.description import Description
from vla_mbpo.policy.foreign.errors import NoChunk
from vla_mbpo.policy.foreign.link import PATIENCE, Link
from vla_mbpo.policy.foreign.observed import nested
from vla_mbpo.policy.foreign.session import FloatArray, ForeignSession

PATIENT = 60.0  # s for an answer while no arm waits for it: in lockstep, and to the first question of all


class OpenpiSession(ForeignSession):
    """Asks the server, and begins to connect to it when it is made: an absent server is no error until a look."""

    def __init__(self, bundle: Bundle, description: Description, spec: RobotSpec, patient: bool = False) -> None:
        """``patient``: wait PATIENT seconds for answers instead of the description's ``answer_within``."""
        super().__init__(bundle, description, spec)
        assert description.server is not None
        self._server = server = description.server
        self._within = PATIENT if patient else server.answer_within
        check = partial(_expect, server.expect)  # no method: the link's thread would keep this session for ever
        self._link = Link(server.url, server.largest, server.headers, check, max(PATIENCE, 2.0 * self._within))
        self.close = weakref.finalize(self, self._link.close)

    @property
    def trouble(self) -> str:
        """What is wrong with the connection."""
        return self._link.trouble

    def facts(self) -> dict[str, object]:
        """Where the server is, and what became of the connection."""
        link = self._link
        return {"server": self._server.url, "connections": link.connections, "stale_answers": link.stale}

    def try_out(self, joints: int, horizon: int) -> None:
        """As ForeignSession; takes up to PATIENT seconds, since a server may compile its model when first asked."""
        within, patience = self._within, self._link.patience
        self._within, self._link.patience = PATIENT, 2.0 * PATIENT
        try:
            super().try_out(joints, horizon)
        finally:
            self._within, self._link.patience = within, patience

    def _answers(
        self, observation: Observation, instruction: str, scale: FloatArray, rng: np.random.Generator
    ) -> Iterator[Any]:
        """One answer, and more while they come in time; noise is the server's own affair."""
        until = time.monotonic() + self._within
        told = {**self._observed.inputs(observation), self.description.reads.instruction: instruction}
        told.pop("", None)
        question, key = wire.pack(nested(told)), self.description.actions.key
        for candidate in range(min(len(scale), self._server.candidates)):
            left = until - time.monotonic()
            if candidate and left <= 0.0:
                return
            try:
                message = self._link.ask(observation.stamp, question, left)
            except NoChunk as error:
                if candidate and error.reason == "late":
                    return
                raise
            answer = wire.unpack(message, self._server.largest)
            if key not in answer:
                raise NoChunk("malformed", f"no {key!r} among {', '.join(sorted(answer))[:200]}")
            yield answer[key]


def _expect(wanted: dict[str, Any], metadata: dict[str, Any]) -> None:
    """ConfigError: another server than the one that is expected."""
    for key, value in wanted.items():
        require(metadata.get(key) == value, f"the server's {key}", metadata.get(key), f"server.expect says {value!r}")
