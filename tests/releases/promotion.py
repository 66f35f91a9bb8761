"""A store, and what an evaluation of each policy would find: nothing is simulated."""

import argparse
import json
from dataclasses import asdict

from vla_mbpo.cli import main
from vla_mbpo.eval import command
from vla_mbpo.eval.lockstep import Outcome
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases import evaluation, promote
from vla_mbpo.releases.store import Store

TASKS, EPISODES = ("push", "button"), 20
SEED = command.SCENES["calibration"]


class Bench:
    """A store, and what `vla-mbpo eval` would find for two policies."""

    def __init__(self, folder, policies, alone=True):
        """``alone``: no stack is asked."""
        self.policies, self.store, self.alone = policies, Store(folder / "releases"), alone
        self.evaluations = folder / "evaluations"
        self.evaluations.mkdir()

    def evaluated(self, bundle, solves, costs=lambda seed: 0, world_model=None, unknown=0):
        """Write the outcomes of all attempts with the policy in this folder: ``solves(task, seed)``.

        ``unknown``: chunk sets of ten that the world model knows nothing of.
        """
        parser = argparse.ArgumentParser()
        promote.add_arguments(parser)
        args = parser.parse_args([*self.common(), "--candidate", "x"])
        side = evaluation.options(Bundle.load(bundle), world_model, self.evaluations, args)
        lines = [command.identity(side)]
        for seed in range(EPISODES):
            for task in TASKS:
                events = ["drop"] * costs(seed)
                outcome = Outcome(task, SEED + seed, solves(task, seed), 3.0, events, chunks=10, unknown=unknown)
                lines.append(asdict(outcome))
        partial = command.partial_of(side)
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def common(self):
        tasks, episodes = ",".join(TASKS), str(EPISODES)
        where = ["--store", str(self.store.folder), "--evaluations", str(self.evaluations)]
        alone = ["--no-swap"] if self.alone else []
        return [
            *where,
            *alone,
            "--tasks",
            tasks,
            "--episodes",
            episodes,
            "--limit-episodes",
            episodes,
            "--workers",
            "1",
        ]

    def first(self, *more):
        return main(["promote", "--incumbent", str(self.policies["old"].path), *self.common(), *more])

    def words(self, candidate="new"):
        return ["promote", "--candidate", str(self.policies[candidate].path), *self.common()]

    @property
    def live(self):
        return self.store.release("live").policy.version
