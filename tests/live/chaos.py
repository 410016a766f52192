"""chaos.py -- numbered stanzas through two edges and two gateways while something breaks, and their account.

    pa.example, pb.example --> edge01, edge02 <== four paths ==> fe01, fe02 --> in1.example, in2.example

Every server is a process of its own (station.py); each sends to each on the other side.  pa.example speaks
XEP-0198, the others do not: there TCP has the last word, and who dies takes along what only he knew.

    @row('nothing that somebody keeps is lost when an edge is killed', dead=['edge'])
    def kill_edge(rig):
        again([rig.busiest().ends[EDGE]])

    main()

An account says what was sent, arrived, came back, was told to its sender, was lost in silence, arrived twice,
or out of order.  A flow is excused from being without loss only when one dies beside a server that counts
nothing, and from being without doubles when the one who dies may have been given what nobody heard that he
has: then they are counted and said.
"""

import collections
import json
import os
import signal
import socket
import subprocess
import sys
import time

from edge import HERE, Border, Pki, binary, have_binary, partner
from lab import Lab, die_with_parent, need_programs
from tap import Skip, check, note, run, skip_all, tests
from wire import Forwarder

PARTNERS = ['pa.example', 'pb.example']
INNER = ['in1.example', 'in2.example']
COUNTS = {'pa.example'}         # who speaks XEP-0198
GATEWAY, EDGE = 0, 1            # ends of a path
TIMES = int(os.environ.get('TIMES', '1'))       # how often each fault, and if more than once as long as it lasts

now = time.monotonic


class Station:
    """A server of numbered stanzas in a process of its own."""

    def __init__(self, lab, domain, address, to, doors, cert=None, authority=None):
        self.lab = lab
        self.domain, self.address = domain, address
        self.record = os.path.join(lab.dir, domain + '.record')
        self.seen = 0               # of the record
        settings = dict(domain=domain, address=address, to=to, doors=doors, record=self.record,
                        counts=domain in COUNTS)
        if cert:
            settings['certificate'] = dict(chain=cert.chain, key=cert.key)
            settings['authority'] = dict(crt=authority.crt)
        self.settings = lab.write(domain + '.json', json.dumps(settings))
        self.start()
        lab.closers.append(self.kill)

    def start(self):
        with open(os.path.join(self.lab.dir, self.domain + '.out'), 'a') as out:
            self.popen = subprocess.Popen(
                [sys.executable, os.path.join(HERE, 'station.py'), self.settings], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=out, text=True, preexec_fn=die_with_parent)
        check(self.popen.stdout.readline() == 'ready\n', self.domain + ' does not start')

    def running(self):
        return self.popen.poll() is None

    def kill(self):
        if self.running():
            self.popen.kill()
        self.popen.wait()

    def signal(self, number):
        self.popen.send_signal(number)

    def tell(self, command, **words):
        self.popen.stdin.write(json.dumps(dict(words, command=command)) + '\n')
        self.popen.stdin.flush()

    def news(self):
        """The lines written since the last time."""
        try:
            with open(self.record) as f:
                f.seek(self.seen)
                text = f.read()
        except OSError:
            return []
        whole = text.rpartition('\n')[0]
        self.seen += len(whole) + bool(whole)
        return [line.split() for line in whole.splitlines()]


# ---- accounts ----------------------------------------------------------------------------------

class Untimely(AssertionError):
    """Nothing is lost or out of order, but something took longer than the nodes wait for it."""


def timely(condition, text):
    if not condition:
        raise Untimely(text)


class Account:
    """What became of the stanzas of one row."""

    def __init__(self, epoch, dead=(), unsure=()):
        self.prefix = epoch + '|'
        self.dead = list(dead)              # 'edge', 'gateway', or the server of a domain
        self.unsure = list(unsure)          # who takes leave
        self.sent, self.told, self.times, self.back = {}, set(), collections.Counter(), {}
        self.first, self.changed, self.order = {}, now(), collections.defaultdict(list)
        self.conditions = collections.Counter()

    def take(self, words):
        what, at, id = words[0], float(words[1]), words[2]
        if not id.startswith(self.prefix):
            return
        self.changed = now()
        if what == 'sent':
            self.sent[id] = at
        elif what == 'told':
            self.told.add(id)
        elif what == 'back':
            self.back[id] = at
            self.conditions[words[3]] += 1
        else:
            self.times[id] += 1
            if self.times[id] == 1:
                self.first[id] = at
                stream, _, number = id.partition('#')
                self.order[stream].append((at, int(number)))

    @staticmethod
    def flow(id):
        return id.partition('|')[2].partition('/')[0]

    def missing(self, excused):
        return [i for i in self.sent if i not in self.first and i not in self.back and i not in self.told
                and may_lose(self.dead, self.flow(i)) == excused]

    def twice(self, excused):
        return [i for i, n in self.times.items() if n > 1
                and may_double(self.dead, self.unsure, self.flow(i)) == excused]

    def disordered(self):
        """Within one stream; who uses two has two paths, and nobody can put in order what he sends on both."""
        return sum(1 for of in self.order.values() for a, b in zip(sorted(of), sorted(of)[1:]) if b[1] < a[1])

    def longest(self):
        return max([self.first[i] - self.sent[i] for i in self.first if i in self.sent] or [0])

    def numbers(self):
        return dict(sent=len(self.sent), arrived=len(self.first), back=len(self.back), told=len(self.told),
                    lost=len(self.missing(False)), lost_with=len(self.missing(True)),
                    twice=len(self.twice(False)), twice_with=len(self.twice(True)),
                    disordered=self.disordered(), longest=round(self.longest(), 1))

    def text(self):
        n = self.numbers()
        return ('%(sent)d sent, %(arrived)d arrived, %(back)d came back, %(told)d told by their server, '
                '%(lost)d lost in silence (and %(lost_with)d with the dead), '
                '%(twice)d twice (and %(twice_with)d), %(disordered)d out of order, longest %(longest).1f s' % n) + (
                ' ' + str(dict(self.conditions)) if self.conditions else '')

    def judge(self, back=False, twice=False):
        """back, twice: whether something may come back, or arrive twice."""
        note(self.text())
        lost = self.missing(False)
        check(self.sent, 'nothing was sent')
        check(not lost, '%d lost in silence: %s ...' % (len(lost), ' '.join(sorted(lost)[:8])))
        check(not self.disordered(), '%d out of order' % self.disordered())
        timely(back or not self.back, '%d came back: %s' % (len(self.back), dict(self.conditions)))
        doubled = self.twice(False)
        timely(twice or not doubled, '%d arrived twice: %s ...' % (len(doubled), ' '.join(sorted(doubled)[:8])))


def nodes_of(flow):
    """The node beside its sender, and the one beside its receiver."""
    return ('edge', 'gateway') if flow.partition('>')[0] in PARTNERS else ('gateway', 'edge')


def may_lose(dead, flow):
    """Whether a flow may lose something when these die."""
    frm, _, to = flow.partition('>')
    return frm in dead or to in dead and to not in COUNTS or nodes_of(flow)[0] in dead and frm not in COUNTS


def may_double(dead, unsure, flow):
    """Whether something may be sent again because nobody heard that it had arrived."""
    to = flow.partition('>')[2]
    return to in dead or to in unsure and to not in COUNTS or nodes_of(flow)[1] in dead


# ---- the rig -----------------------------------------------------------------------------------

class Rig:
    def __init__(self, lab, limits=None):
        self.lab = lab
        self.pki = pki = Pki(lab)
        self.epoch = 0
        self.quiet = lasting(12, 130)       # seconds after which what has not come is lost
        self.outside = outside = lab.resolver('outside', lab.ip(2))
        partners = [(d, (lab.ip(61 + i), 5269)) for i, d in enumerate(PARTNERS)]
        inner = [(d, (lab.ip(51 + i), 5269)) for i, d in enumerate(INNER)]
        for domain, address in partners:
            outside.server(domain, address[0])
        outside.start()
        self.border = Border(lab, pki, outside, INNER, [partner(d) for d in PARTNERS],
                             [address + ([domain], 'optional') for domain, address in inner],
                             edges=2, gateways=2, edge_limits=limits, gateway_limits=limits)
        self.edges, self.gateways = self.border.edges, self.border.gateways
        self.nodes = self.edges + self.gateways
        for node in self.nodes:
            node.level = 'info'         # at debug the test would measure the disk
        self.paths = [self.path(i, j) for i in range(2) for j in range(2)]
        self.stations = {}
        for domain, address in partners:
            self.stations[domain] = Station(lab, domain, address, INNER, [e.external for e in self.edges],
                                            pki.public.issue(domain), pki.public)
        for domain, address in inner:
            self.stations[domain] = Station(lab, domain, address, PARTNERS, [g.listen for g in self.gateways])
        self.border.start()

    def path(self, i, j):
        """What is between a gateway and an edge; it can be cut."""
        gateway, edge = self.gateways[i], self.edges[j]
        path = Forwarder(self.lab, (self.lab.ip(180 + 2 * i + j), 23456), edge.internal)
        gateway.edges[j] = (edge.host,) + path.address
        path.ends = gateway, edge
        return path

    def busiest(self, seconds=0.2):
        """The path on which most is going on just now."""
        before = [p.bytes for p in self.paths]
        time.sleep(seconds)
        return max(zip(self.paths, before), key=lambda pair: pair[0].bytes - pair[1])[0]

    def put_back(self):
        """Start again what has ended, and wait until all trunks stand."""
        for station in self.stations.values():
            if not station.running():
                station.start()
        dead = [n for n in self.nodes if not n.running()]
        self.border.forget_logs()
        for node in dead:
            node.start()
        for gateway, edge in [p.ends for p in self.paths]:
            trunk = [t for t in gateway.status_json()['trunks'] if t['name'] == edge.host]
            if not trunk or trunk[0]['state'] != 'up':
                gateway.wait_trunk(edge, 60)

    def row(self, event=lambda: None, dead=(), unsure=(), before=0.6, after=1.0, quiet=None, **job):
        """Traffic, and in the middle of it the event; the account when everything has an end, or when nothing
        has come for `quiet` seconds.  job: pause between two stanzas in seconds, from and to; size; burst, how
        many at once; only these flows; late, behind an end tag."""
        self.put_back()
        self.epoch += 1
        account = Account('%d' % self.epoch, dead, unsure)
        self.go(3600, **job)
        try:
            time.sleep(before)
            event()
        finally:
            self.go(after, **job)
        time.sleep(after)
        self.settle(account, quiet or self.quiet)
        return account

    def go(self, seconds, pause=(0.02, 0.02), size=200, burst=1, only=None, late=False):
        for station in self.stations.values():
            if station.running():
                station.tell('go', epoch='%d' % self.epoch, until=now() + seconds, pause=pause, size=size,
                             burst=burst, only=only, late=late)

    def settle(self, account, quiet):
        while True:
            for station in self.stations.values():
                for words in station.news():
                    account.take(words)
            still = now() - account.changed
            if still > quiet or still > 0.4 and not account.missing(False) and (
                    still > 1 or not account.missing(True)):
                return
            time.sleep(0.1)


# ---- faults as tests ---------------------------------------------------------------------------

def lasting(brief, real):
    """Seconds of a fault: as long as it really lasts only when there is time for it."""
    return real if TIMES > 1 else brief


def sentence(text):
    """A test by its sentence."""
    def declare(function):
        function.sentence = text
        tests.append(function)
        return function
    return declare


def row(text, judged=None, **words):
    """A fault as a test.  judged: what may happen besides loss; words: of Rig.row()."""
    def declare(event):
        @sentence(text)
        def function(rig):
            for _ in range(TIMES):
                rig.row(lambda: event(rig), **words).judge(**(judged or {}))
        return event
    return declare


def frozen(process, seconds, end=True):
    process.signal(signal.SIGSTOP)
    time.sleep(seconds)
    if end:
        process.signal(signal.SIGCONT)


def killed(what):
    what.kill()


def again(what, how=killed, pause=0.5):
    """Nodes or servers end, and come again."""
    for one in what:
        how(one)
    time.sleep(pause)
    for one in what:
        one.start()


def hole(ips, name):
    """A rule that swallows what goes between servers and comes from them there; only in a network of our own."""
    if [interface for _, interface in socket.if_nameindex()] != ['lo']:
        raise Skip('this network is not of its own')
    table = 'inet hole_%s' % name.replace(' ', '_').replace('.', '_')
    rules = 'table %s\ndelete table %s\n' % (table, table)
    if ips:
        rules += ('table %s {\n chain in {\n type filter hook input priority 0\n ip daddr { %s } tcp dport 5269 drop\n'
                  ' ip saddr { %s } tcp sport 5269 drop\n ip saddr { %s } tcp dport 5269 drop\n }\n}\n'
                  % (table, ', '.join(ips), ', '.join(ips), ', '.join(ips)))
    done = subprocess.run(['nft', '-f', '-'], input=rules.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise Skip('nft does not work here: ' + done.stdout.decode().partition('\n')[0])


def main(make=lambda: Rig(Lab())):
    missing = need_programs('dnsmasq', 'openssl')
    if missing:
        skip_all('not installed: ' + ' '.join(missing))
    if not have_binary():
        skip_all('no program to test: ' + binary())
    note('testing ' + binary())
    run(make)
