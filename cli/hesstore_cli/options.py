"""Options that several commands share; the options of a config are generated from its declared settings."""

from __future__ import annotations

import functools
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hesstore.config import PRESETS, TRAINING_SETTINGS, settings, sources
from hesstore.config.l2_grid import format_l2
from hesstore.config.setting_types import FOLDER, REFERENCE
from hesstore.config.suggestions import did_you_mean
from hesstore_cli import completion_values
from hesstore_cli.help_pages import GroupedOption

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from dataclasses import Field

    from hesstore.config.sources import Layer

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

SOURCES = "Where settings come from"
"""The group of --preset, --config and --set."""

store_argument = click.argument(
    "store", metavar="STORE", type=click.Path(path_type=str), shell_complete=completion_values.stores
)

runs_option = click.option(
    "--run",
    "runs",
    type=click.IntRange(0),
    multiple=True,
    metavar="ID",
    help="Only this run; can be repeated.  [default: all]",
)

open_option = click.option("--open", "opening", is_flag=True, help="Then show the file in the web browser.")

stores_argument = click.argument(
    "stores",
    metavar="STORE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=str),
    shell_complete=completion_values.stores,
)

workers_option = click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Number of processes on this machine that share the work.",
)

dask_option = click.option(
    "--dask", "scheduler", default="", metavar="ADDRESS", help="Dask scheduler whose workers carry out the work."
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


class Choice(click.Choice[str]):
    """A choice whose error message names the nearest value."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        """Return a message with all values and the nearest one."""
        return super().get_invalid_choice_message(value, ctx).removesuffix(".") + did_you_mean(value, self.choices)


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a config to ``command``, which receives the given ``settings``, without defaults."""
    return _with_options(command, lambda layers: {"settings": sources.merge(layers)})


def analysis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add those options to ``command`` that concern checkpoints, and hide the others, which it refuses."""
    without = frozenset({*TRAINING_SETTINGS, "direction"})
    helps = {
        "l2": ("X", "λ of all checkpoints, for results that include the penalty.  [default: 0]"),
        "seeds": ("A,B,…", "Seed of each run.  [default: the numbers of the runs in the names]"),
    }
    return _with_options(command, lambda layers: {"settings": sources.merge(layers)}, without, helps)


def layer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the same options to ``command``, which receives the given settings as ``layers``, one for each source."""
    return _with_options(command, lambda layers: {"layers": layers})


def output_file(output: str, *endings: str) -> Path:
    """Return the path of an output file.

    Raises
    ------
    click.BadParameter
        If it has another ending than ``endings``, is a folder, or lies in a folder that does not exist.
    """
    path = Path(output)
    if path.suffix.lower() not in endings:
        *first, last = endings
        expected = f"{', '.join(first)} or {last}" if first else last
        raise click.BadParameter(f"{output!r} does not end in {expected}", param_hint="--output")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {output!r} does not exist", param_hint="--output")
    if path.is_dir():
        raise click.BadParameter(f"{output!r} is a folder", param_hint="--output")
    return path


def default_output(store: str, ending: str) -> str:
    """Return the name of an output file in the current folder, after the name of the store.

    Examples
    --------
    >>> default_output("s3://bucket/run.zarr", "-accuracy.png")
    'run-accuracy.png'
    """
    name = store.rstrip("/").rpartition("/")[2].removesuffix(".zip").removesuffix(".zarr")
    return f"{name or 'store'}{ending}"


def open_in_browser(path: Path) -> None:
    """Show a file in the web browser.

    Raises
    ------
    click.ClickException
        If no browser is found.
    """
    if not webbrowser.open(path.absolute().as_uri()):
        raise click.ClickException(f"--open: no web browser was found: open {path} yourself")


def _with_options(
    command: Callable[..., Any],
    argument: Callable[[list[Layer]], dict[str, Any]],
    hidden: Container[str] = (),
    helps: Mapping[str, tuple[str, str]] | None = None,
) -> Callable[..., Any]:
    """Add --preset, --config, --set and an option for each setting; ``argument`` turns the layers into one.

    Settings in ``hidden`` do not appear in the help; those in ``helps`` have another metavar and help there.
    """

    @functools.wraps(command)
    def with_config(*, preset: str, config_file: Path | None, assignments: tuple[str, ...], **options: Any) -> Any:
        named = {setting.name: options.pop(setting.name) for setting in settings()}
        values = {name: value for name, value in named.items() if value is not None}
        return command(**argument(sources.layers(preset, config_file, assignments, values)), **options)

    decorated: Callable[..., Any] = with_config
    own = helps or {}
    options = [_option(each, own.get(each.name), hidden=each.name in hidden) for each in reversed(settings())]
    for option in (*options, *reversed(_source_options())):
        decorated = option(decorated)
    return decorated


def _source_options() -> tuple[Decorator, ...]:
    """Return the options that give several settings; where two of them give the same one, the later one wins."""
    option = functools.partial(click.option, cls=GroupedOption, group=SOURCES)
    return (
        option(
            "--preset",
            default="paper",
            metavar="|".join(PRESETS),
            show_default=True,
            help="Preset to start from.",
            shell_complete=completion_values.choices(*PRESETS),
        ),
        option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            help="Read settings from a TOML file.",
            shell_complete=completion_values.toml_files,
        ),
        option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set any setting by its key; can be repeated.",
            shell_complete=completion_values.assignments,
        ),
    )


def _option(setting: Field[Any], own: tuple[str, str] | None = None, *, hidden: bool = False) -> Decorator:
    """Return the option of a setting; ``own`` is another metavar and help."""
    kind, group = setting.metadata["type"], setting.metadata["group"]
    name = f"--{setting.name.replace('_', '-')}"
    metavar, text = own or (kind.metavar, _help(setting))
    option = functools.partial(click.option, cls=GroupedOption, group=group, help=text, hidden=hidden)
    if isinstance(setting.default, bool):
        return option(f"{name}/--no-{name[2:]}", setting.name, default=None)
    complete = _COMPLETIONS.get(kind.metavar) or completion_values.choices(*kind.choices)
    return option(name, setting.name, metavar=metavar, shell_complete=complete)


_COMPLETIONS = {FOLDER.metavar: completion_values.folders, REFERENCE.metavar: completion_values.files}


def _help(setting: Field[Any]) -> str:
    """Return the help of a setting with its default and unit."""
    default: Any = setting.default
    if setting.name == "l2":
        default = format_l2(default)
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default == "" or isinstance(default, bool):
        return str(setting.metadata["help"])
    value = f"{default:g}" if isinstance(default, float) else f"{default}"
    shown = f"[default: {value} {setting.metadata['unit']}".rstrip() + "]"
    return f"{setting.metadata['help']}  {shown}"
