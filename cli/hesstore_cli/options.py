"""Options that several commands share; those of a config are made from its declared settings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hesstore.config import PRESETS, SweepConfig, format_l2, given, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field


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
        click.option(
            "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting by its key; repeatable."
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            help="Settings from a TOML file.",
        ),
        click.option("--preset", default="paper", metavar="|".join(PRESETS), show_default=True, help="Starting point."),
    ):
        decorated = option(decorated)
    return decorated


def _option(setting: Field[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    default: Any = setting.default
    if setting.name == "l2":
        default = format_l2(default)
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    name = setting.name.replace("_", "-")
    if isinstance(default, bool):
        return click.option(f"--{name}/--no-{name}", setting.name, default=None, help=setting.metadata["help"])
    shown = f"  [default: {default}]" if default != "" else ""
    return click.option(
        f"--{name}",
        setting.name,
        metavar=setting.metadata["kind"].metavar,
        help=setting.metadata["help"] + shown,
    )
