/* fuzz_curves.h -- handshakes that are always the same, and computed once
 *
 * For mbed TLS 2.28 as a shared library: what stands here is called in the place of its own.
 * Random numbers of a handshake are constant and the time of day stands still, so the same
 * handshake multiplies the same points on curves, and their products are looked up.  Negotiated and
 * judged is by the same code.  With another library nothing is exchanged. */
#ifndef FUZZ_CURVES_H
#define FUZZ_CURVES_H

#include <mbedtls/version.h>
#if MBEDTLS_VERSION_NUMBER < 0x03000000

#include <dlfcn.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/sha256.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CURVES_KEPT 8192   /* products */

struct curves_product {
    unsigned char key[32];        /* of all that it is made of */
    unsigned char point[2 * MBEDTLS_ECP_MAX_BYTES + 1];
    size_t        len;            /* 0: there is none */
};

static struct curves_product curves_products[CURVES_KEPT];
static uint64_t curves_dice = 1;  /* of numbers that must differ */

time_t
time(time_t *out)
{
    static time_t stopped;
    struct timespec now = { 0 };
    if (stopped == 0) {
        clock_gettime(CLOCK_REALTIME, &now);
        stopped = now.tv_sec + 1;   /* certificates begin to be good now */
    }
    if (out != NULL)
        *out = stopped;
    return stopped;
}

/* For handshakes. */
int
mbedtls_ctr_drbg_random(void *drbg, unsigned char *out, size_t len)
{
    (void)drbg;
    memset(out, 0x42, len);
    return 0;
}

/* For stream identifiers, seeds and the like. */
static int
curves_random(void *drbg, unsigned char *out, size_t len)
{
    (void)drbg;
    while (len-- > 0) {
        curves_dice = curves_dice * UINT64_C(6364136223846793005) + 1442695040888963407;
        *out++ = (unsigned char)(curves_dice >> 56);
    }
    return 0;
}

#define mbedtls_ctr_drbg_random(drbg, out, len) curves_random(drbg, out, len)

static void
curves_hash_number(mbedtls_sha256_context *hash, const mbedtls_mpi *n)
{
    unsigned char bytes[256] = { 0 };
    if (n != NULL && mbedtls_mpi_size(n) <= sizeof bytes)
        mbedtls_mpi_write_binary(n, bytes, sizeof bytes);
    mbedtls_sha256_update_ret(hash, bytes, sizeof bytes);
}

/* The place of m * p + n * q. */
static struct curves_product *
curves_find(const mbedtls_ecp_group *group, const mbedtls_mpi *m, const mbedtls_ecp_point *p,
    const mbedtls_mpi *n, const mbedtls_ecp_point *q, unsigned char key[32])
{
    mbedtls_sha256_context hash;
    unsigned char id = (unsigned char)group->id;
    mbedtls_sha256_init(&hash);
    mbedtls_sha256_starts_ret(&hash, 0);
    mbedtls_sha256_update_ret(&hash, &id, 1);
    curves_hash_number(&hash, m);
    curves_hash_number(&hash, &p->X);
    curves_hash_number(&hash, &p->Y);
    curves_hash_number(&hash, n);
    curves_hash_number(&hash, q == NULL ? NULL : &q->X);
    curves_hash_number(&hash, q == NULL ? NULL : &q->Y);
    mbedtls_sha256_finish_ret(&hash, key);
    mbedtls_sha256_free(&hash);
    return &curves_products[(key[0] | (size_t)key[1] << 8) % CURVES_KEPT];
}

static bool
curves_has(const struct curves_product *c, const unsigned char key[32],
    const mbedtls_ecp_group *group, mbedtls_ecp_point *out)
{
    return c->len > 0 && memcmp(c->key, key, 32) == 0
        && mbedtls_ecp_point_read_binary(group, out, c->point, c->len) == 0;
}

static void
curves_keep(struct curves_product *c, const unsigned char key[32], const mbedtls_ecp_group *group,
    const mbedtls_ecp_point *p)
{
    memcpy(c->key, key, 32);
    if (group->id == MBEDTLS_ECP_DP_CURVE25519 || group->id == MBEDTLS_ECP_DP_CURVE448
        || mbedtls_ecp_point_write_binary(group, p, MBEDTLS_ECP_PF_UNCOMPRESSED, &c->len, c->point,
            sizeof c->point) != 0)
        c->len = 0;
}

int
mbedtls_ecp_mul_restartable(mbedtls_ecp_group *group, mbedtls_ecp_point *out, const mbedtls_mpi *m,
    const mbedtls_ecp_point *p, int (*rng)(void *, unsigned char *, size_t), void *drbg,
    mbedtls_ecp_restart_ctx *restart)
{
    static int (*real)(mbedtls_ecp_group *, mbedtls_ecp_point *, const mbedtls_mpi *,
        const mbedtls_ecp_point *, int (*)(void *, unsigned char *, size_t), void *,
        mbedtls_ecp_restart_ctx *);
    unsigned char key[32];
    struct curves_product *c = curves_find(group, m, p, NULL, NULL, key);
    int code;
    if (curves_has(c, key, group, out))
        return 0;
    if (real == NULL)
        *(void **)(void *)&real = dlsym((void *)-1, "mbedtls_ecp_mul_restartable");
    code = real(group, out, m, p, rng, drbg, restart);
    if (code == 0)
        curves_keep(c, key, group, out);
    return code;
}

int
mbedtls_ecp_mul(mbedtls_ecp_group *group, mbedtls_ecp_point *out, const mbedtls_mpi *m,
    const mbedtls_ecp_point *p, int (*rng)(void *, unsigned char *, size_t), void *drbg)
{
    return mbedtls_ecp_mul_restartable(group, out, m, p, rng, drbg, NULL);
}

int
mbedtls_ecp_muladd_restartable(mbedtls_ecp_group *group, mbedtls_ecp_point *out,
    const mbedtls_mpi *m, const mbedtls_ecp_point *p, const mbedtls_mpi *n,
    const mbedtls_ecp_point *q, mbedtls_ecp_restart_ctx *restart)
{
    static int (*real)(mbedtls_ecp_group *, mbedtls_ecp_point *, const mbedtls_mpi *,
        const mbedtls_ecp_point *, const mbedtls_mpi *, const mbedtls_ecp_point *,
        mbedtls_ecp_restart_ctx *);
    unsigned char key[32];
    struct curves_product *c = curves_find(group, m, p, n, q, key);
    int code;
    if (curves_has(c, key, group, out))
        return 0;
    if (real == NULL)
        *(void **)(void *)&real = dlsym((void *)-1, "mbedtls_ecp_muladd_restartable");
    code = real(group, out, m, p, n, q, restart);
    if (code == 0)
        curves_keep(c, key, group, out);
    return code;
}

#endif
#endif
