# cut.awk -- xmppedge.c up to the end of one section, as a file of its own.
#
#   awk -v after=JID -f tests/cut.awk xmppedge.c
#
# A section needs nothing that stands below it, so what is left compiles, in a fraction of the time.
# Compilers and debuggers still name lines of xmppedge.c.  Exit code 1: there is no such section.

BEGIN { print "#line 1 \"xmppedge.c\"" }

# The name stands in the second line of a banner: print one line behind.
NR > 1 && held ~ /^\/\* =====/ && /^ \* \[[A-Z0-9]+\]/ {
    if (section == after) {
        is_cut = 1
        exit
    }
    section = $2
    gsub(/[][]/, "", section)
}
NR > 1 { print held }
/^[ \t]*#[ \t]*if/    { open++ }
/^[ \t]*#[ \t]*endif/ { open-- }
{ held = $0 }

END {
    if (!is_cut)
        print held
    while (open-- > 0)
        print "#endif"
    exit section != after
}
