"""Completion of the command line in a shell: `jaxnmf completion bash`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

OVERRIDES = (
    "dataset=",
    "dataset.path=",
    "experiment=",
    "folder=",
    "init=",
    "loss=",
    "mesh=",
    "ranks=",
    "seeds=",
    "select=",
    "solver=",
    "stop.max_iter=",
    "stop.time_budget=",
    "stop.tol=",
    "sweep=",
)

_BASH = """\
# jaxnmf: completion for bash, written by `jaxnmf completion bash`.
_jaxnmf() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words= key=
  # key=value is three words in bash, and one in zsh.
  if [[ $cur == = ]]; then prev="${{prev}}="; cur=
  elif [[ $prev == = ]]; then prev="${{COMP_WORDS[COMP_CWORD-2]}}="
  elif [[ $cur == [a-z]*=* ]]; then key="${{cur%%=*}}="; prev=$key; cur=${{cur#*=}}; fi
  case "${{COMP_WORDS[1]}} $prev" in
{values}
    *)
      if (( COMP_CWORD == 1 )); then words="{commands}"
      else case "${{COMP_WORDS[1]}}" in
{arguments}
      esac; fi ;;
  esac
  COMPREPLY=( $(compgen -P "$key" -W "$words" -- "$cur") )
  [[ ${{#COMPREPLY[@]}} == 1 && $COMPREPLY == *= ]] && compopt -o nospace
  return 0
}}
complete -o bashdefault -o default -F _jaxnmf jaxnmf
"""

_ZSH = "# jaxnmf: completion for zsh, by the functions for bash.\n" + (
    "autoload -Uz compinit bashcompinit\n"
    "(( $+functions[compdef] )) || compinit\n"
    "bashcompinit\n"
    "(( $+functions[compopt] )) || compopt() { :; }\n"
)


def completion(
    shell: str,
    parser: argparse.ArgumentParser,
    names: Mapping[str, Sequence[str]],
) -> str:
    """A script that completes commands, options and names in a shell.

    Args:
      shell: "bash", "zsh" or "fish".
      parser: of the command line, with subcommands.
      names: the values of overrides and options by name, such as "solver".

    Returns:
      The text of the script, to be read by the shell when it starts.
    """
    commands = _commands(parser)
    if shell == "fish":
        return _fish(commands, names)
    return (_ZSH if shell == "zsh" else "") + _bash(commands, names)


def _commands(
    parser: argparse.ArgumentParser,
) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise ValueError("parser: has no commands")


def _options(one: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in one._actions if action.option_strings]


def _long(option: argparse.Action) -> str:
    return option.option_strings[-1]


def _words(command: str, one: argparse.ArgumentParser) -> list[str]:
    """What may follow a command: choices, overrides, long options."""
    choices = [
        str(choice)
        for action in one._actions
        if not action.option_strings
        for choice in action.choices or ()
    ]
    overrides = OVERRIDES if command == "run" else ()
    return [*choices, *overrides, *map(_long, _options(one))]


def _values(
    option: argparse.Action, names: Mapping[str, Sequence[str]]
) -> Sequence[str]:
    return [str(x) for x in option.choices or names.get(option.dest, ())]


def _bash(
    commands: Mapping[str, argparse.ArgumentParser],
    names: Mapping[str, Sequence[str]],
) -> str:
    values, arguments = [], []
    for command, one in commands.items():
        if command == "run":
            for key, found in names.items():
                values.append(f'    "run {key}=") words="{" ".join(found)}" ;;')
        for option in _options(one):
            if found := _values(option, names):
                pattern = "|".join(f'"{command} {o}"' for o in option.option_strings)
                values.append(f'    {pattern}) words="{" ".join(found)}" ;;')
        words = " ".join(_words(command, one))
        arguments.append(f'        {command}) words="{words}" ;;')
    return _BASH.format(
        values="\n".join(values),
        arguments="\n".join(arguments),
        commands=" ".join(commands),
    )


def _fish(
    commands: Mapping[str, argparse.ArgumentParser],
    names: Mapping[str, Sequence[str]],
) -> str:
    lines = ["# jaxnmf: completion for fish, written by `jaxnmf completion fish`."]
    lines.append("complete -c jaxnmf -l version")
    here = "complete -c jaxnmf -n '__fish_use_subcommand'"
    lines.append(f"{here} -f -a '{' '.join(commands)}'")
    for command, one in commands.items():
        here = f"complete -c jaxnmf -n '__fish_seen_subcommand_from {command}'"
        words = [word for word in _words(command, one) if word[0] != "-"]
        if command == "run":
            words += [
                f"{key}={value}" for key, found in names.items() for value in found
            ]
        if words:
            lines.append(f"{here} -f -a '{' '.join(words)}'")
        for option in _options(one):
            line = f"{here} -l {_long(option)[2:]}"
            if option.nargs != 0:
                line += " -r"
            if found := _values(option, names):
                line += f" -f -a '{' '.join(found)}'"
            lines.append(line)
    return "\n".join(lines) + "\n"
