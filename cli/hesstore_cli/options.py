"""Options that several commands share; those of a config are made from its declared settings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hesstore.config import PRESETS, SweepConfig, format_l2, given, settings
from hesstore_cli.help_pages import KEPT, GroupedOption

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field


SOURCES = "Where settings come from"
"""Later ones win: the preset, the file, --set, the options."""

store_argument = click.argument("store", metavar="STORE", type=click.Path(path_type=str))


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` a ``config`` argument, resolved from --preset, --config, --set and an option a setting."""
    return _with_options(command, lambda *given_ones: {"config": SweepConfig.from_mapping(given(*given_ones))})


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` an argument ``settings``: those that these options name, not the defaults of others."""
    return _with_options(command, lambda *given_ones: {"settings": given(*given_ones)})


def _with_options(command: Callable[..., Any], resolved: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    @functools.wraps(command)
    def with_config(*, preset: str, config_file: Path | None, assignments: tuple[str, ...], **options: Any) -> Any:
        named = {setting.name: options.pop(setting.name) for setting in settings()}
        values = {name: value for name, value in named.items() if value is not None}
        return command(**resolved(preset, config_file, assignments, values), **options)

    decorated: Callable[..., Any] = with_config
    for setting in reversed(settings()):
        decorated = _option(setting)(decorated)
    for option in (
        _source("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting by its key; repeatable."),
        _source(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            help="Settings from a TOML file.",
        ),
        _source("--preset", default="paper", metavar="|".join(PRESETS), show_default=True, help="Starting point."),
    ):
        decorated = option(decorated)
    return decorated


def _source(*names: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(*names, cls=GroupedOption, group=SOURCES, **settings)


def _option(setting: Field[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    name, metadata = setting.name.replace("_", "-"), setting.metadata
    shown: dict[str, Any] = {"cls": GroupedOption, "group": metadata["group"], "help": _help(setting)}
    if isinstance(setting.default, bool):
        return click.option(f"--{name}/--no-{name}", setting.name, default=None, **shown)
    return click.option(f"--{name}", setting.name, metavar=metadata["kind"].metavar, **shown)


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
