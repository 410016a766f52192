#!/usr/bin/env python3
"""public.t -- the analyzer, with sanitizers, over captures that others have published

They are damaged, fuzzed, of strange link layers and of rare TCP.  Nothing may crash, leak or take
long, and there are as many TCP connections as tshark counts, but for the known differences below.

    CAPTURES_PUBLIC=FOLDER    ../shared/captures/public; skipped where there is none
"""
import gzip
import json
import multiprocessing.dummy
import os
import shutil
import subprocess
import sys
import tempfile

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
FOLDER = os.environ.get("CAPTURES_PUBLIC", "../shared/captures/public")
CPU_MAX = 5.0     # seconds, sanitizers included

OPTIONS = "the options are damaged: tshark looks no further, ports and flags are good"

# name: tshark's connections, ours, and why they differ
KNOWN = {
    "OISF+suricata-verify/split-handshake-5whs.pcap":
        (2, 1, "five segments: for tshark the second SYN begins another conversation"),
    "ntop+nDPI/fuzz-2006-09-29-28586.pcap":
        (37, 36, "a damaged segment with SYN, RST, PSH and URG begins one for tshark"),
    "the-tcpdump-group+tcpdump/heapoverflow-tcp_print.pcap": (0, 1, OPTIONS),
    "the-tcpdump-group+tcpdump/mptcp-dss-oobr.pcap": (0, 1, OPTIONS),
    "the-tcpdump-group+tcpdump/tcp-auth-heapoverflow.pcap": (0, 1, OPTIONS),
}


def build(source, name):
    program = os.path.join("build", "tests", name)
    os.makedirs(os.path.dirname(program), exist_ok=True)
    done = subprocess.run(["sh", "tests/run.sh", "--with-stages", source, program],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        print("Bail out! %s cannot be built" % source)
        sys.stderr.buffer.write(done.stdout)
        sys.exit(1)
    return program


def run(*command):
    """Status, output, what it complains of and seconds of processor time."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        status, usage = os.wait4(process.pid, 0)[1:]
        process.returncode = status
        out.seek(0)
        err.seek(0)
        return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status),
                out.read().decode(errors="replace"), err.read().decode(errors="replace"),
                usage.ru_utime + usage.ru_stime)


def tshark_count(path, name):
    """None: tshark does not read this.  It is slow to start, and asked once for each file."""
    key = "%s %d" % (name, os.path.getsize(path))
    if key in TOLD:
        return TOLD[key]
    status, out, _, _ = run("tshark", "-n", "-q", "-z", "conv,tcp", "-r", path)
    TOLD[key] = None if status != 0 else sum("<->" in line and "Filter" not in line
                                             for line in out.splitlines())
    return TOLD[key]


def examine(path):
    """What is wrong with one capture, as lines."""
    name = os.path.relpath(path, FOLDER)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        if path.endswith(".gz"):
            plain = os.path.join(folder, "capture")
            with gzip.open(path) as packed, open(plain, "wb") as f:
                shutil.copyfileobj(packed, f)
            path = plain
        keys = os.path.splitext(os.path.join(FOLDER, name))[0] + ".keys"
        keys = ["-k", keys] if os.path.exists(keys) else []
        for how in (["--json"], ["--ladder", "--html", os.path.join(folder, "report.html")]):
            status, _, err, cpu = run(ANALYZE, *how, *keys, path)
            if status not in (0, 1, 2, 3) or "runtime error" in err or "Sanitizer" in err:
                wrong.append("%s %s ended with %d\n%s" % (name, how[0], status, err[-2000:]))
            if cpu > CPU_MAX:
                wrong.append("%s %s took %.1f s" % (name, how[0], cpu))
        status, out, err, _ = run(COUNT, path)
        ours = int(out.split()[0]) if out else 0
        theirs = tshark_count(path, name) if TSHARK else None
    if "runtime error" in err or "Sanitizer" in err:
        wrong.append("%s: count ended with %d\n%s" % (name, status, err[-2000:]))
    if theirs is not None and (theirs, ours) != KNOWN.get(name, (ours, ours))[:2]:
        wrong.append("%s has %d connections for tshark and %d for us" % (name, theirs, ours))
    return wrong


def captures():
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(FOLDER)
                  for name in names if not name.endswith((".md", ".keys", ".txt")))


print("1..1", flush=True)
if not os.path.isdir(FOLDER):
    print("ok 1 - published captures # SKIP there is no %s" % FOLDER)
    sys.exit(0)
TSHARK = run("tshark", "--version")[1].split()[2] if shutil.which("tshark") else None
ANALYZE = build("analyze/analyze.c", "xmppedge-analyze")
COUNT = build("tests/analyze/count.c", "count")
CACHE = os.path.join("build", "tests", "public-%s.json" % TSHARK)
try:
    with open(CACHE) as cache:
        TOLD = json.load(cache)
except (OSError, ValueError):
    TOLD = {}
paths = captures()
complaints = sum(multiprocessing.dummy.Pool(os.cpu_count() or 1).map(examine, paths), [])
with open(CACHE, "w") as cache:
    json.dump(TOLD, cache)
for line in "\n".join(complaints).splitlines():
    print("# " + line)
print("# %d captures%s" % (len(paths), "" if TSHARK else "; tshark is not installed"))
print("%sok 1 - published captures do no harm, and have as many connections as tshark counts"
      % ("not " if complaints or not paths else ""))
