#!/bin/sh
# demo.sh -- what `make demo` shows: the demo, and then the analyzer over what the demo said on the wire.
# Where the system lets nobody capture, it says so; the demo is none the worse for it.
set -u
work=$(mktemp -d) || exit 1
analyzer=
trap '[ -z "$analyzer" ] || kill "$analyzer" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

loopback=lo
[ "$(uname)" = Linux ] || loopback=lo0
./xmppedge-analyze -i $loopback -f 'tcp port 5269 or tcp port 23456' -w "$work/demo.pcap" \
    >/dev/null 2>"$work/said" &
analyzer=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    { grep -q capturing "$work/said" || ! kill -0 $analyzer 2>/dev/null; } && break
    sleep 0.1
done

./xmppedge demo | tee "$work/demo.txt"
# tee hides how the demo ended; its last line does not
grep -q '^All of it worked' "$work/demo.txt" || exit 1

echo
if ! grep -q capturing "$work/said"; then
    echo "No capture of it for xmppedge-analyze, this system does not allow one:"
    sed 's/^/   /' "$work/said"
    exit 0
fi
sleep 0.3        # the last packets are under way to the analyzer
kill -INT $analyzer
wait $analyzer
analyzer=
# "   edge     edge01.corp.example  127.1.2.2:5269 external, 127.1.2.3:23456 internal"
external=$(sed -n 's/^ *edge .* \([0-9.]*\):5269 external.*/\1/p' "$work/demo.txt")
internal=$(sed -n 's/^ *edge .* \([0-9.]*\):23456 internal.*/\1/p' "$work/demo.txt")
if [ -z "$external" ] || [ -z "$internal" ]; then
    echo "The usual ports were taken, so there is no port table for xmppedge-analyze to check."
    exit 0
fi
echo "What xmppedge-analyze says about the captured traffic of this demo, without any key:"
echo
./xmppedge-analyze --external "$external" --internal "$internal" --require 1,2,3 \
    -f "host $external or host $internal" "$work/demo.pcap"
