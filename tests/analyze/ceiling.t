#!/usr/bin/env python3
"""ceiling.t -- memory of the analyzer is bounded by its ceilings, and it says when one is reached.  TAP.

XMPPEDGE_ANALYZE names another binary.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'live')]

import tap   # noqa: E402
from tap import test   # noqa: E402
from reference import Reference   # noqa: E402

BINARY = os.path.abspath(os.environ.get('XMPPEDGE_ANALYZE')
                         or os.path.join(HERE, '..', '..', 'xmppedge-analyze'))
MEGABYTES = 256     # of memory, however many connections are open
HEADER = (b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' "
          b"from='far.example' to='corp.example' version='1.0'>")
FIN, SYN, PUSH, ACK = 1, 2, 8, 16


def segment(caller, port, inward, sequence, acknowledged, flags, content=b''):
    """Numbers begin elsewhere in each connection: with equal ones it would be one that was seen twice."""
    begin = (int.from_bytes(caller, 'big') << 16 | port) * 2654435761
    sequence, acknowledged = (begin + sequence) % 2**32, (begin + acknowledged) % 2**32
    ends = [(caller, port), (b'\xc0\x00\x02\x0a', 5269)]
    (source, source_port), (target, target_port) = ends if inward else ends[::-1]
    tcp = struct.pack('>HHIIBBHHH', source_port, target_port, sequence, acknowledged, 0x50, flags, 65535, 0, 0)
    head = struct.pack('>BBHHHBBH', 0x45, 0, 40 + len(content), 1, 0, 64, 6, 0)
    return head + source + target + tcp + content


def conversation(n):
    caller, port = struct.pack('>I', 0x0a000000 + n // 50000), 10000 + n % 50000
    yield segment(caller, port, True, 0, 0, SYN)
    yield segment(caller, port, False, 0, 1, SYN | ACK)
    yield segment(caller, port, True, 1, 1, PUSH | ACK, HEADER)


ERRORS = ['host-unknown', 'not-authorized', 'policy-violation', 'resource-constraint', 'system-shutdown', 'remote-connection-failed',
          'invalid-from', 'undefined-condition']
ANSWER = ("<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' from='corp.example' to='%s' "
          "id='i%d' version='1.0'><stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>")


def failure(n, partners, errors):
    """A stream that is refused: of so many partners, for so many reasons."""
    name = 'p%d.%s.example' % (n % partners, 'a-rather-long-name' if n % 3 == 0 else 'q')
    caller, port = struct.pack('>I', 0x0a000000 + n % partners), 10000 + n // partners
    header = HEADER.replace(b'far.example', name.encode())
    answer = (ANSWER % (name, n, ERRORS[n % errors])).encode()
    yield segment(caller, port, True, 0, 0, SYN)
    yield segment(caller, port, False, 0, 1, SYN | ACK)
    yield segment(caller, port, True, 1, 1, PUSH | ACK, header)
    yield segment(caller, port, False, 1, 1 + len(header), PUSH | ACK, answer)
    yield segment(caller, port, False, 1 + len(answer), 1 + len(header), FIN | ACK)
    yield segment(caller, port, True, 1 + len(header), 2 + len(answer), FIN | ACK)


def capture(path, connections, conversation=conversation):
    """Connections one after the other: that open, say a stream header, and stay."""
    with open(path, 'wb') as out:
        out.write(struct.pack('<IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101))   # raw IP
        at = 0
        for n in range(connections):
            for packet in conversation(n):
                at += 1
                out.write(struct.pack('<IIII', 1790000000 + at // 100000, at % 100000 * 10, len(packet),
                                      len(packet)))
                out.write(packet)


def analyze(connections, attempts=False):
    """The lines of the report, with those of attempts or without, and the memory that it took in megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'open.pcap')
        capture(path, connections)
        program = subprocess.Popen([BINARY, '--json', '--external', '192.0.2.10', path],
                                   stdout=subprocess.PIPE)
        said = [x for x in program.stdout if attempts or b'"attempt":' not in x[:60]]
        _, status, used = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        assert program.returncode in (0, 1), 'exit status %d' % program.returncode
        return [json.loads(line) for line in said], used.ru_maxrss / 1024


def remarks(lines):
    return [r['remark'] for r in lines[0]['remarks']]


@test
def few_open_connections_reach_no_ceiling(_):
    lines, _ = analyze(20000)
    assert 'ceiling-flows' not in remarks(lines), remarks(lines)
    assert lines[0]['connections'] == 20000, lines[0]['connections']


@test
def many_open_connections_do_not_take_more_memory_and_it_is_said(_):
    lines, memory = analyze(60000)
    assert 'ceiling-flows' in remarks(lines), remarks(lines)
    assert lines[0]['connections'] == 60000, lines[0]['connections']
    assert not [v for v in lines if v.get('about') == 'violation'], 'a violation was invented'
    if sanitized():
        return
    assert memory < MEGABYTES, '%d MB' % memory


@test
def every_attempt_is_listed_as_json_describes_it(_):
    lines, _ = analyze(5000, True)
    numbers = [v['attempt'] for v in lines if v.get('about') == 'attempt']
    assert lines[0]['attempts'] == len(numbers) == len(set(numbers)) == 5000, 'attempts are not listed: %d' % len(numbers)
    assert sorted(f['attempt'] for f in lines if f['type'] == 'flow') == sorted(numbers), 'flows are not listed'
    reference = Reference(BINARY)
    wrong = [w for x in lines[::100] for w in reference.wrong(x)]
    assert not wrong, wrong[:3]


SHAPES = [(1, 1), (1, 8), (40, 3), (900, 8), (5000, 1), (5000, 8)]     # partners, causes


@test
def five_thousand_failures_are_a_short_report(_):
    for partners, errors in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            path, page = os.path.join(folder, 'failures.pcap'), os.path.join(folder, 'page.html')
            capture(path, 5000, lambda n: failure(n, partners, errors))
            words = [BINARY, '--external', '192.0.2.10', path]
            text = subprocess.run(words + ['--html', page], stdout=subprocess.PIPE, text=True).stdout
            lines = text.splitlines()
            shape = '%d partners, %d causes: ' % (partners, errors)
            assert len(lines) <= 200, shape + '%d lines' % len(lines)
            assert max(len(x) for x in lines) <= 80, shape + max(lines, key=len)
            assert '5000 of 5000 failed' in text, shape + text[:500]
            assert text.index('\nFAILURES') < text.index('\nPORT TABLE') < text.index('\nDETAILS'), shape + 'order'
            assert os.path.getsize(page) < 500000, shape + '%d bytes' % os.path.getsize(page)
            whole = subprocess.run(words + ['--all'], stdout=subprocess.PIPE, text=True).stdout
            assert whole.count('\n') > 2000, shape + 'not all'
            one = subprocess.run(words + ['--partner', 'P0.a-rather-long-name.example'], stdout=subprocess.PIPE, text=True).stdout
            assert '(in): ' in one and 'p0.a-rather-long-name.example (10.0.0.0:' in one, shape + one[:2000]
            assert 'p1.' not in one, shape + one


@test
def details_are_kept_of_what_is_asked_for(_):
    """The last of five thousand, when more have come than there is room for."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'failures.pcap')
        capture(path, 5000, lambda n: failure(n, 5000, 8))
        for choice in (['--partner', 'p4998.a-rather-long-name.example'], ['--flow', '4999']):
            text = subprocess.run([BINARY, '--external', '192.0.2.10', path] + choice, stdout=subprocess.PIPE, text=True).stdout
            assert 'p4998.a-rather-long-name.example (10.0.19.134:10000) called' in ' '.join(text.split()), text[:2000]


def sanitized():
    with open(BINARY, 'rb') as program:
        return b'__asan_init' in program.read()


if __name__ == '__main__':
    tap.run(lambda: None)
