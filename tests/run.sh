#!/bin/sh
# run.sh FILE [WORD...] -- one test of any kind, as TAP, from the top of the tree.  It receives the words.
#
#   tests/check_*.awk, tests/check_*.sh      what is promised of the source
#   tests/unit/test_*.c                      compiled with sanitizers and run
#   tests/talk/talk.c                        the same with all transcripts; CUTS=all: and cut everywhere
#   tests/talk/*.talk                        one transcript or several (-v: what happened)
#   tests/memory/*.c                         run while memory is refused, here and there
#   tests/analyze/test_*.c                   compiled with the stages of the analyzer, and run
#   tests/embed/*.c, tests/embed/*.cpp       compiled, linked with xmppedge.c without main, and run
#   tests/fuzz/fuzz_*.c                      run over its corpus, then on its own; FUZZ_SECONDS: that long
#   tests/analyze/fuzz_*.c                   the same, with the stages of the analyzer
#   tests/*.t, tests/*/*.t                   executed
#
# run.sh --stage STAGE runs the tests of a stage with prove, JOBS at a time; at the end it says which failed,
# and why.
# run.sh --list STAGE prints the tests of a stage, in order of cost, and fails when there is none.
# run.sh --with-stages SOURCE PROGRAM compiles with sanitizers and with the stages of the analyzer.
#
# A test includes "cut/SECTION.c", which is xmppedge.c cut after that section: what stands below it is
# not compiled, and a change there compiles nothing again.
#
# CC, STD, WARN, LIBS and JOBS come from the Makefile; CXX, where it is set, compiles C++.
set -eu

: "${CC:=cc}" "${STD:=-std=c99}" "${JOBS:=1}"
: "${LIBS:=-pthread -lmbedtls -lmbedx509 -lmbedcrypto -lcares -lmxml $(pkg-config --exists libidn2 &&
    echo "-DXMPPEDGE_IDN2 $(pkg-config --cflags --libs libidn2)")}"
: "${SANITIZE:=-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all}"
out=build/tests

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
export CMOCKA_MESSAGE_OUTPUT=TAP

files() { for f in "$@"; do [ ! -f "$f" ] || echo "$f"; done; }

list() {
    case $1 in
    style) files tests/check_layers.awk tests/check_stages.sh tests/check_style.sh \
                 tests/check_names.sh tests/check_cuts.sh tests/check_tables.sh \
                 tests/check_readme.sh tests/check_objects.sh tests/check_install.sh \
                 tests/check_manual.sh tests/check_builds.sh tests/check_mbedtls.sh ;;
    unit)  files tests/unit/test_*.c ;;
    talk)  files tests/talk/talk.c ;;
    memory) files tests/memory/*.c ;;
    analyze) files tests/analyze/test_*.c tests/analyze/*.t ;;
    fuzz)  files tests/fuzz/fuzz_*.c tests/analyze/fuzz_*.c ;;
    embed) files tests/embed/*.c tests/embed/*.cpp ;;
    whole) files tests/*.t tests/embed/*.c tests/embed/*.cpp ;;
    live)  files tests/live/*.t ;;
    chaos) files tests/live/34-*.t tests/live/35-*.t tests/live/36-*.t ;;
    quick) some style && some unit && some talk && some whole && some memory &&
           some analyze && some fuzz ;;
    *)     echo "run.sh: no stage $1" >&2; return 2 ;;
    esac
}

# An empty stage is a mistake, never a success.
some() {
    tests=$(list "$1") && [ -n "$tests" ] || { echo "run.sh: there are no tests: $1" >&2; return 1; }
    echo "$tests"
}

# cut_after SECTION
cut_after() {
    mkdir -p "$out/cut"
    awk -v after="$1" -f tests/cut.awk xmppedge.c >"$out/cut/$1.c.$$"
    mv "$out/cut/$1.c.$$" "$out/cut/$1.c"
}

# cuts SOURCE: the parts of xmppedge.c that it includes, itself or by a test that it includes.
cuts() {
    for section in $(sed -n 's|^#include "cut/\(.*\)\.c".*|\1|p' "$1"); do
        cut_after "$section"
    done
    for other in $(sed -n 's|^#include "\(\.\./.*\.c\)".*|\1|p' "$1"); do
        cuts "${1%/*}/$other"
    done
}

# compile PROGRAM COMMAND...: by the command, unless the compiler would read the same text as the last time.
# When a file was written does not matter.
compile() {
    program=$1
    shift
    text=$({
        echo "$@"
        "$@" -E 2>/dev/null
        for word in "$@"; do
            case $word in *.o) cat "$word" ;; esac
        done
    } | cksum)
    if [ -f "$program" ] && [ "$text" = "$(cat "$program.text" 2>/dev/null)" ]; then
        return
    fi
    mkdir -p "${program%/*}"
    "$@" -o "$program.$$" || return
    mv "$program.$$" "$program"
    echo "$text" >"$program.text"
}

# build SOURCE PROGRAM [FLAGS]
build() {
    source=$1
    target=$2
    shift 2
    cuts "$source"
    # shellcheck disable=SC2086
    compile "$target" $CC $STD -Wall -Wextra -Wno-unused-function -I. -I$out $SANITIZE "$@" "$source" \
        -lcmocka -lexpat $LIBS
}

# The objects in a folder are made by one command; another one has a folder of its own.
stages_folder() { echo "$out/stages.$(echo "$*" | cksum | cut -d' ' -f1)"; }

# stages COMPILER FLAG...: the stages of the analyzer as objects, for all tests compiled this way.
stages() {
    folder=$(stages_folder "$@")
    cut_after PHASE
    for source in analyze/*.c $out/cut/PHASE.c; do
        [ "$source" != analyze/analyze.c ] || continue
        # shellcheck disable=SC2046
        compile "$folder/$(basename "$source" .c).o" "$@" $(includes) -I. -DXMPPEDGE_LANGUAGE_ONLY \
            -c "$source" || return
    done
}

# Where LIBS says that headers are; an object needs no libraries.
includes() {
    for word in $LIBS; do
        case $word in -I*) echo "$word" ;; esac
    done
}

# stages_besides SOURCE COMPILER FLAG...: the objects of the stages that it does not include.
stages_besides() {
    source=$1
    shift
    for object in "$(stages_folder "$@")"/*.o; do
        grep -q "analyze/$(basename "$object" .o)\.c\"" "$source" || echo "$object"
    done
}

# build_stage_test SOURCE PROGRAM
build_stage_test() {
    # shellcheck disable=SC2086
    stages $CC $STD $SANITIZE
    # shellcheck disable=SC2046,SC2086
    compile "$2" $CC $STD -Wno-unused-function $SANITIZE "$1" \
        $(stages_besides "$1" $CC $STD $SANITIZE) -lcmocka -lpcap $LIBS
}

# build_cpp SOURCE PROGRAM: C++ and C, each by its compiler, and both of one maker: they share sanitizers.
build_cpp() {
    case $CC in
    *clang*) cxx=${CXX:-clang++} ;;
    *)       cxx=${CXX:-c++} ;;
    esac
    if ! command -v "$cxx" >/dev/null; then
        echo "1..0 # SKIP no C++ compiler here"
        exit 0
    fi
    # shellcheck disable=SC2046,SC2086
    compile $out/embedded.o $CC $STD $SANITIZE $(includes) -DXMPPEDGE_NO_MAIN -c xmppedge.c
    # shellcheck disable=SC2086
    compile "$2" $cxx -std=c++11 -Wall -Wextra -Wpedantic -Werror -I. $SANITIZE "$1" $out/embedded.o $LIBS
}

# check NAME COMMAND...: one command is one test.
check() {
    name=$1
    shift
    echo 1..1
    if text=$("$@" 2>&1); then
        echo "ok 1 - $name"
    else
        echo "not ok 1 - $name"
        echo "$text" | sed 's/^/# /'
    fi
}

# libFuzzer comes with clang, and on Debian in a package of its own.
has_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(const char *at, unsigned long n) { return !at && n; }' |
        clang -fsanitize=fuzzer,address,undefined -w -x c -o "$out/has_fuzzer.$$" - \
            >/dev/null 2>&1 && rm "$out/has_fuzzer.$$"
}

# build_fuzzer SOURCE PROGRAM
build_fuzzer() {
    sanitize='-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all'
    objects=
    # shellcheck disable=SC2086
    case $1 in
    */analyze/*)
        stages clang $STD -w $sanitize -fsanitize=fuzzer-no-link || return
        objects="$(stages_besides "$1" clang $STD -w $sanitize -fsanitize=fuzzer-no-link) -lpcap" ;;
    esac
    cuts "$1"
    # shellcheck disable=SC2086
    compile "$2" clang $STD -w -I. -I$out $sanitize -fsanitize=fuzzer -DFUZZ_LIBFUZZER "$1" $objects $LIBS
}

# fuzz_corpus SOURCE PROGRAM INPUT...
fuzz_corpus() {
    case $1 in
    */analyze/*) build_stage_test "$1" "$2" ;;
    *)           build "$1" "$2" ;;
    esac || return
    shift
    "$@"
}

# With libFuzzer one program, compiled by clang, reads the corpus and then what it makes of it.  When there
# is time (FUZZ_SECONDS), and where there is no libFuzzer, the corpus is read by what $CC makes too.
fuzz() {
    name=$(basename "$1" .c)
    corpus=tests/fuzz/corpus/${name#fuzz_}
    [ "$name" != fuzz_talk ] || corpus="$corpus tests/talk"
    mkdir -p "$out/corpus/$name"
    # shellcheck disable=SC2086
    inputs=$(find $corpus -type f 2>&1) || inputs=
    echo 1..2
    if [ -z "$inputs" ]; then
        echo "not ok 1 - there is no corpus of $name"
    elif [ -z "${FUZZ_SECONDS:-}" ] && has_fuzzer; then
        echo "ok 1 - there is a corpus of $name, with which the fuzzer begins"
    elif text=$(fuzz_corpus "$1" "$out/$name" $inputs 2>&1); then
        echo "ok 1 - the corpus of $name"
    else
        echo "not ok 1 - the corpus of $name"
        echo "$text" | tail -n 40 | sed 's/^/# /'
    fi
    # shellcheck disable=SC2086
    if ! has_fuzzer; then
        echo "ok 2 - $name with new inputs # SKIP no libFuzzer here"
    elif build_fuzzer "$1" "$out/$name.lib" >"$out/$name.log" 2>&1 &&
        "$out/$name.lib" -max_total_time="${FUZZ_SECONDS:-5}" -timeout=20 -rss_limit_mb=3000 \
            -artifact_prefix="$out/$name-" "$out/corpus/$name" $corpus \
            >"$out/$name.log" 2>&1; then
        echo "ok 2 - $name with new inputs"
    else
        echo "not ok 2 - $name with new inputs"
        tail -n 40 "$out/$name.log" | sed 's/^/# /'
    fi
}

# All transcripts with the address sanitizer, some cuts each.  CUTS=all: then every cut without it, because
# it makes the many copies of the process several times as expensive.  The two become one TAP stream.
talk() {
    build "$1" "$out/talk"
    [ "${CUTS:-}" = all ] || exec "$out/talk" -s 61 tests/talk
    (SANITIZE=${SANITIZE%%-fsanitize=*}-fsanitize=undefined\ -fno-sanitize-recover=all
     build "$1" "$out/talk_cuts")
    { "$out/talk" -s 61 tests/talk; "$out/talk_cuts" tests/talk; } | awk '
        /^1\.\./        { plans++; next }
        /^(not )?ok /   { sub(/ok [0-9]+/, "ok " ++n) }
                        { print; fflush() }
        END             { if (plans == 2) print "1.." n; else print "Bail out! talk has broken off" }'
}

# MEMORY=all: at every place.  The libraries whose requests are refused must be linked statically.
# With clang, where it is there: its sanitizers see other things than those of most other tests.
# Without threads requests come in the same order each time.
memory() {
    mkdir -p "$out"
    libraries='-Wl,-Bstatic -lmbedtls -lmbedx509 -lmbedcrypto -lcares -Wl,-Bdynamic'
    name=memory_$(basename "$1" .c)
    [ "$CC" != cc ] || ! command -v clang >/dev/null || CC=clang
    # shellcheck disable=SC2086
    if ! echo 'int main(void) { return 0; }' |
            $CC -x c -o "$out/$name.empty" - $libraries 2>/dev/null; then
        echo "1..0 # SKIP no static libraries here"
        return
    fi
    wraps='malloc calloc realloc'
    [ "$name" != memory_transcripts ] || wraps="$wraps mbedtls_ssl_tls13_compute_handshake_transform
        mbedtls_ssl_tls13_compute_application_transform"
    # shellcheck disable=SC2086
    (LIBS="$(printf -- '-Wl,--wrap=%s ' $wraps)$libraries $LIBS"
     case $name in
     *_analyze) build_stage_test "$1" "$out/$name" ;;
     *)         build "$1" "$out/$name" -DXMPPEDGE_NO_THREADS ;;
     esac) || return
    shift
    # Each place is a process: what makes it dear, and finds something in other stages, is left out then.
    if [ "${MEMORY:-}" = all ]; then
        ASAN_OPTIONS="$ASAN_OPTIONS:detect_stack_use_after_return=0:malloc_context_size=3"
        case $name in *_transcripts) set -- tests/talk ;; *) set -- -a ;; esac
    fi
    "$out/$name" "$@"
}

# The test, with all it says kept for the summary.
keep() {
    kept=$out/tap/$1
    mkdir -p "${kept%/*}"
    { ${APART:+apart} sh tests/run.sh "$1" 2>"$kept.err" && echo 0 >"$kept.status" || echo $? >"$kept.status"; } |
        tee "$kept.tap"
    return "$(cat "$kept.status")"
}

summary() {
    stage=$1
    shift
    for test in "$@"; do
        files "$out/tap/$test.tap" "$out/tap/$test.err" "$out/tap/$test.status"
    done | xargs awk -v stage="$stage" -f tests/summary.awk
}

# Live tests use fixed addresses: each has a network of its own, where one can be made.
apart() { unshare -n sh -c 'ip link set lo up && exec "$@"' sh "$@"; }

proven() {
    jobs=$1
    shift
    prove --timer -j "$jobs" --exec 'sh tests/run.sh --keep' "$@"
}

# They sleep most of the time, so that several can run at once; those that measure times or load are alone.
live() {
    if ! apart true 2>/dev/null; then
        proven 1 "$@"
        return
    fi
    alone=
    for test in "$@"; do
        shift
        case $test in
        */36-*|*/50-*|*/52-*) alone="$alone $test" ;;
        *) set -- "$@" "$test" ;;
        esac
    done
    export APART=yes
    bad=0
    proven "$JOBS" "$@" || bad=1
    # shellcheck disable=SC2086
    [ -z "$alone" ] || proven 1 $alone || bad=1
    return $bad
}

stage() {
    tests=$(some "$1")
    rm -rf "$out/tap"
    status=0
    # shellcheck disable=SC2086
    case $1 in
    live) live $tests || status=1 ;;
    chaos) live $tests || status=1
          cat "$out"/tap/tests/live/*.tap ;;
    *)    proven "$JOBS" $tests || status=1 ;;
    esac
    # shellcheck disable=SC2086
    summary "$1" $tests
    return $status
}

file=${1:?run.sh FILE, run.sh --stage STAGE or run.sh --list STAGE}
shift
case $file in
--stage)     stage "${1:?a stage}" ;;
--list)      some "${1:?a stage}" ;;
--keep)      keep "${1:?a file}" ;;
--with-stages) build_stage_test "${1:?a source}" "${2:?a program}" ;;
*.awk)       check "$(basename "$file" .awk)" awk -f "$file" xmppedge.c ;;
*/fuzz_*.c)  fuzz "$file" ;;
*/memory/*.c) memory "$file" "$@" ;;
*/talk.c)    talk "$file" ;;
*.talk)      build tests/talk/talk.c "$out/talk"
             exec "$out/talk" "$file" "$@" ;;
*/analyze/*.c) program=$out/an_$(basename "$file" .c)
             build_stage_test "$file" "$program"
             status=0
             "$program" >"$program.tap" || status=$?
             # cmocka 1.1.5 calls a test that was skipped not ok
             sed 's/^not \(ok [0-9]* # SKIP\)/\1/' "$program.tap"
             exit $status ;;
*/embed/*.cpp) build_cpp "$file" $out/embed_cpp
             exec $out/embed_cpp ;;
*/embed/*.c) build "$file" "$out/$(basename "$file" .c)" -DXMPPEDGE_NO_MAIN xmppedge.c
             exec "$out/$(basename "$file" .c)" ;;
*.c)         program=$out/$(basename "$file" .c)
             build "$file" "$program"
             exec "$program" "$@" ;;
*.sh)        INCLUDES=$(includes) exec sh "$file" ;;
*)           exec "./$file" "$@" ;;
esac
