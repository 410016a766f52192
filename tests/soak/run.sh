#!/bin/sh
# soak/run.sh -- everything that may happen, at random, for MINUTES.
#
#   make soak                     half an hour
#   MINUTES=600 make soak         a night
#   SEED=7 make soak              the faults of another run again, in the same order
#
# mix.py lets faults of tests/live/35-chaos*.t happen to nodes that live as long as they are let, and looks at
# what became of each stanza, and at memory and descriptors in the end.  Beside it, in a network of its own, the
# program with sanitizers goes through tests with real servers and clients, again and again.  As root; without,
# the latter are left out, because addresses would be shared.
#
# Stops at the first failure, with the output of the test that failed.
set -eu
: "${CC:=cc}" "${MINUTES:=30}" "${SEED:=$$}"
: "${LIBS:=-pthread -lmbedtls -lmbedx509 -lmbedcrypto -lcares -lmxml}"
out=build/soak
mkdir -p $out
export SEED

apart() { unshare -n sh -c 'ip link set lo up && exec "$@"' sh "$@"; }

if ! apart true 2>/dev/null; then
    exec tests/soak/mix.py "$MINUTES"
fi
# shellcheck disable=SC2086
$CC -std=c99 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -o $out/xmppedge xmppedge.c $LIBS

until=$(($(date +%s) + MINUTES * 60))
apart tests/soak/mix.py "$MINUTES" &
mix=$!
rounds=0
status=0
while [ $status -eq 0 ] && [ "$(date +%s)" -lt $until ] && kill -0 $mix 2>/dev/null; do
    rounds=$((rounds + 1))
    for test in 37-clients 35-faults 30-no-loss 40-reload; do
        [ "$(date +%s)" -lt $until ] || break
        if ! XMPPEDGE=$PWD/$out/xmppedge apart tests/live/$test.t >$out/log 2>&1; then
            cat $out/log
            echo "soak: $test failed in round $rounds, with sanitizers"
            status=1
            break
        fi
    done
done
[ $status -eq 0 ] || kill $mix 2>/dev/null || :
wait $mix || status=1
echo "soak: $rounds rounds of tests with sanitizers beside it"
exit $status
