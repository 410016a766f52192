#!/bin/sh
# check_objects.sh -- make builds an object again when a header changes that it reads.  TAP.
set -eu
: "${CC:=cc}" "${STD:=-std=c99}" "${INCLUDES:=}"
unset MAKEFLAGS MFLAGS MAKELEVEL 2>/dev/null || :

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# OBJECT HEADER, as the compiler says.
# shellcheck disable=SC2086
reads() {
    $CC $STD $INCLUDES -DXMPPEDGE_LANGUAGE_ONLY -MM analyze/*.c xmppedge.c | awk '
        { sub(/\\$/, "") }
        /^[a-z]*\.o:/ { object = $1 == "xmppedge.o:" ? "language" : substr($1, 1, length($1) - 3) }
        { for (i = 1; i <= NF; i++) if (sub(/\.h$/, ".h", $i)) print object, $i }' |
        sed 's|analyze/\.\./||' | sort -u
}

# OBJECT HEADER, as make does it: each header in turn is newer than all objects; the compiler does nothing.
makes() {
    mkdir "$work/tree"
    cp -R Makefile xmppedge.c xmppedge.h analyze "$work/tree/"
    cd "$work/tree"
    make CC=: >/dev/null
    touch -t 200001010000 xmppedge.* analyze/* build/obj/flags
    for source in analyze/*.c language.c; do
        touch -t 200101010000 "build/obj/$(basename "$source" .c).o"
    done
    for header in xmppedge.h analyze/*.h; do
        touch "$header"
        make CC=: | sed -n "s|.* -c -o build/obj/\([a-z]*\)\.o.*|\1 $header|p"
        touch -t 200001010000 "$header"
    done | sort -u
}

echo 1..1
reads >"$work/reads"
makes >"$work/makes"
missing=$(comm -23 "$work/reads" "$work/makes")
if [ -s "$work/makes" ] && [ -z "$missing" ]; then
    echo "ok 1 - make knows the headers of each object"
else
    echo "not ok 1 - make knows the headers of each object"
    echo "$missing" | sed 's/^/# missing: /'
fi
