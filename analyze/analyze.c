/* analyze.c -- xmppedge-analyze: options, pump, exit status; the roof over all stages
 *
 *   capture.c  files, interfaces --> frames
 *       |
 *   packet.c   link layers, IP, UDP, TCP, ICMP --> packets -------.
 *       |                                                         |
 *   flow.c     TCP connections, order, gaps --> bytes        dns.c  questions and answers
 *       |                                                         |
 *   xmpp.c     streams by content, tls.c inside --> attempts      |
 *       |                                                         |
 *   verdict.c  port table, causes --> report <--------------------'
 *       |      inside.c, of all connections: who called whom
 *       |      log.c, what a node itself wrote; join.c: of which attempt
 *       |
 *   report.c   words and groups; text, ladders     json.c  JSON Lines     html.c  one page
 *   xml.c      what was said     export.c   packets for Wireshark
 *
 * A stage is a header, its contract on one page, and a file.  It knows the stages before it and
 * none after it: results go on by a table of functions, so that each stage can be tested alone.
 * Only this file knows all of them, and none knows it.  The report is a function of the input: time
 * is that of the packets.  Memory is bounded by open flows; of one that is over an attempt stays.
 *
 * The pump holds one `watch` for a connection that is of interest: by its port from the first
 * packet on, by its first bytes on any other port.  All other connections are muted as soon as they
 * have said something.
 *
 * Exit status: 0 all rows conform and no failure; 1 a violation or failure; 2 wrong usage, or
 * nothing could be read, or memory ran out; 3 a file is damaged (what came before was analysed);
 * 4 a required row was not observed.
 */
#include "capture.h"
#include "dns.h"
#include "flow.h"
#include "join.h"
#include "log.h"
#include "packet.h"
#include "report.h"
#include "tls.h"
#include "verdict.h"
#include "xmpp.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ANALYZE_BUDGET      4096     /* frames between two looks at signals and progress */
#define ANALYZE_PROGRESS    (64 * ANALYZE_BUDGET)
#define ANALYZE_LOOKUPS_MAX 4096     /* failed connections to odd ports looked up in DNS answers */
#define ANALYZE_WATCHED_MAX 24000    /* open connections that are read: about 8 KB each */
#define ANALYZE_MESSAGE_MAX 4096     /* bytes of a DNS message over TCP */
#define CONFIG_FILE_MAX     (16u << 20)   /* bytes of a configuration: as the proxy */

#define ANALYZE_COLUMNS_MAX 140     /* longer lines of prose are hard to read */

#define ANALYZE_STRAY       64       /* bytes of content of late packets: an alert, a good-bye */
#define ANALYZE_KEEPALIVE   40       /* bytes of content of a packet that only keeps alive */

#define DIRECT_TLS_PORT 5270         /* what most servers use for XEP-0368 */
#define DNS_PORT        53

/* ---- options ---- */

#define ANALYZE_FILES_MAX 256
#define OPTION_INTERFACES_MAX 16
#define OPTION_KEYS_MAX   16

struct options {
    const char             *files[ANALYZE_FILES_MAX];
    const char             *interfaces[OPTION_INTERFACES_MAX];
    const char             *keys[OPTION_KEYS_MAX];
    const char             *logs[REPORT_LOGS_MAX];
    size_t                  nfiles, ninterfaces, nkeys, nlogs;
    struct capture_options  capture;
    struct verdict_options  verdict;
    const char             *config, *authorities, *html, *export;
    struct choice           choice;
    uint64_t                stream;    /* number of the connection to print; 0: the report */
    struct verdict_way     *ways;      /* owned */
    unsigned                nodes, domains, gateways;   /* names in the configuration */
    bool                    json, ladder, no_color, progress, snaplen_given;
};

/* What the program takes: reading the command line, --help, the page of the manual and completion
 * go by it. */
struct option_row {
    const char *name, *other;   /* "": it has no other */
    const char *value;          /* what it takes; "": nothing */
    const char *doc;
};

static const struct option_row option_table[] = {
    { "-i", "", "INTERFACE", "capture live until interrupted, telling each attempt as it ends; may "
        "be given more than once" },
    { "-f", "", "FILTER", "look only at packets that match (as tcpdump)" },
    { "-s", "", "SNAPLEN", "bytes of a packet to capture, with -i" },
    { "-w", "", "FILE", "also write what -i captures to a new pcap file" },
    { "-k", "--keys", "FILE",
        "key log (NSS format, SSLKEYLOGFILE) to see what is inside TLS" },
    { "--log", "", "FILE", "log of an edge or a gateway: why it ended its connections" },
    { "--external", "", "ADDR,...", "addresses of the external interface of the edge (rows 1 and "
        "2)" },
    { "--internal", "", "ADDR,...", "addresses of its internal interface (row 3)" },
    { "-c", "", "FILE", "take both from a configuration of xmppedge, and where it may call" },
    { "--ca", "", "FILE", "authorities by which certificates are judged (PEM)" },
    { "--require", "", "ROW,...", "exit 4 unless these rows were seen: 1, 2, 3 (or 5269-in, "
        "5269-out, 23456-in)" },
    { "--json", "", "", "JSON Lines instead of text" },
    { "--json-fields", "", "", "explain them" },
    { "--html", "", "FILE", "write a page with ladder diagrams, too; -: to standard output, "
        "alone" },
    { "--ladder", "", "", "ladder diagrams in text" },
    { "--all", "", "", "every attempt and partner, however many there are" },
    { "--partner", "", "DOMAIN", "only attempts with this domain or address" },
    { "--flow", "", "N", "only the attempt of this connection" },
    { "--failed", "", "", "only attempts that failed" },
    { "--export", "", "FILE", "their packets as a new pcapng file, with comments and secrets "
        "inside" },
    { "--stream", "", "N", "what was said on this connection, as XML, instead of the report" },
    { "--show-content", "", "", "do not redact message bodies, keys and secrets" },
    { "--no-color", "", "", "no colour, even on a terminal" },
    { "--progress", "", "", "tell how far it is, on standard error" },
    { "--manual", "", "", "print the page of the manual, for man(1) to show" },
    { "--completion", "", "", "print the words that bash completes, as it reads them" },
    { "--version", "", "", "print the version" },
    { "--help", "-h", "", "print this, in short; so does the word help" }
};

#define OPTION_ROWS (sizeof option_table / sizeof *option_table)

static const char *const option_uses[] = {
    "[options] FILE... (pcap or pcapng; - is standard input)",
    "[options] -i INTERFACE"
};
static const char option_about[] = "Tells from captured traffic which rows of the port table of an "
    "XMPP edge were used and whether they worked, who federated with whom, and why attempts "
    "failed.";
static const struct { const char *status, *means; } option_exits[] = {
    { "0", "all rows conform and nothing failed" }, { "1", "a violation or failure" },
    { "2", "wrong usage, nothing could be read, or no memory" }, { "3", "a file is damaged" },
    { "4", "a required row was not observed" }
};

#define USAGE_LABEL 23   /* columns before a text */
#define USAGE_WIDTH 92

/* "-k, --keys FILE" */
static void
option_put(struct text *out, const struct option_row *o)
{
    SET(out, o->name, o->other[0] != '\0' ? ", " : "", o->other, o->value[0] != '\0' ? " " : "",
        o->value);
}

/* False: not all could be written. */
static bool
usage_print(FILE *to)
{
    struct text name = { NULL, 0, 0 };
    size_t i;
    for (i = 0; i < sizeof option_uses / sizeof *option_uses; i++)
        fprintf(to, "%s xmppedge-analyze %s\n", i == 0 ? "usage:" : "      ", option_uses[i]);
    fputc('\n', to);
    text_wrap(to, 0, 0, USAGE_WIDTH, option_about);
    fputs("\n\n", to);
    for (i = 0; i < OPTION_ROWS; i++) {
        option_put(&name, &option_table[i]);
        text_wrap(to, text_wrap(to, 0, 2, USAGE_WIDTH, name.at), USAGE_LABEL, USAGE_WIDTH,
            option_table[i].doc);
        fputc('\n', to);
    }
    fputs("\nExit status:\n", to);
    for (i = 0; i < sizeof option_exits / sizeof *option_exits; i++)
        fprintf(to, "  %s  %s\n", option_exits[i].status, option_exits[i].means);
    text_free(&name);
    return fflush(to) == 0 && ferror(to) == 0;
}

/* ---- the page of the manual: man(7) ---- */

static void
manual_text(FILE *to, const char *text)
{
    size_t size = XE_ROFF_SIZE(strlen(text));
    char *page = memory_get(size);
    xe_roff_text(text, page, size);
    fputs(page, to);
    free(page);
}

/* What something is called, what it means, and what to do ("": nothing). */
static void
manual_item(FILE *to, const char *name, const char *means, const char *remedy)
{
    struct text text = { NULL, 0, 0 };
    SET(&text, means, remedy[0] != '\0' ? ": " : "", remedy);
    fputs(".TP\n.B ", to);
    manual_text(to, name);
    manual_text(to, text.at);
    text_free(&text);
}

static void
manual_options(FILE *to)
{
    struct text name = { NULL, 0, 0 };
    size_t i;
    fputs(".SH OPTIONS\n", to);
    for (i = 0; i < OPTION_ROWS; i++) {
        option_put(&name, &option_table[i]);
        manual_item(to, name.at, option_table[i].doc, "");
    }
    fputs(".SH EXIT STATUS\n", to);
    for (i = 0; i < sizeof option_exits / sizeof *option_exits; i++)
        manual_item(to, option_exits[i].status, option_exits[i].means, "");
    text_free(&name);
}

/* What attempts fail by, and what the port table forbids. */
static void
manual_verdicts(FILE *to)
{
    unsigned i;
    fputs(".SH CAUSES\n", to);
    for (i = CAUSE_NONE + 1; i < CAUSE_COUNT; i++) {
        const struct cause_row *row = cause_row((enum cause)i);
        manual_item(to, row->word, row->what, row->remedy);
    }
    fputs(".SH VIOLATIONS\n", to);
    for (i = 0; i < VIOLATION_COUNT; i++)
        manual_item(to, violation_word((enum violation_kind)i),
            violation_text((enum violation_kind)i), violation_remedy((enum violation_kind)i));
}

/* xmppedge-analyze(1).  False: not all could be written. */
static bool
manual_print(FILE *to)
{
    size_t i;
    fputs(".TH XMPPEDGE-ANALYZE 1 " XE_DATE " \"xmppedge " XE_VERSION "\"\n.SH NAME\n", to);
    manual_text(to, "xmppedge-analyze - what captured XMPP server-to-server traffic tells");
    fputs(".SH SYNOPSIS\n", to);
    for (i = 0; i < sizeof option_uses / sizeof *option_uses; i++) {
        fputs(i > 0 ? ".br\n.B xmppedge\\-analyze\n" : ".B xmppedge\\-analyze\n", to);
        manual_text(to, option_uses[i]);
    }
    fputs(".SH DESCRIPTION\n", to);
    manual_text(to, option_about);
    manual_options(to);
    manual_verdicts(to);
    fputs(".SH SEE ALSO\n.BR xmppedge (1)\n", to);
    return fflush(to) == 0 && ferror(to) == 0;
}

/* For bash: the options, or else files. */
static bool
completion_print(FILE *to)
{
    size_t i;
    fputs("complete -o default -W '", to);
    for (i = 0; i < OPTION_ROWS; i++)
        fprintf(to, "%s%s%s%s", i > 0 ? " " : "", option_table[i].name,
            option_table[i].other[0] != '\0' ? " " : "", option_table[i].other);
    fputs("' xmppedge-analyze\n", to);
    return fflush(to) == 0 && ferror(to) == 0;
}

/* ---- reading the command line ---- */

static void
complain(const char *what, const char *about)
{
    struct text clean = { NULL, 0, 0 };
    text_clear(&clean);
    text_clean(&clean, about);   /* file names and words of the command line */
    TEXT(&clean, about[0] != '\0' ? ": " : "");
    text_clean(&clean, what);
    fprintf(stderr, "xmppedge-analyze: %s\n", clean.at);
    text_free(&clean);
}

/* A list with commas, one word at a time; false at its end. */
static bool
option_word(const char **list, char *out, size_t size)
{
    size_t n = strcspn(*list, ",");
    if (**list == '\0')
        return false;
    snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), *list);
    *list += n;
    *list += **list == ',';
    return true;
}

/* "--external 1.2.3: not an IP address" */
static bool
option_wrong(const char *name, const char *value, const char *what)
{
    char about[96];
    snprintf(about, sizeof about, "%.24s %.64s", name, value[0] != '\0' ? value : "\"\"");
    complain(what, about);
    return false;
}

static bool
option_addresses(const char *name, const char *list, struct address *out, size_t *n)
{
    char word[64];
    if (list[0] == '\0')
        return option_wrong(name, list, "not an IP address");
    while (option_word(&list, word, sizeof word)) {
        if (*n == REPORT_ADDRESSES_MAX)
            return option_wrong(name, word, "one address too many");
        if (!address_read(word, &out[*n]))
            return option_wrong(name, word, "not an IP address");
        ++*n;
    }
    return true;
}

static bool
option_rows(const char *name, const char *list, unsigned *rows)
{
    char word[32] = "";
    int k = ROW_COUNT;
    while (option_word(&list, word, sizeof word)) {
        for (k = ROW_IN; k < ROW_COUNT; k++)
            if (strcmp(word, row_word((enum row)k)) == 0 || (word[0] == '0' + k && word[1] == '\0'))
                break;
        if (k == ROW_COUNT)
            break;
        *rows |= 1u << k;
    }
    return k < ROW_COUNT || option_wrong(name, word, "not a row of the port table: 1, 2 or 3");
}

static bool
option_bytes(const char *name, const char *value, int *out)
{
    char *end;
    long n = strtol(value, &end, 10);
    if (end == value || *end != '\0' || n < 0 || n > 1 << 20)
        return option_wrong(name, value, "not a number of bytes up to 1048576");
    *out = (int)n;
    return true;
}

/* As reports have it: 17 or #17. */
static bool
option_flow(const char *name, const char *value, uint64_t *out)
{
    const char *digits = value + (value[0] == '#');
    char *end;
    *out = strtoull(digits, &end, 10);
    return (digits[0] >= '1' && digits[0] <= '9' && *end == '\0')
        || option_wrong(name, value, "not the number of a connection");
}

static bool
option_push(const char **list, size_t *n, size_t max, const char *name, const char *value)
{
    if (*n == max)
        return option_wrong(name, value, "one too many");
    list[(*n)++] = value;
    return true;
}

/* Options with a value. */
static bool
option_value(struct options *o, const char *name, const char *value)
{
    const struct { const char *name, **text; } texts[] = { { "-f", &o->capture.filter },
        { "-c", &o->config }, { "--ca", &o->authorities }, { "--html", &o->html },
        { "--export", &o->export }, { "-w", &o->capture.write },
        { "--partner", &o->choice.partner } };
    size_t i;
    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].text = value;
            return true;
        }
    }
    if (strcmp(name, "-i") == 0)
        return option_push(o->interfaces, &o->ninterfaces, OPTION_INTERFACES_MAX, name, value);
    if (strcmp(name, "-k") == 0 || strcmp(name, "--keys") == 0)
        return option_push(o->keys, &o->nkeys, OPTION_KEYS_MAX, name, value);
    if (strcmp(name, "--log") == 0)
        return option_push(o->logs, &o->nlogs, REPORT_LOGS_MAX, name, value);
    if (strcmp(name, "--external") == 0)
        return option_addresses(name, value, o->verdict.external, &o->verdict.nexternal);
    if (strcmp(name, "--internal") == 0)
        return option_addresses(name, value, o->verdict.internal, &o->verdict.ninternal);
    if (strcmp(name, "--require") == 0)
        return option_rows(name, value, &o->verdict.required);
    if (strcmp(name, "--stream") == 0)
        return option_flow(name, value, &o->stream);
    if (strcmp(name, "--flow") == 0)
        return option_flow(name, value, &o->choice.flow);
    o->snaplen_given = true;
    return option_bytes(name, value, &o->capture.snaplen);
}

static bool
option_takes_value(const char *name)
{
    size_t i;
    for (i = 0; i < OPTION_ROWS; i++)
        if (strcmp(name, option_table[i].name) == 0 || strcmp(name, option_table[i].other) == 0)
            return option_table[i].value[0] != '\0';
    return false;
}

static bool
option_flag(struct options *o, const char *name)
{
    const struct { const char *name; bool *flag; } flags[] = { { "--json", &o->json },
        { "--ladder", &o->ladder }, { "--all", &o->choice.all }, { "--failed", &o->choice.failed },
        { "--no-color", &o->no_color }, { "--progress", &o->progress },
        { "--show-content", &o->verdict.show_content } };
    size_t i;
    for (i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (strcmp(name, flags[i].name) == 0) {
            *flags[i].flag = true;
            return true;
        }
    }
    return false;
}

/* What does not go together. */
static bool
options_agree(const struct options *o)
{
    size_t i, inputs = 0;
    for (i = 0; i < o->nfiles; i++)
        inputs += strcmp(o->files[i], "-") == 0;
    if (o->nfiles + o->ninterfaces == 0)
        complain("no capture is named; --help tells how", "");
    else if (o->nfiles > 0 && o->ninterfaces > 0)
        complain("files and -i exclude each other", "");
    else if (inputs > 1)
        complain("standard input can be read only once", "-");
    else if (o->export != NULL && (o->ninterfaces > 0 || inputs > 0 || o->stream > 0))
        complain("reads the files again: neither -i, - nor --stream", "--export");
    else if (o->stream > 0 && (o->json || o->ladder || o->html != NULL))
        complain("is printed instead of a report", "--stream");
    else if (o->json && o->ladder)
        complain("--json and --ladder exclude each other", "");
    else if (o->snaplen_given && o->ninterfaces == 0)
        complain("only with -i", "-s");
    else if (o->capture.write != NULL && o->ninterfaces != 1)
        complain("takes exactly one -i", "-w");
    else
        return true;
    return false;
}

/* One option, its value behind '=' or in the next argument; *i moves over what was used. */
static bool
options_take(struct options *o, int argc, char **argv, int *i)
{
    const char *arg = argv[*i];
    const char *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
    size_t len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
    const char *value;
    char name[32] = "";
    if (len < sizeof name)
        memcpy(name, arg, len);
    if (option_takes_value(name)) {
        value = equals != NULL ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (value == NULL)
            complain("needs a value", name);
        return value != NULL && option_value(o, name, value);
    }
    if (equals == NULL && option_flag(o, arg))
        return true;
    complain("no such option; --help lists them", arg);
    return false;
}

/* Those that print something and are done: the exit status.  -1: it is another one. */
static int
option_prints(const char *arg)
{
    bool good;
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
        good = usage_print(stdout);
    else if (strcmp(arg, "--version") == 0)
        good = puts("xmppedge-analyze " XE_VERSION) >= 0 && fflush(stdout) == 0;
    else if (strcmp(arg, "--json-fields") == 0)
        good = report_json_fields(stdout) == 0;
    else if (strcmp(arg, "--manual") == 0)
        good = manual_print(stdout);
    else if (strcmp(arg, "--completion") == 0)
        good = completion_print(stdout);
    else
        return -1;
    return good ? 0 : 2;
}

/* -1: go on; else the exit status. */
static int
options_read(struct options *o, int argc, char **argv)
{
    bool only_files = false;
    int i, status;
    if (argc < 2)
        usage_print(stderr);
    if (argc == 2 && strcmp(argv[1], "help") == 0)
        return option_prints("--help");
    for (i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (only_files || arg[0] != '-' || arg[1] == '\0') {
            if (!option_push(o->files, &o->nfiles, ANALYZE_FILES_MAX, "file", arg))
                return 2;
        } else if (strcmp(arg, "--") == 0) {
            only_files = true;
        } else if ((status = option_prints(arg)) >= 0) {
            return status;
        } else if (!options_take(o, argc, argv, &i)) {
            return 2;
        }
    }
    o->verdict.external_known = o->verdict.internal_known = KNOWN_OPTION;
    o->verdict.keys_given = o->nkeys > 0;
    return argc < 2 || !options_agree(o) ? 2 : -1;
}

/* ---- the configuration of the edge: its addresses and ports, and where it leads itself ---- */

static bool
config_wrong(const char *path, const char *element, const char *value, const char *what)
{
    char text[160];
    snprintf(text, sizeof text, "<%s>: '%.64s' is not %s", element, value, what);
    complain(text, path);
    return false;
}

/* Where the addresses of one interface go. */
struct config_place {
    const char     *path;      /* of the configuration */
    const char     *element;
    bool            names;     /* a host may be named instead */
    struct address *out;
    size_t         *n;
    enum known     *known;
    uint16_t       *port;
    bool            given;     /* by an option, which counts more */
};

/* An attribute as it is meant; false: there is none. */
static bool
config_attr(const struct xe_xml_event *e, const char *name, char *out, size_t size)
{
    struct xe_span value = xe_xml_attr(e, name);
    size_t n;
    if (value.at == NULL)
        return false;
    n = xe_xml_unescape(value, out, size - 1);
    out[n == SIZE_MAX ? 0 : n] = '\0';
    return true;
}

/* 0.0.0.0 says nothing, and neither does the name of a host. */
static bool
config_address(const struct config_place *p, const struct xe_xml_event *e)
{
    static const struct address any;
    char text[XE_DOMAIN_MAX];
    struct address a;
    char *end;
    if (config_attr(e, "port", text, sizeof text)) {
        unsigned long port = strtoul(text, &end, 10);
        if (end == text || *end != '\0' || port == 0 || port > 65535)
            return config_wrong(p->path, p->element, text, "a port");
        *p->port = (uint16_t)port;
    }
    if (!config_attr(e, "address", text, sizeof text))
        return true;
    if (!address_read(text, &a))
        return p->names || config_wrong(p->path, p->element, text, "an IP address");
    if (p->given || *p->n == REPORT_ADDRESSES_MAX
        || memcmp(a.bytes, any.bytes, sizeof any.bytes) == 0)
        return true;
    p->out[(*p->n)++] = a;
    *p->known = KNOWN_CONFIG;
    return true;
}

static bool
config_add_way(struct options *o, const struct verdict_way *w)
{
    struct verdict_way *list = list_grow(o->ways, o->verdict.nways, sizeof *list);
    if (list == NULL) {
        complain("out of memory", o->config);
        return false;
    }
    list[o->verdict.nways++] = *w;
    o->verdict.ways = o->ways = list;
    return true;
}

/* Networks where DNS may lead. */
static bool
config_networks(struct options *o, const struct xe_xml_event *e)
{
    char text[4096];
    char *word, *rest = text;
    if (!config_attr(e, "networks", text, sizeof text))
        return true;
    while ((word = strtok_r(rest, " ", &rest)) != NULL) {
        struct verdict_way w = { .port = 0 };
        if (!network_read(word, &w.network))
            return config_wrong(o->config, "external> or <partner", word, "a network");
        if (!config_add_way(o, &w))
            return false;
    }
    return true;
}

/* A static route: "192.0.2.9", "[2001:db8::9]:5270", "relay.example:5270". */
static bool
config_proxy(struct options *o, const struct xe_xml_event *e)
{
    struct verdict_way w = { .port = 5269 };
    char text[XE_DOMAIN_MAX];
    char *host = text, *end, *port = NULL;
    if (!config_attr(e, "proxy", text, sizeof text) || text[0] == '\0')
        return true;
    if (*host == '[' && (end = strchr(++host, ']')) != NULL) {
        *end = '\0';
        port = end[1] == ':' ? end + 1 : NULL;
    } else if ((end = strchr(host, ':')) != NULL && strchr(end + 1, ':') == NULL) {
        port = end;
    }
    if (port != NULL) {
        w.port = (uint16_t)strtoul(port + 1, NULL, 10);
        *port = '\0';
    }
    w.by_name = !network_read(host, &w.network);
    return config_add_way(o, &w);
}

/* A name that is the only one of its kind; a second one makes it none. */
static void
config_name(const struct xe_xml_event *e, unsigned *seen, char out[128])
{
    char text[XE_DOMAIN_MAX];
    out[0] = '\0';
    if (config_attr(e, "name", text, sizeof text) && (*seen)++ == 0 && strlen(text) < 128)
        memcpy(out, text, strlen(text) + 1);
}

/* Where DNS may lead for a partner, and the static route that he has. */
static bool
config_partner(struct options *o, const struct xe_xml_event *e)
{
    size_t before;
    char domain[XE_DOMAIN_MAX];
    if (!config_networks(o, e))
        return false;
    before = o->verdict.nways;
    if (!config_proxy(o, e))
        return false;
    if (o->verdict.nways > before && config_attr(e, "domain", domain, sizeof domain)
        && strlen(domain) < sizeof o->ways->domain)
        memcpy(o->ways[before].domain, domain, strlen(domain) + 1);
    return true;
}

/* Whose configuration it is. */
static void
config_node(struct options *o, const struct xe_xml_event *e)
{
    char role[16];
    if (config_attr(e, "role", role, sizeof role) && strcmp(role, "gateway") == 0)
        config_name(e, &o->gateways, o->verdict.gateway_name);
    else
        config_name(e, &o->nodes, o->verdict.edge_name);
}

static bool
config_gateway(struct options *o, const struct xe_xml_event *e)
{
    if (text_is(e->name, "gateway"))
        config_name(e, &o->gateways, o->verdict.gateway_name);
    return true;
}

/* Each element inside another one. */
static bool
config_inside(struct options *o, const struct xe_xml_event *e,
    bool (*take)(struct options *o, const struct xe_xml_event *e))
{
    const struct xe_xml_limits limits = { .header = CONFIG_FILE_MAX, .element = CONFIG_FILE_MAX };
    struct xe_xml_event child;
    struct xe_xml x;
    struct xe_span rest = e->raw;
    size_t used;
    bool good = true;
    xe_xml_init(&x, &limits);
    x.comments = true;
    for (;;) {
        enum xe_xml_result got = xe_xml_next(&x, rest.at, rest.len, &used, &child);
        rest.at += used;
        rest.len -= used;
        if (!good || (got != XE_XML_HEADER && got != XE_XML_ELEMENT))
            break;
        good = got == XE_XML_HEADER || take(o, &child);
    }
    if (x.why == XE_WHY_OUT_OF_MEMORY) {
        complain(xe_why(x.why)->text, o->config);
        good = false;
    }
    xe_xml_free(&x);
    return good;
}

/* What an element says of where the edge may call, and what names it gives. */
static bool
config_element(struct options *o, const struct xe_xml_event *e)
{
    if (text_is(e->name, "partners"))
        return config_inside(o, e, config_partner);
    if (text_is(e->name, "domain"))
        config_name(e, &o->domains, o->verdict.domain_name);
    if (text_is(e->name, "internal") && !config_inside(o, e, config_gateway))
        return false;
    return config_networks(o, e) && config_proxy(o, e);
}

/* The edge names its interfaces; a gateway names the edges, on row 3. */
static bool
config_take(struct options *o, struct xe_xml *x, const struct text *file)
{
    struct verdict_options *v = &o->verdict;
    const struct config_place places[] = {
        { o->config, "external", false, v->external, &v->nexternal, &v->external_known,
            &v->external_port, v->nexternal > 0 },
        { o->config, "internal", false, v->internal, &v->ninternal, &v->internal_known,
            &v->internal_port, v->ninternal > 0 },
        { o->config, "edge", true, v->internal, &v->ninternal, &v->internal_known,
            &v->internal_port, v->ninternal > 0 } };
    struct xe_xml_event e;
    enum xe_xml_result got;
    size_t at, used, i;
    unsigned found = 0;
    bool root = false;
    for (at = 0; ; at += used) {
        got = xe_xml_next(x, file->at + at, file->len - at, &used, &e);
        if (got != XE_XML_ELEMENT && (got != XE_XML_HEADER || !text_is(e.name, "xmppedge")))
            break;
        root = true;
        for (i = 0; got == XE_XML_ELEMENT && i < sizeof places / sizeof *places; i++) {
            if (!text_is(e.name, places[i].element))
                continue;
            found++;
            if (!config_address(&places[i], &e))
                return false;
        }
        if (got == XE_XML_HEADER)
            config_node(o, &e);
        else if (!config_element(o, &e))
            return false;
    }
    if (got == XE_XML_BAD && (root || x->why == XE_WHY_OUT_OF_MEMORY))
        complain(xe_why(x->why)->text, o->config);
    else if (got != XE_XML_CLOSE)
        complain("not a configuration of xmppedge", o->config);
    else if (found == 0)
        complain("names no edge", o->config);
    return got == XE_XML_CLOSE && found > 0;
}

static bool
config_read(struct options *o)
{
    const struct xe_xml_limits limits = { .header = CONFIG_FILE_MAX, .element = CONFIG_FILE_MAX };
    FILE *file = fopen(o->config, "r");
    struct text text = { NULL, 0, 0 };
    struct xe_xml x;
    char block[4096];
    size_t n;
    bool good = false;
    text_clear(&text);
    while (file != NULL && text.len < CONFIG_FILE_MAX
        && (n = fread(block, 1, sizeof block, file)) > 0)
        text_put(&text, block, n);
    if (file == NULL || ferror(file)) {
        complain(strerror(errno), o->config);
    } else {
        xe_xml_init(&x, &limits);
        x.comments = true;
        good = config_take(o, &x, &text);
        xe_xml_free(&x);
    }
    if (file != NULL)
        fclose(file);
    text_free(&text);
    return good;
}

/* ---- the pump ---- */

/* A connection to a name server. */
struct dns_stream {
    unsigned char bytes[2][ANALYZE_MESSAGE_MAX + 2];
    size_t        len[2];
    bool          lost[2];
};

/* A connection that is followed. */
struct watch {
    struct pump       *pump;
    struct flow       *flow;      /* borrowed, until closed */
    struct attempt    *attempt;   /* owned; NULL for DNS */
    struct xmpp       *xmpp;      /* owned */
    struct dns_stream *dns;       /* owned */
};

struct pump {
    const struct options *o;
    struct capture       *capture;
    struct packet_reader *packets;
    struct flow_table    *flows;
    FILE                 *key_logs[OPTION_KEYS_MAX];   /* as in options.keys; NULL: not opened */
    struct tls_keys      *keys;     /* there from the start: secrets may come late */
    bool                  has_keys; /* some were given or found */
    struct tls_certs     *certs;
    struct dns           *dns;
    struct judge         *judge;
    FILE                 *unlisted; /* JSON of attempts over the ceiling; NULL: nobody reads it */
    uint64_t              nunlisted;
    struct join          *join;     /* when all is read: for the logs */
    uint64_t              frames, dns_messages, lookups;
    uint64_t              said;     /* pieces of the stream that is printed */
    int64_t               first_ns, last_ns;
    uint32_t              watched;     /* open connections with an attempt */
};

static void
pump_remark(void *user, enum remark r, uint64_t frame, const char *detail)
{
    struct pump *p = user;
    judge_remark(p->judge, r, frame, detail);
}

static bool
pump_initiator(void *user, int side)
{
    struct watch *w = user;
    return flow_hint_initiator(w->flow, side);
}

static bool
pump_has_keys(void *user)
{
    const struct watch *w = user;
    return w->pump->has_keys;
}

static const struct xmpp_events pump_xmpp = { .initiator = pump_initiator,
    .has_keys = pump_has_keys };

/* "> 10:00:00.004 packet 16, a.example" */
static void
pump_stream_line(const struct attempt *a, int side, uint64_t frame, int64_t time_ns)
{
    const struct flow_side *s = &a->flow.side[side];
    const char *name = attempt_domain(a, side);
    struct text who = { NULL, 0, 0 };
    text_clear(&who);
    text_clean(&who, name[0] != '\0' ? name : ENDPOINT(&s->address, s->port));
    printf("%c %s packet %llu, %s\n", side == 0 ? '>' : '<', STAMP(time_ns, STAMP_SHORT),
        (unsigned long long)frame, who.at);
    text_free(&who);
}

static void
pump_said(void *user, struct attempt *a, int side, enum xe_xml_result what,
    const struct xe_xml_event *e, uint64_t frame, int64_t time_ns)
{
    struct watch *w = user;
    pump_stream_line(a, side, frame, time_ns);
    report_xml(e, what, a->show_content, stdout);
    w->pump->said++;
}

/* What is no XML. */
static void
pump_noted(void *user, struct attempt *a, const struct event *e)
{
    const struct rung g = { .e = e };
    struct text what = { NULL, 0, 0 }, detail = { NULL, 0, 0 }, line = { NULL, 0, 0 };
    if (e->kind > EVENT_TLS_DATA && e->kind != EVENT_XML_BAD)
        return;
    rung_words(&what, &detail, a, &g, a->show_content);
    SET(&line, what.at, detail.len > 0 ? ": " : "", detail.at);
    if (e->kind == EVENT_TLS_DATA)
        SET(&line, "from here on encrypted, and not readable");
    text_clear(&what);
    text_clean(&what, line.at);
    pump_stream_line(a, e->side & 1, e->frame, e->time_ns);
    printf("  [%s]\n", what.at);
    text_free(&what);
    text_free(&detail);
    text_free(&line);
    ((struct watch *)user)->pump->said++;
}

static const struct xmpp_events pump_stream = { pump_noted, pump_said, pump_initiator,
    pump_has_keys };

static bool
pump_is_expected(const struct pump *p, const struct flow *f)
{
    const struct verdict_options *v = &p->o->verdict;
    int i;
    for (i = 1; i >= (f->evidence <= EVIDENCE_SYNACK ? 1 : 0); i--) {
        uint16_t port = f->side[i].port;
        if (port == 5269 || port == 23456 || port == DIRECT_TLS_PORT || port == v->external_port
            || port == v->internal_port)
            return port != 0;
    }
    return false;
}

static void
pump_drop(struct watch *w)
{
    if (w == NULL)
        return;
    w->pump->watched -= w->dns == NULL;
    xmpp_close(w->xmpp);
    attempt_free(w->attempt);
    free(w->dns);
    free(w);
}

static struct watch *
pump_watch(struct pump *p, struct flow *f, bool expected)
{
    struct watch *w = memory_try(calloc(1, sizeof *w));
    if (w != NULL) {
        p->watched++;
        w->pump = p;
        w->flow = f;
        w->attempt = attempt_new(f);
    }
    if (w != NULL && w->attempt != NULL) {
        w->attempt->show_content = p->o->verdict.show_content;
        w->xmpp = xmpp_open(w->attempt, expected, p->keys, p->certs,
            f->number == p->o->stream ? &pump_stream : &pump_xmpp, w);
    }
    if (w == NULL || w->xmpp == NULL) {
        pump_drop(w);
        w = NULL;
    }
    f->user = w;
    return w;
}

static void
pump_opened(void *user, struct flow *f)
{
    struct pump *p = user;
    if (f->side[0].port == DNS_PORT || f->side[1].port == DNS_PORT) {
        struct watch *w = memory_try(calloc(1, sizeof *w));
        if (w != NULL && (w->dns = memory_try(calloc(1, sizeof *w->dns))) != NULL) {
            w->pump = p;
            w->flow = f;
            f->user = w;
        } else {
            free(w);
        }
    } else if (pump_is_expected(p, f)) {
        pump_watch(p, f, true);
    }
}

/* RFC 7766 8: each message has its length before it. */
static void
pump_dns_stream(struct pump *p, struct watch *w, int side, const unsigned char *at, size_t len,
    uint64_t frame, int64_t time_ns)
{
    struct dns_stream *d = w->dns;
    const struct flow_side *s = w->flow->side;
    bool server = s[side].port == DNS_PORT;
    while (len > 0 && !d->lost[side]) {
        unsigned char *b = d->bytes[side];
        size_t want = d->len[side] < 2 ? 2 : 2 + ((size_t)b[0] << 8 | b[1]);
        size_t n = want - d->len[side] < len ? want - d->len[side] : len;
        if (want > sizeof d->bytes[side]) {
            d->lost[side] = true;
            break;
        }
        memcpy(b + d->len[side], at, n);
        d->len[side] += n;
        at += n;
        len -= n;
        if (d->len[side] < 2 || d->len[side] < 2 + ((size_t)b[0] << 8 | b[1]))
            continue;
        p->dns_messages++;
        dns_push(p->dns, &s[side].address, &s[!side].address, server, b + 2, d->len[side] - 2,
            frame, time_ns);
        d->len[side] = 0;
    }
}

/* On any port: a stream header or a TLS handshake may be federation. */
static bool
pump_may_be_xmpp(const unsigned char *at, size_t len)
{
    size_t n = len < 7 ? len : 7;
    return at[0] == 0x16 || at[0] == ' ' || at[0] == '\n'
        || memcmp(at, "PROXY ", n < 6 ? n : 6) == 0
        || memcmp(at, "<?xml ", n < 6 ? n : 6) == 0 || memcmp(at, "<stream", n) == 0;
}

/* The word is there, whatever the case of its letters. */
static bool
pump_has_word(struct xe_span text, const char *word)
{
    size_t n = strlen(word), i;
    for (i = 0; i + n <= text.len; i++)
        if (strncasecmp(text.at + i, word, n) == 0)
            return true;
    return false;
}

/* What is said first to a web server: RFC 7395 3.1, XEP-0206; or to the port of clients. */
static enum remark
pump_service(const struct flow *f, const unsigned char *at, size_t len)
{
    uint16_t port = f->side[1].port;
    struct xe_span text = { (const char *)at, len };
    if (len > 4 && (memcmp(at, "GET ", 4) == 0 || memcmp(at, "POST", 4) == 0)) {
        if (pump_has_word(text, "sec-websocket-protocol:") && pump_has_word(text, "xmpp"))
            return REMARK_CLIENT_WEBSOCKET;
        if (pump_has_word(text, "protocol/httpbind") || pump_has_word(text, "/http-bind"))
            return REMARK_CLIENT_BOSH;
    }
    return port == 5222 || port == 5223 ? REMARK_CLIENT_PORT : REMARK_COUNT;
}

/* Nobody reads it any further: which other service of XMPP it was. */
static void
pump_other(struct pump *p, const struct flow *f, enum remark service, uint64_t frame)
{
    char text[2 * ENDPOINT_MAX + 4];
    if (service == REMARK_COUNT)
        return;
    snprintf(text, sizeof text, "%s -> %s", ENDPOINT(&f->side[0].address, f->side[0].port),
        ENDPOINT(&f->side[1].address, f->side[1].port));
    judge_remark(p->judge, service, frame, text);
}

static void
pump_data(void *user, struct flow *f, int side, const unsigned char *at, size_t len, uint64_t frame,
    int64_t time_ns)
{
    struct pump *p = user;
    struct watch *w = f->user;
    if (w == NULL && pump_may_be_xmpp(at, len))
        w = pump_watch(p, f, false);
    if (w == NULL) {
        pump_other(p, f, pump_service(f, at, len), frame);
        flow_mute(f);
    } else if (w->dns != NULL) {
        pump_dns_stream(p, w, side, at, len, frame, time_ns);
    } else if (!xmpp_push(w->xmpp, side, at, len, frame, time_ns)) {
        enum remark service = w->attempt->service;
        pump_other(p, f, service != REMARK_COUNT ? service : pump_service(f, at, len), frame);
        f->user = NULL;
        flow_mute(f);
        pump_drop(w);
    }
}

static void
pump_gap(void *user, struct flow *f, int side, uint64_t missing, uint64_t frame, int64_t time_ns)
{
    struct watch *w = f->user;
    (void)user;
    if (w != NULL && w->dns != NULL)
        w->dns->lost[side] = true;
    else if (w != NULL)
        xmpp_gap(w->xmpp, side, missing, frame, time_ns);
}

static void
pump_turned(void *user, struct flow *f)
{
    struct watch *w = f->user;
    (void)user;
    if (w != NULL && w->xmpp != NULL)
        xmpp_turn(w->xmpp);
}

static void
pump_tcp_event(struct attempt *a, enum event_kind kind, int side, uint64_t frame, int64_t time_ns,
    const char *what)
{
    struct event e = { kind, XE_KIND_UNKNOWN, side, frame, time_ns, "", "", what, "" };
    if (frame != 0)
        attempt_event(a, &e);
}

/* What was said was recorded in the order in which it was read, whatever order the packets came in:
 * an event stands where the last packet before it came.  FIN is the end of what its side said; the
 * other TCP events stand where they are. */
static void
pump_event_places(const struct attempt *a, uint64_t *places)
{
    uint64_t said = 0, last[2] = { 0, 0 };
    unsigned i;
    for (i = 0; i < a->nevents; i++) {
        const struct event *e = &a->events[i];
        places[i] = e->frame;
        if (e->kind == EVENT_TCP_FIN && last[e->side] > e->frame)
            places[i] = last[e->side];
        if (e->kind < EVENT_GAP)
            continue;
        said = e->frame > said ? e->frame : said;
        places[i] = said;
        if (e->kind != EVENT_GAP && e->frame > last[e->side])
            last[e->side] = e->frame;
    }
}

/* Insertion keeps events of one place in their order; they are nearly sorted. */
static void
pump_sort_events(struct attempt *a)
{
    uint64_t places[ATTEMPT_EVENTS_MAX];
    unsigned i, k;
    pump_event_places(a, places);
    for (i = 1; i < a->nevents; i++) {
        struct event e = a->events[i];
        uint64_t place = places[i];
        for (k = i; k > 0 && places[k - 1] > place; k--) {
            a->events[k] = a->events[k - 1];
            places[k] = places[k - 1];
        }
        a->events[k] = e;
        places[k] = place;
    }
}

static void
pump_tcp_events(struct attempt *a, const struct flow *f)
{
    char text[96], address[64];
    int i;
    snprintf(text, sizeof text, "%lu times", (unsigned long)f->side[0].syns);
    pump_tcp_event(a, EVENT_TCP_SYN, 0, f->syn_frame, f->first_ns, f->side[0].syns > 1 ? text : "");
    pump_tcp_event(a, EVENT_TCP_OPEN, 1, f->synack_frame, f->synack_ns, "");
    for (i = 0; i < 2; i++) {
        pump_tcp_event(a, EVENT_TCP_FIN, i, f->side[i].fin_frame, f->side[i].fin_ns, "");
        pump_tcp_event(a, f->end == FLOW_REFUSED ? EVENT_TCP_REFUSED : EVENT_TCP_RST, i,
            f->side[i].rst_frame, f->side[i].rst_ns, "");
    }
    if (f->icmp_frame != 0) {
        static const char *const words[] = { "", "port unreachable", "host unreachable",
            "net unreachable", "administratively prohibited", "packet too big", "time exceeded" };
        snprintf(text, sizeof text, "%s from %s", words[f->icmp],
            address_text(&f->icmp_reporter, address, sizeof address));
        pump_tcp_event(a, EVENT_ICMP, 1, f->icmp_frame, f->icmp_ns, text);
    }
    pump_sort_events(a);
}

/* Nothing was said on an odd port: of interest only when DNS had announced it. */
static struct watch *
pump_announced(struct pump *p, struct flow *f)
{
    const struct dns_fact *fact;
    if (f->established || p->lookups >= ANALYZE_LOOKUPS_MAX || f->side[1].bytes > 0)
        return NULL;
    p->lookups++;
    fact = dns_find(p->dns, &f->side[0].address, &f->side[1].address, f->side[1].port, f->first_ns);
    return fact == NULL || fact->type != DNS_SRV ? NULL : pump_watch(p, f, true);
}

/* Late packets of a connection that is over, or keepalives of one that stayed quiet for so long
 * that it was forgotten: no attempt to be judged. */
static bool
pump_is_stray(const struct flow *f)
{
    uint64_t bytes = f->side[0].bytes + f->side[1].bytes;
    uint64_t packets = f->side[0].packets + f->side[1].packets;
    if (f->side[0].packets > 0 && f->side[1].packets > 0)
        packets /= 2;      /* the other half says that they have come */
    if ((f->remarks & 1u << REMARK_DUPLICATE) != 0)
        packets /= 2;
    return f->syn_frame == 0 && f->synack_frame == 0
        && (bytes < ANALYZE_STRAY || bytes < ANALYZE_KEEPALIVE * packets);
}

static void
pump_closed(void *user, struct flow *f)
{
    struct pump *p = user;
    struct watch *w = f->user != NULL ? f->user : pump_announced(p, f);
    struct attempt *a = NULL;
    bool judged;
    f->user = NULL;
    if (w != NULL) {
        xmpp_close(w->xmpp);
        w->xmpp = NULL;
        a = w->attempt;
        w->attempt = NULL;
    }
    pump_drop(w);
    judged = a != NULL && a->is_xmpp && !pump_is_stray(f);
    judge_flow(p->judge, f, judged);
    if (!judged) {
        attempt_free(a);
        return;
    }
    a->flow = *f;
    a->remarks |= f->remarks;
    a->seen_until_ns = p->last_ns;
    pump_tcp_events(a, f);
    judge_push(p->judge, a);
}

/* Live: a line for each; nobody waits for the end.  Standard output is the report's. */
static void
pump_ended(void *user, const struct attempt *a)
{
    const struct pump *p = user;
    struct text line = { NULL, 0, 0 };
    if (p->o->ninterfaces == 0 || !choice_takes(&p->o->choice, a))
        return;
    attempt_line(&line, a, STAMP_SHORT, a->verdict->direction != DIRECTION_UNKNOWN);
    fprintf(stderr, "%s\n", line.at);
    text_free(&line);
}

/* Their numbers are above those of all that are listed. */
static void
pump_unlisted(void *user, const struct attempt *a)
{
    struct pump *p = user;
    if (choice_takes(&p->o->choice, a))
        report_json_unlisted(a, ATTEMPTS_LISTED_MAX + ++p->nunlisted, p->unlisted);
}

static bool
pump_wanted(void *user, const struct attempt *a)
{
    const struct pump *p = user;
    return choice_takes(&p->o->choice, a);
}

static void
pump_packet(void *user, const struct packet *packet)
{
    struct pump *p = user;
    if (packet->kind != PACKET_UDP) {
        while (p->watched >= ANALYZE_WATCHED_MAX && flow_shed(p->flows))
            continue;
        flow_push(p->flows, packet);
        return;
    }
    if (packet->source_port != DNS_PORT && packet->target_port != DNS_PORT)
        return;
    p->dns_messages++;
    dns_push(p->dns, &packet->source, &packet->target, packet->source_port == DNS_PORT,
        packet->payload, packet->captured, packet->frame->number, packet->frame->time_ns);
}

static void
pump_frame(void *user, const struct frame *f)
{
    struct pump *p = user;
    p->frames++;
    if (p->first_ns == 0 || f->time_ns < p->first_ns)
        p->first_ns = f->time_ns;
    if (f->time_ns > p->last_ns)
        p->last_ns = f->time_ns;
    packet_push(p->packets, f);
}

static void
pump_soon(void *user, const struct frame *frames, size_t n)
{
    struct pump *p = user;
    struct packet packets[CAPTURE_BATCH];
    flow_expect(p->flows, packets, packet_peek(frames, n, packets));
}

/* The loads do not wait for each other; afterwards nothing has to be waited for. */
static void
pump_expect(void *user, void *const *users, size_t n)
{
    struct xmpp *x[CAPTURE_BATCH];
    size_t count = 0, i;
    (void)user;
    for (i = 0; i < n; i++) {
        x[count] = ((const struct watch *)users[i])->xmpp;
        count += x[count] != NULL;
    }
    xmpp_expect(x, count);
}

static void
pump_keys(void *user, const char *text, size_t len)
{
    struct pump *p = user;
    p->has_keys = true;
    tls_keys_add(p->keys, text, len);
    tls_keys_end(p->keys);
    tls_keys_more(p->keys, true);   /* secrets among the packets may come late */
}

static void
pump_drops(void *user, uint32_t interface, uint64_t n)
{
    struct pump *p = user;
    char text[64];
    snprintf(text, sizeof text, "%llu on interface %lu", (unsigned long long)n,
        (unsigned long)interface);
    if (n > 0)
        judge_remark(p->judge, REMARK_DROPS, 0, text);
}

/* What a key log has now.  False: it cannot be read. */
static bool
pump_more_keys(struct pump *p, FILE *file)
{
    char block[8192];
    size_t n;
    clearerr(file);
    while ((n = fread(block, 1, sizeof block, file)) > 0)
        tls_keys_add(p->keys, block, n);
    return !ferror(file);
}

/* A live key log grows: it stays open. */
static bool
pump_read_keys(struct pump *p, size_t i)
{
    const char *path = p->o->keys[i];
    FILE *file = p->key_logs[i] = fopen(path, "rb");
    if (file == NULL || !pump_more_keys(p, file)) {
        complain(strerror(errno), path);
        return false;
    }
    p->has_keys = true;
    if (p->o->ninterfaces > 0)
        tls_keys_more(p->keys, true);
    else
        tls_keys_end(p->keys);
    return true;
}

/* ---- running ---- */

static struct capture *stopped_by_signal;   /* for the handler only */

static void
on_signal(int number)
{
    (void)number;
    if (stopped_by_signal != NULL)
        capture_stop(stopped_by_signal);
}

static void
run_signals(struct capture *c)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    stopped_by_signal = c;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;   /* a closed pipe is an error of writing */
    sigaction(SIGPIPE, &action, NULL);
}

/* A file that is no capture is a damaged one; a folder is a slip. */
static bool
run_is_readable(const char *path)
{
    struct stat about;
    if (strcmp(path, "-") == 0)
        return true;
    return stat(path, &about) == 0 && !S_ISDIR(about.st_mode) && access(path, R_OK) == 0;
}

/* 0: at least one source; else the exit status when nothing could be opened. */
static int
run_sources(struct pump *p, bool *damaged)
{
    const struct options *o = p->o;
    char why[256];
    size_t opened = 0, i;
    bool readable = false;
    for (i = 0; i < o->nfiles; i++) {
        if (capture_add_file(p->capture, o->files[i], why, sizeof why)) {
            opened++;
            continue;
        }
        complain(why, o->files[i]);
        *damaged = true;
        readable |= run_is_readable(o->files[i]);
    }
    for (i = 0; i < o->ninterfaces; i++) {
        if (!capture_add_interface(p->capture, o->interfaces[i], why, sizeof why)) {
            complain(why, o->interfaces[i]);
            continue;
        }
        opened++;
        fprintf(stderr, "%s: capturing; an interrupt (Ctrl-C) ends it and prints the report\n",
            o->interfaces[i]);
    }
    return opened > 0 ? 0 : readable ? 3 : 2;
}

static void
run_progress(const struct pump *p, bool last)
{
    struct flow_counts n = flow_count(p->flows);
    fprintf(stderr, "\r%llu packets, %llu connections, %lu open%s", (unsigned long long)p->frames,
        (unsigned long long)n.flows, (unsigned long)n.open, last ? "\n" : "   ");
}

static void
run_pump(struct pump *p)
{
    enum capture_state state;
    uint64_t told = 0;
    struct timespec now;
    size_t i;
    while ((state = capture_push(p->capture, ANALYZE_BUDGET)) != CAPTURE_DONE) {
        for (i = 0; i < p->o->nkeys && p->o->ninterfaces > 0; i++)
            pump_more_keys(p, p->key_logs[i]);
        if (state == CAPTURE_QUIET && clock_gettime(CLOCK_REALTIME, &now) == 0)
            flow_tick(p->flows, (int64_t)now.tv_sec * SECOND + now.tv_nsec);
        if (p->o->progress && p->frames - told >= ANALYZE_PROGRESS) {
            run_progress(p, false);
            told = p->frames;
        }
    }
    packet_end(p->packets);
    flow_end(p->flows);
    if (p->o->progress)
        run_progress(p, true);
}

/* "72 in IPsec (ESP), 3 in WireGuard"; as one remark, counted in packets. */
static void
run_unread(struct pump *p, struct report *r)
{
    struct text names = { NULL, 0, 0 };
    const struct packet_unread *first = packet_unread_at(p->packets, 0), *u;
    uint64_t packets = 0;
    size_t i;
    for (i = 0; (u = packet_unread_at(p->packets, i)) != NULL; i++) {
        TEXT(&names, i > 0 ? ", " : "", NUMBER(u->packets), " in ", u->what);
        packets += u->packets;
    }
    if (first != NULL)
        judge_remark(p->judge, REMARK_UNREAD, first->frame, names.at);
    r->remarks[REMARK_UNREAD] = packets;
    text_free(&names);
}

/* Before a capture is read, or made, for nothing. */
static bool
run_logs_are_there(const struct options *o)
{
    size_t i;
    for (i = 0; i < o->nlogs; i++)
        if (access(o->logs[i], R_OK) != 0) {
            complain(strerror(errno), o->logs[i]);
            return false;
        }
    return true;
}

static void
run_log_entry(void *user, const struct log_entry *e)
{
    struct pump *p = user;
    struct join_hit hit;
    struct log_said said = { .entry = *e };
    struct attempt *a = e->kind != LOG_PAIRED ? NULL
        : join_between(p->join, &e->own, &e->peer, e->time_ns);
    if (a != NULL)
        judge_leg(a, e, join_between(p->join, &e->trunk_own, &e->trunk_peer, e->time_ns));
    if (e->kind == LOG_PAIRED || !join_find(p->join, e, &hit))
        return;
    said.apart_ns = hit.apart_ns;
    said.by_peer = hit.by_peer;
    judge_log(p->judge, hit.a, hit.side, &said);
}

/* A log is read when the capture is over: then it is known what it can be about. */
static bool
run_log(struct pump *p, const char *path)
{
    static const struct log_events events = { run_log_entry };
    struct log_reader *log;
    char block[65536];
    size_t n;
    bool good;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        complain(strerror(errno), path);
        return false;
    }
    log = log_new(&events, p);
    good = log != NULL && judge_log_begin(p->judge, path);
    while (good && (n = fread(block, 1, sizeof block, file)) > 0)
        log_push(log, block, n);
    if (good) {
        log_finish(log);
        judge_log_end(p->judge, log_count(log));
    }
    if (ferror(file) != 0)
        complain(strerror(errno), path);
    good = good && ferror(file) == 0;
    log_free(log);
    fclose(file);
    return good;
}

/* All of them; false: not all could be read. */
static bool
run_logs(struct pump *p)
{
    size_t n, i;
    struct attempt *const *attempts = judge_attempts(p->judge, &n);
    bool good;
    if (p->o->nlogs == 0)
        return true;
    p->join = join_new(attempts, n);
    good = p->join != NULL;
    for (i = 0; i < p->o->nlogs && p->join != NULL; i++)
        good &= run_log(p, p->o->logs[i]);
    join_free(p->join);
    return good;
}

/* What only the lower stages know. */
static bool
run_summary(struct pump *p, struct report *r, struct capture_file **files,
    struct capture_interface **interfaces)
{
    size_t i;
    r->nfiles = capture_file_count(p->capture);
    r->ninterfaces = capture_interface_count(p->capture);
    *files = memory_try(calloc(r->nfiles + 1, sizeof **files));
    *interfaces = memory_try(calloc(r->ninterfaces + 1, sizeof **interfaces));
    if (*files == NULL || *interfaces == NULL)
        return false;
    for (i = 0; i < r->nfiles; i++) {
        (*files)[i] = *capture_file_at(p->capture, i);
        r->damaged |= (*files)[i].cut || (*files)[i].damaged;
    }
    for (i = 0; i < r->ninterfaces; i++)
        (*interfaces)[i] = *capture_interface_at(p->capture, i);
    r->files = *files;
    r->interfaces = *interfaces;
    r->choice = p->o->choice;
    r->unlisted = p->unlisted;
    r->packets = p->frames;
    r->flows = flow_count(p->flows).flows - r->twins;
    r->dns_messages = p->dns_messages;
    r->first_ns = p->first_ns;
    r->last_ns = p->last_ns;
    tls_keys_count(p->keys, &r->keys_used, &r->keys_unused);
    if (r->keys_unused > 0 && r->keys_used == 0)
        judge_remark(p->judge, REMARK_KEYS_UNUSED, 0, "");
    run_unread(p, r);
    if (r->damaged)
        r->exit_code = 3;
    return true;
}

/* A slip of the pen must not cost a capture: only pages are written over. */
static bool
run_may_write(const char *path)
{
    static const char page[] = "<!DOCTYPE html>";
    char start[sizeof page - 1];
    struct stat about;
    FILE *file = stat(path, &about) != 0 || !S_ISREG(about.st_mode) ? NULL : fopen(path, "rb");
    size_t n = file == NULL ? 0 : fread(start, 1, sizeof start, file);
    if (file != NULL)
        fclose(file);
    return n == 0 || (n == sizeof start && memcmp(start, page, n) == 0);
}

static bool
run_html(const struct options *o, const struct report *r)
{
    FILE *file;
    int wrong;
    if (!run_may_write(o->html)) {
        complain("is there and is no page: not written over", o->html);
        return false;
    }
    file = fopen(o->html, "w");
    if (file == NULL) {
        complain(strerror(errno), o->html);
        return false;
    }
    wrong = report_html(r, file);
    wrong |= fclose(file);
    if (wrong != 0)
        complain("could not be written", o->html);
    return wrong == 0;
}

/* Of the terminal; 0: not known, or too few for the tables. */
static size_t
run_columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 80)
        return 0;
    return size.ws_col < ANALYZE_COLUMNS_MAX ? size.ws_col : ANALYZE_COLUMNS_MAX;
}

/* The page alone, when it goes to standard output. */
static int
run_print(const struct options *o, const struct report *r)
{
    bool terminal = isatty(STDOUT_FILENO);
    struct paper paper = { .ladder = o->ladder };
    int wrong;
    paper.colour = terminal && !o->no_color && getenv("NO_COLOR") == NULL;
    paper.columns = terminal ? run_columns() : 0;
    if (o->html != NULL && strcmp(o->html, "-") == 0)
        wrong = report_html(r, stdout);
    else if (o->json)
        wrong = report_json(r, stdout);
    else
        wrong = report_text(r, stdout, &paper);
    if (wrong == 0 && fflush(stdout) == 0)
        return 0;
    complain(errno != 0 ? strerror(errno) : "could not be written", "standard output");
    return 2;
}

/* ---- the second run over the files ---- */

struct second {
    struct export        *export;
    struct packet_reader *packets;
};

static void
second_packet(void *user, const struct packet *packet)
{
    struct second *s = user;
    export_packet(s->export, packet);
}

static void
second_piece(void *user, const struct frame *f, uint64_t first)
{
    struct second *s = user;
    export_piece(s->export, f, first);
}

static void
second_frame(void *user, const struct frame *f)
{
    struct second *s = user;
    packet_push(s->packets, f);
}

static void
second_keys(void *user, const char *text, size_t len)
{
    struct second *s = user;
    export_keys(s->export, text, len);
    export_keys(s->export, "\n", 1);
}

/* The key logs that were given. */
static bool
second_key_logs(struct second *s, const struct pump *p)
{
    char block[8192];
    size_t i, n;
    for (i = 0; i < p->o->nkeys; i++) {
        rewind(p->key_logs[i]);
        while ((n = fread(block, 1, sizeof block, p->key_logs[i])) > 0)
            export_keys(s->export, block, n);
        export_keys(s->export, "\n", 1);
        if (ferror(p->key_logs[i]) != 0)
            return false;
    }
    return true;
}

static bool
second_run(struct second *s, const struct pump *p)
{
    static const struct capture_events capture_ev = { .frame = second_frame, .keys = second_keys };
    static const struct packet_events packet_ev = {
        .packet = second_packet, .piece = second_piece };
    char why[256] = "";
    struct capture *c = capture_new(&p->o->capture, &capture_ev, s, why, sizeof why);
    size_t i;
    bool good = c != NULL && (s->packets = packet_new(&packet_ev, s)) != NULL
        && second_key_logs(s, p);
    for (i = 0; i < p->o->nfiles && good; i++)
        capture_add_file(c, p->o->files[i], why, sizeof why);   /* what fails has failed before */
    while (good && capture_push(c, ANALYZE_BUDGET) != CAPTURE_DONE)
        continue;
    if (good)
        packet_end(s->packets);
    packet_free(s->packets);
    capture_free(c);
    return good;
}

/* There are secrets in it: nobody else may read it, and nothing is written over. */
static bool
run_export(const struct pump *p, const struct report *r)
{
    const char *path = p->o->export;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *to = fd < 0 ? NULL : fdopen(fd, "wb");
    struct second s = { NULL, NULL };
    uint64_t packets;
    bool good;
    if (to == NULL) {
        complain(strerror(errno), path);
        return false;
    }
    s.export = export_new(r, to);
    good = s.export != NULL && second_run(&s, p);
    packets = export_end(s.export);
    good &= fflush(to) == 0 && ferror(to) == 0;
    good &= fclose(to) == 0;
    if (good)
        fprintf(stderr, "%s: %llu packets\n", path, (unsigned long long)packets);
    else
        complain("could not be written", path);
    return good;
}

static int
run_report(struct pump *p, bool damaged)
{
    const struct options *o = p->o;
    struct capture_file *files = NULL;
    struct capture_interface *interfaces = NULL;
    struct report *r;
    int status = 2;
    dns_end(p->dns);
    r = judge_end(p->judge);
    r->damaged |= damaged;
    errno = 0;
    if (run_summary(p, r, &files, &interfaces)
        && (o->html == NULL || strcmp(o->html, "-") == 0 || run_html(o, r))
        && (o->export == NULL || run_export(p, r)) && run_print(o, r) == 0)
        status = r->exit_code;
    free(files);
    free(interfaces);
    return status;
}

/* All has been printed as it came. */
static int
run_stream(const struct pump *p, bool damaged)
{
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        complain(strerror(errno), "standard output");
        return 2;
    }
    if (p->said > 0)
        return damaged ? 3 : 0;
    complain("nothing of XMPP was said on this connection, or there is none", "--stream");
    return 2;
}

static bool
run_stages(struct pump *p)
{
    static const struct capture_events capture_ev = { .frame = pump_frame,
        .keys = pump_keys,
        .drops = pump_drops,
        .remark = pump_remark,
        .soon = pump_soon };
    static const struct packet_events packet_ev = { .packet = pump_packet,
        .remark = pump_remark };
    static const struct flow_events flow_ev = { pump_opened, pump_data, pump_gap, pump_closed,
        pump_remark, pump_turned, pump_expect };
    static const struct judge_events judge_ev = { pump_ended, NULL, pump_wanted };
    static const struct judge_events judge_json = { pump_ended, pump_unlisted, pump_wanted };
    struct verdict_options verdict = p->o->verdict;
    char why[256] = "";
    verdict.events = p->o->json ? &judge_json : &judge_ev;   /* words cost */
    verdict.user = p;
    p->dns = dns_new();
    p->judge = p->dns == NULL ? NULL : judge_new(&verdict, p->dns);
    p->packets = packet_new(&packet_ev, p);
    p->flows = flow_new(NULL, &flow_ev, p);
    p->certs = tls_certs_new();
    p->keys = tls_keys_new();
    if (p->judge == NULL || p->packets == NULL || p->flows == NULL || p->certs == NULL
        || p->keys == NULL)
        return false;
    p->capture = capture_new(&p->o->capture, &capture_ev, p, why, sizeof why);
    if (p->capture == NULL)
        complain(why, p->o->capture.filter != NULL ? p->o->capture.filter : "");
    return p->capture != NULL;
}

static void
run_free(struct pump *p)
{
    size_t i;
    stopped_by_signal = NULL;
    for (i = 0; i < OPTION_KEYS_MAX; i++)
        if (p->key_logs[i] != NULL)
            fclose(p->key_logs[i]);
    if (p->unlisted != NULL)
        fclose(p->unlisted);
    flow_free(p->flows);
    packet_free(p->packets);
    capture_free(p->capture);
    judge_free(p->judge);
    dns_free(p->dns);
    tls_certs_free(p->certs);
    tls_keys_free(p->keys);
}

static int
run(const struct options *o)
{
    struct pump p;
    bool damaged = false;
    int status = 2;
    size_t i;
    memset(&p, 0, sizeof p);
    p.o = o;
    if (!run_logs_are_there(o) || !run_stages(&p))
        goto end;
    if (o->json && (p.unlisted = tmpfile()) == NULL) {
        complain(strerror(errno), "temporary file");
        goto end;
    }
    for (i = 0; i < o->nkeys; i++)
        if (!pump_read_keys(&p, i))
            goto end;
    run_signals(p.capture);
    status = run_sources(&p, &damaged);
    if (status != 0)
        goto end;
    run_pump(&p);
    damaged |= !run_logs(&p);
    status = o->stream > 0 ? run_stream(&p, damaged) : run_report(&p, damaged);
end:
    run_free(&p);
    if (!memory_was_short())
        return status;
    complain("memory ran out: the report is not complete", "");
    return 2;
}

int
main(int argc, char **argv)
{
    static struct options o;
    int status = options_read(&o, argc, argv);
    if (status >= 0)
        return status;
    if (o.config != NULL && !config_read(&o))
        return 2;
    if (o.authorities != NULL) {
        o.verdict.anchors = cert_anchors_read(o.authorities);
        if (o.verdict.anchors == NULL) {
            complain(memory_was_short() ? "out of memory"
                : "holds no certificates that can be read", o.authorities);
            return 2;
        }
    }
    status = run(&o);
    cert_anchors_free(o.verdict.anchors);
    free(o.ways);
    return status;
}
