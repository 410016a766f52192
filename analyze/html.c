/* html.c -- the report as one page
 *
 * One file with nothing from outside: it is mailed around, opened on machines without a network,
 * printed.  A content security policy in the page says so to the browser, and which script it may
 * run: the one that searches.  Without it nothing is missing but the search.  Order is that of the
 * text: failures, port table, when it worked, partners, then a ladder for each attempt (folded).
 *
 * Every text goes through html_text(), which makes it printable UTF-8 and escapes markup; tags are
 * literals of this file.  What varies inside a tag are numbers and words of this file, never a text
 * of the capture.
 *
 * Meaning is never told by colour alone: states have signs and words, TLS has lines of its own.
 * The colours are blue, orange and grey, which everybody can tell apart.
 *
 * The page is small enough for a mail, HTML_MAX bytes: failures come first and get ladders first;
 * what is left out is said.  --all lifts that.
 */
#include "report.h"

/* Bytes of the page by which a part has to end. */
#define HTML_GROUPS_END     150000
#define HTML_TIMES_END      220000
#define HTML_PARTNERS_END   280000
#define HTML_LADDERS_END    400000
#define HTML_ATTEMPTS_END   440000
#define HTML_MAX            470000   /* and some for the item that reaches it */
#define HTML_VIOLATIONS     3        /* of a kind */
#define HTML_OPEN_MAX       4        /* ladders that are unfolded: first failures */
#define HTML_RUN            14       /* characters without a blank that need a place to break */
#define HTML_BINS           250      /* places on a time line: what is nearer is one mark */

struct html {
    FILE                *to;     /* in memory, so that its size is known */
    const struct report *r;
    struct text          line;
    struct text          more;
};

static const char *const html_style[] = {
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1c2024;--dim:#5c6670;--line:#cdd3d9;"
    "--soft:#f4f6f8;--good:#0b5fa5;--good-bg:#e2eefa;--bad:#a83a00;--bad-bg:#fde8dc;"
    "--warn:#6b5300;--warn-bg:#fbf1cf;--tls:#0b5fa5;--tls-bg:#eef5fc;--hs-bg:#f7f3fb;"
    "--hs:#7a4fa3;--plain:#8a939c}\n",
    "@media(prefers-color-scheme:dark){:root{--bg:#14181c;--fg:#e3e7eb;--dim:#9aa5af;"
    "--line:#39424a;--soft:#1c2227;--good:#7cbcf2;--good-bg:#14304a;--bad:#ff9f6b;"
    "--bad-bg:#46230f;--warn:#e9c95c;--warn-bg:#3a3110;--tls:#6cb2ee;--tls-bg:#17242f;"
    "--hs-bg:#221c2b;--hs:#bd97e3;--plain:#77818b}}\n",
    "*{box-sizing:border-box}\n",
    "body{margin:0 auto;padding:1.5rem 1.25rem 4rem;max-width:80rem;background:var(--bg);"
    "color:var(--fg);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',"
    "sans-serif;overflow-wrap:break-word}[hidden]{display:none!important}\n",
    "h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}\n",
    "p{margin:.4rem 0}a{color:inherit}.nw{white-space:nowrap}.dim{color:var(--dim)}\n",
    ".num{text-align:right;font-variant-numeric:tabular-nums}\n",
    "code,.mono{font-family:ui-monospace,'Cascadia Mono',Consolas,'DejaVu Sans Mono',"
    "monospace;font-size:.88em}h3 code,summary code{white-space:nowrap}\n",
    ".scroll{overflow-x:auto}table.t{border-collapse:collapse;width:100%}\n",
    ".t th{font-weight:600;font-size:.8rem;color:var(--dim);text-align:left;"
    "white-space:nowrap}\n",
    ".t th.num{text-align:right}\n",
    ".t th,.t td{padding:.3rem .6rem .3rem 0;vertical-align:top;overflow-wrap:normal}\n",
    ".t tbody td{border-top:1px solid var(--line)}\n",
    ".t tr.sub td,.t tr.again td{border-top:0;padding-top:0}.t tr.sub td{color:var(--dim)}\n",
    ".t td.num+td:not(.num),.t th.num+th:not(.num){padding-left:.8rem}\n",
    ".t .name{min-width:9rem}.t tbody+tbody td{border-top:1px solid var(--line)}\n",
    ".pill{display:inline-block;padding:0 .55em;border-radius:1em;font-size:.82rem;"
    "font-weight:600;white-space:nowrap;border:1px solid currentColor}\n",
    ".good{color:var(--good);background:var(--good-bg)}\n",
    ".bad{color:var(--bad);background:var(--bad-bg)}\n",
    ".warn{color:var(--warn);background:var(--warn-bg)}.none{color:var(--dim)}\n",
    ".result{margin:1rem 0;padding:.7rem 1rem;border-left:5px solid var(--good);"
    "background:var(--soft);font-size:1.05rem}\n",
    ".result.b{border-color:var(--bad)}.result.w{border-color:var(--warn)}\n",
    ".result p{margin:.1rem 0}\n",
    ".card{border:1px solid var(--line);border-left:5px solid var(--bad);border-radius:4px;"
    "padding:.6rem .9rem;margin:.7rem 0;break-inside:avoid}\n",
    ".card.w{border-left-color:var(--warn)}.card h3{font-size:1rem;margin:0 0 .3rem}\n",
    "dl{display:grid;grid-template-columns:7.5rem 1fr;gap:.15rem .8rem;margin:0}\n",
    "dt{color:var(--dim)}dd{margin:0}\n",
    "blockquote{margin:0;padding:.4rem .8rem;background:var(--soft);border-radius:4px}\n",
    ".find{margin:1rem 0 0}.find input{font:inherit;padding:.25rem .6rem;width:22rem;"
    "max-width:100%;color:inherit;background:var(--soft);border:1px solid var(--dim);"
    "border-radius:4px}\n",
    ".lane,.axis{display:grid;grid-template-columns:minmax(8rem,17rem) 1fr;gap:0 .8rem;"
    "align-items:center}.lane{border-top:1px solid var(--line);padding:.15rem 0;"
    "font-size:.88rem}\n",
    ".lane svg{display:block;width:100%;height:1.7rem;background:var(--soft)}"
    ".lane path{fill:none;vector-effect:non-scaling-stroke;stroke-width:3}\n",
    ".tl{stroke:var(--line);stroke-width:1!important}.tw{stroke:var(--good)}"
    ".tf{stroke:var(--bad);stroke-width:4!important}.tu{stroke:var(--dim)}\n",
    ".axis>div{grid-column:2;display:flex;justify-content:space-between;color:var(--dim);"
    "font-size:.8rem;font-variant-numeric:tabular-nums}.axis i{font-style:normal}\n",
    "details{border:1px solid var(--line);border-radius:4px;margin:.35rem 0;"
    "content-visibility:auto;contain-intrinsic-size:auto 2.3rem}\n",
    "summary{cursor:pointer;padding:.35rem .7rem}summary:hover{background:var(--soft)}\n",
    "details>div{padding:.4rem .9rem .9rem;border-top:1px solid var(--line)}\n",
    ".f{position:absolute;opacity:0;pointer-events:none}\n",
    ".f+label{display:inline-block;padding:.1rem .8rem;margin:0 .3rem .5rem 0;"
    "border:1px solid var(--line);border-radius:1em;cursor:pointer;font-size:.88rem}\n",
    ".f:checked+label{background:var(--fg);color:var(--bg)}\n",
    ".f:focus-visible+label{outline:2px solid var(--good)}\n",
    "#ff:checked~div>.aw,#ff:checked~div>.au,#fu:checked~div>.aw,#fu:checked~div>.af,"
    "#fw:checked~div>.af,#fw:checked~div>.au{display:none}\n",
    "table.l{border-collapse:collapse;width:100%;margin-top:.8rem;table-layout:fixed}\n",
    ".l td,.l th{padding:0}.l th{text-align:left}.l .t0{width:6.8rem}.l .p0{width:4.2rem}\n",
    ".l td:nth-child(-n+2){text-align:right;padding-right:.7rem;"
    "font-variant-numeric:tabular-nums;color:var(--dim);font-size:.82rem;"
    "vertical-align:bottom}\n",
    ".l .ends{display:flex;justify-content:space-between;gap:1rem;font-weight:600;"
    "padding-bottom:.2rem}\n",
    ".l .ends span+span{text-align:right}\n",
    ".l .ends small{display:block;font-weight:400;color:var(--dim)}\n",
    ".l .v{border-left:3px solid var(--plain);border-right:3px solid var(--plain);"
    "font-size:.9rem}\n",
    ".l .h{border-color:var(--hs);border-style:none dashed;background:var(--hs-bg)}\n",
    ".l .o{border-color:var(--tls);border-style:none double;border-width:0 5px;"
    "background:var(--tls-bg)}\n",
    ".l .c{border-color:var(--dim);border-style:none double;border-width:0 5px;"
    "background:repeating-linear-gradient(135deg,var(--soft) 0 6px,transparent 6px 12px)}\n",
    ".l .v>div{position:relative;margin:0 1px;padding:.18rem 1rem .1rem;"
    "border-bottom:1.5px solid var(--fg)}\n",
    ".l .v>div i{color:var(--dim);font-style:normal;margin-left:.5em}\n",
    ".l .x>div{color:var(--bad);border-color:var(--bad);font-weight:600}\n",
    ".l .x>div i{color:inherit;font-weight:400}\n",
    ".l .v>div:after{content:'';position:absolute;bottom:-5px;border:4.5px solid transparent}\n",
    ".l .r>div:after{right:0;border-left:9px solid var(--fg);border-right:0}\n",
    ".l .b>div:after{left:0;border-right:9px solid var(--fg);border-left:0}\n",
    ".l .b>div{text-align:right}.l .x.r>div:after{border-left-color:var(--bad)}\n",
    ".l .x.b>div:after{border-right-color:var(--bad)}\n",
    ".l .n{text-align:center;font-size:.82rem;color:var(--dim);padding:.35rem .5rem .15rem}\n",
    ".l .g{color:var(--warn);background:var(--warn-bg);outline:1px dashed var(--warn);"
    "font-weight:600;padding:.2rem .5rem}\n",
    ".l tr:last-child .v{padding-bottom:.4rem}\n",
    "@media(max-width:40rem){body{padding:1rem .8rem 3rem}dl{display:block}dt{margin-top:.3rem}"
    ".say{width:calc(100vw - 4.5rem)}.l .t0{width:4.9rem}.l .p0{width:2.6rem}"
    ".l td:nth-child(-n+2){padding-right:.4rem;font-size:.72rem}.l .v{font-size:.8rem}"
    ".l .v>div{padding:.18rem .7rem .1rem}.l .v>div i{display:block;margin:0}"
    ".l .ends{font-size:.8rem}.lane,.axis{grid-template-columns:1fr}.axis>div{grid-column:1}"
    ".axis i{display:none}}\n",
    "@media print{:root{color-scheme:light}body{max-width:none;font-size:10pt;padding:0}.f,"
    ".f+label{display:none}details{content-visibility:visible;break-inside:auto}.l tr{"
    "break-inside:avoid}.pill,.card,.result,.l .v{print-color-adjust:exact;"
    "-webkit-print-color-adjust:exact}a{text-decoration:none}}\n",
};

/* ---- texts ---- */

/* May something be written that is not needed? */
static bool
html_has_room(const struct html *h, long end)
{
    return h->r->choice.all || ftell(h->to) < end;
}

static const char *
html_entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

/* Anybody's text.  What is long may break behind a point, not inside of a word. */
static void
html_text(const struct html *h, const char *s)
{
    struct text clean = { NULL, 0, 0 };
    const char *at;
    size_t run = 0;
    text_clear(&clean);
    text_clean(&clean, s);
    for (at = clean.at; *at != '\0'; at++) {
        run = *at == ' ' ? 0 : run + 1;
        if (html_entity(*at) != NULL)
            fputs(html_entity(*at), h->to);
        else
            fputc(*at, h->to);
        if (run < HTML_RUN || strchr(".,:/=", *at) == NULL)
            continue;
        fputs("<wbr>", h->to);
        run = 0;
    }
    text_free(&clean);
}

/* Markup of this file. */
static void
html_put(const struct html *h, const char *markup)
{
    fputs(markup, h->to);
}

/* Markup, and anybody's text behind it. */
static void
html_say(const struct html *h, const char *markup, const char *s)
{
    html_put(h, markup);
    html_text(h, s);
}

static void
html_number(const struct html *h, uint64_t n)
{
    fprintf(h->to, "%llu", (unsigned long long)n);
}

/* A cell with a number; nothing stands for zero, so that the others are seen. */
static void
html_count(const struct html *h, uint64_t n)
{
    html_put(h, n == 0 ? "<td class=\"num dim\">" : "<td class=num>");
    html_number(h, n);
}

static void
html_pill(const struct html *h, const char *class, const char *sign, const char *word)
{
    fprintf(h->to, "<span class=\"pill %s\">%s ", class, sign);
    html_text(h, word);
    html_put(h, "</span>");
}

static void
html_row_pill(const struct html *h, enum row_state s)
{
    static const char *const classes[] = { "none", "good", "warn", "bad", "warn" };
    static const char *const signs[] = { "&ndash;", "&#10003;", "&#9680;", "&#10007;", "?" };
    html_pill(h, classes[s], signs[s], row_state_word(s));
}

static void
html_outcome_pill(const struct html *h, enum outcome o)
{
    static const char *const classes[] = { "good", "bad", "warn" };
    static const char *const signs[] = { "&#10003;", "&#10007;", "?" };
    static const char *const words[] = { "worked", "failed", "not known" };
    html_pill(h, classes[o], signs[o], words[o]);
}

/* Heading and first line of a table; a column of numbers begins with '#'. */
static void
html_table(const struct html *h, const char *heading, const char *titles)
{
    fprintf(h->to, "<h2>%s</h2>\n<div class=scroll><table class=t><thead><tr>", heading);
    for (;;) {
        bool number = *titles == '#';
        int len = (int)strcspn(titles += number, ",");
        fprintf(h->to, "<th%s>%.*s", number ? " class=num" : "", len, titles);
        titles += len;
        if (*titles++ == '\0')
            break;
    }
    html_put(h, "</tr></thead><tbody>\n");
}

/* A link to an attempt: the list opens where it leads. */
static void
html_link(const struct html *h, const struct attempt *a, size_t index)
{
    fprintf(h->to, "<a href=\"#a%lu\">", (unsigned long)index);
    if (attempt_has_number(a))
        fprintf(h->to, "#%llu", (unsigned long long)a->flow.number);
    else
        html_put(h, "DNS");
    html_put(h, "</a>");
}

static void
html_stamp(const struct html *h, int64_t ns)
{
    html_put(h, ns > 0 ? STAMP(ns, stamp_of(h->r)) : "");
}

/* What was left out. */
static void
html_more(struct html *h, uint64_t n, const char *one, const char *many)
{
    if (n == 0)
        return;
    text_clear(&h->line);
    text_count(&h->line, n, one, many);
    html_say(h, "<p class=dim>And ", h->line.at);
    html_put(h, ", left out to keep this page small; --all has all, --partner and --flow choose."
        "</p>\n");
}

/* What the report does not hold, whatever is asked for. */
static void
html_ceiling(struct html *h, uint64_t n, const char *where)
{
    if (n == 0)
        return;
    text_clear(&h->line);
    text_count(&h->line, n, "attempt", "attempts");
    html_say(h, "<p class=dim>", h->line.at);
    fprintf(h->to, " over a ceiling are not %s; --json lists each attempt.</p>\n", where);
}

/* ---- head ---- */

static void
html_capture(struct html *h)
{
    const struct report *r = h->r;
    struct text *t = &h->line;
    size_t i;
    html_put(h, "<p class=dim>");
    for (i = 0; i < r->nfiles && i < 8; i++)
        html_say(h, i > 0 ? ", " : "", r->files[i].name);
    if (r->nfiles > 8)
        html_put(h, " ...");
    SET(t, r->nfiles > 0 ? ": " : "");
    report_counts(t, r);
    if (r->first_ns > 0) {
        TEXT(t, "; from ", STAMP(r->first_ns, STAMP_LONG));
        TEXT(t, " to ", STAMP(r->last_ns, STAMP_LONG));
        TEXT(t, " (", LENGTH(r->last_ns - r->first_ns), "). All times are UTC.");
    }
    html_text(h, t->at);
    html_put(h, "</p>\n");
}

static const char html_begin[] =
    "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
    "<meta http-equiv=Content-Security-Policy "
    "content=\"default-src 'none'; style-src 'unsafe-inline'; script-src "
    "'sha256-uw5KRsmCfr1tjWJh0I74rEhh3nvoHTbCkW8UZwf7R7E='\">\n"
    "<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=referrer content=no-referrer>\n<title>XMPP federation report</title>\n<style>\n";

/* Its hash stands in the policy above: with a change of one, change both. */
static const char html_script[] =
    "(function(){var q=document.getElementById('q');q.parentNode.hidden=false;"
    "q.oninput=function(){var s=q.value.toLowerCase();"
    "document.querySelectorAll('.card,.lane,.p,details').forEach(function(e){"
    "e.hidden=s!==''&&e.textContent.toLowerCase().indexOf(s)<0})}})()";

static void
html_result(struct html *h)
{
    const struct report *r = h->r;
    const char *box = "<div class=result><p>";
    size_t i;
    if (r->exit_code == 1)
        box = "<div class=\"result b\"><p>";
    else if (r->flows_xmpp == 0 && r->failed == 0)
        box = "<div class=\"result w\"><p>";
    else if (r->failed > 0 || r->exit_code != 0)
        box = "<div class=\"result b\"><p>";
    report_result(&h->line, r);
    html_say(h, box, h->line.at);
    html_put(h, "</p></div>\n");
    for (i = 0; report_advice(&h->line, r, i), h->line.len > 0; i++) {
        html_say(h, "<p class=dim>", h->line.at);
        html_put(h, "</p>\n");
    }
}

static void
html_head(struct html *h)
{
    size_t i;
    html_put(h, html_begin);
    for (i = 0; i < sizeof html_style / sizeof *html_style; i++)
        html_put(h, html_style[i]);
    html_put(h, "</style>\n</head>\n<body>\n<h1>XMPP federation report</h1>\n");
    html_capture(h);
    html_result(h);
    html_put(h, "<div class=find hidden><label for=q>Only what names</label> "
        "<input id=q type=search placeholder=\"a domain, an address, a cause\"></div>\n");
}

/* ---- port table ---- */

static void
html_ruling(struct html *h, const struct report_row *w)
{
    static const char *const pills[] = {
        "<span class=\"pill good\">&#10003; conforms</span>",
        "<span class=\"pill bad\">&#10007; violates</span>",
        "<span class=\"pill warn\">? cannot tell</span>"
    };
    bool told = w->observed || w->ruling == RULING_VIOLATES;
    html_put(h, told ? pills[w->ruling] : "<span class=dim>not seen</span>");
}

static void
html_row(struct html *h, enum row row)
{
    static const char *const places[] = { "&ndash;", "1", "2", "3" };
    const struct report_row *w = &h->r->rows[row];
    struct row_face f = row_face(h->r, row, &h->more);
    fprintf(h->to, "<tr><td>%s", places[row]);
    html_say(h, row == ROW_OTHER ? "<td colspan=3>" : "<td>", f.service);
    if (row != ROW_OTHER) {
        html_say(h, "<td class=name>", f.source);
        html_say(h, "<td class=name>", f.target);
    }
    fprintf(h->to, "<td>%s", f.way);
    html_count(h, w->attempted);
    html_count(h, w->established);
    html_count(h, w->working);
    html_count(h, w->failed);
    html_count(h, w->unknown);
    html_count(h, w->stanzas);
    html_put(h, "<td>");
    html_row_pill(h, row_state(w));
    html_put(h, "<td>");
    html_ruling(h, w);
    html_put(h, "</tr>\n");
    row_says(&h->line, h->r, row);
    if (h->line.len == 0)
        return;
    html_say(h, "<tr class=sub><td><td colspan=12><div class=say>", h->line.at);
    html_put(h, "</div></tr>\n");
}

static void
html_rows(struct html *h)
{
    int k;
    html_table(h, "Port table",
        "row,protocol/port,source,destination,way,#tried,#TCP,#worked,#failed,#not known,#stanzas,"
        "result,ruling");
    for (k = ROW_IN; k < ROW_COUNT; k++)
        html_row(h, (enum row)k);
    if (h->r->rows[ROW_OTHER].observed)
        html_row(h, ROW_OTHER);
    html_put(h, "</tbody></table></div>\n");
}

static void
html_violation(struct html *h, const struct report_violation *v, bool first)
{
    html_say(h, v->suspected ? "<tr><td><span class=\"pill warn\">? maybe</span><td class=name>"
        : "<tr><td><span class=\"pill bad\">&#10007; certain</span><td class=name>",
        violation_text(v->kind));
    if (v->detail[0] != '\0') {
        html_say(h, " <span class=dim>", v->detail);
        html_put(h, "</span>");
    }
    if (first) {
        html_say(h, "<p class=dim>", violation_remedy(v->kind));
        html_put(h, "</p>");
    }
    html_say(h, "<td class=mono>", ENDPOINT(&v->source, 0));
    html_say(h, "<td class=mono>", ENDPOINT(&v->target, v->port));
    fprintf(h->to, "<td class=num>%llu<td>", (unsigned long long)v->frame);
    html_stamp(h, v->time_ns);
    fprintf(h->to, "<td class=num>#%llu</tr>\n", (unsigned long long)v->flow);
}

/* One kind, and where it was seen first.  Returns how many of them are left out. */
static size_t
html_violation_kind(struct html *h, enum violation_kind k, bool suspected)
{
    const struct report *r = h->r;
    size_t n = 0, shown = 0, i;
    for (i = 0; i < r->nviolations; i++) {
        if (r->violations[i].kind != k || r->violations[i].suspected != suspected)
            continue;
        if (n++ < HTML_VIOLATIONS || r->choice.all)
            html_violation(h, &r->violations[i], shown++ == 0);
    }
    return n - shown;
}

static void
html_violations(struct html *h)
{
    size_t left = 0;
    int k;
    if (h->r->nviolations == 0)
        return;
    html_table(h, "Violations", ",what,from,to,#packet,time,#connection");
    for (k = 0; k < 2 * VIOLATION_COUNT; k++)
        left += html_violation_kind(h, (enum violation_kind)(k % VIOLATION_COUNT),
            k >= VIOLATION_COUNT);
    html_put(h, "</tbody></table></div>\n");
    html_more(h, left, "more", "more of the same kinds");
}

/* ---- partners ---- */

static void
html_way(struct html *h, const struct report_partner *q, bool out, bool named)
{
    static const char *const mutual =
        " <span class=dim title=\"the caller proved itself with a certificate\">mutual</span>";
    const struct report_way *w = out ? &q->out : &q->in;
    if (named) {
        html_say(h, "<tr><td class=name>", partner_name(q, true));
        html_say(h, "<td class=name>", partner_name(q, false));
    } else {
        html_put(h, "<tr class=again><td><td>");
    }
    if (q->kind == PAIR_UNPLACED)
        html_put(h, "<td class=nw>not known");
    else
        fprintf(h->to, "<td class=nw>%s%s", out ? "out" : "in",
            q->kind == PAIR_INNER ? ", row 3" : "");
    html_count(h, w->attempts);
    html_count(h, w->worked);
    html_count(h, w->failed);
    html_count(h, w->unknown);
    html_say(h, "<td>", w->older ? "in use" : reach_word(w->reached));
    html_say(h, w->reach_inferred ? " <span class=dim>(inferred)</span><td>" : "<td>", w->method);
    html_say(h, "<td class=nw>", w->tls_version != 0 ? tls_version_name(w->tls_version) : "");
    html_put(h, w->client_cert ? mutual : "");
    html_say(h, *STANZAS(w) == '0' ? "<td class=\"num dim\">" : "<td class=num>", STANZAS(w));
    html_put(h, "<td>");
    if (w->last_failure_ns > 0) {
        html_text(h, cause_row(w->last_cause)->word);
        html_put(h, " <span class=dim>");
        html_stamp(h, w->last_failure_ns);
        html_put(h, "</span>");
    }
    html_put(h, "</tr>\n");
}

/* Those that have trouble come first. */
static void
html_partners(struct html *h)
{
    const struct report *r = h->r;
    uint64_t left = 0;
    size_t i;
    int pass;
    if (choice_partners(r) == 0)
        return;
    html_table(h, "Partners",
        "our domain,partner,way,#tried,#worked,#failed,#not known,got to,method,TLS,#stanzas,"
        "last failure");
    for (pass = 0; pass < 2; pass++)
        for (i = 0; i < r->npartners; i++) {
            const struct report_partner *q = &r->partners[i];
            bool out = q->out.attempts > 0 || q->in.attempts == 0;
            if ((q->in.failed + q->out.failed > 0) != (pass == 0)
                || !choice_takes_partner(&r->choice, q))
                continue;
            if (!html_has_room(h, HTML_PARTNERS_END)) {
                left++;
                continue;
            }
            html_put(h, "</tbody><tbody class=p>");
            if (out)
                html_way(h, q, true, true);
            if (q->in.attempts > 0)
                html_way(h, q, false, !out);
        }
    html_put(h, "</tbody></table></div>\n");
    html_more(h, left, "more partner", "more partners");
    html_ceiling(h, r->partners_left_out, "shown by partner");
}

/* ---- when it worked, and when not ---- */

/* Is it an attempt of this pair, in this direction? */
static bool
html_is_of(const struct report *r, const struct report_partner *q, bool out,
    const struct attempt *a)
{
    return a->verdict->partner == (size_t)(q - r->partners) + 1
        && (a->verdict->direction == DIRECTION_IN) != out;
}

/* Marks of one outcome: above the line, below it, across it. */
static void
html_marks(const struct html *h, const struct report_partner *q, bool out, enum outcome o)
{
    static const char *const marks[] = { "tw d=\"", "tf d=\"", "tu d=\"" };
    static const char *const strokes[] = { "2v7", "12v7", "7v7" };
    const struct report *r = h->r;
    int64_t span = r->last_ns > r->first_ns ? r->last_ns - r->first_ns : 1;
    int last = -1, bin;
    bool any = false;
    size_t i;
    for (i = 0; i < r->nattempts; i++) {
        const struct attempt *a = r->attempts[i];
        if (a->verdict->outcome != o || !html_is_of(r, q, out, a) || !choice_takes(&r->choice, a))
            continue;
        if (!any)
            fprintf(h->to, "<path class=%s", marks[o]);
        any = true;
        bin = (int)((double)(a->flow.first_ns - r->first_ns) / (double)span * HTML_BINS);
        if (bin != last && bin >= 0 && bin <= HTML_BINS)
            fprintf(h->to, "M%d %s", bin * 4 + 2, strokes[o]);
        last = bin;
    }
    html_put(h, any ? "\"/>" : "");
}

static void
html_lane(struct html *h, const struct report_partner *q, bool out)
{
    const struct report_way *w = out ? &q->out : &q->in;
    bool ours = out || q->kind == PAIR_INNER;     /* inside is who calls */
    html_say(h, "<div class=lane><div>", partner_name(q, ours));
    html_say(h, " &rarr; ", partner_name(q, !ours));
    fprintf(h->to, "</div><svg viewBox=\"0 0 1004 21\" preserveAspectRatio=none role=img "
        "aria-label=\"%llu worked, %llu failed, %llu not known\">",
        (unsigned long long)w->worked, (unsigned long long)w->failed,
        (unsigned long long)w->unknown);
    html_put(h, "<path class=tl d=\"M0 10.5h1004\"/>");
    html_marks(h, q, out, OUTCOME_WORKED);
    html_marks(h, q, out, OUTCOME_UNKNOWN);
    html_marks(h, q, out, OUTCOME_FAILED);
    html_put(h, "</svg></div>\n");
}

static void
html_axis(const struct html *h)
{
    const struct report *r = h->r;
    int k;
    html_put(h, "<div class=axis><div>");
    for (k = 0; k <= 4; k++) {
        html_put(h, k == 0 || k == 4 ? "<span>" : "<i>");
        html_put(h, STAMP(r->first_ns + (r->last_ns - r->first_ns) / 4 * k, stamp_of(r)));
        html_put(h, k == 0 || k == 4 ? "</span>" : "</i>");
    }
    html_put(h, "</div></div>\n");
}

/* A lane for each pair and direction; those that had trouble come first. */
static void
html_times(struct html *h)
{
    const struct report *r = h->r;
    uint64_t left = 0;
    size_t i;
    int pass, out;
    if (choice_partners(r) == 0)
        return;
    html_put(h, "<h2>When it worked</h2>\n<p class=dim>A stroke for each attempt: above the line "
        "it worked, below it failed, across it is not known how it ended.</p>\n");
    for (pass = 0; pass < 2; pass++)
        for (i = 0; i < r->npartners; i++)
            for (out = 1; out >= 0; out--) {
                const struct report_partner *q = &r->partners[i];
                const struct report_way *w = out ? &q->out : &q->in;
                if (w->attempts == 0 || (w->failed > 0) != (pass == 0)
                    || !choice_takes_partner(&r->choice, q))
                    continue;
                if (html_has_room(h, HTML_TIMES_END))
                    html_lane(h, q, out);
                else
                    left++;
            }
    html_axis(h);
    html_more(h, left, "more line", "more lines");
    html_ceiling(h, r->attempts_left_out, "drawn");
}

/* ---- failures ---- */

static void
html_field(struct html *h, const char *label, const char *s)
{
    if (s[0] == '\0')
        return;
    fprintf(h->to, "<dt>%s<dd>", label);
    html_text(h, s);
    html_put(h, "\n");
}

static void
html_group(struct html *h, const struct group *g, bool failed)
{
    const struct verdict *v = g->first->verdict;
    html_say(h, failed ? "<div class=card><h3>" : "<div class=\"card w\"><h3>",
        cause_row(g->cause)->what);
    html_say(h, " <code>", cause_row(g->cause)->word);
    html_say(h, "</code> <span class=dim>", verdict_rests_on(v));
    html_put(h, "</span></h3>\n<dl>");
    html_say(h, "<dt>what<dd>", v->story);
    html_put(h, " (");
    html_link(h, g->first, g->index);
    html_put(h, ")\n");
    attempt_words(&h->line, g->first);
    html_field(h, "said", h->line.at);
    attempt_log(&h->line, g->first);
    html_field(h, "log", h->line.at);
    html_field(h, "but", v->against);
    group_when(&h->line, g);
    html_field(h, "when", h->line.at);
    attempt_proofs(&h->line, v, STAMP_LONG);
    html_field(h, "evidence", h->line.at);
    if (v->fault >= 0 && cause_is_cert(g->cause)) {
        attempt_certificate(&h->line, g->first, v->fault);
        html_field(h, "certificate", h->line.at);
    }
    attempt_remedy(&h->line, g->first);
    html_field(h, "do", h->line.at);
    group_forward(&h->line, g);
    if (h->line.len > 0) {
        group_whom(&h->more, g);
        html_say(h, "<dt>tell ", h->more.at);
        html_say(h, "<dd><blockquote>", h->line.at);
        html_put(h, "</blockquote>\n");
    }
    html_put(h, "</dl></div>\n");
}

static void
html_groups(struct html *h, enum group_kind kind, const char *heading)
{
    size_t n = 0, i;
    struct group *list = report_groups(h->r, kind, &n);
    if (n > 0)
        html_put(h, heading);
    for (i = 0; i < n && html_has_room(h, HTML_GROUPS_END); i++)
        html_group(h, &list[i], kind == GROUP_FAILED);
    html_more(h, n - i, "more reason", "more reasons");
    free(list);
}

/* ---- ladders ---- */

static const char *
html_end_name(const struct attempt *a, int side)
{
    const char *name = attempt_domain(a, side);
    if (name[0] != '\0')
        return name;
    if (side == 0)
        return "initiator";
    return attempt_has_number(a) ? "responder" : "name server";
}

static void
html_ladder_head(struct html *h, const struct attempt *a)
{
    int side;
    html_put(h, "<table class=l><thead><tr><th class=t0><th class=p0><th><div class=ends>");
    for (side = 0; side < 2; side++) {
        const struct flow_side *s = &a->flow.side[side];
        html_say(h, "<span>", html_end_name(a, side));
        html_say(h, "<small class=mono>", ENDPOINT(&s->address, s->port));
        html_put(h, "</small></span>");
    }
    html_put(h, "</div></tr></thead><tbody>\n");
}

static const char *
html_cover_class(enum cover c)
{
    static const char *const classes[] = { "", " h", " o", " c" };
    return classes[c];
}

/* A line without an arrow. */
static void
html_note(struct html *h, enum cover c, bool gap, const char *s)
{
    fprintf(h->to, "<tr><td><td><td class=\"v%s\"><p class=\"n%s\" style=\"margin:0\">",
        html_cover_class(c), gap ? " g" : "");
    html_text(h, s);
    html_put(h, "</p></tr>\n");
}

static void
html_cover_change(struct html *h, const struct attempt *a, enum cover c)
{
    static const char *const words[] = { "not encrypted", "TLS handshake",
        "inside TLS, read with keys", "inside TLS, not readable" };
    SET(&h->line, words[c]);
    if (c == COVER_CLOSED && a->tls.why_closed[0] != '\0')
        TEXT(&h->line, ": ", a->tls.why_closed);
    html_note(h, c, false, h->line.at);
}

static void
html_rung(struct html *h, const struct attempt *a, const struct rung *g)
{
    char stamp[STAMP_MAX];
    rung_words(&h->line, &h->more, a, g, h->r->show_content);
    if (!g->arrow) {
        html_note(h, g->cover, true, h->line.at);
        return;
    }
    fprintf(h->to, "<tr><td>%s<td>%llu<td class=\"v%s %s%s\"><div>",
        stamp_offset(a->flow.first_ns, g->e->time_ns, stamp), (unsigned long long)g->e->frame,
        html_cover_class(g->cover), g->e->side == 0 ? "r" : "b", rung_is_bad(g->e) ? " x" : "");
    html_text(h, h->line.at);
    if (h->more.len > 0) {
        html_say(h, "<i>", h->more.at);
        html_put(h, "</i>");
    }
    html_put(h, "</div></tr>\n");
}

static void
html_ladder(struct html *h, const struct attempt *a)
{
    struct ladder l = ladder_begin(a);
    enum cover cover = COVER_PLAIN;
    struct rung g;
    html_ladder_head(h, a);
    while (ladder_next(&l, &g)) {
        if (g.left_out > 0) {
            text_clear(&h->line);
            text_count(&h->line, g.left_out, "event left out", "events left out");
            html_note(h, cover, false, h->line.at);
        }
        if (g.pause_ns > 0) {
            SET(&h->line, LENGTH(g.pause_ns), " later");
            html_note(h, cover, false, h->line.at);
        }
        if (g.cover != cover)
            html_cover_change(h, a, g.cover);
        cover = g.cover;
        html_rung(h, a, &g);
    }
    html_put(h, "</tbody></table>\n");
}

/* ---- attempts ---- */

static void
html_attempt_facts(struct html *h, const struct attempt *a)
{
    static const char *const labels[2] = { "caller&#39;s certificate",
        "called side&#39;s certificate" };
    const struct verdict *v = a->verdict;
    char community[COMMUNITY_MAX];
    int side;
    html_put(h, "<dl>");
    html_field(h, "story", v->story);
    attempt_words(&h->line, a);
    html_field(h, "said", h->line.at);
    attempt_facts(&h->line, a);
    html_field(h, "connection", h->line.at);
    attempt_proofs(&h->line, v, stamp_of(h->r));
    html_field(h, "evidence", h->line.at);
    if (v->outcome == OUTCOME_FAILED || v->setback != CAUSE_NONE) {
        attempt_remedy(&h->line, a);
        html_field(h, "do", h->line.at);
    }
    if (v->joined != 0) {
        html_put(h, "<dt>dialback<dd>the other half is connection #");
        html_number(h, v->joined);
        html_put(h, "\n");
    }
    for (side = 0; side < 2; side++) {
        attempt_certificate(&h->line, a, side);
        html_field(h, labels[side], h->line.at);
    }
    html_field(h, "Community ID", community_of(&a->flow, community));
    html_put(h, "</dl>\n");
}

static void
html_attempt(struct html *h, size_t index, bool ladder, bool open)
{
    static const char *const classes[] = { "aw", "af", "au" };
    static const char *const places[] = { "no row", "row 1", "row 2", "row 3", "DNS" };
    const struct attempt *a = h->r->attempts[index];
    const struct verdict *v = a->verdict;
    fprintf(h->to, "<details class=%s%s><summary>", classes[v->outcome], open ? " open" : "");
    html_outcome_pill(h, v->outcome);
    fprintf(h->to, " <span class=dim>%s %s</span> ", STAMP(a->flow.first_ns, stamp_of(h->r)),
        places[attempt_has_number(a) ? v->row : ROW_COUNT]);
    if (attempt_has_number(a))
        fprintf(h->to, "#%llu ", (unsigned long long)a->flow.number);
    attempt_title(&h->line, a);
    html_text(h, h->line.at);
    if (v->outcome == OUTCOME_FAILED || v->setback != CAUSE_NONE) {
        html_say(h, " <code>",
            cause_row(v->outcome == OUTCOME_FAILED ? v->cause : v->setback)->word);
        html_put(h, "</code>");
    }
    fprintf(h->to, "</summary><div id=a%lu>\n", (unsigned long)index);
    html_attempt_facts(h, a);
    if (ladder)
        html_ladder(h, a);
    else
        html_put(h, "<p class=dim>The ladder is left out to keep this page small; --ladder and "
            "--json have it.</p>\n");
    html_put(h, "</div></details>\n");
}

static void
html_filter(const struct html *h, const char *id, const char *label, uint64_t n, bool checked)
{
    fprintf(h->to, "<input class=f type=radio name=f id=%s%s><label for=%s>%s (%llu)</label>", id,
        checked ? " checked" : "", id, label, (unsigned long long)n);
}

static void
html_filters(struct html *h)
{
    const struct report *r = h->r;
    uint64_t n[3] = { 0, 0, 0 };
    size_t i;
    for (i = 0; i < r->nattempts; i++)
        n[r->attempts[i]->verdict->outcome] += choice_takes(&r->choice, r->attempts[i]);
    html_filter(h, "fa", "all", n[0] + n[1] + n[2], true);
    html_filter(h, "ff", "failed", n[OUTCOME_FAILED], false);
    html_filter(h, "fu", "not known", n[OUTCOME_UNKNOWN], false);
    html_filter(h, "fw", "worked", n[OUTCOME_WORKED], false);
}

/* Failed ones, then those that are not known, then the others; each in order of time. */
static void
html_attempts(struct html *h)
{
    static const enum outcome order[] = { OUTCOME_FAILED, OUTCOME_UNKNOWN, OUTCOME_WORKED };
    const struct report *r = h->r;
    uint64_t left = 0;
    size_t i, k, open = 0;
    if (r->nattempts == 0)
        return;
    html_put(h, "<h2>Attempts</h2>\n");
    html_filters(h);
    html_put(h, "<div>\n");
    for (k = 0; k < sizeof order / sizeof *order; k++)
        for (i = 0; i < r->nattempts; i++) {
            bool failed = order[k] == OUTCOME_FAILED;
            bool unfold = open < HTML_OPEN_MAX && (failed || r->nattempts == 1);
            if (r->attempts[i]->verdict->outcome != order[k]
                || !choice_takes(&r->choice, r->attempts[i]))
                continue;
            if (!html_has_room(h, HTML_ATTEMPTS_END)) {
                left++;
                continue;
            }
            open += unfold;
            html_attempt(h, i, html_has_room(h, HTML_LADDERS_END), unfold);
        }
    html_put(h, "</div>\n");
    html_more(h, left, "more attempt", "more attempts");
    html_ceiling(h, r->attempts_left_out, "listed");
}

/* ---- the rest ---- */

static void
html_dns_targets(struct html *h, const struct dns_fact *f)
{
    unsigned i;
    for (i = 0; i < f->ntargets; i++) {
        const struct dns_target *x = &f->targets[i];
        bool srv = f->type == DNS_SRV;
        html_say(h, i > 0 ? ", " : "", srv ? x->host : ENDPOINT(&x->address, 0));
        if (srv)
            fprintf(h->to, ":%u", (unsigned)x->port);
    }
}

static void
html_dns_fact(struct html *h, const struct dns_fact *f)
{
    bool answered = f->answer_frame != 0;
    html_say(h, "<tr><td>", dns_type_word(f->type));
    html_say(h, "<td class=name>", f->name);
    html_say(h, "<td>", dns_result_word(f->result));
    html_put(h, "<td class=name>");
    html_dns_targets(h, f);
    html_put(h, "<td class=num>");
    html_number(h, answered ? f->answer_frame : f->query_frame);
    html_put(h, "<td>");
    html_stamp(h, answered ? f->answer_ns : f->query_ns);
    html_put(h, "</tr>\n");
}

static void
html_dns(struct html *h)
{
    const struct report *r = h->r;
    size_t i;
    if (r->ndns == 0)
        return;
    html_table(h, "Name service", "record,name,result,answer,#packet,time");
    for (i = 0; i < r->ndns && html_has_room(h, HTML_MAX); i++)
        html_dns_fact(h, &r->dns[i]);
    html_put(h, "</tbody></table></div>\n");
    html_more(h, r->ndns - i + r->dns_left_out, "more question", "more questions");
}

static void
html_remarks(struct html *h)
{
    const struct report *r = h->r;
    bool any = false;
    int k;
    for (k = 0; k < REMARK_COUNT; k++) {
        if (r->remarks[k] == 0)
            continue;
        if (!any)
            html_table(h, "About the capture", "remark,#times,#first packet,detail of the first");
        any = true;
        html_say(h, "<tr><td>", remark_text((enum remark)k));
        fprintf(h->to, "<td class=num>%llu<td class=num>%llu", (unsigned long long)r->remarks[k],
            (unsigned long long)r->remark_frame[k]);
        html_say(h, "<td class=name>", r->remark_detail[k]);
        html_put(h, "</tr>\n");
    }
    if (any)
        html_put(h, "</tbody></table></div>\n");
}

static void
html_page(struct html *h)
{
    html_head(h);
    html_violations(h);
    html_groups(h, GROUP_FAILED, "<h2>Failures</h2>\n");
    html_groups(h, GROUP_SETBACK, "<h2>Worked in the end, but</h2>\n");
    html_rows(h);
    html_times(h);
    html_partners(h);
    html_attempts(h);
    html_dns(h);
    html_remarks(h);
    html_put(h, "<p class=dim>Made by xmppedge-analyze " XE_VERSION);
    html_put(h, h->r->show_content ? " with --show-content.</p>\n"
        : ". User names, message bodies and keys are left out.</p>\n");
    html_put(h, "<script>");
    html_put(h, html_script);
    html_put(h, "</script>\n</body>\n</html>\n");
    text_free(&h->line);
    text_free(&h->more);
}

int
report_html(const struct report *r, FILE *to)
{
    char *page = NULL;
    size_t len = 0;
    struct html h = { memory_try(open_memstream(&page, &len)), r, { NULL, 0, 0 }, { NULL, 0, 0 } };
    bool good = h.to != NULL;
    if (good) {
        html_page(&h);
        good = memory_suffices(ferror(h.to) == 0);
        good &= memory_suffices(fclose(h.to) == 0);
        good &= fwrite(page, 1, len, to) == len;
    }
    free(page);
    return !good || fflush(to) != 0 || ferror(to) != 0 ? -1 : 0;
}
