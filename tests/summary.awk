# summary.awk -- how many passed; what failed, with its name and its reason.
#
#   awk -v stage=NAME -f tests/summary.awk TEST.tap TEST.err TEST.status ...
#
# The reason is in the comments below a `not ok`.  A test that broke off has it in what it said at last,
# on standard error if it said anything there.

BEGIN { LAST_MAX = 30 }     # lines of a reason

function failure(name) {
    print "FAILED " test ": " name
    failed++
    failed_here++
}

function print_last(lines, n,    i) {
    for (i = n > LAST_MAX ? n - LAST_MAX + 1 : 1; i <= n; i++)
        print "    " lines[i]
}

function end_test(status,    broke) {
    broke = !has_plan || done != planned || (status != 0 && failed_here == 0)
    if (broke)
        failure(done + 0 " of " (has_plan ? planned : "?") " tests were done, exit status " status)
    if (failed_here > 0 && nerrors > 0)
        print_last(errors, nerrors)
    else if (broke)
        print_last(said, nsaid)
    if (failed_here > 0)
        print ""
    has_plan = planned = done = below = failed_here = nerrors = nsaid = 0
}

FNR == 1 {
    test = FILENAME
    sub(/^build\/tests\/tap\//, "", test)
    kind = test
    sub(/.*\./, "", kind)
    sub(/\.[a-z]+$/, "", test)
}
kind == "status" { end_test($1) }
kind == "err"    { errors[++nerrors] = $0 }
kind != "tap"    { next }

/^1\.\./ {
    planned = substr($1, 4) + 0
    has_plan = 1
    skipped += planned == 0
}
/^(not )?ok / {
    done++
    below = /^not ok / && !/# (SKIP|TODO)/
    if (below)
        failure(substr($0, length("not ok ") + 1))
    else if (/# SKIP/)
        skipped++
    else
        passed++
}
/^#/ && below && below++ <= LAST_MAX { print "    " $0 }
              { said[++nsaid] = $0 }

END { printf "%s: %d passed, %d failed, %d skipped\n", stage, passed, failed, skipped }
