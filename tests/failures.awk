# failures.awk -- the name and the reason of what failed, from what a test said.
#
#   awk -v test=FILE -f tests/failures.awk TAP ERRORS STATUS
#
# The reason is in the comments below a `not ok`.  A test that broke off has it in what it said at last,
# on standard error if it said anything there.

BEGIN { LAST_MAX = 30 }

function failed(name) {
    print "\nFAILED " test ": " name
    failures++
}

FILENAME == ARGV[1] && /^(not )?ok / {
    below = /^not ok / && !/# (SKIP|TODO)/
    done++
    if (below)
        failed(substr($0, length("not ok ") + 1))
}
FILENAME == ARGV[1] && /^1\.\./          { planned = substr($1, 4) + 0; has_plan = 1 }
FILENAME == ARGV[1] && /^#/ && below     { print "    " $0 }
FILENAME == ARGV[1] && !/^ok /           { said[++nsaid] = $0 }
FILENAME == ARGV[2]                      { errors[++nerrors] = $0 }
FILENAME == ARGV[3]                      { status = $1 }

END {
    broke = !has_plan || done != planned || (status != 0 && failures == 0)
    if (broke)
        failed(done + 0 " of " (has_plan ? planned : "?") " tests, exit status " status)
    if (failures == 0)
        exit
    if (broke && nerrors == 0)
        for (i = nsaid > LAST_MAX ? nsaid - LAST_MAX + 1 : 1; i <= nsaid; i++)
            print "    " said[i]
    for (i = nerrors > LAST_MAX ? nerrors - LAST_MAX + 1 : 1; i <= nerrors; i++)
        print "    " errors[i]
}
