# check_style.awk -- one dialect of C, held over every .c and .h of the tree.
#
#   awk -f tests/check_style.awk FILE...    one line a breach, with its rule; exit code 1
#
#  1  a line has at most LINE_MAX characters, no tab and no blank at its end: two files stand side
#     by side, and a patch shows only what changed
#  2  a file begins with "/* name.c -- what it is"
#  3  comments are /* */, and their further lines begin with " *" below the first star
#  4  a comment behind code ends on its line; a longer one stands above it, where it has room
#  5  a paragraph of a comment does not leave one short word to its last line
#  6  headings have one form, for the eye and for grep: "/* ---- words ---- */"
#  7  an operator leads the continued line: how a line belongs is read where it begins
#  8  no braces round one statement of one line; when a branch of an if needs them, all have them
#  9  ?: is not stacked and not in columns: a third case is an if, a fourth a table
# 10  the last argument does not stand alone on a line when the call can be broken earlier
# 11  variables and assignments inside functions are not in columns: one more would move them all
# 12  a definition has its type on a line of its own, its name and its brace in column one:
#     grep '^name(' finds it
# 13  one blank line between functions, and nowhere two
# 14  a continued line is indented by four, or by eight when it continues one, not to a parenthesis
#
# It reads words, not C.  Macros are held to 1 to 7 alone, tables and structs to 1 to 7 and 13:
# there columns are the point.

BEGIN {
    LINE_MAX = 100
    ORPHAN_MAX = 10     # a longer word fills a line well enough
    PROSE_MIN = 70      # a shorter line above it is a list or a picture, broken on purpose
    LOCAL = "^ *[A-Za-z][A-Za-z0-9_]*( [A-Za-z0-9_]+)*  +[*]*[A-Za-z_][A-Za-z0-9_]*" \
        "( *[[].*[]])* *[,;=]"
    OPERATOR = "(&&|[|][|]|[<>=!]=|<<|>>|[-+*/%|&^<>?:])$"
}

function fail_at(at, rule, text) {
    printf "%s:%d: [%d] %s\n", FILENAME, at, rule, text
    bad = 1
}

function fail(rule, text) { fail_at(FNR, rule, text) }

function begin_file(    name) {
    name = FILENAME
    sub(/.*\//, "", name)
    if (index($0, "/* " name " -- ") != 1)
        fail(2, "the file does not begin with \"/* " name " -- \"")
    in_comment = in_macro = depth = parens = prose_lines = 0
    blank_lines = function_ended = candidate = head = colons = 0
    ends = ";"
}

function blanks(n) { return n > 0 ? sprintf("%" n "s", "") : "" }

function indent_of(text) {
    match(text, /^ */)
    return RLENGTH
}

# ---- comments ----

function comment_opens(column, text) {
    in_comment = 1
    star_column = column + 1
    prose_lines = 0
    prose_add(text)
}

# A line inside of a comment.  A paragraph ends with the comment, or before an empty line.
function comment_goes_on(text, is_last) {
    if (is_last && text ~ /^ *$/) {
        paragraph_ends()
        return
    }
    if (indent_of(text) != star_column || substr(text, star_column + 1, 1) != "*")
        fail(3, "a line of a comment does not begin with \" *\" below the first star")
    sub(/^ *[*]/, "", text)
    if (text ~ /[^ ]/)
        prose_add(text)
    if (is_last || text !~ /[^ ]/)
        paragraph_ends()
}

function prose_add(text) {
    above = prose
    above_width = prose_width
    prose = text
    prose_width = length($0)
    prose_line = FNR
    prose_lines++
}

function paragraph_ends(    word) {
    word = prose
    gsub(/^ +| +$/, "", word)
    if (prose_lines > 1 && word ~ /^[A-Za-z]+[.,;:)]*$/ && length(word) <= ORPHAN_MAX &&
            above_width >= PROSE_MIN && indent_of(above) == indent_of(prose))
        fail_at(prose_line, 5, "\"" word "\" stands alone at the end of its paragraph")
    prose_lines = 0
}

# The line as code: comments become blanks, and what is in quotes x, of the same width.
function code_of(line,    out, end, quoted) {
    out = ""
    if (in_comment) {
        end = index(line, "*/")
        comment_goes_on(end > 0 ? substr(line, 1, end - 1) : line, end > 0)
        if (end == 0)
            return ""
        in_comment = 0
        out = blanks(end + 1)
        line = substr(line, end + 2)
    }
    while (match(line, /["']|\/[*]|\/\//)) {
        out = out substr(line, 1, RSTART - 1)
        line = substr(line, RSTART)
        if (substr(line, 1, 2) == "//") {
            fail(3, "a comment with //")
            return out
        }
        if (substr(line, 1, 2) == "/*") {
            end = index(substr(line, 3), "*/")
            if (end == 0) {
                if (out ~ /[^ ]/)
                    fail(4, "a comment behind code does not end on its line")
                comment_opens(length(out), substr(line, 3))
                return out
            }
            out = out blanks(end + 3)
            line = substr(line, end + 4)
        } else if (match(line, /^"([^"\\]|\\.)*"/) || match(line, /^'([^'\\]|\\.)*'/)) {
            quoted = substr(line, 1, RLENGTH)
            line = substr(line, RLENGTH + 1)
            gsub(/[^"']/, "x", quoted)
            out = out quoted
        } else {
            return out
        }
    }
    return out line
}

function check_heading() {
    if ($0 ~ /^ *\/[*] ?([-*_#][-*_#]|==+ .*[*]\/$)/ && $0 !~ /^\/[*] ---- [^-].* ---- [*]\/$/)
        fail(6, "a heading is not \"/* ---- words ---- */\"")
}

# ---- code ----

# Inside of an initializer, a struct or an enum.
function in_table() { return depth > 0 && is_table[depth] }

function in_function() { return depth > 0 && !is_table[depth] }

# Before this line a statement has ended, or the head of one.
function is_begin() { return parens == 0 && (ends ~ /[;{}:]/ || after_head) }

function check_operator(code) {
    if (code ~ /^ *# *include/ || !match(code, OPERATOR) || code ~ /([+][+]|--)$/)
        return
    if (code ~ /:$/ && code ~ /^ *(case |default|[A-Za-z0-9_]+:$)/)
        return
    if (code ~ /[*]$/ && depth == 0 && parens == 0)
        return
    fail(7, "\"" substr(code, RSTART) "\" ends the line; it leads the next")
}

# The branches of an if are one chain, found by their indentation and judged at its last brace.
function check_braces(code, parens_after,    at) {
    at = indent_of(code)
    if (code ~ /^ *[}]/ && at in chain) {
        if (FNR - branch[at] != 2 || above_line !~ /; *(\/[*].*)?$/)
            needed[at] = 1
        if (code ~ /[}]$/) {
            if (!needed[at])
                fail_at(chain[at], 8, "braces round one statement")
            delete chain[at]
        }
    }
    if (parens == 0 && code ~ /^ *([}] )?(else )?(if|for|while) \(|^ *([}] )?else( [{])?$/) {
        head = FNR
        head_at = at
        head_code = code
    }
    after_head = head && parens_after == 0 && code !~ /[;{]$/
    if (head && parens_after == 0)
        head_ends(code ~ /[{]$/)
}

function head_ends(opens) {
    if (opens) {
        if (head_code ~ /^ *else/)
            fail(8, "a branch has braces and the one before has none")
        if (!(head_at in chain)) {
            chain[head_at] = head
            needed[head_at] = head_code ~ /^ *else/
        }
        branch[head_at] = FNR
    } else if (head_code ~ /^ *[}] else/) {
        fail(8, "a branch has no braces and the one before has")
        delete chain[head_at]
    }
    head = 0
}

function check_ternary(code) {
    if (code !~ /^ *[?:]/)
        colons = 0
    else if (code ~ /^ *:/ && ++colons == 2)
        fail(9, "?: is stacked")
    if (code ~ /[^ ]  +[?:] / && !in_table())
        fail(9, "?: in columns")
}

function check_lone_argument(code) {
    if (parens == 0 || code !~ /^ *[&*]?[A-Za-z0-9_]+\)+;?$/ || above_code !~ /,$/)
        return
    while (gsub(/\([^()]*\)/, "", above_code) > 0)
        continue
    if (gsub(/,/, ",", above_code) > 1)
        fail(10, "the last argument stands alone: break the call earlier")
}

function check_local(code) {
    if (!in_function() || !is_begin())
        return
    if (code ~ LOCAL)
        fail(11, "a variable in columns")
    else if (code ~ /^ *[a-z][A-Za-z0-9_>.[-]*[]]?  +[-+|&]?= /)
        fail(11, "an assignment in columns")
}

# "type name(" on one line is a definition when a brace follows, not a semicolon.
function check_definition(code) {
    if (depth > 0)
        return
    if (code ~ /^[{]/ && candidate)
        fail_at(candidate, 12, "the name of a function starts its line")
    if (parens == 0) {
        candidate = code ~ /^[a-z][A-Za-z0-9_ *]*[ *][a-z_][a-z0-9_]*\([^*]/ && code !~ /=/ &&
            code !~ /^typedef/ ? FNR : 0
        is_definition = candidate || code ~ /^[A-Za-z_][A-Za-z0-9_]*\(/
    }
    if (code ~ /[^ ] *[{]$/ && is_definition)
        fail(12, "the brace of a function stands in column one")
}

function check_indent(code,    more) {
    if (depth == 0 && parens == 0 || in_table())
        return
    if (is_begin()) {
        statement_at = indent_of(code)
        return
    }
    more = indent_of(code) - (depth == 0 ? 0 : statement_at)
    if (more != 4 && (more != 8 || depth == 0))
        fail(14, "a continued line is indented by " more)
}

# Follow the parentheses and braces of a line.
function follow(code,    c, before, table) {
    before = ""
    while (match(code, /[(){}]/)) {
        c = substr(code, RSTART, 1)
        before = before substr(code, 1, RSTART - 1)
        code = substr(code, RSTART + 1)
        if (c == "(") {
            parens++
        } else if (c == ")") {
            parens--
        } else if (c == "{") {
            table = opens_table(before)
            is_table[++depth] = table
        } else if (depth > 0) {
            depth--
        }
        before = before c
    }
}

function opens_table(before) {
    return in_table() || parens > 0 || before ~ /(= ?|\))$/ ||
        before ~ /^ *(typedef |static |const )*(struct|enum|union)( [A-Za-z0-9_]+)? $/ ||
        before ~ /^ *$/ && ends ~ /[=,]/
}

# ---- the pass ----

FNR == 1 { begin_file() }

length($0) > LINE_MAX { fail(1, "the line has " length($0) " characters") }
/\t/                  { fail(1, "a tab") }
/[ \t]$/              { fail(1, "a blank at the end of the line") }

{
    check_heading()
    code = code_of($0)
    sub(/[ \t]+$/, "", code)
}

/^$/ {
    if (++blank_lines > 1)
        fail(13, "two blank lines")
    next
}

{
    if (function_ended && blank_lines == 0 && code !~ /^#/)
        fail(13, "no blank line behind a function")
    blank_lines = function_ended = 0
}

in_macro || code ~ /^ *#/ {
    in_macro = $0 ~ /\\$/
    sub(/ *\\$/, "", code)
    check_operator(code)
    code = ""
}

code != "" {
    parens_after = parens + gsub(/\(/, "(", code) - gsub(/\)/, ")", code)
    check_indent(code)
    check_local(code)
    check_ternary(code)
    check_braces(code, parens_after)
    check_lone_argument(code)
    check_definition(code)
    was_function = in_function()
    follow(code)
    check_operator(code)
    if (code ~ /^[}]/) {
        function_ended = was_function
        depth = parens = 0
    }
    ends = code ~ /^ *[A-Z][A-Z0-9_]*\(.*\)$/ ? ";" : substr(code, length(code))
    above_code = code
}

{ above_line = $0 }

END { exit bad }
