/* report.h -- the report on paper: text, JSON Lines, one page of HTML; and what the three share
 *
 *   in         struct report
 *   out        bytes of printable UTF-8 to a file
 *   bounds     those of the report, and of each form its own
 *
 * report.c is below json.c and html.c: they use what is declared here.  Functions that fill `out`
 * return it.  text_... and report_counts add to the end of `t`, all others replace what is there.
 */
#ifndef XMPPEDGE_ANALYZE_REPORT_H
#define XMPPEDGE_ANALYZE_REPORT_H

#include "verdict.h"

/* How a text is laid out. */
struct paper {
    bool   colour;
    bool   ladder;    /* of each attempt that is listed */
    size_t columns;   /* 0: 80 */
};

/* All return 0, or -1 when writing failed. */
int report_text(const struct report *r, FILE *to, const struct paper *paper);
int report_json(const struct report *r, FILE *to);
int report_html(const struct report *r, FILE *to);
/* The lines of an attempt that will not be in report.attempts; its number is above all of those. */
int report_json_unlisted(const struct attempt *a, uint64_t number, FILE *to);
/* What report_json writes: each record with its fields, types and words. */
int report_json_fields(FILE *to);

/* What a side said, in lines, as the tokenizer tells it.  show: also what users wrote, and all keys
 * and secrets. */
int report_xml(const struct xe_xml_event *e, enum xe_xml_result what, bool show, FILE *to);

/* ---- the packets of the attempts that are asked for, as pcapng ---- */

struct export;

/* Begins a file.  The report is borrowed until export_end.  NULL: no memory. */
struct export *export_new(const struct report *r, FILE *to);
/* A key log in the format of NSS, in pieces; what is needed of it goes into the file. */
void export_keys(struct export *x, const char *text, size_t len);
/* Any packet of the same files in the same order: the frame is written when it is wanted. */
void export_packet(struct export *x, const struct packet *p);
/* A fragment (packet.h): written when its packet is. */
void export_piece(struct export *x, const struct frame *f, uint64_t first);
/* How many were written; NULL is allowed.  The file stays open: ask it for errors. */
uint64_t export_end(struct export *x);

/* ---- texts ---- */

/* Columns of a character on a terminal: 0, 1 or 2. */
unsigned utf8_columns(uint32_t c);

/* Somebody else's text in printable UTF-8: anything odd is escaped as \xNN or \u{NNNN}. */
void text_clean(struct text *t, const char *from);
/* An address: the domain, and who of the domain only when it may be shown. */
void text_jid(struct text *t, const char *jid, bool show);

#define NUMBER_MAX 24
struct number { char at[NUMBER_MAX]; };    /* room for the digits of one number */
const char *number_text(uint64_t n, struct number *out);
#define NUMBER(n) number_text((n), &(struct number){ "" })   /* good to the end of the block */
/* "1 packet", "2 packets" */
void text_count(struct text *t, uint64_t n, const char *one, const char *many);

/* ---- times ---- */

#define STAMP_MAX 40
enum stamp {
    STAMP_ISO,     /* 2026-06-01T10:00:00.123456789Z */
    STAMP_LONG,    /* 2026-06-01 10:00:00.123 UTC */
    STAMP_SHORT    /* 10:00:00.123 */
};
const char *stamp_text(int64_t time_ns, enum stamp s, char out[STAMP_MAX]);
#define STAMP(ns, form) stamp_text((ns), (form), (char[STAMP_MAX]){ "" })
/* SHORT is enough when all of the capture is of one day. */
enum stamp stamp_of(const struct report *r);
/* "+0.004123", in seconds */
const char *stamp_offset(int64_t from_ns, int64_t to_ns, char out[STAMP_MAX]);
/* ISO 8601.  A certificate may name any time at all: "" when its year has not four digits. */
const char *stamp_seconds(int64_t seconds, char out[STAMP_MAX]);
/* "5.0 s", "3 min 20 s", "2 h 5 min" */
const char *stamp_length(int64_t ns, char out[STAMP_MAX]);
#define LENGTH(ns) stamp_length((ns), (char[STAMP_MAX]){ "" })

/* ---- names ---- */

/* Community ID version 1, seed 0; "" when there are no addresses, or no SHA-1 in the library. */
#define COMMUNITY_MAX 32
const char *community_id(const struct address *a, uint16_t a_port, const struct address *b,
    uint16_t b_port, uint8_t protocol, char out[COMMUNITY_MAX]);
const char *community_of(const struct flow *f, char out[COMMUNITY_MAX]);

/* ---- what is thought of a row, in one word ---- */

enum row_state {
    ROW_STATE_UNSEEN,
    ROW_STATE_WORKS,
    ROW_STATE_PARTLY,
    ROW_STATE_FAILS,
    ROW_STATE_UNCLEAR
};
enum row_state row_state(const struct report_row *row);
const char    *row_state_word(enum row_state s);  /* "not seen", "works" ... */

/* In the order of the report: 1, 2, 3, other. */
extern const enum row report_rows[ROW_COUNT];

/* The three columns of the port table, and which way the connection is opened. */
struct row_face { const char *service, *source, *target, *way; };
struct row_face row_face(const struct report *r, enum row row, struct text *room);
/* What there is to say about a row, with evidence; "" for nothing. */
void row_says(struct text *t, const struct report *r, enum row row);

/* "12 packets, 3 TCP connections, 2 of them federation" */
void report_counts(struct text *t, const struct report *r);

/* How many stanzas went this way; "?" when they were inside TLS, where nobody could count. */
const char *way_stanzas(const struct report_way *w, struct number *room);
#define STANZAS(w) way_stanzas((w), &(struct number){ "" })   /* good to the end of the block */

/* The whole result in one sentence for each row. */
void report_result(struct text *t, const struct report *r);
/* What would make the report better, keys or addresses; "" when there is no more. */
void report_advice(struct text *t, const struct report *r, size_t which);

/* ---- attempts ---- */

/* It is among those that are asked for. */
bool choice_takes(const struct choice *c, const struct attempt *a);
bool choice_takes_partner(const struct choice *c, const struct report_partner *q);
/* How many of report.attempts and of report.partners these are. */
size_t choice_attempts(const struct report *r);
size_t choice_partners(const struct report *r);

/* "a.example (192.0.2.1:4711) -> b.example (...)" */
void attempt_title(struct text *t, const struct attempt *a);
/* "10:00:00.123 TITLE, row 2: failed, cert-expired"; placed: its row is known. */
void attempt_line(struct text *t, const struct attempt *a, enum stamp s, bool placed);
void attempt_facts(struct text *t, const struct attempt *a);   /* TLS, method, stanzas, end */
/* "packet 7 (SYN) at 10:00:00.123, ..." */
void attempt_proofs(struct text *t, const struct verdict *v, enum stamp s);
void attempt_certificate(struct text *t, const struct attempt *a, int side);  /* "" : none seen */
bool attempt_has_number(const struct attempt *a);              /* false: only DNS was seen */

/* Of a pair of domains; an address when no domain is known, "edge" for our own side. */
const char *partner_name(const struct report_partner *q, bool ours);

/* ---- failures: the same cause between the same domains is one entry ---- */

struct group {
    uint32_t              key;            /* of all that they have in common */
    const struct attempt *first, *last;   /* borrowed */
    size_t                index;          /* of the first, in report.attempts */
    uint64_t              count;
    enum cause            cause;          /* or the setback */
};

enum group_kind { GROUP_FAILED, GROUP_SETBACK, GROUP_UNKNOWN };

/* Most frequent first.  NULL and *n == 0: there are none.  The caller frees it. */
struct group *report_groups(const struct report *r, enum group_kind kind, size_t *n);
const char   *group_partner(const struct group *g);           /* domain of the other side; "" */
/* The same, or "the partner at 192.0.2.1": who is told. */
void          group_whom(struct text *t, const struct group *g);
void          group_when(struct text *t, const struct group *g);
/* "pb.example: host-unknown"; "" when nothing was said. */
void          attempt_words(struct text *t, const struct attempt *a);
/* " (inferred)", " (from the log)", "": what the cause rests on. */
const char   *verdict_rests_on(const struct verdict *v);
/* The line of a log that is about it; "" when there is none.  May hold odd bytes. */
void          attempt_log(struct text *t, const struct attempt *a);
/* "3 of 8 ends joined to connections ...", of a log. */
void          log_facts(struct text *t, const struct report_log *l);
/* What is to be done, and by whom when that is not us; may hold odd bytes. */
void          attempt_remedy(struct text *t, const struct attempt *a);
/* The sentence to forward, with addresses and times; "" when there is nothing to tell. */
void          group_forward(struct text *t, const struct group *g);

/* ---- ladders ---- */

/* How the connection is protected where an event happens. */
enum cover { COVER_PLAIN, COVER_HANDSHAKE, COVER_OPEN, COVER_CLOSED };
/* OPEN: inside TLS and decrypted; CLOSED: inside TLS, cannot be read. */
const char *cover_word(enum cover c);

/* One step of a ladder: an event and what surrounds it. */
struct rung {
    const struct event *e;       /* borrowed */
    enum cover          cover;
    bool                arrow;   /* false: a note, no packet of content (gap) */
    uint64_t            left_out; /* events that were left out just before */
    int64_t             pause_ns;   /* since the rung before; 0: not worth telling */
};

#define LADDER_PAUSE_NS 2000000000LL

struct ladder {
    const struct attempt *a;     /* borrowed */
    unsigned              next;
    bool                  tls;   /* a ClientHello was seen */
    bool                  up;    /* the handshake is over */
};

struct ladder ladder_begin(const struct attempt *a);
bool          ladder_next(struct ladder *l, struct rung *out);
bool          rung_is_bad(const struct event *e);
/* What happened: short; and the details ("" for none).  Both may hold odd bytes: clean them. */
void rung_words(struct text *what, struct text *detail, const struct attempt *a,
    const struct rung *g, bool show);

#endif
