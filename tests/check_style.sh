#!/bin/sh
# check_style.sh -- check_style.awk finds a breach of each of its rules, and none in good code; then
# the tree is held to them.  TAP.
set -eu
. tests/verdict.sh

style() { awk -f tests/check_style.awk "$@"; }

# Snippets: the rule that they break (0: none), and whether they are the body of a function, follow
# the first line of a file, or are the file.
cat >"$work/snippets" <<'END'
1 file
static const char text[] = "a line of more than a hundred characters, which no screen shows beside another";
1 file
	int i;
1 body
    go_on(); 
2 bare
/* A file with another beginning. */
3 body
    go_on();   // and on
3 file
/* A comment
   without its star. */
3 file
/* A comment
    * with its star anywhere. */
4 body
    go_on();   /* until there is nothing left to
                * be done */
5 file
/* A paragraph of prose that goes to the end of its line and leaves to the next line one
 * word. */
5 file
/* A paragraph of prose that goes to the end of its line and leaves to the next line one
 * word.
 *
 * Then another. */
6 file
/* ---- words ------------------------------------------------------------------ */
6 file
/* ==== words ==== */
6 file
/* ---- words
 * ---- */
7 body
    if (this_one &&
        that_one)
        go_on();
7 body
    return this_one ?
        1 : 2;
7 file
#define BOTH (ONE | \
    OTHER)
8 body
    if (ready) {
        go_on();
    }
8 body
    while (ready
        && willing) {
        go_on();
    }
8 body
    if (ready) {
        go_on();
    } else if (willing) {
        get_ready();
    } else {
        stop();
    }
8 body
    if (ready) {
        go_on();
        and_on();
    } else
        stop();
8 body
    if (ready)
        go_on();
    else {
        stop();
        leave();
    }
9 body
    return this_one ? 1
        : that_one ? 2
        : 3;
9 body
    name = this_one    ? "this"
        : "that";
10 body
    call_with_many(arguments, which_do_not_fit, into_one_line,
        last);
11 body
    int       n;
    const char *text;
11 body
    struct row *row = first();
    size_t      n = 0, i;
11 body
    DIR  *dir = NULL;
11 body
    rows    = 1;
    columns = 2;
12 file
static int go_on(void)
{
    return 1;
}
12 file
static int
go_on(void) {
    return 1;
}
12 file
const char *name_of(enum which which,
    unsigned char more)
{
    return names[which];
}
13 file
static int
go_on(void)
{
    return 1;
}
static int j;
13 file
static int i;


static int j;
14 body
    if (this_one
            && that_one
               && the_third)
        go_on();
14 body
    call_with_many(arguments, which_do_not_fit,
                   into_one_line, at_once);
14 file
static void
go_on(const char *from,
      const char *to)
{
    return;
}
0 file
/* The columns of a table, of a struct and of a macro are the point of it; a picture
 * in a comment is one too:
 *
 *     closed ---> open
 *        ^          |
 *        +----------+
 *
 * A list may have one word a line, whatever is above it, when it is broken there on purpose:
 *     first
 *     second */
struct row {
    const char *name;       /* borrowed */
    unsigned    number;     /* of the row */
};
0 file
/* ---- words and numbers: 1, 2 ---- */

#define ROWS(X)                     \
    X(FIRST,   "the first",   1)    \
    X(SECOND,  "the second",  2)

#if defined A || defined B
enum { A1 = 1, A2 = 2 };
#endif

static const struct row rows[] = {
    { "first",   1 },
    { "second",  2 },
};

const char *name_of(const struct row *row, unsigned number, const struct row *another,
    unsigned length);
static int (*const function)(int) = NULL;

static const char *
name_of(const struct row *row, unsigned number, const struct row *another,
    unsigned length)
{
    static const unsigned small[] = {
        1,   2,
        10, 20,
    };
    struct row r = { .name = row->name,
        .number = 1 };
    switch (number) {
#define X(name, text, n) case name: return text;
    ROWS(X)
#undef X
    case 1: return "a // in text, and /* one";
    default:
        break;
    }
again:
    if (row == NULL
        || another == NULL) {
        say("two statements");   /* with one comment */
        return NULL;
    } else if (length == 0) {
        return "";
    }
    if (number == '"' || number == '\'')
        for (number = 0; number < length; number++)
            call_that_goes_over_the_line(row, number,
                another, length);
    while (number > 0) {
        /* a comment is a line too */
        number--;
    }
    do {
        number--;
    } while (number > 0);
    printf("a text that fills the line so that there is no other place where it breaks: %u\n",
        number);
    assert_equal(a_function(with, many, arguments, which, alone, fill, the_line, of, all, of, them),
        0);
    if (number++ > 0)
        goto again;
    number *= 2;
    return number == 0 ? "none"
        : "some";
}
END

# Each snippet becomes a file, with what a file has around it.
awk -v work="$work" '
    /^[0-9]+ (bare|body|file)$/ {
        end_file()
        file = work "/" ++n ".c"
        where = $2
        print $1
        if (where != "bare")
            print "/* " n ".c -- a snippet */" >file
        if (where == "body")
            print "static int\nfunction(void)\n{" >file
        next
    }
    { print >file }
    function end_file() {
        if (where == "body")
            print "}" >file
        close(file)
    }
    END { end_file() }' "$work/snippets" >"$work/rules"

# What is said of all of them: "NUMBER RULE" a line.
style "$work"/*.c | sed 's/.*\/\([0-9]*\)\.c:[0-9]*: \[\([0-9]*\)\].*/\1 \2/' >"$work/said" || true

# misjudged RULE: the snippets of the rule of which not this is said, or more
misjudged() {
    awk -v rule="$1" -v work="$work" '
        NR == FNR { said[$1] = said[$1] ($2 == rule ? "" : " " $2); found[$1]++; next }
        $1 == rule && (said[FNR] != "" || !found[FNR] != !rule) {
            print "rule " rule " is not found, or others are:" said[FNR]
            system("cat " work "/" FNR ".c")
        }' "$work/said" "$work/rules"
}

echo 1..16
verdict 'good code passes' "$(misjudged 0)"
for rule in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do
    grep -qx "$rule" "$work/rules" || echo "Bail out! rule $rule is not tried"
    verdict "a breach of rule $rule is found, and nothing else" "$(misjudged "$rule")"
done
# shellcheck disable=SC2046
verdict 'the tree speaks one dialect' "$(style $(find xmppedge.[ch] analyze tests -name '*.[ch]'))"
