# xmppedge -- make demo, make test, make install
#
# `make` only builds; `make deps` installs what building needs.  Works with any POSIX make: no
# conditionals, no pattern rules.  Override on the command line:  make CC=clang CFLAGS=-O3
.POSIX:

CC       = cc
CFLAGS   = -O2 -g
CPPFLAGS =
LDFLAGS  =
STD      = -std=c99
WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wswitch-enum -Wvla -Wconversion -Wundef -Wformat=2

# Mini-XML is mxml4.pc in version 4 and mxml.pc before.  mbed TLS 2.28 has no .pc files.
MXML     = `pkg-config --cflags --libs mxml4 2>/dev/null || pkg-config --cflags --libs mxml \
           2>/dev/null || echo -lmxml`
MXML_H   = `pkg-config --cflags mxml4 2>/dev/null || pkg-config --cflags mxml 2>/dev/null || :`
# Domains that are not ASCII; `make IDN=` builds without, and refuses them.
IDN      = `pkg-config --exists libidn2 && echo -DXMPPEDGE_IDN2 && pkg-config --cflags --libs libidn2`
LIBS     = -pthread -lmbedtls -lmbedx509 -lmbedcrypto -lcares $(MXML) $(IDN)

PREFIX   = /usr/local
BINDIR   = $(PREFIX)/bin
DOCDIR   = $(PREFIX)/share/doc/xmppedge
MANDIR   = $(PREFIX)/share/man
COMPDIR  = $(PREFIX)/share/bash-completion/completions
UNITDIR  = $(PREFIX)/lib/systemd/system
CONFDIR  = /etc/xmppedge
DESTDIR  =

# The analyzer does not see through links inside objects (MAP_OWNER), nor lengths beside pointers.
TIDY     = bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters,\
-bugprone-reserved-identifier,-bugprone-narrowing-conversions,-bugprone-sizeof-expression,\
-bugprone-implicit-widening-of-multiplication-result,-bugprone-suspicious-missing-comma,\
-bugprone-not-null-terminated-result,-clang-analyzer-unix.Malloc,-clang-analyzer-core.Null*,\
-clang-analyzer-core.NonNull*,-clang-analyzer-security.insecureAPI.*

# How many tests run at the same time, and how long each fuzz target runs in `make fuzz`.
JOBS     = `getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2`
SECONDS  = 600
MEASURE  =

# The analyzer reads gigabytes: what -O3 does with its inner loops is worth a sixth of the time.
AFLAGS   = -O3
ALIBS    = -lpcap -lmbedtls -lmbedx509 -lmbedcrypto $(MXML)

# `make asan` puts the same programs, with sanitizers, into $(ASAN).
ASAN     = build/asan
SANITIZE = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
BIN      =
OBJ      = build/obj

all: $(BIN)xmppedge $(BIN)xmppedge-analyze

COMPILE  = $(CC) $(STD) $(WARN) $(CPPFLAGS) $(CFLAGS)
# The analyzer reads with the tokenizer, the reason words and the protocol table of the proxy.
STAGE    = $(COMPILE) $(AFLAGS) -DXMPPEDGE_LANGUAGE_ONLY -c -o $@ $(MXML_H)

$(BIN)xmppedge: xmppedge.c xmppedge.h $(OBJ)/flags
	$(COMPILE) $(LDFLAGS) -o $@ xmppedge.c $(LIBS)

# An object depends on the headers that its stage may see.
BASE_H    = analyze/base.h xmppedge.h $(OBJ)/flags
CAPTURE_H = analyze/capture.h $(BASE_H)
PACKET_H  = analyze/packet.h $(CAPTURE_H)
FLOW_H    = analyze/flow.h $(PACKET_H)
TLS_H     = analyze/tls.h $(BASE_H)
XMPP_H    = analyze/xmpp.h $(FLOW_H) $(TLS_H)
DNS_H     = analyze/dns.h $(PACKET_H)
INSIDE_H  = analyze/inside.h $(FLOW_H)
LOG_H     = analyze/log.h $(PACKET_H)
JOIN_H    = analyze/join.h $(LOG_H) $(XMPP_H)
VERDICT_H = analyze/verdict.h $(DNS_H) $(INSIDE_H) $(JOIN_H)
REPORT_H  = analyze/report.h $(VERDICT_H)

STAGES   = $(OBJ)/analyze.o $(OBJ)/base.o $(OBJ)/capture.o $(OBJ)/causes.o $(OBJ)/dns.o $(OBJ)/export.o $(OBJ)/flow.o \
           $(OBJ)/html.o $(OBJ)/inside.o $(OBJ)/join.o $(OBJ)/json.o $(OBJ)/language.o $(OBJ)/log.o \
           $(OBJ)/packet.o $(OBJ)/report.o $(OBJ)/tls.o $(OBJ)/verdict.o $(OBJ)/xml.o $(OBJ)/xmpp.o

$(BIN)xmppedge-analyze: $(STAGES)
	$(COMPILE) $(AFLAGS) $(LDFLAGS) -o $@ $(STAGES) $(ALIBS)

$(OBJ)/analyze.o: analyze/analyze.c $(REPORT_H)
	$(STAGE) analyze/analyze.c
$(OBJ)/base.o: analyze/base.c $(BASE_H)
	$(STAGE) analyze/base.c
$(OBJ)/capture.o: analyze/capture.c $(CAPTURE_H)
	$(STAGE) analyze/capture.c
$(OBJ)/causes.o: analyze/causes.c $(VERDICT_H)
	$(STAGE) analyze/causes.c
$(OBJ)/dns.o: analyze/dns.c $(DNS_H)
	$(STAGE) analyze/dns.c
$(OBJ)/export.o: analyze/export.c $(REPORT_H)
	$(STAGE) analyze/export.c
$(OBJ)/flow.o: analyze/flow.c $(FLOW_H) analyze/pool.h
	$(STAGE) analyze/flow.c
$(OBJ)/html.o: analyze/html.c $(REPORT_H)
	$(STAGE) analyze/html.c
$(OBJ)/inside.o: analyze/inside.c $(INSIDE_H)
	$(STAGE) analyze/inside.c
$(OBJ)/join.o: analyze/join.c $(JOIN_H)
	$(STAGE) analyze/join.c
$(OBJ)/json.o: analyze/json.c $(REPORT_H)
	$(STAGE) analyze/json.c
$(OBJ)/language.o: xmppedge.c xmppedge.h $(OBJ)/flags
	$(STAGE) xmppedge.c
$(OBJ)/log.o: analyze/log.c $(LOG_H)
	$(STAGE) analyze/log.c
$(OBJ)/packet.o: analyze/packet.c $(PACKET_H)
	$(STAGE) analyze/packet.c
$(OBJ)/report.o: analyze/report.c $(REPORT_H)
	$(STAGE) analyze/report.c
$(OBJ)/tls.o: analyze/tls.c $(TLS_H) analyze/pool.h
	$(STAGE) analyze/tls.c
$(OBJ)/verdict.o: analyze/verdict.c $(VERDICT_H)
	$(STAGE) analyze/verdict.c
$(OBJ)/xml.o: analyze/xml.c $(REPORT_H)
	$(STAGE) analyze/xml.c
$(OBJ)/xmpp.o: analyze/xmpp.c $(XMPP_H) analyze/pool.h
	$(STAGE) analyze/xmpp.c

# Other flags make everything anew: this file changes only when they do.
$(OBJ)/flags: always
	@mkdir -p $(OBJ)
	@echo "$(COMPILE) $(AFLAGS) $(LDFLAGS)" | cmp -s - $@ || \
	    echo "$(COMPILE) $(AFLAGS) $(LDFLAGS)" >$@
always:

asan:
	@mkdir -p $(ASAN)
	@$(MAKE) all BIN=$(ASAN)/ OBJ=$(ASAN) CFLAGS="$(SANITIZE)" AFLAGS=

deps:
	sh tests/deps.sh build

demo:
	@sh tests/deps.sh build
	@$(MAKE) all
	@sh tests/demo.sh

# Where a race is said to be.
TSAN     = build/tsan
RACES    = -O1 -g -fsanitize=thread

# ---- tests: one TAP stream, in order of cost ----

TAP_ENV  = env CC="$(CC)" STD="$(STD)" WARN="$(WARN)" LIBS="$(LIBS)"
TESTS    = $(TAP_ENV) JOBS="$(JOBS)" sh tests/run.sh --stage

test:
	@sh tests/deps.sh test
	@$(MAKE) check

check:
	@$(MAKE) check-quick
	@$(MAKE) check-live

check-quick: xmppedge xmppedge-analyze
	@$(TESTS) quick

check-style: xmppedge xmppedge-analyze
	@$(TESTS) style

check-unit:
	@$(TESTS) unit

check-talk:
	@$(TESTS) talk

check-whole: xmppedge xmppedge-analyze
	@$(TESTS) whole

# No memory, at every place of every transcript: many minutes.  check-quick tries some.
check-memory:
	@MEMORY=all $(TESTS) memory

# Every transcript cut at every place; check-talk and check-quick try some.
check-cuts:
	@CUTS=all $(TESTS) talk

# Real servers on fixed loopback addresses: one after the other, unless each can have a network of its own.
check-live: xmppedge xmppedge-analyze
	@$(TESTS) live

# ---- longer ----

# Across files cppcheck takes a struct that a function fills in for one that it reads.
lint:
	@! command -v cppcheck >/dev/null || cppcheck --quiet --std=c99 --language=c --error-exitcode=1 \
	    --enable=warning,performance,portability --suppress=ctuuninitvar xmppedge.c analyze/*.c
	@! command -v clang-tidy >/dev/null || clang-tidy --quiet --warnings-as-errors='*' \
	    --checks="-*,`echo '$(TIDY)' | tr -d ' '`" xmppedge.c analyze/*.c -- $(STD) $(WARN) $(MXML_H)
	@! command -v shellcheck >/dev/null || shellcheck -s sh -S warning tests/*.sh

fuzz:
	@FUZZ_SECONDS=$(SECONDS) $(TESTS) fuzz

# Each fault five times, and as long as it would really last: some two hours.
chaos: xmppedge
	@TIMES=5 CROWD=300 $(TESTS) chaos

# Faults at random for MINUTES (30).
soak: xmppedge
	sh tests/soak/run.sh

bench: xmppedge
	sh tests/bench/run.sh
	@$(MAKE) bench-analyze

bench-analyze: xmppedge-analyze
	sh tests/bench/analyze.sh

# All transcripts and live tests with ThreadSanitizer: what the threads of handshakes share.  It cannot
# follow a process that forks when there are threads, as four transcripts have it.
check-threads:
	@mkdir -p $(TSAN)
	@$(MAKE) $(TSAN)/xmppedge BIN=$(TSAN)/ OBJ=$(TSAN) CFLAGS="$(RACES)"
	@SANITIZE="$(RACES)" TSAN_OPTIONS=die_after_fork=0 sh tests/run.sh \
	    `ls tests/talk/*.talk | grep -v -e /14[012]- -e /147-` -s 61
	@XMPPEDGE=$(CURDIR)/$(TSAN)/xmppedge TSAN_OPTIONS="die_after_fork=0 halt_on_error=1" $(TESTS) live

# The demo and check-quick in a Debian 13 that is made for it.
check-trixie:
	@sh tests/trixie.sh

# The source in numbers; MEASURE='OTHER .' compares trees, MEASURE='--times OTHER .' what an edit costs.
measure:
	@sh tests/measure.sh $(MEASURE)

# TRIXIE=dir names a chroot of a newer Debian with the libraries in it.
matrix:
	@$(TAP_ENV) TRIXIE="$(TRIXIE)" prove --timer --exec 'sh tests/run.sh' tests/matrix.sh

# ---- installing ----

UNIT     = \
    '[Unit]' \
    'Description=XMPP server-to-server border (%i)' \
    'Documentation=file:$(DOCDIR)/README.md' \
    'Wants=network-online.target' \
    'After=network-online.target' \
    '' \
    '[Service]' \
    'Type=notify' \
    'WatchdogSec=60' \
    'ExecStart=$(BINDIR)/xmppedge run $(CONFDIR)/%i.xml' \
    'ExecReload=/bin/kill -HUP $$MAINPID' \
    'Restart=on-failure' \
    'RestartSec=2' \
    'RestartPreventExitStatus=2' \
    'TimeoutStopSec=30' \
    'DynamicUser=yes' \
    'User=xmppedge' \
    'RuntimeDirectory=xmppedge' \
    'StateDirectory=xmppedge' \
    'StateDirectoryMode=0700' \
    'RuntimeDirectoryPreserve=yes' \
    'RuntimeDirectoryMode=0700' \
    'LogsDirectory=xmppedge' \
    'LogsDirectoryMode=0750' \
    'UMask=0077' \
    'LimitNOFILE=16384' \
    'LimitCORE=0' \
    'NoNewPrivileges=yes' \
    'CapabilityBoundingSet=' \
    'ProtectSystem=strict' \
    'ProtectHome=yes' \
    'PrivateTmp=yes' \
    'PrivateDevices=yes' \
    'ProtectClock=yes' \
    'ProtectControlGroups=yes' \
    'ProtectHostname=yes' \
    'ProtectKernelLogs=yes' \
    'ProtectKernelModules=yes' \
    'ProtectKernelTunables=yes' \
    'ProtectProc=invisible' \
    'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK' \
    'RestrictNamespaces=yes' \
    'RestrictRealtime=yes' \
    'RestrictSUIDSGID=yes' \
    'LockPersonality=yes' \
    'MemoryDenyWriteExecute=yes' \
    'SystemCallArchitectures=native' \
    'SystemCallFilter=@system-service' \
    '' \
    '[Install]' \
    'WantedBy=multi-user.target'

install: all
	install -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(DOCDIR)/examples" "$(DESTDIR)$(UNITDIR)" \
	    "$(DESTDIR)$(MANDIR)/man1" "$(DESTDIR)$(MANDIR)/man5" "$(DESTDIR)$(COMPDIR)"
	install -m 755 xmppedge xmppedge-analyze "$(DESTDIR)$(BINDIR)/"
	install -m 644 README.md LICENSE "$(DESTDIR)$(DOCDIR)/"
	./xmppedge config edge >"$(DESTDIR)$(DOCDIR)/examples/edge.xml"
	./xmppedge config gateway >"$(DESTDIR)$(DOCDIR)/examples/gateway.xml"
	./xmppedge manual >"$(DESTDIR)$(MANDIR)/man1/xmppedge.1"
	./xmppedge-analyze --manual >"$(DESTDIR)$(MANDIR)/man1/xmppedge-analyze.1"
	./xmppedge manual 5 >"$(DESTDIR)$(MANDIR)/man5/xmppedge.xml.5"
	./xmppedge completion >"$(DESTDIR)$(COMPDIR)/xmppedge"
	./xmppedge-analyze --completion >"$(DESTDIR)$(COMPDIR)/xmppedge-analyze"
	printf '%s\n' $(UNIT) >"$(DESTDIR)$(UNITDIR)/xmppedge@.service"
	chmod 644 "$(DESTDIR)$(DOCDIR)"/examples/*.xml "$(DESTDIR)$(MANDIR)"/man1/xmppedge*.1 \
	    "$(DESTDIR)$(MANDIR)/man5/xmppedge.xml.5" "$(DESTDIR)$(COMPDIR)"/xmppedge* \
	    "$(DESTDIR)$(UNITDIR)/xmppedge@.service"

uninstall:
	rm -f "$(DESTDIR)$(BINDIR)/xmppedge" "$(DESTDIR)$(BINDIR)/xmppedge-analyze" \
	    "$(DESTDIR)$(MANDIR)/man1/xmppedge.1" "$(DESTDIR)$(MANDIR)/man1/xmppedge-analyze.1" \
	    "$(DESTDIR)$(MANDIR)/man5/xmppedge.xml.5" "$(DESTDIR)$(UNITDIR)/xmppedge@.service" \
	    "$(DESTDIR)$(COMPDIR)/xmppedge" "$(DESTDIR)$(COMPDIR)/xmppedge-analyze"
	rm -rf "$(DESTDIR)$(DOCDIR)"

clean:
	rm -rf xmppedge xmppedge-analyze build

.PHONY: all always asan deps demo test check check-quick check-threads check-memory check-cuts \
        check-style check-unit check-talk check-whole check-live check-trixie lint fuzz chaos soak bench bench-analyze \
        matrix measure install uninstall clean
