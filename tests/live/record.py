"""record.py -- what crosses the loopback interface, the secrets of TLS, and what the analyzer says.

    recorder = Recorder(lab)            # from now on, every packet of the lab's network
    keys = KeyLogs(lab)                 # before servers are started: their secrets go to files
    since = recorder.mark()
    ...
    recorder.write('x.pcap', lambda p: p.index >= since)
    report = analyze('x.pcap', *keys.options())

A recording is cut into captures afterwards, as an administrator's filter would have cut it.
"""

import collections
import fcntl
import glob
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from lab import HarnessError, Process, read_text, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
DNS_PORT = 53       # where the analyzer looks for name servers
ETH_P_ALL = 3
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_STATISTICS = 263, 6
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35


def may_record():
    """'' or the reason why not."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
        raise_loopback()
    except (OSError, AttributeError) as e:
        return 'no packets may be captured: %s' % e
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(('127.64.0.1', DNS_PORT))
        return ''
    except OSError as e:
        return 'no name server may be started on port %d: %s' % (DNS_PORT, e)


def own_network():
    """Begin this script again in a network of its own, where an ordinary user may have one: there
    every port may be used and everything may be recorded.  Returns where that is not possible."""
    flags = ['unshare', '--user', '--map-current-user', '--keep-caps', '--net']
    if os.environ.get('XMPPEDGE_OWN_NETWORK') or subprocess.call(
            ['sh', '-c', 'exec "$@" 2>/dev/null', 'sh', *flags, 'true']) != 0:
        return
    os.environ['XMPPEDGE_OWN_NETWORK'] = '1'
    sys.stdout.flush()
    os.execvp(flags[0], flags + [sys.executable] + sys.argv)


def raise_loopback():
    """In a new network it is down."""
    with socket.socket() as s:
        request = struct.pack('16sh14x', b'lo', 0)
        flags = struct.unpack('16sh14x', fcntl.ioctl(s, SIOCGIFFLAGS, request))[1]
        if not flags & IFF_UP:
            fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack('16sh14x', b'lo', flags | IFF_UP))


Packet = collections.namedtuple('Packet', 'index time frame protocol source sport target dport')


def dissect(index, time_ns, frame):
    """An Ethernet frame with IPv4, or None."""
    if len(frame) < 34 or frame[12:14] != b'\x08\x00':
        return None
    at = 14 + 4 * (frame[14] & 15)
    ports = (0, 0)
    if frame[23] in (6, 17) and len(frame) >= at + 4:
        ports = struct.unpack('!HH', frame[at:at + 4])
    return Packet(index, time_ns, frame, frame[23], socket.inet_ntoa(frame[26:30]), ports[0],
                  socket.inet_ntoa(frame[30:34]), ports[1])


class Recorder:
    """Keeps the packets to and from the addresses of the lab."""

    def __init__(self, lab):
        self.net = lab.net + '.'
        self.packets = []
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.bind(('lo', 0))
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        except OSError:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.marks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.marks.bind((lab.ip(1), 0))
        self.news = threading.Condition()
        self.stopping = False
        self.dropped = 0
        lab.closers.append(self.stop)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopping:
            if not select.select([self.sock], [], [], 0.2)[0]:
                continue
            frame, extra, _, address = self.sock.recvmsg(1 << 17, 64)
            if address[2] == PACKET_OUTGOING:       # on loopback everything is seen twice
                continue
            seconds, fraction = struct.unpack('ll', extra[0][2][:16]) if extra else \
                divmod(time.time_ns(), 10 ** 9)
            packet = dissect(len(self.packets), seconds * 10 ** 9 + fraction, frame)
            if packet and any(a.startswith(self.net) for a in (packet.source, packet.target)):
                with self.news:
                    self.packets.append(packet)
                    self.news.notify_all()

    def mark(self):
        """The number of packets once everything that was sent before has been recorded."""
        own = self.marks.getsockname()
        number = len(self.packets)
        self.marks.sendto(b'mark', own)
        self.marks.recv(16)

        def seen():
            return any(p.sport == own[1] and p.protocol == 17 for p in self.packets[number:])
        with self.news:
            if not self.news.wait_for(seen, 10):
                raise HarnessError('the recorder sees nothing')
            return len(self.packets)

    def stop(self):
        if self.stopping:
            return
        self.stopping = True
        self.thread.join(2)
        counts = self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        self.dropped = struct.unpack('II', counts)[1]
        self.sock.close()
        self.marks.close()

    def write(self, path, keep):
        """A capture of the packets for which keep(packet) is true; how many there are."""
        kept = [p for p in list(self.packets) if keep(p)]
        with open(path, 'wb') as f:
            f.write(struct.pack('<IHHiIII', 0xa1b23c4d, 2, 4, 0, 0, 1 << 18, 1))
            for p in kept:
                f.write(struct.pack('<IIII', *divmod(p.time, 10 ** 9), len(p.frame), len(p.frame)))
                f.write(p.frame)
        return len(kept)


# ---- secrets -----------------------------------------------------------------------------------

class KeyLogs:
    """keylog.c in front of every process of the lab; each has a file of its own."""

    def __init__(self, lab):
        self.dir = lab.folder('keys')
        self.shim = os.path.join(self.dir, 'keylog.so')
        self.missing = self.build()
        if not self.missing:
            lab.environment = self.variables

    def build(self):
        """'' or the reason why there will be no keys."""
        compiler = (os.environ.get('CC') or 'cc').split()
        try:
            done = subprocess.run(
                compiler + ['-shared', '-fPIC', '-o', self.shim, os.path.join(HERE, 'keylog.c'),
                            '-ldl'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as e:
            return 'keylog.c cannot be compiled: %s' % e
        said = done.stdout.decode(errors='replace').splitlines() or ['?']
        return '' if done.returncode == 0 else 'keylog.c cannot be compiled: ' + said[0]

    def path(self, name):
        return os.path.join(self.dir, name + '.keys')

    def variables(self, name):
        # a program with the address sanitizer wants to be the first library otherwise
        asan = [os.environ.get('ASAN_OPTIONS'), 'verify_asan_link_order=0']
        return {'LD_PRELOAD': self.shim, 'SSLKEYLOGFILE': self.path(name),
                'ASAN_OPTIONS': ':'.join(filter(None, asan))}

    def options(self, *names):
        """For the analyzer: the keys of these processes, or of all."""
        files = [self.path(n) for n in names] or sorted(glob.glob(self.path('*')))
        return [word for f in files if os.path.exists(f) for word in ('-k', f)]


# ---- the analyzer ------------------------------------------------------------------------------

def analyzer():
    ours = os.path.join(HERE, '..', '..', 'xmppedge-analyze')
    return os.path.abspath(os.environ.get('XMPPEDGE_ANALYZE') or ours)


class Report:
    """The JSON Lines of one run."""

    def __init__(self, status, text):
        self.status = status
        self.text = text
        lines = [json.loads(line) for line in text.splitlines()]
        verdicts = [x for x in lines if x['type'] == 'verdict']
        flows = {x['attempt']: x for x in lines if x['type'] == 'flow'}
        self.capture = lines[0]
        self.rows = {x['row']: x for x in verdicts if x['about'] == 'row'}
        self.partners = [x for x in verdicts if x['about'] == 'partner']
        self.violations = [x['kind'] for x in verdicts if x['about'] == 'violation']
        self.summary = [x for x in verdicts if x['about'] == 'summary'][0]
        self.attempts = [dict(x, of=flows.get(x['attempt']))
                         for x in verdicts if x['about'] == 'attempt']

    def show(self):
        """A line for each attempt, row, partner and violation, for whoever looks for the reason."""
        out = ['exit status %d, %d keys used, addresses %s / %s' % (
            self.status, self.capture['keys_used'], self.capture['external'],
            self.capture['internal'])]
        out += [self.show_attempt(a) for a in self.attempts]
        out += ['  row %s: %s, %s %s' % (r['row'], r['state'], r['ruling'], r['why'])
                for r in self.rows.values() if r['attempted']]
        out += ['  partner %s - %s: in %d of %d worked, out %d of %d' % (
            p['ours'], p['theirs'], p['in']['worked'], p['in']['attempts'], p['out']['worked'],
            p['out']['attempts']) for p in self.partners]
        return '\n'.join(out + ['  violation ' + v for v in self.violations])

    @staticmethod
    def show_attempt(a):
        flow = a['of'] or {'initiator': {}, 'responder': {}}
        ends = ['%s/%s:%s' % tuple(flow[side].get(k) for k in ('domain', 'address', 'port'))
                for side in ('initiator', 'responder')]
        return '  %s %s -> %s %s, %s, reached %s%s, cause "%s"%s, setback "%s", method %s, %s' % (
            a['row'], *ends, a['outcome'], (flow.get('tls') or {}).get('version', 'plain'),
            a['reached'], ' (inferred)' if a['reached_inferred'] else '', a['cause'],
            ' (inferred)' if a['cause_inferred'] else '', a['setback'], a['method'], a['words'])


def analyze(*words):
    done = subprocess.run((analyzer(), '--json') + words, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=30)
    if done.returncode not in (0, 1, 4) or done.stderr:
        raise AssertionError('%s: status %d, %s' % (' '.join(words), done.returncode,
                                                    done.stderr.decode(errors='replace')[:500]))
    return Report(done.returncode, done.stdout.decode())


class Live(Process):
    """The analyzer on the interface itself, until it is told to stop."""

    def __init__(self, lab, *words):
        self.path = os.path.join(lab.dir, 'live.json')
        command = ['sh', '-c', 'exec "$@" >"$REPORT"', 'sh', analyzer(), '--json', '-i', 'lo']
        super().__init__(lab, 'live', command + list(words), env={'REPORT': self.path}, quiet=True)

    def wait_watching(self):
        """It says so, on standard error, when the kernel keeps packets for it."""
        wait_until(lambda: 'capturing' in read_text(self.log) or not self.running(), 10,
                   'the analyzer to watch')
        if not self.running():
            raise HarnessError('the analyzer ended: ' + read_text(self.log))

    def stop(self):
        self.signal(signal.SIGINT)
        return Report(self.wait(), read_text(self.path))
