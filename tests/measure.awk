# measure.awk -- one half of the source in numbers, a line each: NAME TAB VALUE.
#
#   awk -f tests/measure.awk FILE...
#   awk -v PLACES=1 -f tests/measure.awk FILE...      orphans and duplicates with their lines, too
#
# An orphan is a comment whose text was filled and ends with a line of one or two words, or one that
# stands behind code and does not end in its line.  A duplicate is a place that repeats SAME_MIN lines
# or more of an earlier place; comments, white space and lines without a word do not count.

BEGIN {
    SAME_MIN = 6
    FILLED_MIN = 60             # a line of a comment so long goes on in the next for want of room
}

function count(what) {
    counts[what]++
    if (PLACES)
        print FILENAME ":" FNR ": " what
}

# ---- comments ----

# The line is, or holds, a part of a comment; in_comment: it began above.
function read_comment(line,    text, words, w) {
    text = line
    sub(/\*\/.*/, "", text)
    sub(/^[ \t]*(\/\*|\*)?/, "", text)
    words = split(text, w, " ")
    if (words > 0 && text ~ /[A-Za-z]/) {
        text_before = text_length
        text_words = words
        text_length = length(line)
    }
    if (line ~ /\*\//) {
        if (text_words <= 2 && text_before >= FILLED_MIN)
            count("orphan")
        in_comment = 0
    }
}

{ lines++ }

in_comment || /^[ \t]*\/\*/ {
    comment_lines++
    if (!in_comment) {
        in_comment = 1
        text_before = text_length = text_words = 0
    }
    read_comment($0)
    next
}
/\/\*/ && !/\/\*.*\*\// && !/"[^"]*\/\*/ {
    count("orphan")
    in_comment = 1
    text_before = text_length = text_words = 0
}

# ---- functions: their name starts in column one, and so does their last brace ----

/^[a-z_][a-z0-9_]*\(/ {
    name = $0
    sub(/\(.*/, "", name)
    first = FNR
}
/;[ \t]*$/ && FNR == first { name = "" }
/^}/ && name != "" {
    length_of[++functions] = FNR - first + 1
    if (FNR - first + 1 > longest) {
        longest = FNR - first + 1
        longest_name = name
    }
    name = ""
}

# ---- duplicates ----

FNR == 1 { kept = run = 0 }
{
    code = $0
    gsub(/\/\*.*/, "", code)
    gsub(/[ \t]+/, "", code)
    if (code !~ /[A-Za-z]/ || code ~ /^#/)
        next
    line_at[++kept] = code
    if (kept < SAME_MIN)
        next
    window = ""
    for (i = kept - SAME_MIN + 1; i <= kept; i++)
        window = window "\n" line_at[i]
    if (window in seen) {
        if (!run)
            count("duplicate")
        run = 1
    } else {
        seen[window] = 1
        run = 0
    }
}

function sorted(    i, j, t) {
    for (i = 2; i <= functions; i++) {
        t = length_of[i]
        for (j = i; j > 1 && length_of[j - 1] > t; j--)
            length_of[j] = length_of[j - 1]
        length_of[j] = t
    }
}

END {
    sorted()
    print "lines\t" lines
    print "functions\t" functions
    print "median function, lines\t" length_of[int((functions + 1) / 2)]
    print "90 of 100 are below\t" length_of[int(functions * 0.9 + 0.5)]
    print "longest function\t" longest
    print "which is\t" longest_name
    printf "comments, %% of lines\t%.1f\n", 100 * comment_lines / lines
    print "orphan comments\t" counts["orphan"] + 0
    print "duplicates\t" counts["duplicate"] + 0
}
