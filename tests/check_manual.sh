#!/bin/sh
# check_manual.sh -- the pages of the manual are printed by the programs, render without a warning, and have
# all that the tables have.  TAP.
set -eu

. tests/verdict.sh

./xmppedge manual >"$work/xmppedge.1"
./xmppedge manual 5 >"$work/xmppedge.xml.5"
./xmppedge-analyze --manual >"$work/xmppedge-analyze.1"
{ ./xmppedge config edge; ./xmppedge config gateway; } >"$work/config"

# lint NAME: what is wrong with a page, and with what nroff makes of it
lint() {
    mandoc -T lint "$work/$1" 2>&1 || :
    if command -v groff >/dev/null 2>&1; then
        { groff -ww -man -Tutf8 "$work/$1" >/dev/null; } 2>&1
    fi
}

# items NAME SECTION: what the items of a section are called, without the arguments
items() {
    awk -v title="$2" '/^\.SH/ { inside = $0 == ".SH " title } inside && /^\.B / { print $2 }' "$work/$1" |
        sed 's/[\\,]//g' | sort -u
}

echo 1..7
if command -v mandoc >/dev/null 2>&1; then
    verdict 'no page has an error, nor what is bad style' "$(lint xmppedge.1; lint xmppedge.xml.5; lint xmppedge-analyze.1)"
else
    verdict 'no page has an error, nor what is bad style # SKIP no mandoc' ''
fi
verdict 'xmppedge(1) has every command' "$(
    ./xmppedge --help | sed -n 's/^  xmppedge \([a-z-]*\).*/\1/p' | sort >"$work/commands"
    items xmppedge.1 COMMANDS | diff "$work/commands" -)"
verdict 'and every reason' "$(
    ./xmppedge why | grep '^[a-z]' | sort >"$work/reasons"
    items xmppedge.1 REASONS | diff "$work/reasons" -)"
verdict 'xmppedge.xml(5) has every attribute' "$(
    grep -oE '[a-z][a-z-]*="|^ +[a-z][a-z-]*  +[A-Z]' "$work/config" | tr -d '=" A-Z' | sort -u >"$work/attributes"
    items xmppedge.xml.5 ELEMENTS | diff "$work/attributes" -)"
verdict 'and every element' "$(
    grep -oE '^ *<!--[a-z ]*[a-z]+:|^ *<[a-z]+' "$work/config" | grep -oE '[a-z]+:?$' | tr -d : | sort -u >"$work/elements"
    sed -n 's/^\.SS "<\([a-z]*\)>.*/\1/p' "$work/xmppedge.xml.5" | sort -u | diff "$work/elements" -)"
verdict 'xmppedge-analyze(1) has every option' "$(
    ./xmppedge-analyze --help | sed -n 's/^  \(-[a-z-]*\).*/\1/p' | sort >"$work/options"
    items xmppedge-analyze.1 OPTIONS | diff "$work/options" -)"
verdict 'and every cause and violation' "$(
    for list in CAUSE VIOLATION; do
        sed -n "s/^    \[${list}_[A-Z0-9_]*\] = { \"\([a-z0-9-]*\)\".*/\1/p" analyze/causes.c | grep -vx none |
            sort >"$work/$list"
        items xmppedge-analyze.1 "${list}S" | diff "$work/$list" -
    done)"
