#!/bin/sh
# soak/run.sh -- traffic, cuts, stops, attacks and reloads, over and over, with sanitizers.
#
#   make soak                     half an hour
#   SOAK_SECONDS=36000 make soak  a night
#   SOAK_FLOW=20000 make soak     more messages in each flow
#
# Stops at the first failure, with the output of the test that failed.
set -eu
: "${CC:=cc}" "${SOAK_SECONDS:=1800}" "${SOAK_FLOW:=5000}"
: "${LIBS:=-lmbedtls -lmbedx509 -lmbedcrypto -lcares -lmxml}"
mkdir -p build/soak
# shellcheck disable=SC2086
$CC -std=c99 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -o build/soak/xmppedge \
    xmppedge.c $LIBS
XMPPEDGE=$PWD/build/soak/xmppedge
XMPPEDGE_FLOW=$SOAK_FLOW
export XMPPEDGE XMPPEDGE_FLOW

until=$(($(date +%s) + SOAK_SECONDS))
round=0
while [ "$(date +%s)" -lt "$until" ]; do
    round=$((round + 1))
    for test in tests/live/30-no-loss.t tests/live/40-reload.t tests/live/50-attack.t; do
        if ! "$test" >build/soak/log 2>&1 || grep -q '^not ok' build/soak/log; then
            cat build/soak/log
            echo "soak: $test failed in round $round"
            exit 1
        fi
    done
    echo "soak: round $round is over"
done
echo "soak: $round rounds, nothing lost, no complaint of the sanitizers"
