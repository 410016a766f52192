#!/bin/sh
# analyze.sh -- how fast the analyzer reads a capture, beside other readers (make bench-analyze)
#
#   analyze.sh [ANALYZE]
#
# ANALYZE is the program, ../../xmppedge-analyze if absent.  Makes captures of about 1 GB in TMPDIR
# and removes them.  Processor time and memory are those of the reader's process; the machine may
# be shared, so each number is the best of RUNS (3; slow readers: one) and rates are to be compared
# within one run.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
analyze=${1-$here/../../xmppedge-analyze}
runs=${RUNS-3}
mb=1048576
need=3500                            # megabytes of disk: two captures at the same time

base=${TMPDIR-/tmp}
free=$(df -Pm "$base" | awk 'NR == 2 { print $4 }')
if [ "$free" -lt "$need" ]; then
    echo "skipped: $base has $free MB free, $need are needed (TMPDIR says where)"
    exit 0
fi
dir=$(mktemp -d "$base/bench-analyze.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

: "${CC:=cc}" "${CFLAGS:=-O2}"
# shellcheck disable=SC2086
$CC -std=c99 $CFLAGS -Wall -Wextra -o "$dir/bench_capture" "$here/bench_capture.c"

# make FILE FLOWS MEGABYTES [OPEN]
make_capture() {
    "$dir/bench_capture" -tls "$here/../analyze/tls" -flows "$2" -bytes $(($3 * mb)) \
        -open "${4-2000}" "$1"
}

# best COMMAND ...: sets cpu (seconds) and rss (KiB).  What the reader says about the traffic, and
# by its exit status, is not of interest here.
best() {
    rm -f "$dir/result"
    i=0
    while [ $i -lt "$runs" ]; do
        "$dir/bench_capture" -measure "$dir/result" "$@" >/dev/null 2>&1 || true
        i=$((i + 1))
    done
    # shellcheck disable=SC2046
    set -- $(sort -n "$dir/result" | head -1)
    cpu=$1
    rss=$2
}

# row WHAT FILE COMMAND ...
row() {
    what=$1
    size=$(wc -c <"$2")
    shift 2
    if ! command -v "$1" >/dev/null; then
        echo "$what: $1 is not installed"
        return
    fi
    best "$@"
    awk -v what="$what" -v size="$size" -v cpu="$cpu" -v rss="$rss" -v read="$reading" \
        'BEGIN { rate = size / 1e6 / cpu
                 of = read > 0 ? sprintf("%.1f%%", 100 * rate / read) : ""
                 printf "%-38s %7.2f s %8.0f MB/s %8s %8.1f MB\n", what, cpu, rate, of,
                     rss / 1024 }'
    rate=$(awk -v size="$size" -v cpu="$cpu" 'BEGIN { print size / 1e6 / cpu }')
}

# readers FILE PART FLOWS
readers() {
    size=$(wc -c <"$1")
    echo
    echo "$(awk -v n="$size" 'BEGIN { printf "%.2f", n / 1e9 }') GB, $3 connections, 2,000 open;" \
        "slow readers get $(($(wc -c <"$2") / 1000000)) MB"
    printf '%-38s %9s %13s %10s %9s\n' reader CPU rate 'of reading' memory
    reading=0
    row 'tcpdump -w /dev/null (reading alone)' "$1" tcpdump -r "$1" -w /dev/null
    reading=${rate:-0}
    row 'xmppedge-analyze' "$1" "$analyze" --no-color "$1"
    row 'xmppedge-analyze --json' "$1" "$analyze" --json "$1"
    all=$runs
    runs=1
    row 'tcptrace' "$2" tcptrace "$2"
    row 'tcpdump -n' "$2" tcpdump -nr "$2"
    row 'tshark' "$2" tshark -nr "$2"
    runs=$all
    reading=0
}

reading=0
rate=0
part=$dir/part.pcap
make_capture "$dir/1.pcap" 200000 1024
make_capture "$part" 20000 102
readers "$dir/1.pcap" "$part" 200,000

echo
echo "size of the file: time and memory"
make_capture "$dir/a.pcap" 50000 256
row 'a quarter' "$dir/a.pcap" "$analyze" "$dir/a.pcap"
rm "$dir/a.pcap"
make_capture "$dir/a.pcap" 100000 512
row 'half' "$dir/a.pcap" "$analyze" "$dir/a.pcap"
rm "$dir/a.pcap"
row 'all' "$dir/1.pcap" "$analyze" "$dir/1.pcap"
rm "$dir/1.pcap"

# The rate of this one is that of a pipe, which libpcap reads.
mkfifo "$dir/pipe"
make_capture "$dir/pipe" 2000000 10240 &
all=$runs
runs=1
best "$analyze" "$dir/pipe"
runs=$all
wait $!
awk -v rss="$rss" -v cpu="$cpu" 'BEGIN {
    printf "%-38s %7.2f s %31.1f MB\n", "ten times (2,000,000, through a pipe)", cpu, rss / 1024 }'
make_capture "$dir/a.pcap" 200000 1024 20000
row '20,000 open instead of 2,000' "$dir/a.pcap" "$analyze" "$dir/a.pcap"
rm "$dir/a.pcap"

make_capture "$dir/1.pcap" 20000 1024
make_capture "$part" 2000 102
readers "$dir/1.pcap" "$part" 20,000
