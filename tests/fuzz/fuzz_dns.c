/* fuzz_dns.c -- [DNS] fed with answers of any name server
 *
 * The input is a message of DNS.  What is read of it has a name that can be one, in lower case, and
 * there is never more of it than is kept; a message cut short never says more than the whole. */
#include "cut/DNS.c"

#include "fuzz_main.h"

#define ASKED "_xmpp-server._tcp.far.example"

static void
check_record(const struct dns_srv *s)
{
    size_t i;
    must(strlen(s->host) <= DNS_NAME_MAX, "a host has a length that can be");
    must(s->host[0] != '\0' && s->port > 0, "a record has a host and a port");
    for (i = 0; s->host[i] != '\0'; i++)
        must(s->host[i] > ' ' && s->host[i] != 0x7f && (s->host[i] < 'A' || s->host[i] > 'Z'),
            "a host is visible, in lower case");
}

static size_t
read_answer(const uint8_t *data, size_t size)
{
    unsigned char *copy = malloc(size == 0 ? 1 : size);   /* its end is watched by the sanitizer */
    struct dns_srv list[DNS_SRV_MAX];
    struct dns_odds odds;
    size_t n = 0, i;
    enum dns_answer answer;
    memcpy(copy, data, size);
    answer = dns_read_srv(copy, size, ASKED, list, &n, &odds);
    must(odds.n <= DNS_ODD_MAX && odds.n <= odds.all, "what is not used has its place, too");
    must(n <= DNS_SRV_MAX && (answer == DNS_SOME) == (n > 0), "an answer has what it says");
    for (i = 0; i < n; i++)
        check_record(&list[i]);
    free(copy);
    return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n;
    if (size > 2048)
        return 0;
    n = read_answer(data, size);
    must(read_answer(data, size / 2) <= n, "half a message does not say more");
    return 0;
}
