"""Command `vla-mbpo`."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.policy.foreign.errors import NoChunk

EXIT_USAGE = 64

# Subcommand -> (module with add_arguments and run, what it does). Modules are imported only when asked for.
COMMANDS = {
    "up": ("vla_mbpo.up", "start the robot, real or simulated, and optionally execute a task"),
    "eval": ("vla_mbpo.eval.command", "success rate of a model bundle in the simulator"),
    "train": ("vla_mbpo.training.command", "train models (needs the extra `train`)"),
    "compile": ("vla_mbpo.engines.command", "models for a GPU: float graphs and TensorRT engines, verified"),
    "calibrate": ("vla_mbpo.calibrate.command", "cameras, their place on the robot, a failure detector's bands"),
    "promote": ("vla_mbpo.releases.promote", "a candidate goes live if it is better than the incumbent"),
    "rollback": ("vla_mbpo.releases.rollback", "the release before the live one is live again"),
    "record": ("vla_mbpo.record.command", "recorded episodes: list, repair, report as a page, export as a dataset"),
    "replay": ("vla_mbpo.replay.command", "models in shadow on a recorded episode, compared with what was said then"),
    "dream": ("vla_mbpo.eval.dreams", "a recorded attempt beside what the world model imagines"),
    "wrap": ("vla_mbpo.policy.foreign.command", "make a bundle of somebody else's policy: a server, or ONNX graphs"),
    "security": ("vla_mbpo.security.command", "permissions and keystore of the node graph; keys that sign bundles"),
    "doctor": ("vla_mbpo.doctor", "check this machine: versions, rendering, messages, transport, models"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """One line, and the exit code of a usage error."""
        print(f"vla-mbpo: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    overview = "\n".join(f"  {name:9} {what}" for name, (_, what) in COMMANDS.items())
    top = _Parser(
        prog="vla-mbpo",
        description=f"Vetted vision-language-action control.\n\ncommands:\n{overview}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="vla-mbpo COMMAND [options]",
    )
    top.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="vla-mbpo COMMAND --help says more")
    chosen = top.parse_args(arguments[:1]).command
    module_name, what = COMMANDS[chosen]
    try:
        module = importlib.import_module(module_name)
        parser = _Parser(prog=f"vla-mbpo {chosen}", description=what)
        module.add_arguments(parser)
        return int(module.run(parser.parse_args(arguments[1:])))
    except ConfigError as error:
        print(f"vla-mbpo: error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except NoChunk as error:  # of who runs a foreign policy
        print(f"vla-mbpo: error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extras = {"av": "export", "pyarrow": "export", "cv2": "calibrate"}
        needed = extras.get(error.name or "", "train" if chosen in ("train", "compile") else "")
        extra = f" (pip install -e '.[{needed}]')" if needed else ""
        print(f"vla-mbpo: error: {chosen} needs the Python module {error.name}{extra}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
