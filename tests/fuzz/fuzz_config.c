/* fuzz_config.c -- [CONFIG] fed with any file
 *
 * What is refused is told, in whole lines.  What is read and printed with all its defaults can be
 * read again, and says the same. */
#include "cut/PORTS.c"

#include "fuzz_main.h"

static char path[64];

static void
forget_file(void)
{
    unlink(path);
}

static struct config *
load(struct xe_span text)
{
    struct buf messages = { 0 };
    struct xe_span said;
    struct config *c;
    FILE *f;
    if (path[0] == '\0') {
        snprintf(path, sizeof path, "/tmp/fuzz_config.%ld", (long)getpid());
        atexit(forget_file);
    }
    f = fopen(path, "wb");
    must(f != NULL && fwrite(text.at, 1, text.len, f) == text.len && fclose(f) == 0, "a file");
    c = config_load_alone(path, &messages);
    said = buf_span(&messages);
    must(c != NULL || said.len > 0, "an error is told");
    must(said.len == 0 || said.at[said.len - 1] == '\n', "a message is a line");
    buf_free(&messages);
    return c;
}

static void
print(struct config *c, struct buf *out)
{
    out->max = CONFIG_PRINT_MAX;
    buf_clear(&c->warnings);   /* they name lines */
    config_print_effective(c, out);
    must(!out->failed, "it is printed");
    config_free(c);
}

static void
check_ports(const struct config *c)
{
    static const enum ports_format formats[] = { PORTS_TABLE, PORTS_NFT, PORTS_IPTABLES,
        PORTS_JSON };
    struct ports_machine machine = { 0 };
    size_t i;
    for (i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct buf out = { .max = CONFIG_PRINT_MAX }, errors = { 0 };
        ports_print(c, formats[i], &machine, &out, &errors);
        buf_free(&out);
        buf_free(&errors);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf once = { 0 }, again = { 0 };
    struct config *c = size > 65536 ? NULL : load(span_make((const char *)data, size));
    if (c == NULL)
        return 0;
    check_ports(c);
    print(c, &once);
    c = load(buf_span(&once));
    must(c != NULL, "what is printed can be read");
    print(c, &again);
    must(span_eq(buf_span(&once), buf_span(&again)), "and says the same");
    buf_free(&once);
    buf_free(&again);
    return 0;
}
