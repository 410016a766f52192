#!/bin/sh
# completion.t -- what bash completes of the command lines of both programs, in a real bash.  TAP.
# XMPPEDGE and XMPPEDGE_ANALYZE name other binaries.
set -u
x=${XMPPEDGE:-./xmppedge}
a=${XMPPEDGE_ANALYZE:-./xmppedge-analyze}

command -v bash >/dev/null || { echo '1..0 # SKIP no bash'; exit 0; }
work=$(mktemp -d "${TMPDIR:-/tmp}/completion-t.XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 99' HUP INT TERM
"$x" completion >"$work/xmppedge" && "$a" --completion >"$work/xmppedge-analyze" || exit 99

count=0
failed=0
report() {
    count=$((count + 1))
    if [ "$1" = 0 ]; then
        echo "ok $count - $2"
    else
        failed=1
        echo "not ok $count - $2"
        printf '%s\n' "$said" | sed 's/^/# /'
    fi
}

# completes WORD...: what stands for the last word, which may be ''; sorted, in one line
completes() {
    said=$(bash --norc --noprofile -eu -c '. "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _xmppedge
        [ ${#COMPREPLY[@]} -eq 0 ] || printf "%s\n" "${COMPREPLY[@]}"' bash "$work/xmppedge" xmppedge "$@" 2>&1 |
        sort | tr '\n' ' ')
}

# gives WANTED SENTENCE WORD...: that is all that is offered
gives() {
    wanted=$1
    sentence=$2
    shift 2
    completes "$@"
    [ "$said" = "$wanted" ]
    report $? "$sentence"
}

echo 1..10
completes ''
[ "$said" = "$("$x" --help | sed -n 's/^  xmppedge \([a-z][a-z]*\).*/\1/p' | sort | tr '\n' ' ')" ]
report $? 'of nothing, every command'
gives 'manual message metrics ' 'of its beginning, a command' m
gives '--help --version ' 'an option instead of one' --
gives '--iptables --json --nft ' 'the options of a command' ports FILE -
gives '--as --json --offline ' 'and of one that takes several' explain FILE DOMAIN --
gives '--days ' 'of an option with a value, its name' authority -
gives 'edge gateway ' 'the words that an argument may be' config ''
gives 'tcp-refused tcp-timeout tcp-unreachable ' 'the reasons that why explains' why tcp-
gives '' 'nothing of ours where a file is wanted' check ''

# A terminal would be needed to see files, or the words of the analyzer: bash tells what it has been told.
said=$(bash --norc --noprofile -eu -c '. "$1"; . "$2"; complete -p xmppedge xmppedge-analyze
    compgen -W "$(complete -p xmppedge-analyze | cut -d"'\''" -f2)" -- --s' bash "$work/xmppedge" "$work/xmppedge-analyze" 2>&1)
printf '%s\n' "$said" | tr '\n' ' ' | grep -qE -e '-o default .* -o default .* --stream --show-content $'
report $? 'files besides, and of the analyzer every option'
exit $failed
