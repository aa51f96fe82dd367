"""The group of commands, and what they share: how errors are shown."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import pairwise

import click

from streamgmm._version import __version__
from streamgmm.exceptions import StreamGMMError

#: The commands, each in the module of its name, and their one-line help.
_COMMANDS = {
    "fit": "Fit a mixture to the rows of a store and write the model.",
    "plan": "Say what a fit will take: tasks, memory, time.",
    "select": "Compare mixtures of several sizes, all fed by the same passes.",
    "predict": "Write labels, responsibilities or densities of a store's rows.",
    "score": "Print the log-likelihood of a store's rows.",
    "compare": "Compare models on the same rows, and keep the best.",
    "run": "Run the steps of a job file.",
    "plot": "Draw a model, and rows of a store next to it.",
    "export": "Write a model as ONNX, SQL or for scikit-learn.",
    "info": "Show what is in a model file.",
    "demo": "Fit a mixture to patches of two photographs, and show it.",
}


#: Where a context keeps the command line.
_ARGUMENTS = "streamgmm.arguments"


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are used, so that --help is quick; users' mistakes are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"streamgmm.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "streamgmm"
            click.echo(f"streamgmm: {error.format_message()} (see {command} --help)", err=True)
            sys.exit(2)
        except (StreamGMMError, OSError) as error:
            from streamgmm.cli.errors import exit_with
            from streamgmm.jobs.log import Log

            exit_with(error, Log(as_json=_wants_json(ctx.meta.get(_ARGUMENTS, []))))


def _wants_json(arguments: list[str]) -> bool:
    """Whether the log is asked for in JSON: of a command line that could not be read, too."""
    return "--log-format=json" in arguments or any(pair == ("--log-format", "json") for pair in pairwise(arguments))


#: What there is to do at first, under the commands.
_FIRST_STEPS = """Try these first:

\b
  streamgmm demo
  streamgmm fit ROWS --components 8 --output model.safetensors
  streamgmm predict model.safetensors ROWS --output labels.zarr
"""


@click.group(
    cls=_LazyGroup,
    epilog=_FIRST_STEPS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="streamgmm")
def main() -> None:
    """Gaussian mixtures for data that does not fit in memory.

    A SOURCE is the path of a Zarr store (or of an array inside one), of Parquet files (one file, a folder, a quoted
    glob) or of a .npy file. Results go to standard output, everything else to standard error.
    """


if __name__ == "__main__":
    from streamgmm.cli.process import start

    start()
