"""Completion scripts for bash, zsh and fish, from words. Pure functions.

No script starts a program: completing a word reads arrays of the shell and, for labs, one folder.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CompletedTask:
    """What can follow the name of a task.

    Args:
        options: by option with its dashes, the list that completes its value; None without value.
        positional: the lists that complete its arguments.
    """

    name: str
    summary: str
    options: Mapping[str, str | None]
    positional: tuple[str, ...]


@dataclass(frozen=True)
class CompletionWords:
    """All words of a script.

    Args:
        root: the checkout, whose folder ``.lab`` has one folder per lab.
        lists: words by the name of their list; ``labs`` and ``files`` are read by the shell.
    """

    root: Path
    tasks: tuple[CompletedTask, ...]
    lists: Mapping[str, tuple[str, ...]]


def _joined(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


def _cases(words: CompletionWords) -> list[str]:
    """The branches of a shell's ``case`` that describe every task; bash and zsh share them."""
    lines = []
    for task in words.tasks:
        values = [f"{option}={kind}" for option, kind in task.options.items() if kind]
        lines += [
            f"    {task.name})",
            f"      options={_joined(task.options)}",
            f"      values={_joined(values)}",
            f"      positional={_joined(task.positional)} ;;",
        ]
    return lines


def _lists(words: CompletionWords) -> list[str]:
    return [f"    {name}) list={_joined(listed)} ;;" for name, listed in words.lists.items()]


COMMON = """\
  # the option whose value is completed, and the number of arguments before the current word
  local word kind='' skip='' position=0 expected='' pair
  for word in "${before[@]}"; do
    if [ -n "$skip" ]; then skip=''; expected=''; continue; fi
    case $word in
    -l) word=--lab ;; -t) word=--topology ;; -s) word=--service ;; -p) word=--provider ;;
    -m) word=--machine ;;
    esac
    case " $values " in
    *" $word="*) skip=1; expected=${values#*"$word="}; expected=${expected%% *} ;;
    *) case $word in -*) ;; *) position=$((position + 1)) ;; esac ;;
    esac
  done
"""

BASH = """\
# Completion of the lab's tasks for bash: source this file, or put it into
# ~/.local/share/bash-completion/completions/invoke
_foobar_lab() {
  local current=${COMP_WORDS[COMP_CWORD]} task='' options='' values='' positional='' list=''
  local root=@ROOT@ index first=0
  local -a before=()
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    case ${COMP_WORDS[index]} in
    --) COMPREPLY=($(compgen -f -- "$current")); return ;;
    *.*) if [ -z "$task" ]; then task=${COMP_WORDS[index]}; first=$((index + 1)); fi ;;
    esac
  done
  if [ -z "$task" ]; then
    case $current in
    -*) COMPREPLY=($(compgen -W '--help --list --version' -- "$current")) ;;
    *) COMPREPLY=($(compgen -W @TASKS@ -- "$current")) ;;
    esac
    return
  fi
  case $task in
@CASES@
    *) return ;;
  esac
  before=("${COMP_WORDS[@]:first:COMP_CWORD-first}")
@COMMON@
  if [ -n "$skip" ]; then
    kind=$expected
  elif [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
    return
  else
    local -a kinds=($positional)
    kind=${kinds[position]:-}
  fi
  case $kind in
  '') COMPREPLY=($(compgen -W "$options" -- "$current")); return ;;
  files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current")); return ;;
  labs)
    for word in "$root"/.lab/*/state.json; do
      word=${word%/state.json}
      list="$list ${word##*/}"
    done ;;
@LISTS@
  esac
  COMPREPLY=($(compgen -W "$list" -- "$current"))
}
complete -F _foobar_lab invoke inv
"""

ZSH = """\
#compdef invoke inv
# Completion of the lab's tasks for zsh: source this file after compinit.
_foobar_lab() {
  emulate -L zsh
  setopt sh_word_split null_glob
  local current=${words[CURRENT]} task='' options='' values='' positional='' list=''
  local root=@ROOT@ index first=0
  local -a before kinds
  for ((index = 2; index < CURRENT; index++)); do
    case ${words[index]} in
    --) _files; return ;;
    *.*) if [ -z "$task" ]; then task=${words[index]}; first=$((index + 1)); fi ;;
    esac
  done
  if [ -z "$task" ]; then
    list=@TASKS@
    case $current in -*) list='--help --list --version' ;; esac
    compadd -- $list
    return
  fi
  case $task in
@CASES@
    *) return ;;
  esac
  before=()
  [ $first -lt $CURRENT ] && before=("${(@)words[first,CURRENT-1]}")
@COMMON@
  if [ -n "$skip" ]; then
    kind=$expected
  elif [[ $current == -* ]]; then
    compadd -- $options
    return
  else
    kinds=($positional)
    kind=${kinds[position+1]:-}
  fi
  case $kind in
  '') compadd -- $options; return ;;
  files) _files; return ;;
  labs)
    for word in "$root"/.lab/*/state.json; do
      word=${word%/state.json}
      list="$list ${word##*/}"
    done ;;
@LISTS@
  esac
  compadd -- $list
}
compdef _foobar_lab invoke inv
"""


def _filled(template: str, words: CompletionWords) -> str:
    values = {
        "@ROOT@": shlex.quote(str(words.root)),
        "@TASKS@": _joined(task.name for task in words.tasks),
        "@CASES@": "\n".join(_cases(words)),
        "@COMMON@": COMMON.rstrip("\n"),
        "@LISTS@": "\n".join(_lists(words)),
    }
    for name, value in values.items():
        template = template.replace(name, value)
    return template


def bash(words: CompletionWords) -> str:
    """A script for bash."""
    return _filled(BASH, words)


def zsh(words: CompletionWords) -> str:
    """A script for zsh."""
    return _filled(ZSH, words)


def fish(words: CompletionWords) -> str:
    """A script for fish."""
    root = _fish_quoted(str(words.root))
    lines = [
        "# Completion of the lab's tasks for fish: invoke lab.completion fish | source",
        "function __foobar_lab_labs",
        f"    for file in {root}/.lab/*/state.json",
        "        string replace -r '.*/([^/]*)/state.json$' '$1' -- $file",
        "    end",
        "end",
        "function __foobar_lab_without_task",
        "    not string match -q '*.*' -- (commandline -opc)[2..-1]",
        "end",
        "function __foobar_lab_task",
        "    contains -- $argv[1] (commandline -opc)",
        "end",
    ]
    for command in ("invoke", "inv"):
        start = f"complete -c {command}"
        lines.append(f"{start} -f")
        for task in words.tasks:
            lines.append(
                f"{start} -n __foobar_lab_without_task -a {task.name} "
                f"-d {_fish_quoted(task.summary)}"
            )
            where = f"{start} -n '__foobar_lab_task {task.name}'"
            for option, kind in task.options.items():
                exclusive = " -r" if kind == "files" else " -x"
                value = "" if kind is None else exclusive + _fish_values(words, kind)
                lines.append(f"{where} -l {option.lstrip('-')}{value}")
            lines += [where + _fish_values(words, kind) for kind in task.positional]
    return "\n".join(lines) + "\n"


def _fish_values(words: CompletionWords, kind: str) -> str:
    if kind == "files":
        return " -F"
    if kind == "labs":
        return " -a '(__foobar_lab_labs)'"
    return f" -a {_fish_quoted(' '.join(words.lists[kind]))}"


def _fish_quoted(text: str) -> str:
    """Quoted for fish: within single quotes, only the backslash and the quote are special."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[CompletionWords], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""The script of each shell."""
