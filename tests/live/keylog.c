/* keylog.c -- TLS secrets of a program that has no option for it, in the format of NSS
 *
 *   cc -shared -fPIC -o keylog.so keylog.c -ldl
 *   LD_PRELOAD=./keylog.so SSLKEYLOGFILE=keys prosody ...
 *
 *   OpenSSL 3      SSL_new()                      SSL_CTX_set_keylog_callback()
 *   mbed TLS 2.28  mbedtls_ssl_config_defaults()  mbedtls_ssl_conf_export_keys_ext_cb()
 *   mbed TLS 3     mbedtls_ssl_setup()            mbedtls_ssl_set_export_keys_cb()
 *
 * The function on the left is ours: it calls the one of the library, then the one on the right.
 * All of the library is looked up when it is needed, so one object serves programs with either.
 *
 * For tests only: whoever has the file can read everything that was said.
 */
#define _GNU_SOURCE     /* RTLD_NEXT */

#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct ssl_st     SSL;        /* OpenSSL's headers are not needed */
typedef struct ssl_ctx_st SSL_CTX;

SSL *SSL_new(SSL_CTX *ctx);

/* The function of the library, behind ours.  A library that a plug-in brought along is not in the
 * list that RTLD_NEXT goes through; then it is asked by name. */
static void *
keylog_find(const char *name, const char *library)
{
    void *found = dlsym(RTLD_NEXT, name);
    void *handle = NULL;
    if (found == NULL && library != NULL)
        handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    return handle != NULL ? dlsym(handle, name) : found;
}

/* One write for each line: several threads and processes may share the file. */
static void
keylog_write(const char *line, size_t length)
{
    const char *path = getenv("SSLKEYLOGFILE");
    int fd = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (write(fd, line, length) != (ssize_t)length)
        fprintf(stderr, "keylog: cannot write to %s\n", path);
    close(fd);
}

/* ---- OpenSSL: it writes the line ---- */

static void
keylog_openssl(const SSL *ssl, const char *text)
{
    char line[1024];
    int n = snprintf(line, sizeof line, "%s\n", text);
    (void)ssl;
    if (n > 0 && (size_t)n < sizeof line)
        keylog_write(line, (size_t)n);
}

SSL *
SSL_new(SSL_CTX *ctx)
{
    SSL *(*real)(SSL_CTX *);
    void (*set)(SSL_CTX *, void (*)(const SSL *, const char *));
    *(void **)&real = keylog_find("SSL_new", "libssl.so.3");
    *(void **)&set = keylog_find("SSL_CTX_set_keylog_callback", "libssl.so.3");
    if (set != NULL && ctx != NULL)
        set(ctx, keylog_openssl);
    return real != NULL ? real(ctx) : NULL;
}

/* ---- mbed TLS: it gives the secret ---- */

static char *
keylog_hex(char *at, const unsigned char *bytes, size_t n)
{
    size_t i;
    *at++ = ' ';
    for (i = 0; i < n; i++)
        at += sprintf(at, "%02x", bytes[i]);
    return at;
}

static void
keylog_secret(const char *label, const unsigned char *random, const unsigned char *secret, size_t n)
{
    char line[64 + 2 * 32 + 2 * 64 + 4];
    char *at = line + strlen(strcpy(line, label));
    if (n > 64)
        return;
    at = keylog_hex(keylog_hex(at, random, 32), secret, n);
    *at++ = '\n';
    keylog_write(line, (size_t)(at - line));
}

#if MBEDTLS_VERSION_MAJOR < 3

static int
keylog_mbedtls(void *p, const unsigned char *master, const unsigned char *block, size_t mac,
    size_t key, size_t iv, const unsigned char client_random[32],
    const unsigned char server_random[32], mbedtls_tls_prf_types prf)
{
    (void)p, (void)block, (void)mac, (void)key, (void)iv, (void)server_random, (void)prf;
    keylog_secret("CLIENT_RANDOM", client_random, master, 48);
    return 0;
}

int
mbedtls_ssl_config_defaults(mbedtls_ssl_config *conf, int endpoint, int transport, int preset)
{
    int (*real)(mbedtls_ssl_config *, int, int, int);
    void (*set)(mbedtls_ssl_config *, mbedtls_ssl_export_keys_ext_t *, void *);
    int rc;
    *(void **)&real = keylog_find("mbedtls_ssl_config_defaults", NULL);
    *(void **)&set = keylog_find("mbedtls_ssl_conf_export_keys_ext_cb", NULL);
    rc = real(conf, endpoint, transport, preset);
    if (rc == 0 && set != NULL)
        set(conf, keylog_mbedtls, NULL);
    return rc;
}

#else

static void
keylog_mbedtls(void *p, mbedtls_ssl_key_export_type type, const unsigned char *secret, size_t n,
    const unsigned char client_random[32], const unsigned char server_random[32],
    mbedtls_tls_prf_types prf)
{
    const char *label = NULL;
    (void)p, (void)server_random, (void)prf;
    if (type == MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET)
        label = "CLIENT_RANDOM";
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_HANDSHAKE_TRAFFIC_SECRET)
        label = "CLIENT_HANDSHAKE_TRAFFIC_SECRET";
    else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_HANDSHAKE_TRAFFIC_SECRET)
        label = "SERVER_HANDSHAKE_TRAFFIC_SECRET";
    else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_APPLICATION_TRAFFIC_SECRET)
        label = "CLIENT_TRAFFIC_SECRET_0";
    else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_APPLICATION_TRAFFIC_SECRET)
        label = "SERVER_TRAFFIC_SECRET_0";
#endif
    if (label != NULL)
        keylog_secret(label, client_random, secret, n);
}

int
mbedtls_ssl_setup(mbedtls_ssl_context *ssl, const mbedtls_ssl_config *conf)
{
    int (*real)(mbedtls_ssl_context *, const mbedtls_ssl_config *);
    void (*set)(mbedtls_ssl_context *, mbedtls_ssl_export_keys_t *, void *);
    int rc;
    *(void **)&real = keylog_find("mbedtls_ssl_setup", NULL);
    *(void **)&set = keylog_find("mbedtls_ssl_set_export_keys_cb", NULL);
    rc = real(ssl, conf);
    if (rc == 0 && set != NULL)
        set(ssl, keylog_mbedtls, NULL);
    return rc;
}

#endif
