# ruff: noqa: E501
"""Output shell completion code for the specified shell (bash, zsh, fish, or powershell)."""

from __future__ import annotations

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, boolean
from peavine.cli.session import Session

FLAGS = (boolean("no-descriptions", help="Complete without what the candidates mean."),)

# Each asks `kubectl __complete WORDS`: candidates, one a line, with a tab before what it means; the last line is `:` and
# what to do with them (bit 2: no space after, bit 4: no file names, bit 8: only files with these endings).
_BASH = r"""# bash completion for kubectl
__kubectl_complete() {
    local words cword cur line directive candidates=() endings=()
    cur="${COMP_LINE:0:COMP_POINT}"
    read -r -a words <<< "$cur"
    [[ "$cur" == *[[:space:]] ]] && words+=("")
    cur="${words[${#words[@]}-1]}"
    directive=0
    while IFS= read -r line; do
        if [[ "$line" == :* ]]; then directive="${line#:}"; else candidates+=("$line"); fi
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    COMPREPLY=()
    if (( directive & 8 )); then
        local pattern
        for line in "${candidates[@]}"; do
            for pattern in "$cur"*."${line%%$'\t'*}"; do [[ -e "$pattern" ]] && COMPREPLY+=("$pattern"); done
        done
        while IFS= read -r line; do [[ -n "$line" ]] && COMPREPLY+=("$line/"); done < <(compgen -d -- "$cur")
        compopt -o filenames -o nospace 2>/dev/null
        return
    fi
    local wide=0
    for line in "${candidates[@]}"; do
        local word="${line%%$'\t'*}"
        [[ "$word" == "$cur"* ]] && (( ${#word} > wide )) && wide=${#word}
    done
    for line in "${candidates[@]}"; do
        local word="${line%%$'\t'*}"
        [[ "$word" == "$cur"* ]] || continue
        if [[ "$line" == *$'\t'* ]]; then
            COMPREPLY+=("$(printf "%-${wide}s  (%s)" "$word" "${line#*$'\t'}")")
        else
            COMPREPLY+=("$word")
        fi
    done
    (( ${#COMPREPLY[@]} == 1 )) && COMPREPLY[0]="${COMPREPLY[0]%%  (*}"
    # Readline takes a colon or an equals sign for the end of a word.
    if [[ "$cur" == *[:=]* && "$COMP_WORDBREAKS" == *[:=]* ]]; then
        local before="${cur%"${cur##*[:=]}"}" i
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]="${COMPREPLY[i]#"$before"}"; done
    fi
    (( directive & 2 )) && compopt -o nospace 2>/dev/null
    if (( ${#COMPREPLY[@]} == 0 )) && ! (( directive & 4 )); then
        compopt -o default 2>/dev/null
    fi
}
complete -F __kubectl_complete NAME
"""
_ZSH = r"""#compdef NAME
compdef _kubectl NAME
_kubectl() {
    local line directive=0
    local -a candidates asked
    asked=("${words[@]:1:$((CURRENT-1))}")
    while IFS= read -r line; do
        if [[ "$line" == :* ]]; then directive="${line#:}"; continue; fi
        line="${line//:/\\:}"
        candidates+=("${line/$'\t'/:}")
    done < <("${words[1]}" __complete "${asked[@]}" 2>/dev/null)
    if (( directive & 8 )); then
        local -a patterns
        for line in "${candidates[@]}"; do patterns+=(-g "*.${line%%:*}"); done
        _files "${patterns[@]}"
        return
    fi
    local -a options
    (( directive & 2 )) && options=(-S '')
    if (( ${#candidates[@]} )); then
        _describe kubectl candidates "${options[@]}"
    elif ! (( directive & 4 )); then
        _files
    fi
}
if [ "$funcstack[1]" = "_kubectl" ]; then
    _kubectl
fi
"""
_FISH = r"""# fish completion for kubectl
function __kubectl_candidates
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        if not string match -q ':*' -- $line
            echo $line
        end
    end
end
function __kubectl_wants_files
    set -l words (commandline -opc)
    set -l answer ($words[1] __complete $words[2..-1] (commandline -ct) 2>/dev/null)
    string match -qr '^:(0|8)$' -- $answer[-1]
end
complete -c NAME -e
complete -c NAME -n 'not __kubectl_wants_files' -f -a '(__kubectl_candidates)'
complete -c NAME -n '__kubectl_wants_files' -F
"""
_POWERSHELL = r"""# powershell completion for kubectl
Register-ArgumentCompleter -Native -CommandName 'NAME' -ScriptBlock {
    param($WordToComplete, $CommandAst, $CursorPosition)
    $words = @($CommandAst.CommandElements | ForEach-Object { "$_" })
    $asked = @($words | Select-Object -Skip 1)
    if ($WordToComplete -eq '') { $asked += '""' }
    & $words[0] __complete @asked 2>$null | Where-Object { $_ -notmatch '^:' } | ForEach-Object {
        $word, $meaning = $_ -split "`t", 2
        if ($word -like "$WordToComplete*") {
            if (-not $meaning) { $meaning = $word }
            [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $meaning)
        }
    }
}
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL}


async def run(session: Session, flags: Parsed) -> int:
    if not flags.arguments:
        raise CliError("Shell not specified.\nSee 'kubectl completion -h' for help and examples")
    if len(flags.arguments) > 1:
        raise CliError(
            "Too many arguments. Expected only the shell type.\nSee 'kubectl completion -h' for help and examples"
        )
    shell = flags.arguments[0]
    if shell not in SCRIPTS:
        raise CliError(
            f"Unsupported shell type {shell!r}.".replace("'", '"')
            + "\nSee 'kubectl completion -h' for help and examples"
        )
    session.out.write(SCRIPTS[shell].replace("NAME", "kubectl"))
    return 0
