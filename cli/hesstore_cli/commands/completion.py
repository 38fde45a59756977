"""``hesstore completion``, and the completions that it makes shells ask for.

The classes replace click's own ones. Each shell passes the whole line up to the cursor, which is split into words here,
because Bash breaks words at ``=`` and ``:``, which ``--set key=value``, ``--option=value`` and URLs contain. No space
follows a completion that ends in ``/`` or ``=``, and paths with spaces are quoted.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import ClassVar, NamedTuple

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, get_completion_class

from hesstore_cli.help_pages import Command
from hesstore_cli.options import Choice
from hesstore_cli.terminal.streams import write_line

VARIABLE = "_HESSTORE_COMPLETE"
"""The environment variable with which ``hesstore`` prints completions instead of running a command."""

_SPECIAL = {"": r"[^\w@%+,./:=-]", '"': r'["$`\\]', "'": "(?!)"}
"""The characters that Bash requires to be escaped, by the open quotation mark."""


class _Complete(ShellComplete):
    """Completion of the line in the environment variable ``COMP_LINE``."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words after ``hesstore``, and the word that is being typed."""
        _, *words, last = split(os.environ["COMP_LINE"]).words
        return words, last

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return the completions of the last word; those of ``--option=value`` include the option."""
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not (equals and option.startswith("-")):
            return found
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in found]


class Bash(_Complete):
    """Completion in Bash 4.4 or newer."""

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = """\
%(complete_func)s() {
    mapfile -t COMPREPLY < <(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1")
    if [[ -z ${COMPREPLY[*]} ]]; then
        COMPREPLY=()
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=] ]]; then
        compopt -o nospace
    fi
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return the replacement for the part of the word that Bash sees, with the necessary escapes."""
        line = split(os.environ["COMP_LINE"])
        rest = item.value.removeprefix(line.words[-1])
        return line.tail + re.sub(_SPECIAL[line.quote], r"\\\g<0>", rest)


class Zsh(_Complete):
    """Completion in Zsh."""

    name: ClassVar[str] = "zsh"
    source_template: ClassVar[str] = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a described plain open
    local value text
    local line="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX"
    while IFS=$'\\t' read -r value text; do
        if [[ -z $value ]]; then
            continue
        elif [[ $value == *[/=] ]]; then
            open+=("$value")
        elif [[ -n $text ]]; then
            described+=("${value//:/\\\\:}:$text")
        else
            plain+=("$value")
        fi
    done < <(env COMP_LINE="$line" %(complete_var)s=zsh_complete %(prog_name)s)
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#open )) && compadd -U -V unsorted -S '' -a open
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return the whole word and its description, with ``~`` expanded because Zsh would quote it."""
        value = os.path.expanduser(item.value) if item.value.startswith("~") else item.value  # noqa: PTH111 - keeps the last /
        return f"{value}\t{_description(item)}"


class Fish(_Complete):
    """Completion in fish."""

    name: ClassVar[str] = "fish"
    source_template: ClassVar[str] = """\
function %(complete_func)s
    env COMP_LINE=(commandline -cp | string collect) %(complete_var)s=fish_complete %(prog_name)s
end
complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return the whole word and its description."""
        return f"{item.value}\t{_description(item)}"


SHELLS = (Bash, Zsh, Fish)
for _shell in SHELLS:
    add_completion_class(_shell)


@click.command(cls=Command)
@click.argument("shell", type=Choice([shell.name for shell in SHELLS]), metavar="[bash|zsh|fish]", required=False)
@click.option("--install", "installing", is_flag=True, help="Install the script for all new shells of this user.")
@click.pass_context
def completion(context: click.Context, shell: str | None, *, installing: bool) -> None:
    """Print or install a script for tab completion.

    With the script, the Tab key completes commands, options, the values of settings, and the names of stores and TOML
    files in bash, zsh or fish. By default, the shell is that in $SHELL.

    For fish, --install writes the script to fish's folder of completions. For bash and zsh, it writes the script to a
    folder of hesstore, and adds a line that reads it to ~/.bashrc or ~/.zshrc.

    \b
    Examples (the second is for the current shell only):
      hesstore completion --install
      eval "$(hesstore completion bash)"
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in {each.name for each in SHELLS}:
        raise click.UsageError(f"$SHELL names {name or 'no shell'}, which has no script: give bash, zsh or fish")
    chosen = get_completion_class(name)
    assert chosen is not None  # noqa: S101 - the choices are the registered ones
    script = chosen(context.find_root().command, {}, "hesstore", VARIABLE).source()
    if not installing:
        click.echo(script, nl=False)
        return
    for file in install(name, script):
        write_line(f"completion for {name} written to {file}")
    write_line(f"start a new {name} to use it")


def install(shell: str, script: str) -> list[Path]:
    """Write the completion script of a shell where all new shells read it; return the files that were changed."""
    home = Path.home()
    if shell == "fish":
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return [_written(configuration / "fish" / "completions" / "hesstore.fish", script)]
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    file = _written(data / "hesstore" / f"completion.{shell}", script)
    start = home / ".bashrc" if shell == "bash" else Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    line = f"source {shlex.quote(str(file))}"
    if shell == "zsh":
        line = f"(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}; {line}"
    before = start.read_text() if start.exists() else ""
    if line in before.splitlines():
        return [file]
    return [file, _written(start, f"{before}{'' if before.endswith(chr(10)) or not before else chr(10)}{line}\n")]


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class Line(NamedTuple):
    """A command line up to the cursor.

    Attributes
    ----------
    words : list of str
        The words without quotation marks; the last one is being typed.
    tail : str
        The part of the last word that Bash completes, as it was typed: from a quotation mark, ``=`` or ``:`` onwards.
    quote : str
        The open quotation mark, or an empty text.
    """

    words: list[str]
    tail: str
    quote: str


def split(line: str) -> Line:
    """Split a line into words.

    Examples
    --------
    >>> split("hesstore info 'my st")
    Line(words=['hesstore', 'info', 'my st'], tail='my st', quote="'")
    >>> split("hesstore sweep run.zarr --set dtype=f").tail
    'f'
    """
    words: list[str] = []
    word, quote, start, tail, before = "", "", 0, 0, 0
    characters = iter(enumerate(line))
    for index, character in characters:
        if quote and character == quote:
            quote, tail = "", before
        elif not quote and character in {"'", '"'}:
            quote, before, tail = character, tail, index + 1
        elif character == "\\" and quote != "'":
            word += next(characters, (0, ""))[1]
        elif not quote and character.isspace():
            words += [word] if index > start else []
            word, start, tail = "", index + 1, index + 1
        else:
            word += character
            if not quote and character in "=:":
                tail = index + 1
    return Line([*words, word], line[tail:], quote)


def _description(item: CompletionItem[str]) -> str:
    return " ".join((item.help or "").split())
