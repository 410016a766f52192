#!/bin/sh
# check_readme.sh -- what README.md shows is true: its commands exist, its configurations work with the
# certificates that its commands make, its port table is the program's.  TAP.
set -eu
top=$(pwd)
xmppedge=${XMPPEDGE:-$top/xmppedge}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

n=0
verdict() {   # verdict NAME LIST: the list must be empty
    n=$((n + 1))
    if [ -z "$2" ]; then
        echo "ok $n - $1"
    else
        echo "$2" | sed 's/^/# /'
        echo "not ok $n - $1"
    fi
}

# block LANGUAGE NUMBER: the text of a fenced block
block() {
    awk -v want="$1" -v number="$2" '
        /^```/ { if (inside) inside = 0; else if ($0 == "```" want && ++seen == number) inside = 1; next }
        inside' README.md
}

echo 1..8
verdict 'it is short enough to be read' "$(awk 'END { if (NR > 300) print NR " lines" }' README.md)"

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
verdict 'the commands that make certificates work' "$(
    cd "$work" && sh -e make.sh >make.log 2>&1 || cat make.log)"
(cd "$work" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -keyout corp.key -out corp.pem -days 2 -subj /CN=corp.example \
    -addext subjectAltName=DNS:corp.example >/dev/null 2>&1)
block xml 1 | sed 's|/etc/ssl/certs/ca-certificates.crt|corp.pem|' >"$work/edge.xml"
block xml 2 >"$work/gateway.xml"

silent() { { "$xmppedge" check "$1" >/dev/null || echo "exit code $?"; } 2>&1; }
verdict 'its edge configuration is right, and nothing is warned about' "$(silent "$work/edge.xml")"
verdict 'its gateway configuration too' "$(silent "$work/gateway.xml")"

awk -F '|' '$2 ~ /^ [123] $/ { gsub(/ /, ""); print $2, $3 }' README.md >"$work/rows"
"$xmppedge" ports "$work/edge.xml" | awk '$1 ~ /^[123]$/ { print $1, $2 }' >"$work/ports"
verdict 'its port table is that of the program' "$(diff "$work/rows" "$work/ports")"
