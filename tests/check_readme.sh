#!/bin/sh
# check_readme.sh -- what README.md shows is true: its commands exist, its configurations work with the
# certificates that its commands make, its port table is the program's.  TAP.
set -eu
top=$(pwd)
xmppedge=${XMPPEDGE:-$top/xmppedge}

. tests/verdict.sh

# block LANGUAGE NUMBER: the text of a fenced block
block() {
    awk -v want="$1" -v number="$2" '
        /^```/ { if (inside) inside = 0; else if ($0 == "```" want && ++seen == number) inside = 1; next }
        inside' README.md
}

echo 1..8
verdict 'it is short enough to be read' "$(awk 'END { if (NR > 340) print NR " lines" }' README.md)"

verdict 'every make target it names exists' "$(
    grep -o 'make [a-z-][a-z-]*' README.md | sort -u | while read -r _ target; do
        case $target in a|and) continue ;; esac    # words of a sentence
        grep -q "^$target:" Makefile || echo "make $target"
    done)"

verdict 'every command of xmppedge it names exists' "$(
    "$xmppedge" --help >"$work/help"
    grep -o '`xmppedge [a-z]*' README.md | sort -u | while read -r _ command; do
        grep -q "^  xmppedge $command" "$work/help" || echo "xmppedge $command"
    done)"

verdict 'every file it names exists' "$(
    grep -o '`[A-Za-z0-9_./-]*`' README.md | tr -d '`' | sort -u | while read -r name; do
        case $name in
        /*|share/*) continue ;;
        *.sh|*.c|*.h|tests/*|LICENSE) [ -e "$name" ] || echo "$name" ;;
        esac
    done)"

# The certificates of the trunk are made as it says; that of corp.example stands for a public one.
block sh 1 >"$work/make.sh"
mkdir "$work/bin"
ln -s "$xmppedge" "$work/bin/xmppedge"
verdict 'the command that makes certificates works' "$(
    cd "$work" && PATH=$work/bin:$PATH sh -e make.sh 2>&1 >/dev/null)"
"$xmppedge" authority "$work/public" corp.example >/dev/null
mv "$work"/public/corp.example.* "$work/trunk"
block xml 1 | sed 's|/etc/ssl/certs/ca-certificates.crt|../public/internal-ca.pem|' \
    >"$work/trunk/edge.xml"
block xml 2 >"$work/trunk/gateway.xml"

# The addresses of the examples are nobody's, which check says.
silent() { { "$xmppedge" check "$1" >/dev/null || echo "exit code $?"; } 2>&1 | grep -v ' is no address of this machine: '; }
verdict 'its edge configuration is right, and nothing is warned about' "$(silent "$work/trunk/edge.xml")"
verdict 'its gateway configuration too' "$(silent "$work/trunk/gateway.xml")"

awk -F '|' '$2 ~ /^ [123] $/ { gsub(/ /, ""); print $2, $3 }' README.md >"$work/rows"
"$xmppedge" ports "$work/trunk/edge.xml" | awk '$1 ~ /^[123]$/ { print $1, $2 }' >"$work/ports"
verdict 'its port table is that of the program' "$(diff "$work/rows" "$work/ports")"
