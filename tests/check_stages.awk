# check_stages.awk -- the stages of the analyzer are layers; this checks it.
#
#   awk -f tests/check_stages.awk xmppedge.h analyze/*.[ch]     one line a broken promise; exit code 1
#
#  1  every file belongs to a stage of ORDER
#  2  a file includes headers of stages before it, and its own first; nobody includes a .c, or
#     anything of the roof
#  3  a file names no function, struct, enum or union of a stage after it, but for what a header
#     declares without its members to hand it through (PASSED)
#  4  the roof calls every stage
#  5  a function that a header declares is defined in that stage
#  6  each name() in a comment, and in the comment that opens a file each_name with or without the
#     parentheses, exists; so does each prefix_
#  7  a function has at most FUNC_MAX lines
#  8  a library is included only where it belongs
#
# It reads words, not C; whose a word is, is known at the end only, and judged there.

BEGIN {
    FUNC_MAX = 100
    ROOF = "analyze"
    GROUND = "base pool"
    count = split(GROUND " capture packet flow inside log tls xmpp join dns verdict causes report xml json html export " ROOF, ORDER, " ")
    for (i = 1; i <= count; i++)
        rank[ORDER[i]] = i
    header_of["causes"] = "verdict"
    header_of["json"] = header_of["html"] = header_of["xml"] = header_of["export"] = "report"
    PASSED["xmpp struct verdict"] = 1
    library["pcap"] = "capture"
    library["mbedtls"] = "tls report"
}

function fail_at(place, text) {
    print place ": " text
    bad = 1
}

function fail(text) { fail_at(FILENAME ":" FNR, text) }

function begin_file(    name) {
    name = FILENAME
    sub(/.*\//, "", name)
    is_header = name ~ /\.h$/
    stage = name
    sub(/\.[ch]$/, "", stage)
    outside = stage == "xmppedge"
    if (!outside && !(stage in rank))
        fail("no stage has this file: it has no place in ORDER")
    own_header = stage in header_of ? header_of[stage] : stage
    includes = in_comment = 0
    opening = 1
    func_name = ""
}

# ---- comments ----

function mention(text,    name, is_call) {
    while (match(text, /[A-Za-z0-9_.>-]*[a-z][a-z0-9_]*(\(\))?/)) {
        name = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        is_call = name ~ /\(\)$/
        sub(/\(\)$/, "", name)
        if (name ~ /[.>-]/ || name ~ /[A-Z]/ || (!is_call && !(opening && name ~ /_/)))
            continue
        mentions++
        mention_name[mentions] = name
        mention_place[mentions] = FILENAME ":" FNR
        mention_strict[mentions] = opening
    }
}

# ---- code ----

function library_of(line,    name) {
    for (name in library)
        if (line ~ "<" name "[./]" && index(" " library[name] " ", " " stage " ") == 0)
            fail("only " library[name] " may know this library")
}

function include(line,    name) {
    library_of(line)
    if (line !~ /"/)
        return
    name = line
    gsub(/^[^"]*"|"[^"]*$/, "", name)
    if (name == "../xmppedge.h")
        return
    if (name !~ /^[a-z]+\.h$/) {
        fail("\"" name "\" is no header of a stage")
        return
    }
    sub(/\.h$/, "", name)
    if (++includes == 1 && !is_header && stage != ROOF && name != own_header)
        fail("the first header is not " own_header ".h")
    if (name == ROOF || (rank[name] >= rank[stage] && name != own_header))
        fail(name ".h is not of a stage before " stage)
}

function own(name) {
    if (!(name in home))
        home[name] = stage
}

function use(name) {
    if (!((stage, name) in used))
        used[stage, name] = FILENAME ":" FNR
}

function words_of(code,    name, before) {
    before = ""
    while (match(code, /[A-Za-z_][A-Za-z0-9_]*/)) {
        name = substr(code, RSTART, RLENGTH)
        code = substr(code, RSTART + RLENGTH)
        word[name] = 1
        if (name ~ /_/)
            prefix[substr(name, 1, index(name, "_"))] = 1
        use(before ~ /^(struct|enum|union)$/ ? before " " name : name)
        before = name
    }
}

# A definition or a declaration at the left edge.
function file_level(code,    name) {
    if (match(code, /^(struct|enum|union) [A-Za-z0-9_]+ \{/)) {
        if (is_header)
            own(substr(code, 1, RLENGTH - 2))
    } else if (is_header && match(code, /[ *][a-z][a-z0-9_]*\(/) && code !~ /^(static|typedef|#| )/) {
        name = substr(code, RSTART + 1, RLENGTH - 2)
        own(name)
        if (!outside)
            declared[name] = FILENAME ":" FNR
    } else if (match(code, /^[a-z_][a-z0-9_]*\(/)) {
        func_name = substr(code, 1, RLENGTH - 1)
        func_line = FNR
        defined[func_name, own_header] = 1
    }
}

function end_function(    lines) {
    lines = FNR - func_line + 1
    if (lines > FUNC_MAX)
        fail_at(FILENAME ":" func_line, func_name "() has " lines " lines")
    func_name = ""
}

# The line without its comments; those are looked through.
function code_of(line,    out, at, end) {
    out = ""
    while (line != "") {
        if (in_comment) {
            end = index(line, "*/")
            mention(end == 0 ? line : substr(line, 1, end - 1))
            if (end == 0)
                return out
            in_comment = opening = 0
            line = substr(line, end + 2)
        }
        at = index(line, "/*")
        if (at == 0)
            return out line
        out = out substr(line, 1, at - 1)
        line = substr(line, at + 2)
        in_comment = 1
    }
    return out
}

FNR == 1 { begin_file() }

{ code = code_of($0) }

code ~ /^#include/ && !outside { include(code) }

code !~ /^#include/ && code ~ /[A-Za-z_]/ {
    words_of(code)
    file_level(code)
}

code ~ /^}/ && func_name != "" && !outside { end_function() }

# ---- the end: whose is what ----

function is_on_ground(stage) { return index(" " GROUND " ", " " stage " ") > 0 }

function judge_uses(    key, part) {
    for (key in used) {
        split(key, part, SUBSEP)
        if (!(part[2] in home) || home[part[2]] == part[1] || home[part[2]] == "xmppedge")
            continue
        if (part[1] == ROOF && part[2] in declared)
            called[home[part[2]]] = 1
        if (rank[home[part[2]]] > rank[part[1]] && !((part[1] " " part[2]) in PASSED))
            fail_at(used[key], part[1] " names " part[2] " of " home[part[2]] ", a stage after it")
    }
}

function judge_mentions(    i, name, known) {
    for (i = 1; i <= mentions; i++) {
        name = mention_name[i]
        known = name in word || (name ~ /_$/ && name in prefix)
        if (!known && (mention_strict[i] || substr(name, 1, index(name, "_")) in prefix))
            fail_at(mention_place[i], name " is mentioned, but it does not exist")
    }
}

function judge_declarations(    name) {
    for (name in declared) {
        is_stage[home[name]] = 1
        if (!((name, home[name]) in defined))
            fail_at(declared[name], name "() is declared and not defined")
    }
}

function judge_roof(    name) {
    for (name in is_stage)
        if (!(name in called) && !is_on_ground(name))
            fail_at(ROOF ".c", "the roof calls nothing of " name)
}

END {
    judge_uses()
    judge_declarations()
    judge_roof()
    judge_mentions()
    exit bad
}
