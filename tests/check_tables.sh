#!/bin/sh
# check_tables.sh -- every row of the tables of both programs is documented, and reached by a test.  TAP.
#
# A reason, setting, command, cause or violation is one row in the source.  This finds the row that was
# added without the rest: its line in README.md (or in what `xmppedge config` prints, which is made of
# the rows), and a test that goes there.
set -eu

talk='tests/talk/*.talk'
live='tests/live/*.py tests/live/*.t tests/*.t'
. tests/verdict.sh

# Reasons that no transcript and no live test can reach, each with why not.
cat >"$work/unreached" <<'END'
none            it is no end
out-of-memory   malloc() cannot be made to fail in a running service; unit tests do it where it can be told
internal        what cannot happen
filtered        only a program that contains the proxy says it: tests/embed does
domain-not-ascii  only a build without libidn2 says it; test_jid.c is compiled so, too
END

# rows PREFIX FILE...: the words of an X list, X(PREFIX_..., "word", or of a table, [PREFIX_...] = { "word",
rows() {
    prefix=$1
    shift
    cat "$@" | tr '\n' ' ' | grep -oE "(X\(|\[)${prefix}_[A-Z0-9_]+(,|\] = \{) +\"[a-z0-9-]+\"" | sed 's/.*"\(.*\)"/\1/' |
        sort -u
}

# Is the word expected by a transcript, or by a live test in quotation marks?
is_reached() {
    # shellcheck disable=SC2086
    grep -qE "(^why +|(why|cert)=)$1( |\$)" $talk || grep -qE "['|=]$1['|]" $live
}

reasons() {
    rows XE_WHY xmppedge.h >"$work/reasons"
    while read -r word; do
        if grep -q "^$word " "$work/unreached"; then
            # shellcheck disable=SC2086
            ! grep -qE "^why +$word\$" $talk || echo "$word is listed as unreached, and is reached"
        else
            is_reached "$word" || echo "no transcript and no live test ends with $word"
        fi
    done <"$work/reasons"
    while read -r word _; do
        grep -qx "$word" "$work/reasons" || echo "$word is listed as unreached, and does not exist"
    done <"$work/unreached"
}

# Elements and attributes of the configuration, as the program explains them.
settings() {
    { ./xmppedge config edge; ./xmppedge config gateway; } | grep -oE '[a-z][a-z-]*="|<[a-z]+' |
        tr -d '="<' | sort -u |
        while read -r name; do
            under=$(echo "$name" | tr - _)
            # shellcheck disable=SC2086
            grep -qE "(^|[^a-z-])$name *(=|\\\\?[\"']|[ />])|(^|[^a-z_])$under=" tests/unit/test_config.c $talk $live ||
                echo "no test sets $name"
        done
}

# in_readme_and WHERE LIST: each word stands in README.md by itself, and in one of the tests.
in_readme_and() {
    while read -r word; do
        grep -qE "(^|[^a-z-])$word([^a-z-]|\$)" README.md || echo "README.md does not mention $word"
        # shellcheck disable=SC2086
        grep -qE -e "['\" ]${word}['\" ]" $1 || echo "no test mentions $word"
    done <"$2"
}

commands() {
    ./xmppedge --help | sed -n 's/^ *xmppedge \([a-z][a-z]*\).*/\1/p' | sort -u >"$work/commands"
    in_readme_and "$live" "$work/commands"
}

# What golden.t reaches, it reads from the lists itself; here it is README's tables that must be whole.
of_the_analyzer() {
    rows "$1" analyze/*.[ch] | grep -vx none >"$work/words"
    while read -r word; do
        grep -q "\`$word\`" README.md || echo "README.md does not explain $word"
    done <"$work/words"
}

# Whoever reads what to do finds the settings and the keys of the log that it names.
remedies() {
    ./xmppedge why | sed 's/^  what to do//' >"$work/remedies"
    { ./xmppedge config edge; ./xmppedge config gateway; } >"$work/config"
    grep -oE '<[a-z]+>' "$work/remedies" | sort -u | tr -d '<>' |
        while read -r name; do
            grep -qE "<$name[ >]" "$work/config" || echo "there is no element <$name>"
        done
    grep -oE '[a-z_-]+=' "$work/remedies" | sort -u | tr -d '=' |
        while read -r name; do
            grep -qE "^ +$name +[A-Z]" "$work/config" || grep -qE "(log|status|report)_[a-z]+\([a-z]+, \"$name\"" xmppedge.c ||
                echo "there is no setting and no key $name="
        done
}

# looked_at COUNT: a list is not empty because nothing was read.
looked_at() { [ "$1" -gt 2 ] || echo "only $1 rows were found"; }

echo 1..6
verdict 'every reason is reached by a transcript or a live test' "$(reasons
    looked_at "$(rows XE_WHY xmppedge.h | wc -l)")"
verdict 'every setting is made by a test' "$(settings
    looked_at "$(./xmppedge config edge | grep -c '="')")"
verdict 'every command is in README.md and in a test' "$(commands
    looked_at "$(./xmppedge --help | grep -c '^ *xmppedge ')")"
verdict 'every cause of the analyzer is in README.md' "$(of_the_analyzer CAUSE
    looked_at "$(rows CAUSE analyze/*.[ch] | wc -l)")"
verdict 'every violation is in README.md' "$(of_the_analyzer VIOLATION
    looked_at "$(rows VIOLATION analyze/*.[ch] | wc -l)")"
verdict 'what to do names settings and keys that there are' "$(remedies
    looked_at "$(grep -coE '[a-z]=' "$work/remedies")")"
