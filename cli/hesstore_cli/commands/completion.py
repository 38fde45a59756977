"""``hesstore completion``, and how shells ask for completions.

Each shell hands over the line up to the cursor, which is split here: Bash's own words are broken at ``=`` and ``:``,
which stand within our settings. A completion that ends in ``/`` or ``=`` goes on; after any other one a space follows.
"""

from __future__ import annotations

import os
import re
from typing import ClassVar, NamedTuple

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, get_completion_class

from hesstore_cli.help_pages import KEPT
from hesstore_cli.options import Choice

VARIABLE = "_HESSTORE_COMPLETE"
"""What click asks for in the environment; with it ``hesstore`` answers with completions."""

_SPECIAL = {"": r"[^\w@%+,./:=-]", '"': r'["$`\\]', "'": "(?!)"}
"""What Bash does not take as it is, by the quote that is open."""


class _Complete(ShellComplete):
    """Completion of the line in the variable ``COMP_LINE``."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The whole words after ``hesstore``, and the one that is being typed."""
        _, *words, last = split(os.environ["COMP_LINE"]).words
        return words, last

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """What the last word can become; ``--option=value`` is completed as a whole."""
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not (equals and option.startswith("-")):
            return found
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in found]


class Bash(_Complete):
    """For Bash 4.4 or newer."""

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
        """What takes the place of that part of the word that Bash sees, quoted as it needs to be."""
        line = split(os.environ["COMP_LINE"])
        rest = item.value.removeprefix(line.words[-1])
        return line.tail + re.sub(_SPECIAL[line.quote], r"\\\g<0>", rest)


class Zsh(_Complete):
    """For Zsh."""

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
        """The whole word, and its description; Zsh would quote a tilde."""
        value = os.path.expanduser(item.value) if item.value.startswith("~") else item.value  # noqa: PTH111 - keeps the last /
        return f"{value}\t{_description(item)}"


class Fish(_Complete):
    """For fish."""

    name: ClassVar[str] = "fish"
    source_template: ClassVar[str] = """\
function %(complete_func)s
    env COMP_LINE=(commandline -cp | string collect) %(complete_var)s=fish_complete %(prog_name)s
end
complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""

    def format_completion(self, item: CompletionItem[str]) -> str:
        """The whole word, and its description."""
        return f"{item.value}\t{_description(item)}"


SHELLS = (Bash, Zsh, Fish)
for _shell in SHELLS:
    add_completion_class(_shell)


@click.command()
@click.argument("shell", type=Choice([shell.name for shell in SHELLS]), metavar="bash|zsh|fish")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that teaches a shell to complete hesstore's command lines.

    It completes commands, options, the values of settings, stores and TOML files.

    \b
    Examples (the first for this shell alone):
      eval "$(hesstore completion bash)"
      hesstore completion bash >> ~/.bashrc
      hesstore completion zsh > ~/.zfunc/_hesstore
      hesstore completion fish \\
        > ~/.config/fish/completions/hesstore.fish

    zsh looks in ~/.zfunc if ~/.zshrc has, before compinit, the line fpath+=~/.zfunc
    """
    chosen = get_completion_class(shell)
    assert chosen is not None  # noqa: S101 - the choices are the registered ones
    click.echo(chosen(context.find_root().command, {}, "hesstore", VARIABLE).source(), nl=False)


class Line(NamedTuple):
    """A shell's line up to the cursor.

    Attributes
    ----------
    words : list of str
        Without quotes; the last one is being typed.
    tail : str
        What Bash takes for the word that is being typed, as it was typed: the part after a quote, ``=`` or ``:``.
    quote : str
        The quote that is open, or nothing.
    """

    words: list[str]
    tail: str
    quote: str


def split(line: str) -> Line:
    """The words of a line.

    Examples
    --------
    >>> split("hesstore info 'my st")
    Line(words=['hesstore', 'info', 'my st'], tail='my st', quote="'")
    >>> split("hesstore sweep run.zarr --set dtype=f").tail
    'f'
    """
    words: list[str] = []
    word, quote, begin, tail, before = "", "", 0, 0, 0
    characters = iter(enumerate(line))
    for index, character in characters:
        if quote and character == quote:
            quote, tail = "", before
        elif not quote and character in {"'", '"'}:
            quote, before, tail = character, tail, index + 1
        elif character == "\\" and quote != "'":
            word += next(characters, (0, ""))[1]
        elif not quote and character.isspace():
            words += [word] if index > begin else []
            word, begin, tail = "", index + 1, index + 1
        else:
            word += character
            if not quote and character in "=:":
                tail = index + 1
    return Line([*words, word], line[tail:], quote)


def _description(item: CompletionItem[str]) -> str:
    return " ".join((item.help or "").replace(KEPT, " ").split())
