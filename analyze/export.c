/* export.c -- the packets of the attempts that are asked for, as a pcapng file of their own
 *
 *   draft-ietf-opsawg-pcapng: section header, then in the order of the packets
 *     interface description     before the first packet that it has
 *     decryption secrets        before the ClientHello that needs them; no other secrets
 *     enhanced packet           with comments where a verdict rests on it
 *
 * Who opens the file in Wireshark sees what was found, decrypted, at the packet that proves it.
 * Packets come in a second run over the files: which ones are wanted is known after the first.
 */
#include "report.h"

#include <strings.h>

#define EXPORT_LATE     (2 * SECOND)  /* packets that come so long after the end belong to it */
#define EXPORT_LINKS    256           /* interfaces of the new file */
#define EXPORT_RANDOM   32            /* bytes of the random of a ClientHello ... */
#define EXPORT_PIECES   512           /* fragments that wait for their last one: 32 MB at worst */
#define EXPORT_HELLO    11            /* ... and where they are in its record */

/* A connection that is wanted. */
struct export_call {
    struct address        address[2];   /* the smaller end first */
    uint16_t              port[2];
    const struct attempt *a;            /* borrowed */
};

/* What is written at a packet. */
struct export_note {
    uint64_t frame;
    char    *text;                      /* owned; NULL: the packet is wanted, and that is all */
};

/* A fragment that may be wanted. */
struct export_piece {
    uint64_t       first;               /* packet.piece; 0: the place is free */
    struct frame   frame;
    unsigned char *bytes;               /* owned */
};

struct export_link { uint32_t interface; int link; };

struct export {
    FILE               *to;
    struct text         keys;           /* of all key logs */
    struct text         block;
    struct export_call *calls;          /* owned; sorted */
    size_t              ncalls;
    struct export_note *notes;          /* owned; sorted */
    size_t              nnotes;
    struct export_link  links[EXPORT_LINKS];
    size_t              nlinks;
    struct export_piece pieces[EXPORT_PIECES];   /* in order, from npieces on round */
    size_t              npieces;        /* in all; the place is the remainder */
    uint64_t            packets, last;  /* number of the frame that was written last */
};

/* ---- blocks: little-endian ---- */

static void
export_16(struct export *x, unsigned n)
{
    const char bytes[2] = { (char)(n & 255), (char)(n >> 8 & 255) };
    text_put(&x->block, bytes, 2);
}

static void
export_32(struct export *x, uint32_t n)
{
    export_16(x, n & 0xffff);
    export_16(x, n >> 16);
}

/* Bytes, and zeros up to a multiple of four. */
static void
export_bytes(struct export *x, const void *at, size_t len)
{
    text_put(&x->block, at, len);
    text_put(&x->block, "\0\0\0", (4 - len % 4) % 4);
}

static void
export_begin(struct export *x, uint32_t type)
{
    text_clear(&x->block);
    export_32(x, type);
    export_32(x, 0);
}

static void
export_option(struct export *x, unsigned code, const char *at, size_t len)
{
    export_16(x, code);
    export_16(x, (unsigned)len);
    export_bytes(x, at, len);
}

/* The length stands before and behind. */
static void
export_write(struct export *x)
{
    uint32_t len = (uint32_t)x->block.len + 4;
    unsigned i;
    for (i = 0; i < 4; i++)
        x->block.at[4 + i] = (char)(len >> 8 * i & 255);
    export_32(x, len);
    fwrite(x->block.at, 1, x->block.len, x->to);
}

static void
export_section(struct export *x)
{
    static const char program[] = "xmppedge-analyze " XE_VERSION;
    export_begin(x, 0x0a0d0d0a);
    export_32(x, 0x1a2b3c4d);
    export_16(x, 1);
    export_16(x, 0);
    export_32(x, 0xffffffff);   /* of unknown length */
    export_32(x, 0xffffffff);
    export_option(x, 4, program, sizeof program - 1);
    export_32(x, 0);
    export_write(x);
}

/* The number of an interface in the new file; it is described when it is new. */
static uint32_t
export_interface(struct export *x, const struct frame *f)
{
    size_t i;
    for (i = 0; i < x->nlinks; i++)
        if (x->links[i].interface == f->interface && x->links[i].link == f->link)
            return (uint32_t)i;
    if (i == EXPORT_LINKS)
        return 0;
    x->links[x->nlinks++] = (struct export_link){ f->interface, f->link };
    export_begin(x, 1);
    export_16(x, (unsigned)f->link);
    export_16(x, 0);
    export_32(x, 0);            /* no snaplen: packets say what they lack */
    export_option(x, 9, "\x09", 1);   /* nanoseconds */
    export_32(x, 0);
    export_write(x);
    return (uint32_t)i;
}

/* ---- what is wanted ---- */

static int
export_order(const void *l, const void *r)
{
    const struct export_call *a = l, *b = r;
    int order = memcmp(a->address, b->address, sizeof a->address);
    return order != 0 ? order : memcmp(a->port, b->port, sizeof a->port);
}

static int
export_note_order(const void *l, const void *r)
{
    const struct export_note *a = l, *b = r;
    return a->frame < b->frame ? -1 : a->frame > b->frame;
}

static struct export_call
export_ends(const struct address *a, uint16_t a_port, const struct address *b, uint16_t b_port)
{
    struct export_call c;
    int order = memcmp(a, b, sizeof *a);
    bool swap = order > 0 || (order == 0 && a_port > b_port);
    memset(&c, 0, sizeof c);
    c.address[swap] = *a;
    c.address[!swap] = *b;
    c.port[swap] = a_port;
    c.port[!swap] = b_port;
    return c;
}

/* text: "", or what stands at the packet. */
static void
export_note(struct export *x, uint64_t frame, const char *text)
{
    struct export_note *list;
    if (frame == 0)
        return;
    list = list_grow(x->notes, x->nnotes, sizeof *list);
    if (list == NULL)
        return;
    x->notes = list;
    list[x->nnotes++] = (struct export_note){ frame,
        text[0] == '\0' ? NULL : memory_try(strdup(text)) };
}

/* Where it begins, what happened; where it is proven, what is seen there. */
static void
export_notes(struct export *x, const struct attempt *a)
{
    const struct verdict *v = a->verdict;
    enum cause c = v->outcome == OUTCOME_FAILED ? v->cause : v->setback;
    struct text line = { NULL, 0, 0 }, title = { NULL, 0, 0 };
    unsigned i;
    text_clear(&title);
    if (attempt_has_number(a))
        TEXT(&title, "connection #", NUMBER(a->flow.number), ", ");
    TEXT(&title, c != CAUSE_NONE ? cause_row(c)->word : outcome_word(v->outcome), ": ");
    SET(&line, title.at);
    text_clean(&line, v->story);
    export_note(x, a->flow.first_frame, line.at);
    for (i = 0; i < v->nproofs; i++) {
        SET(&line, title.at, v->proofs[i].what);
        export_note(x, v->proofs[i].frame, line.at);
    }
    for (i = 0; i < a->nevents; i++)
        if (a->events[i].kind == EVENT_DNS || a->events[i].kind == EVENT_ICMP)
            export_note(x, a->events[i].frame, "");
    text_free(&line);
    text_free(&title);
}

struct export *
export_new(const struct report *r, FILE *to)
{
    struct export *x = memory_try(calloc(1, sizeof *x));
    size_t i;
    if (x == NULL)
        return NULL;
    x->to = to;
    x->calls = memory_try(calloc(r->nattempts + 1, sizeof *x->calls));
    for (i = 0; i < r->nattempts && x->calls != NULL; i++) {
        const struct attempt *a = r->attempts[i];
        const struct flow_side *s = a->flow.side;
        if (!choice_takes(&r->choice, a))
            continue;
        export_notes(x, a);
        if (!attempt_has_number(a))
            continue;
        x->calls[x->ncalls] = export_ends(&s[0].address, s[0].port, &s[1].address, s[1].port);
        x->calls[x->ncalls++].a = a;
    }
    if (x->ncalls > 0)
        qsort(x->calls, x->ncalls, sizeof *x->calls, export_order);
    if (x->nnotes > 0)
        qsort(x->notes, x->nnotes, sizeof *x->notes, export_note_order);
    text_clear(&x->keys);
    export_section(x);
    return x;
}

/* ---- packets ---- */

/* The first of the notes at this packet; x->nnotes: there are none. */
static size_t
export_note_at(const struct export *x, uint64_t frame)
{
    size_t low = 0, high = x->nnotes;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (x->notes[middle].frame < frame)
            low = middle + 1;
        else
            high = middle;
    }
    return low < x->nnotes && x->notes[low].frame == frame ? low : x->nnotes;
}

/* It is of a connection that is wanted: of this one, when ports were used again. */
static bool
export_is_wanted(const struct export *x, const struct packet *p)
{
    struct export_call key = export_ends(&p->source, p->source_port, &p->target, p->target_port);
    const struct export_call *c = x->ncalls == 0 ? NULL
        : bsearch(&key, x->calls, x->ncalls, sizeof key, export_order);
    if (c == NULL || p->kind == PACKET_UDP)
        return false;
    while (c > x->calls && export_order(c - 1, &key) == 0)
        c--;
    for (; c < x->calls + x->ncalls && export_order(c, &key) == 0; c++)
        if (p->frame->time_ns >= c->a->flow.first_ns
            && p->frame->time_ns <= c->a->flow.last_ns + EXPORT_LATE)
            return true;
    return false;
}

/* Does a line of a key log name this random?  NSS: label, random, secret. */
static bool
export_is_key(const char *line, size_t len, const char *random)
{
    const char *blank = memchr(line, ' ', len);
    return blank != NULL && len - (size_t)(blank - line) >= 2 * EXPORT_RANDOM + 2
        && strncasecmp(blank + 1, random, 2 * EXPORT_RANDOM) == 0;
}

/* RFC 8446 4.1.2: a packet that begins with a ClientHello is preceded by its secrets. */
static void
export_secrets(struct export *x, const struct packet *p)
{
    const unsigned char *hello = p->payload;
    const char *line = x->keys.at;
    struct text secrets = { NULL, 0, 0 };
    char random[2 * EXPORT_RANDOM + 1] = "";
    size_t i;
    if (p->kind != PACKET_TCP || p->captured < EXPORT_HELLO + EXPORT_RANDOM
        || !tls_begins(hello, p->captured))
        return;
    for (i = 0; i < EXPORT_RANDOM; i++)
        snprintf(random + 2 * i, 3, "%02x", (unsigned)hello[EXPORT_HELLO + i]);
    text_clear(&secrets);
    while (*line != '\0') {
        size_t len = strcspn(line, "\n");
        if (export_is_key(line, len, random)) {
            text_put(&secrets, line, len);
            TEXT(&secrets, "\n");
        }
        line += len + (line[len] == '\n');
    }
    if (secrets.len > 0) {
        export_begin(x, 10);
        export_32(x, 0x544c534b);   /* TLS key log */
        export_32(x, (uint32_t)secrets.len);
        export_bytes(x, secrets.at, secrets.len);
        export_write(x);
    }
    text_free(&secrets);
}

void
export_keys(struct export *x, const char *text, size_t len)
{
    text_put(&x->keys, text, len);
}

/* With its comments, from this note on. */
static void
export_frame(struct export *x, const struct frame *f, size_t note)
{
    uint32_t interface = export_interface(x, f);
    export_begin(x, 6);
    export_32(x, interface);
    export_32(x, (uint32_t)((uint64_t)f->time_ns >> 32));
    export_32(x, (uint32_t)((uint64_t)f->time_ns & 0xffffffff));
    export_32(x, (uint32_t)f->captured);
    export_32(x, (uint32_t)f->length);
    export_bytes(x, f->bytes, f->captured);
    for (; note < x->nnotes && x->notes[note].frame == f->number; note++)
        if (x->notes[note].text != NULL)
            export_option(x, 1, x->notes[note].text, strlen(x->notes[note].text));
    export_32(x, 0);
    export_write(x);
    x->packets++;
}

/* ---- packets in fragments ---- */

/* Whether they are wanted is known from the packet, when the last one is there. */
void
export_piece(struct export *x, const struct frame *f, uint64_t first)
{
    struct export_piece *e = &x->pieces[x->npieces++ % EXPORT_PIECES];
    free(e->bytes);
    *e = (struct export_piece){ first, *f, memory_try(malloc(f->captured + 1)) };
    if (e->bytes == NULL)
        e->first = 0;
    else
        memcpy(e->bytes, f->bytes, f->captured);
    e->frame.bytes = e->bytes;
}

/* Those before the last one of a packet. */
static void
export_pieces(struct export *x, uint64_t first)
{
    size_t i;
    for (i = 0; i < EXPORT_PIECES; i++) {
        struct export_piece *e = &x->pieces[(x->npieces + i) % EXPORT_PIECES];
        if (e->first == first)
            export_frame(x, &e->frame, x->nnotes);
        if (e->first == first)
            e->first = 0;
    }
}

void
export_packet(struct export *x, const struct packet *p)
{
    const struct frame *f = p->frame;
    size_t note = export_note_at(x, f->number);
    if (f->number == x->last || (note == x->nnotes && !export_is_wanted(x, p)))
        return;
    x->last = f->number;
    export_secrets(x, p);
    if (p->piece != 0)
        export_pieces(x, p->piece);
    export_frame(x, f, note);
}

uint64_t
export_end(struct export *x)
{
    uint64_t packets;
    size_t i;
    if (x == NULL)
        return 0;
    packets = x->packets;
    for (i = 0; i < x->nnotes; i++)
        free(x->notes[i].text);
    for (i = 0; i < EXPORT_PIECES; i++)
        free(x->pieces[i].bytes);
    free(x->notes);
    free(x->calls);
    text_free(&x->keys);
    text_free(&x->block);
    free(x);
    return packets;
}
