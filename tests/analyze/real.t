#!/bin/sh
# real.t -- every cause and verdict over captures between real servers, with and without their keys.
cd "$(dirname "$0")/../.." || exit 99
echo 1..1
captures=../shared/captures/real
if [ ! -d "$captures" ]; then
    echo "ok 1 - captures between real servers # SKIP there is no $captures"
    exit 0
fi
if text=$(sh tests/analyze/real.sh ./xmppedge-analyze "$captures" 2>&1); then
    echo "# $text"
    echo "ok 1 - causes and verdicts of captures between real servers"
else
    echo "not ok 1 - causes and verdicts of captures between real servers"
    echo "$text" | sed 's/^/# /'
fi
