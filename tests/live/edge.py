"""edge.py -- xmppedge under test: configuration files, processes, log lines.

    edge = Edge(lab, 'edge01', external=lab.ip(21), internal=lab.ip(31), ...)
    edge.start()
    edge.wait_log('s2s-in-refused', why='partner-unlisted')

The program is the one that XMPPEDGE names, or the one in the top folder of the source.  Border makes
the usual arrangement: certificates, secret, edges, gateways, and every gateway knows every edge.
"""

import json
import os
import re
import signal
import subprocess
from xml.sax.saxutils import quoteattr

from lab import HarnessError, Host, Process, need_programs, read_text, wait_until
from tap import note, run, skip_all

HERE = os.path.dirname(os.path.abspath(__file__))
TRUNK_PORT = 23456
START = 15          # seconds; sanitized builds are slow to start


def binary():
    path = os.environ.get('XMPPEDGE') or os.path.join(HERE, '..', '..', 'xmppedge')
    return os.path.abspath(path)


def have_binary():
    return os.access(binary(), os.X_OK)


def begin(setup, *programs):
    """Run the tests with the program that is here, unless it or others that they need are missing."""
    missing = need_programs(*programs)
    if missing:
        skip_all('not installed: ' + ' '.join(missing))
    if not have_binary():
        skip_all('no program to test: ' + binary())
    note('testing ' + binary())
    run(setup)


def slowness():
    """How many times as long, and as much memory, as usual the program may take: a sanitizer's are not its own."""
    with open(binary(), 'rb') as f:
        text = f.read()
    return 4 if b'__tsan_init' in text or b'__asan_init' in text else 1


def shifted_clock(lab):
    """Nodes read the time of day from a library of ours; the file of the seconds by which it is wrong."""
    source = os.path.join(HERE, 'clock.c')
    library, shift = os.path.join(lab.dir, 'clock.so'), lab.write('shift', '%-8d' % 0)
    compiler = (os.environ.get('CC') or 'cc').split()
    done = subprocess.run(compiler + ['-shared', '-fPIC', '-o', library, source, '-ldl'],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0 or slowness() > 1:      # a sanitizer wants to be the first library
        return None
    lab.environment = lambda name: dict(LD_PRELOAD=library, CLOCK_SHIFT=shift) if name in (
        'edge01', 'edge02', 'fe01', 'fe02') else {}
    return shift


def shift_clock(shift, seconds):
    with open(shift, 'r+') as f:
        f.write('%-8d' % seconds)


# ---- configuration -----------------------------------------------------------------------------

def tag(name, attributes, inner=None):
    """One element; attributes without a value are left out, '_' in names stands for '-'."""
    text = '<' + name
    for key, value in attributes.items():
        if value is not None:
            if isinstance(value, bool):
                value = 'true' if value else 'false'
            text += ' %s=%s' % (key.replace('_', '-'), quoteattr(str(value)))
    return text + ('/>' if inner is None else '>' + inner + '</%s>' % name)


def certificate(cert):
    return tag('certificate', {'chain': cert.chain, 'key': cert.key})


def partner(domain, *more, trust=None, rules='', **settings):
    """A <partner>; the default here is the common one: TLS required, certificate or dialback.
    trust: an authority of its own; rules: its <allow> and <deny>."""
    common = {'type': 'federated', 'tls': 'required', 'sasl': 'optional', 'dialback': True}
    settings = dict(common, **settings)
    inner = tag('trust', {'ca': trust.crt}) if trust else ''
    inner += ''.join(tag('domain', {'name': d}) for d in more) + rules
    return tag('partner', dict({'domain': domain}, **settings), inner or None)


# ---- log ---------------------------------------------------------------------------------------

FIELD = re.compile(r'([\w-]+)=("(?:[^"\\]|\\.)*"|\S*)')


class Line:
    """One line of the log: event, level and fields."""

    def __init__(self, text):
        self.text = text
        words = text.split(None, 3)
        self.level = words[1] if len(words) > 1 else ''
        self.event = words[2] if len(words) > 2 else ''
        self.fields = {k: v.strip('"') for k, v in FIELD.findall(text)}

    def has(self, event, wanted):
        return (event is None or re.fullmatch(event, self.event) is not None) and all(
            re.fullmatch(str(v), self.fields.get(k, '')) for k, v in wanted.items())


# ---- one process -------------------------------------------------------------------------------

def listening(ip, port):
    """Whether somebody listens there, without connecting: a connection would count for its limits."""
    packed = '%02X%02X%02X%02X:%04X' % (*reversed([int(n) for n in ip.split('.')]), port)
    every = '00000000:%04X' % port
    for line in read_text('/proc/net/tcp').splitlines():
        words = line.split()
        if len(words) > 3 and words[1] in (packed, every) and words[3] == '0A':
            return True
    return False


class Node:
    """An edge or a gateway."""

    def __init__(self, lab, name, resolver, limits=None, level='debug', extra=''):
        self.lab = lab
        self.name = name
        self.resolver = resolver
        self.limits = dict(limits or {})
        self.level = level
        self.extra = extra
        self.process = None
        self.mark = 0           # of the log: what was there before the test does not count
        self.path = os.path.join(lab.dir, name + '.xml')
        self.listens = []       # (ip, port) it must open

    def common(self):
        out = ''
        if self.resolver:
            out += tag('resolver', {'address': self.resolver.ip, 'port': self.resolver.port})
        out += tag('log', {'level': self.level}) + tag('control', {'socket': self.control()})
        if self.limits:
            out += tag('limits', self.limits)
        return out + self.extra

    def control(self):
        return os.path.join(self.lab.dir, self.name + '.sock')

    def write(self):
        """Write the configuration as it is described now."""
        with open(self.path + '.new', 'w') as f:
            f.write(self.xml())
        os.rename(self.path + '.new', self.path)
        return self.path

    # -- life

    def start(self, wait=True):
        self.write()
        if self.process in self.lab.processes:
            self.lab.processes.remove(self.process)
        self.process = Process(self.lab, self.name, [binary(), 'run', self.path])
        if wait:
            self.wait_listening()
        return self

    def wait_listening(self):
        # The control socket comes last: who asks through it right after the ports are open is too early.
        wait_until(lambda: all(listening(*a) for a in self.listens) and os.path.exists(self.control())
                   or not self.process.running(), START, self.name + ' to listen')
        if not self.process.running():
            raise HarnessError('%s ended while starting (status %s):\n%s'
                               % (self.name, self.process.popen.returncode, self.log_text()[-3000:]))

    def reload(self):
        self.process.signal(signal.SIGHUP)

    def terminate(self, seconds=15):
        """SIGTERM, wait; the exit status."""
        self.process.signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError('%s still runs %d s after SIGTERM' % (self.name, seconds))

    def kill(self):
        self.process.kill()

    def running(self):
        return self.process is not None and self.process.running()

    def sanitizer_report(self):
        """What a sanitizer printed, '' if nothing."""
        text = self.log_text()
        for word in ('ERROR: AddressSanitizer', 'runtime error:', 'ERROR: LeakSanitizer',
                     'WARNING: ThreadSanitizer'):
            at = text.find(word)
            if at >= 0:
                return text[max(0, at - 200):at + 3000]
        return ''

    # -- what it says

    def log_text(self):
        return read_text(self.process.log)

    def forget_log(self):
        """Only lines written from now on are looked at."""
        self.mark = os.path.getsize(self.process.log)

    def lines(self):
        with open(self.process.log, errors='replace') as f:
            f.seek(self.mark)
            return [Line(text) for text in f.read().splitlines() if text]

    def find_log(self, event=None, **wanted):
        """The lines of an event with these fields; values are regular expressions."""
        return [line for line in self.lines() if line.has(event, wanted)]

    def wait_log(self, event=None, seconds=5, **wanted):
        found = []

        def look():
            found[:] = self.find_log(event, **wanted)
            return found
        try:
            wait_until(look, seconds, 'a log line')
        except AssertionError:
            near = [line.text for line in self.lines() if line.fields.get('why', 'none') != 'none']
            raise AssertionError('%s: no log line %s %s within %g s; endings it named:\n%s'
                                 % (self.name, event or '', wanted, seconds, '\n'.join(near[-8:])))
        return found[0]

    # -- commands

    def command(self, *words, seconds=20):
        """Run another command of the program: (status, what it printed)."""
        done = subprocess.run((binary(),) + words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, timeout=seconds)
        return done.returncode, done.stdout.decode(errors='replace')

    def status(self):
        return self.command('status', self.path)[1]

    def status_json(self):
        return json.loads(self.command('status', self.path, '--json')[1])


LOOPBACK = '127.0.0.0/8 ::1'     # where all partners are found here


class Edge(Node):
    def __init__(self, lab, name, external, internal, pki, resolver, domains, partners=(),
                 gateways=('fe01.corp.example',), trust=None, default=None, networks=LOOPBACK, balancers=None,
                 also=None, **more):
        """domains: {inner domain: certificate towards partners}; also: another external address, of IPv6."""
        super().__init__(lab, name, resolver, **more)
        self.external = (external, 5269)
        self.internal = (internal, TRUNK_PORT)
        self.pki = pki
        self.host = name + '.corp.example'
        self.cert = pki.internal.issue(self.host)
        self.domains = dict(domains)
        self.partners = list(partners)
        self.gateways = list(gateways)
        self.trust = trust or pki.public
        self.default = default
        self.networks = networks
        self.balancers = balancers
        self.also = also
        self.listens = [self.external, self.internal]

    def xml(self):
        inner = certificate(self.cert) + tag('trust', {'ca': self.pki.internal.crt})
        inner += ''.join(tag('gateway', {'name': g}) for g in self.gateways)
        body = tag('external', {'address': self.external[0], 'port': self.external[1],
                                'networks': self.networks, 'balancers': self.balancers})
        if self.also:
            body += tag('external', {'address': self.also, 'networks': self.networks})
        body += tag('internal', {'address': self.internal[0], 'port': self.internal[1],
                                 'balancers': self.balancers}, inner)
        body += ''.join(tag('domain', {'name': d}, certificate(c)) for d, c in self.domains.items())
        body += tag('trust', {'ca': self.trust.crt})
        body += tag('dialback', {'secret_file': self.pki.secret})
        body += tag('partners', {'default': self.default}, '\n'.join(self.partners))
        return tag('xmppedge', {'role': 'edge', 'name': self.host}, body + self.common()) + '\n'


class Gateway(Node):
    def __init__(self, lab, name, listen, pki, edges, inner, host=None, **more):
        """edges: [(name, ip, port)]; inner: [(ip, port, [domains], tls, ...)], and bidi, or what the
        partners are components of: (port, file of the secret, [partners])."""
        super().__init__(lab, name, more.pop('resolver', None), **more)
        self.listen = (listen, 5269)
        self.pki = pki
        self.host = host or name + '.corp.example'
        self.cert = pki.internal.issue(self.host)
        self.edges = list(edges)
        self.inner = list(inner)
        self.listens = [self.listen]
        self.source = '127.0.0.0/8'     # on loopback most servers connect from 127.0.0.1, wherever they listen

    def xml(self):
        body = ''.join(tag('edge', {'name': n, 'address': a, 'port': p}) for n, a, p in self.edges)
        body += certificate(self.cert) + tag('trust', {'ca': self.pki.internal.crt})
        body += tag('listen', {'address': self.listen[0], 'port': self.listen[1]})
        for ip, port, domains, tls, *more in self.inner:
            inside = ''.join(tag('domain', {'name': d}) for d in domains)
            inside += tag('source', {'address': self.source})
            bidi = more[0] if more and isinstance(more[0], bool) else None
            for at, secret, partners in [m for m in more if isinstance(m, tuple)]:
                inside += tag('component', {'port': at, 'secret_file': secret},
                              ''.join(tag('partner', {'domain': p}) for p in partners))
            body += tag('inner', {'address': ip, 'port': port, 'tls': tls, 'bidi': bidi}, inside)
        body += tag('dialback', {'secret_file': self.pki.secret})
        return tag('xmppedge', {'role': 'gateway', 'name': self.host}, body + self.common()) + '\n'

    def wait_trunk(self, edge=None, seconds=START):
        """The trunk to an edge (to any, if none is given) carries stanzas."""
        wanted = {'name': re.escape(edge.host)} if edge else {}
        return self.wait_log('trunk-up', seconds, **wanted)


# ---- the usual arrangement ---------------------------------------------------------------------

class Pki:
    """The authorities of a test: one that everybody trusts, one for the trunk, one that nobody trusts."""

    def __init__(self, lab):
        self.lab = lab
        self.public = lab.authority('public')
        self.internal = lab.authority('internal')
        self.secret = lab.write('dialback.secret', 'not so secret, it is a test\n')
        os.chmod(self.secret, 0o600)

    def unknown(self):
        if not hasattr(self, 'stranger'):
            self.stranger = self.lab.authority('stranger')
        return self.stranger


def servers(lab, pki, domains, outside_users, inside_users):
    """A real Prosody on either side: of the partners, which are all these domains, and of corp.example.  With them the
    name server of the Internet; that of the inside leads to the first gateway."""
    outside = lab.resolver('outside', lab.ip(2))
    outside.server('corp.example', lab.ip(21))
    for domain in domains:
        outside.server(domain, lab.ip(61))
    outside.start()
    inside = lab.resolver('inside', lab.ip(4))
    inside.wildcard('example', lab.ip(41))
    inside.start()
    theirs = lab.prosody('partner', lab.ip(61), outside, [
        Host(d, pki.public.issue(d), pki.public, secure=True, users=outside_users) for d in domains])
    ours = lab.prosody('corp', lab.ip(51), inside, [Host('corp.example', users=inside_users)])
    return outside, theirs, ours


class Border:
    """n edges and m gateways between a partner side and inner servers."""

    def __init__(self, lab, pki, outside, domains, partners, inner, edges=1, gateways=1,
                 edge_limits=None, gateway_limits=None):
        self.lab = lab
        names = ['fe%02d.corp.example' % (i + 1) for i in range(gateways)]
        certs = {d: pki.public.issue(d) for d in domains}
        self.edges = [Edge(lab, 'edge%02d' % (i + 1), lab.ip(21 + i), lab.ip(31 + i), pki, outside, certs,
                           partners, gateways=names, limits=edge_limits) for i in range(edges)]
        targets = [(e.host,) + e.internal for e in self.edges]
        self.gateways = [Gateway(lab, 'fe%02d' % (i + 1), lab.ip(41 + i), pki, targets, inner,
                                 limits=gateway_limits) for i in range(gateways)]
        self.edge = self.edges[0]
        self.gateway = self.gateways[0]

    def start(self):
        for node in self.edges + self.gateways:
            node.start(wait=False)
        for node in self.edges + self.gateways:
            node.wait_listening()
        for gateway in self.gateways:
            for edge in self.edges:
                gateway.wait_trunk(edge)
        return self

    def forget_logs(self):
        for node in self.edges + self.gateways:
            if node.process:
                node.forget_log()

    def stop(self):
        """End all; the sentences that say what was wrong with their ends."""
        trouble = []
        for node in self.gateways + self.edges:
            if node.running():
                try:
                    status = node.terminate()
                    if status != 0:
                        trouble.append('%s ended with status %d' % (node.name, status))
                except AssertionError as e:
                    trouble.append(str(e))
            report = node.sanitizer_report() if node.process else ''
            if report:
                trouble.append('%s: %s' % (node.name, report))
        return trouble
