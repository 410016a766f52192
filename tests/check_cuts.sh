#!/bin/sh
# check_cuts.sh -- xmppedge.c, cut after any section, still compiles: a section needs nothing that
# stands below it.  TAP.
set -eu
: "${CC:=cc}" "${STD:=-std=c99}" "${LIBS:=}"
includes=$(for word in $LIBS; do case $word in -I*) echo "$word" ;; esac; done)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# One file a section: everything above the banner after it, and an #endif for each #if left open.
awk -v work="$work" '
    function cut(name,    i, file) {
        file = sprintf("%s/%02d-%s.c", work, ++cuts, name)
        for (i = 1; i <= lines; i++)
            print text[i] >file
        for (i = 0; i < open; i++)
            print "#endif" >file
        close(file)
    }
    previous ~ /^\/\* =====/ && /^ \* \[[A-Z0-9]+\]/ {
        lines--                         # the first line of the banner
        if (section != "")
            cut(section)
        section = $2
        gsub(/[][]/, "", section)
        text[++lines] = previous
    }
    /^[ \t]*#[ \t]*if/    { open++ }
    /^[ \t]*#[ \t]*endif/ { open-- }
    { text[++lines] = $0; previous = $0 }
    END { cut(section) }' xmppedge.c

set -- "$work"/*.c
echo "1..$#"
n=0
for cut in "$@"; do
    n=$((n + 1))
    name=$(basename "$cut" .c)
    # shellcheck disable=SC2086
    if $CC $STD -w -I. $includes -fsyntax-only -Werror=implicit-function-declaration "$cut" \
            2>"$work/errors"; then
        echo "ok $n - the file cut after ${name#*-} compiles"
    else
        sed 's/^/# /' "$work/errors"
        echo "not ok $n - the file cut after ${name#*-} compiles"
    fi
done
