/* fuzz_main.h -- runs a fuzz target over files, for compilers without a fuzzer and for the corpus
 *
 *      fuzz_NAME FILE ...            each file once
 *      fuzz_NAME -n COUNT FILE ...   and COUNT times more with a few bytes changed, always the same
 *
 * Compile with -DFUZZ_LIBFUZZER and -fsanitize=fuzzer to leave main() to libFuzzer. */
#ifndef FUZZ_MAIN_H
#define FUZZ_MAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

/* What a fuzz target promises beside the sanitizers. */
static inline void
must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "this must hold: %s\n", what);
        abort();
    }
}

#if !defined FUZZ_LIBFUZZER && !defined FUZZ_MAKE

static uint64_t
fuzz_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Changes some bytes, sometimes cuts or repeats a part; returns the new length. */
static size_t
fuzz_change(uint8_t *at, size_t len, uint64_t *seed)
{
    static const uint8_t odd[] = { 0, 1, 0x7F, 0x80, 0xFF, 4, 8, 20 };
    if (len == 0)
        return 0;
    for (uint64_t n = fuzz_random(seed) % 8 + 1; n > 0; n--) {
        size_t where = (size_t)(fuzz_random(seed) % len);
        uint64_t how = fuzz_random(seed) % 4;
        if (how == 0)
            at[where] = odd[fuzz_random(seed) % sizeof odd];
        else if (how == 1)
            at[where] ^= (uint8_t)(1u << fuzz_random(seed) % 8);
        else if (how == 2)
            at[where]++;
        else
            at[where] = (uint8_t)fuzz_random(seed);
    }
    if (fuzz_random(seed) % 16 == 0) {
        size_t from = (size_t)(fuzz_random(seed) % len);
        size_t to = (size_t)(fuzz_random(seed) % len);
        size_t n = len - (from > to ? from : to);
        memmove(at + to, at + from, n);
    }
    return fuzz_random(seed) % 8 == 0 ? (size_t)(fuzz_random(seed) % len) : len;
}

int
main(int argc, char **argv)
{
    enum { INPUT_MAX = 1 << 20 };
    uint8_t *data = malloc(INPUT_MAX);
    uint8_t *copy = malloc(INPUT_MAX);
    uint64_t seed = UINT64_C(88172645463325252);
    unsigned long inputs = 0;
    int first = argc > 2 && strcmp(argv[1], "-n") == 0 ? 3 : 1;
    long times = first == 3 ? atol(argv[2]) : 0;
    double worst = 0;
    for (int i = first; data != NULL && copy != NULL && i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (f == NULL) {
            perror(argv[i]);
            return 1;
        }
        size_t len = fread(data, 1, INPUT_MAX, f);
        fclose(f);
        for (long k = 0; k <= times; k++) {
            memcpy(copy, data, len);
            size_t n = k == 0 ? len : fuzz_change(copy, len, &seed);
            clock_t start = clock();
            LLVMFuzzerTestOneInput(copy, n);
            double s = (double)(clock() - start) / CLOCKS_PER_SEC;
            worst = s > worst ? s : worst;
            inputs++;
        }
    }
    printf("ok - %s: %lu inputs, slowest %.3f s\n", argv[0], inputs, worst);
    free(data);
    free(copy);
    return 0;
}

#endif
#endif
