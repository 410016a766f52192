# check_layers.awk -- the banners of xmppedge.c are promises; this checks them.
#
#   awk -f tests/check_layers.awk xmppedge.c               one line a broken promise; exit code 1
#   awk -v SIZES=1 -f tests/check_layers.awk xmppedge.c    what the sections measure, too
#
#  1  the contents in the opening comment are the banners, word for word and in their order
#  2  a function is named after its section
#  3  a section uses functions and macros of the sections on its calls: line and of no others,
#     and something of each of those
#  4  no function is declared before it is defined
#  5  a definition starts in column one and has at most FUNC_MAX lines
#  6  each name() that the opening comment mentions exists, and in the banners too where it has one
#     of our prefixes
#  7  a library is named only where it belongs
#
# It reads words, not C.  Everything is defined above its first use, so one pass knows whose a name is.

BEGIN {
    FUNC_MAX = 100
    library["mbedtls_"] = "TLS AUTH"
    library["psa_"] = "TLS AUTH"
    library["ares_"] = "DNS"
    library["mxml"] = "ELEM CONFIG"
}

function fail_at(line, text) {
    printf "%s:%d: %s\n", FILENAME, line, text
    bad = 1
}

function fail(text) { fail_at(FNR, text) }

# The line without comments, and with strings and characters emptied.
function code_of(line,    out, end) {
    out = ""
    while (line != "") {
        if (in_comment) {
            end = index(line, "*/")
            if (end == 0)
                return out
            in_comment = 0
            line = substr(line, end + 2)
            continue
        }
        if (!match(line, /["']|\/\*|\/\//))
            return out line
        out = out substr(line, 1, RSTART - 1) " "
        line = substr(line, RSTART)
        if (substr(line, 1, 2) == "//")
            return out
        if (substr(line, 1, 2) == "/*") {
            in_comment = 1
            line = substr(line, 3)
        } else if (match(line, /^"([^"\\]|\\.)*"/) || match(line, /^'([^'\\]|\\.)*'/)) {
            line = substr(line, RLENGTH + 1)
        } else {
            return out
        }
    }
    return out
}

# Remember the name() in a line of the opening comment or of a banner.
function collect_mentions(line,    name, before) {
    while (match(line, /[a-z][a-z0-9_]*\(\)/)) {
        name = substr(line, RSTART, RLENGTH - 2)
        before = RSTART > 1 ? substr(line, RSTART - 1, 1) : " "
        line = substr(line, RSTART + RLENGTH)
        if (before == "." || before == ">")
            continue
        nmentions++
        mention_name[nmentions] = name
        mention_line[nmentions] = FNR
        mention_strict[nmentions] = section == ""
    }
}

# " * [CONN]  conn_ listener_   byte pipes" -> the tag, and the words behind it.
function read_title(line,    n, words, i) {
    sub(/^ \* +\[/, "", line)
    title_tag = line
    sub(/\].*/, "", title_tag)
    sub(/^[^\]]*\]/, "", line)
    n = split(line, words, " ")
    title_prefixes = ""
    title_words = ""
    for (i = 1; i <= n; i++) {
        if (title_words == "" && (words[i] ~ /_$/ || words[i] == "main" || words[i] == "xe_why"))
            title_prefixes = title_prefixes " " words[i]
        else
            title_words = title_words " " words[i]
    }
}

function begin_section(    n, words, i) {
    section = title_tag
    order[++nsections] = section
    start[section] = FNR
    prefixes[section] = title_prefixes
    if (contents_tag[nsections] != section)
        fail("[" section "] is not number " nsections " of the contents, [" \
            contents_tag[nsections] "] is")
    else if (contents_title[nsections] != title_prefixes ":" title_words)
        fail("[" section "] has other words in the contents:" contents_title[nsections])
    n = split(title_prefixes, words, " ")
    for (i = 1; i <= n; i++) {
        if (words[i] in prefix_owner && prefix_owner[words[i]] != section && words[i] != "xe_")
            fail("the prefix " words[i] " is that of [" prefix_owner[words[i]] "]")
        prefix_owner[words[i]] = section
    }
}

function read_calls(line,    n, words, i) {
    n = split(line, words, " ")
    for (i = 3; i <= n; i++) {
        if (words[i] ~ /^\(/)
            break
        if (!(words[i] in start) || words[i] == section)
            fail("calls: names [" words[i] "], which is not a section above")
        may_call[section, words[i]] = 1
        calls[section] = calls[section] " " words[i]
    }
    has_calls[section] = 1
}

function is_named_after_section(name,    n, words, i) {
    n = split(prefixes[section], words, " ")
    for (i = 1; i <= n; i++)
        if (index(name, words[i]) == 1)
            return 1
    return 0
}

function own(name, kind) {
    if (!(name in home)) {
        home[name] = section
        kind_of[name] = kind
    }
}

# A name of another section is used.
function use(name, before, word_before, after,    owner, tagged) {
    if (word_before == "struct" || word_before == "enum" || word_before == "union") {
        tagged = word_before " " name
        if (tagged in home)
            used[section, home[tagged]] = 1
        return
    }
    if (before == "." || before == ">")
        return
    for (owner in library)
        if (index(name, owner) == 1 && index(" " library[owner] " ", " " section " ") == 0)
            fail("[" section "] names " name "; only [" library[owner] "] may know this library")
    if (!(name in home) || name in is_local)
        return
    owner = home[name]
    used[section, owner] = 1
    if (owner == section || (section, owner) in may_call)
        return
    if (kind_of[name] == "function" || kind_of[name] == "macro")
        fail("[" section "] uses " name (after == "(" ? "()" : "") " of [" owner \
            "], which is not on its calls: line")
}

function uses_in(code,    name, before, word_before, at) {
    word_before = ""
    before = " "
    while (match(code, /[A-Za-z_][A-Za-z0-9_]*/)) {
        if (RSTART > 1)
            before = substr(code, RSTART - 1, 1)
        if (RSTART > 1 && substr(code, 1, RSTART - 1) !~ /^[ \t]*$/)
            word_before = ""
        # "a > b" is no "a->b"
        if (before == ">" && (RSTART < 3 || substr(code, RSTART - 2, 1) != "-"))
            before = " "
        name = substr(code, RSTART, RLENGTH)
        code = substr(code, RSTART + RLENGTH)
        use(name, before, word_before, substr(code, 1, 1))
        word_before = name
        before = " "
    }
}

function macro_definition(code) {
    if (match(code, /^#[ \t]*define[ \t]+[A-Za-z_][A-Za-z0-9_]*/)) {
        code = substr(code, 1, RLENGTH)
        sub(/.*[ \t]/, "", code)
        if (code != "X")
            own(code, "macro")
    }
}

# A struct, enum or union that is defined here belongs to the section.
function tag_definition(code) {
    if (match(code, /^(typedef )?(struct|enum|union) [A-Za-z0-9_]+ \{/)) {
        code = substr(code, 1, RLENGTH - 2)
        sub(/^typedef /, "", code)
        own(code, "tag")
    }
}

function begin_function(code) {
    func_name = code
    sub(/\(.*/, "", func_name)
    func_line = FNR
    signature_open = 1
    own(func_name, "function")
    if (home[func_name] != section)
        fail(func_name "() is in [" home[func_name] "] already")
    if (!is_named_after_section(func_name))
        fail(func_name "() is in [" section "] and has none of its prefixes:" prefixes[section])
}

function end_function(    lines) {
    lines = FNR - func_line + 1
    lengths[++nfunctions] = lines
    if (lines > longest) {
        longest = lines
        longest_name = func_name
    }
    if (lines > FUNC_MAX)
        fail_at(func_line, func_name "() has " lines " lines")
    func_name = ""
    functions[section]++
}

function file_level(code) {
    tag_definition(code)
    if (code ~ /^[a-z_][a-z0-9_]*\(/)
        begin_function(code)
    else if (code ~ /^[a-z][A-Za-z0-9_ *]*[ *][a-z_][a-z0-9_]*\([^*]/ && code !~ /=/ &&
            code !~ /^(typedef|extern|_Static_assert)/) {
        if (code ~ /;[ \t]*$/)
            fail("a function is declared: move its definition above its first use")
        else
            fail("the name of a function starts its line")
    }
}

{ line = $0 }

# The opening comment ends where the first line of code is.
section == "" && line ~ /^ \*/ {
    collect_mentions(line)
}
line ~ /^ \* +\[[A-Z0-9]+\] / && (banner_opens || (section == "" && in_comment)) {
    read_title(line)
    if (banner_opens) {
        begin_section()
        in_banner = 1
    } else {
        contents_tag[++ncontents] = title_tag
        contents_title[ncontents] = title_prefixes ":" title_words
    }
}
in_banner && line ~ /^ \* calls:/ { read_calls(line) }
in_banner                         { collect_mentions(line) }
line ~ /\*\/$/                    { in_banner = 0 }
{ banner_opens = line ~ /^\/\* =====/ }

{
    code = code_of(line)
    directive = code ~ /^[ \t]*#/
    if (section == "")
        next
    if (in_macro || directive) {
        macro_definition(code)
        uses_in(code)
        in_macro = line ~ /\\$/
        next
    }
    if (braces == 0 && parens == 0)
        file_level(code)
    uses_in(code)
    braces += gsub(/\{/, "{", code) - gsub(/\}/, "}", code)
    parens += gsub(/\(/, "(", code) - gsub(/\)/, ")", code)
    if (signature_open && parens == 0) {
        if (code ~ /;[ \t]*$/) {
            fail(func_name "() is declared: move its definition above its first use")
            func_name = ""
        }
        signature_open = 0
    }
    if (code ~ /^\}/) {
        braces = parens = 0
        if (func_name != "")
            end_function()
    }
}

function median(    i, j, t) {
    for (i = 2; i <= nfunctions; i++) {
        t = lengths[i]
        for (j = i; j > 1 && lengths[j - 1] > t; j--)
            lengths[j] = lengths[j - 1]
        lengths[j] = t
    }
    return lengths[int((nfunctions + 1) / 2)]
}

function has_our_prefix(name,    p) {
    for (p in prefix_owner)
        if (p ~ /_$/ && index(name, p) == 1)
            return 1
    return 0
}

END {
    if (ncontents != nsections)
        fail_at(1, "the contents have " ncontents " sections, the file has " nsections)
    for (i = 1; i <= nmentions; i++)
        if (kind_of[mention_name[i]] != "function" && kind_of[mention_name[i]] != "macro" &&
                (mention_strict[i] || has_our_prefix(mention_name[i])))
            fail_at(mention_line[i], mention_name[i] "() is mentioned, but it does not exist")
    for (i = 1; i <= nsections; i++) {
        s = order[i]
        if (!has_calls[s])
            fail_at(start[s], "[" s "] has no calls: line")
        n = split(calls[s], words, " ")
        for (k = 1; k <= n; k++)
            if (!((s, words[k]) in used))
                fail_at(start[s] + 1, "[" s "] promises to call [" words[k] "] and does not")
    }
    if (SIZES) {
        for (i = 1; i <= nsections; i++) {
            n = (i < nsections ? start[order[i + 1]] : FNR + 1) - start[order[i]]
            printf "%-9s %5d lines %4d functions\n", order[i], n, functions[order[i]]
        }
        printf "%-9s %5d lines %4d functions, median %d lines, longest %d: %s()\n", "in all", FNR,
            nfunctions, median(), longest, longest_name
    }
    exit bad
}
