"""Options that several commands share; those of a config are made from its declared settings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hesstore.config import PRESETS, SweepConfig, settings
from hesstore.config.l2_grid import format_l2
from hesstore.config.setting_types import FOLDER
from hesstore.config.sources import layers, merge
from hesstore.config.suggestions import did_you_mean
from hesstore_cli import completion_values
from hesstore_cli.help_pages import KEPT, GroupedOption

if TYPE_CHECKING:
    from collections.abc import Callable
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
    help="Only this run; repeatable. [default: all]",
)


class Choice(click.Choice[str]):
    """A choice whose error names the nearest one."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        """The names there are, and the nearest."""
        return super().get_invalid_choice_message(value, ctx).removesuffix(".") + did_you_mean(value, self.choices)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` a ``config`` argument, resolved from --preset, --config, --set and an option a setting."""
    return _with_options(command, lambda found: {"config": SweepConfig.from_mapping(merge(found))})


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` an argument ``settings``: those that these options name, not the defaults of others."""
    return _with_options(command, lambda found: {"settings": merge(found)})


def layer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` an argument ``found``: the layers of settings that these options name."""
    return _with_options(command, lambda found: {"found": found})


def _with_options(command: Callable[..., Any], resolved: Callable[[list[Layer]], dict[str, Any]]) -> Callable[..., Any]:
    @functools.wraps(command)
    def with_config(*, preset: str, config_file: Path | None, assignments: tuple[str, ...], **options: Any) -> Any:
        named = {setting.name: options.pop(setting.name) for setting in settings()}
        values = {name: value for name, value in named.items() if value is not None}
        return command(**resolved(layers(preset, config_file, assignments, values)), **options)

    decorated: Callable[..., Any] = with_config
    for option in (*map(_option, reversed(settings())), *reversed(_sources())):
        decorated = option(decorated)
    return decorated


def _sources() -> tuple[Decorator, ...]:
    """The options that name many settings at once; of two, the later wins."""
    option = functools.partial(click.option, cls=GroupedOption, group=SOURCES)
    return (
        option(
            "--preset",
            default="paper",
            metavar="|".join(PRESETS),
            show_default=True,
            help="Starting point.",
            shell_complete=completion_values.choices(*PRESETS),
        ),
        option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            help="Settings from a TOML file.",
            shell_complete=completion_values.toml_files,
        ),
        option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            help="Any setting by its key; repeatable.",
            shell_complete=completion_values.assignments,
        ),
    )


def _option(setting: Field[Any]) -> Decorator:
    kind, group = setting.metadata["type"], setting.metadata["group"]
    name = f"--{setting.name.replace('_', '-')}"
    option = functools.partial(click.option, cls=GroupedOption, group=group, help=_help(setting))
    if isinstance(setting.default, bool):
        return option(f"{name}/--no-{name[2:]}", setting.name, default=None)
    complete = completion_values.folders if kind is FOLDER else completion_values.choices(*kind.choices)
    return option(name, setting.name, metavar=kind.metavar, shell_complete=complete)


def _help(setting: Field[Any]) -> str:
    """What a setting is, with its default and unit."""
    default: Any = setting.default
    if setting.name == "l2":
        default = format_l2(default)
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default == "" or isinstance(default, bool):
        return str(setting.metadata["help"])
    value = f"{default:g}" if isinstance(default, float) else f"{default}"
    shown = f"[default: {value} {setting.metadata['unit']}".rstrip() + "]"
    return f"{setting.metadata['help']}  {shown.replace(' ', KEPT)}"
