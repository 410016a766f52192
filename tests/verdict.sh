# shellcheck shell=sh
# verdict.sh -- what the checks in shell have in common, read by them with `. tests/verdict.sh`: a folder that
# goes when they end, and one way to say what was found.

# shellcheck disable=SC2034  # for who reads this
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

n=0
verdict() {   # verdict NAME LIST: the list must be empty
    n=$((n + 1))
    if [ -z "$2" ]; then
        echo "ok $n - $1"
    else
        echo "not ok $n - $1"
        echo "$2" | sed 's/^/# /'
    fi
}
