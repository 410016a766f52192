#!/usr/bin/env python3
"""70-firewall.t -- what the printed rules let pass, seen on the wire.

In a network of its own, which only root can make: this namespace is the machine of the node, another one
beyond a veth pair is everything else.  The printed rules are loaded, a process of the service's user and one
of another user begin every flow that is to pass and every one that is not, and packets are read from the
interfaces as they leave.  Before that, without rules, each must be seen: what no rule has to stop proves
nothing.
"""
import ctypes
import json
import os
import pwd
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import binary, have_binary                                      # noqa: E402
from lab import need_programs, wait_until                                             # noqa: E402
from tap import Skip, check, equal, note, run, skip_all, test             # noqa: E402

LEGACY = {p: p.replace('tables', 'tables-legacy') for p in
          ('iptables', 'ip6tables', 'iptables-restore', 'ip6tables-restore')}
ROUTER = '02:00:00:00:00:01'
SERVICE, OTHER = 'nobody', 'daemon'
EX, IN, EX6, IN6 = '203.0.113.10', '10.0.0.5', '2001:db8::10', 'fd00::5'

# One address of each block where no partner can be, and of each form of it within IPv6.
NEVER4 = ['0.1.2.3', '10.1.0.21', '10.0.0.1', '100.64.0.1', '100.127.255.254', '127.0.0.2', '169.254.1.1',
          '172.16.0.1', '172.31.255.254', '192.0.0.8', '192.0.2.1', '192.31.196.1', '192.52.193.1', '192.88.99.1',
          '192.168.1.1', '192.175.48.1', '198.18.0.1', '198.19.255.254', '198.51.100.1', '203.0.113.1', '224.0.0.9',
          '240.0.0.1', EX, IN]
NEVER6 = ['::1', '::7f00:1', '64:ff9b::a00:1', '64:ff9b::7f00:1', '64:ff9b::c0a8:1', '64:ff9b::a9fe:a9fe',
          '64:ff9b:1::808:808', '100::1', '2001::1', '2001:db8::1', '2002:a00:1::1', '2002:7f00:1::1',
          '2002:c0a8:101::1', '2620:4f:8000::1', '3fff::1', '5f00::1', '4000::1', 'fc00::1', 'fd00::21',
          'fe80::21%out', 'fec0::1', 'ff0e::1', EX6, IN6]
GLOBAL4 = ['8.8.4.4', '9.255.255.255', '11.0.0.1', '100.128.0.1', '172.32.0.1', '192.167.1.1', '223.255.255.1']
GLOBAL6 = ['2600::1', '2a00::1', '64:ff9b::808:404', '2002:808:404::1']


def sh(command, *arguments):
    return subprocess.run(['sh', '-ec', command, 'sh'] + list(arguments), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def must(command, *arguments):
    done = sh(command, *arguments)
    check(done.returncode == 0, '%s: exit %d: %s' % (command, done.returncode, done.stdout))
    return done.stdout


# ---- two namespaces ----------------------------------------------------------------------------

SETUP = '''
ip link set lo up
ip link add out type veth peer name in netns "$1"
ip address add %(EX)s/24 dev out
ip address add %(IN)s/24 dev out
ip address add %(EX6)s/64 dev out nodad
ip address add %(IN6)s/64 dev out nodad
ip link set out up
for router in 203.0.113.1 10.0.0.1 10.0.0.53 2001:db8::1 fe80::1 fe80::21 fd00::21; do
    ip neighbour replace $router lladdr %(ROUTER)s dev out nud permanent
done
ip route add 10.0.0.0/8 via 10.0.0.1
ip route add default via 203.0.113.1
ip route add 240.0.0.0/4 via 203.0.113.1
ip -6 route add default via fe80::1 dev out
nsenter --net=/proc/"$1"/ns/net sh -ec '
    ip link set lo up
    ip link set in address %(ROUTER)s
    ip address add 203.0.113.1/24 dev in
    ip address add 10.0.0.1/24 dev in
    ip address add 10.0.0.77/24 dev in
    ip address add 10.0.0.53/24 dev in
    ip address add 2001:db8::1/64 dev in nodad
    ip link set in up'
''' % globals()


def own_network():
    """Begin again in a namespace of our own."""
    if os.environ.get('XMPPEDGE_FIREWALL') != 'inside':
        os.environ['XMPPEDGE_FIREWALL'] = 'inside'
        os.execvp('unshare', ['unshare', '-n', sys.executable, os.path.abspath(__file__)] + sys.argv[1:])


def as_user(user):
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def in_child(work):
    """What work() returns, computed in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writing, 'w') as f:
                json.dump(work(), f)
        except Exception:
            note(traceback.format_exc())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as f:
        text = f.read()
    os.waitpid(child, 0)
    check(text, 'a child broke')
    return json.loads(text)


# ---- flows -------------------------------------------------------------------------------------

def sockaddr(address, port):
    if ':' not in address:
        return socket.AF_INET, (address, port)
    address, _, scope = address.partition('%')
    return socket.AF_INET6, (address, port, 0, socket.if_nametoindex(scope) if scope else 0)


def begin(flow):
    """Send the first packet of a flow: (protocol, source or '', destination, port)."""
    protocol, source, destination, port = flow
    family, there = sockaddr(destination, port)
    s = socket.socket(family, socket.SOCK_STREAM if protocol == 'tcp' else socket.SOCK_DGRAM)
    s.setblocking(False)
    try:
        if source:
            s.bind(sockaddr(source, 0)[1])
        if protocol == 'tcp':
            s.connect_ex(there)
        else:
            s.sendto(b'x', there)
    except OSError:
        pass
    return s


class Wire:
    """Reads what leaves this namespace, and what it sends to itself."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def seen(self):
        """The first packets of flows since the last call."""
        flows = []
        while select.select([self.socket], [], [], 0.3)[0]:
            packet, (_, _, kind, _, _) = self.socket.recvfrom(4096)
            if kind == socket.PACKET_OUTGOING:
                flows.append(self.parse(packet))
        return flows

    @staticmethod
    def parse(packet):
        if packet[0] >> 4 == 4:
            family, header, protocol, at, size = socket.AF_INET, (packet[0] & 15) * 4, packet[9], 12, 4
        else:
            family, header, protocol, at, size = socket.AF_INET6, 40, packet[6], 8, 16
        name = {6: 'tcp', 17: 'udp'}.get(protocol)
        if name is None or (name == 'tcp' and packet[header + 13] & 0x12 != 2):    # SYN without ACK
            return None
        return [name, socket.inet_ntop(family, packet[at:at + size]),
                socket.inet_ntop(family, packet[at + size:at + 2 * size]),
                struct.unpack('!H', packet[header + 2:header + 4])[0]]


def is_flow(flow, packet):
    return packet is not None and packet == [flow[0], flow[1] or packet[1], flow[2].split('%')[0], flow[3]]


def passing(w, user, flows):
    """Those of the flows whose first packet passes when this user begins them."""
    w.wire.seen()

    def work():
        as_user(user)
        kept = [begin(f) for f in flows]
        time.sleep(0.1)
        return len(kept)
    in_child(work)
    packets = w.wire.seen()
    return [f for f in flows if any(is_flow(f, p) for p in packets)]


def tcp(source, destinations, *ports):
    return [('tcp', source, d, p) for d in destinations for p in ports]


def udp(source, destinations, *ports):
    return [('udp', source, d, p) for d in destinations for p in ports]


# ---- rules -------------------------------------------------------------------------------------

FLUSH = """nft flush ruleset
for t in iptables-legacy ip6tables-legacy; do
    ! command -v $t >/dev/null || { $t -F; $t -X; }
done 2>/dev/null || :"""


def load(w, form, config):
    path = os.path.join(w.dir, 'node.xml')
    with open(path, 'w') as f:
        f.write(config)
    rules = os.path.join(w.dir, 'rules')
    with open(rules, 'w') as f:
        f.write(must('"$1" ports "$2" "$3" 2>&1', binary(), path, '--nft' if form == 'nft' else '--iptables'))
    if form == 'nft':
        must('nft -f "$1"', rules)
    else:
        must('PATH="$2:$PATH" sh "$1"', rules, w.legacy if form == 'legacy' else '/nowhere')


def hold(w, config, *expectations):
    """With each form of the rules, of (user, good, bad) flows the good ones pass and the bad ones do not."""
    must(FLUSH)
    free = []
    for user, good, bad in expectations:
        flows = passing(w, user, good + bad)
        equal([f for f in good if f not in flows], [], 'flows of %s that do not pass without rules' % user)
        free.append(flows)
        note('%s: %d flows that must pass; %d that must not, of which %d do without rules'
             % (user, len(good), len(bad), len(flows) - len(good)))
        check(len(flows) - len(good) >= len(bad) * 3 / 4, 'too few of the forbidden flows pass without rules: not %s'
              % [f for f in bad if f not in flows])
    for form in w.forms:
        must(FLUSH)
        load(w, form, config)
        for user, good, bad in expectations:
            flows = passing(w, user, good + bad)
            equal([f for f in good if f not in flows], [], '%s: flows of %s that must pass and do not' % (form, user))
            equal([f for f in flows if f in bad], [], '%s: flows of %s that pass and must not' % (form, user))


def edge(external, internal, user=SERVICE, networks='', partner=''):
    return """<xmppedge role="edge" name="edge01.corp.example">
  <external address="%s"/>
  <internal address="%s">
    <certificate chain="a.pem" key="a.key"/><trust ca="ca.pem"/><gateway name="fe01.corp.example"/>
  </internal>
  <domain name="corp.example"/><certificate chain="b.pem" key="b.key"/><trust ca="trust.pem"/>
  <dialback secret-file="secret"/>
  <partners>
    <partner domain="a.example" sasl="optional" %s/>
    <partner domain="b.example" sasl="optional" %s/>
  </partners>
  <resolver address="10.0.0.53"/><resolver address="2600::53"/>
  %s
</xmppedge>""" % (external, internal, networks, partner, user and '<run user="%s"/>' % user)


GATEWAY = """<xmppedge role="gateway" name="fe01.corp.example">
  <edge name="edge01.corp.example" address="10.9.9.9"/>
  <certificate chain="a.pem" key="a.key"/><trust ca="ca.pem"/>
  <listen address="10.0.0.5"/>
  <inner address="10.0.0.77" port="5270"><domain name="corp.example"/></inner>
  <run user="%s"/>
</xmppedge>""" % SERVICE

DNS = udp('', ['10.0.0.53', '2600::53'], 53) + tcp('', ['10.0.0.53', '2600::53'], 53)


# ---- the tests ---------------------------------------------------------------------------------

@test
def an_edge_sends_what_its_rows_say_and_nothing_else(w):
    config = edge(EX, IN, networks='networks="10.7.0.0/16 203.0.113.0/24"', partner='proxy="10.9.9.9:5270"')
    never = [a for a in NEVER4 if a not in (EX, IN, '203.0.113.1')]
    hold(w, config,
         (SERVICE,
          tcp(EX, GLOBAL4 + ['10.7.0.1', '10.7.255.254', '203.0.113.1'], 5269) + tcp(EX, ['10.9.9.9'], 5270) + DNS,
          tcp(EX, never, 5269) + tcp(EX, [EX], 5269) + tcp(EX, [IN], 5269, 23456)
          + tcp(EX, ['10.0.0.53', '10.9.9.9'], 5269) + tcp(EX, ['10.7.0.1', '10.9.9.9'], 443)
          + tcp(EX, ['8.8.4.4'], 22, 53, 80, 443, 5222, 5270, 23456) + udp(EX, never, 5269)
          + udp(EX, GLOBAL4, 53, 443, 5269) + udp('', ['10.0.0.53'], 54) + tcp('', ['10.0.0.53'], 22)
          + tcp(IN, GLOBAL4 + ['10.0.0.77', '10.7.0.1', '10.1.0.22'], 5269) + udp(IN, ['10.0.0.77'], 514)
          + tcp('', GLOBAL6 + NEVER6, 5269) + udp('', GLOBAL6, 53, 443)),
         (OTHER,
          tcp(EX, ['8.8.4.4'], 22, 80, 443, 5222) + tcp(EX, ['10.1.0.21', '192.168.1.1'], 22, 443)
          + udp(EX, ['8.8.4.4'], 53, 123) + udp(IN, ['10.0.0.77'], 514) + tcp('', ['2600::1'], 443)
          + udp('', ['2600::1', 'fd00::21'], 123) + tcp(EX, [EX], 8080) + DNS,
          tcp(IN, ['10.0.0.77', '10.1.0.21', '8.8.4.4'], 22, 443, 5269)),
         ('root', tcp(EX, ['8.8.4.4', '10.1.0.21'], 443) + udp(IN, ['10.0.0.77'], 514),
          tcp(IN, ['10.0.0.77'], 22)))


@test
def an_edge_with_an_ipv6_address_likewise(w):
    never = [a for a in NEVER6 if a not in (EX6, IN6)]
    hold(w, edge(EX6, IN6, networks='networks="fd77::/16"'),
         (SERVICE,
          tcp(EX6, GLOBAL6 + ['fd77::1'], 5269) + DNS,
          tcp(EX6, never, 5269) + tcp(EX6, [EX6], 5269) + tcp(EX6, [IN6], 5269, 23456)
          + tcp(EX6, GLOBAL6, 22, 443, 5270) + udp(EX6, GLOBAL6 + never, 53, 5269) + tcp(IN6, GLOBAL6, 5269)
          + tcp(IN6, ['fd00::21', 'fd77::1'], 443, 5269) + tcp('', GLOBAL4 + ['10.1.0.21'], 5269)
          + udp('', GLOBAL4, 53)),
         (OTHER,
          tcp(EX6, ['2600::1', 'fd00::21'], 22, 443) + udp(IN6, ['fd00::21'], 514) + tcp('', ['8.8.4.4'], 443),
          tcp(IN6, ['fd00::21', '2600::1'], 22, 443, 5269)))


@test
def an_edge_with_an_address_of_each_family_reaches_partners_of_both(w):
    both = '%s"/><external address="%s' % (EX, EX6)
    never = [a for a in NEVER6 if a not in (EX6, IN6)]
    hold(w, edge(both, IN),
         (SERVICE,
          tcp(EX, GLOBAL4, 5269) + tcp(EX6, GLOBAL6, 5269) + DNS,
          tcp(EX, ['10.1.0.21', '192.168.1.1', IN, EX], 5269) + tcp(EX6, never + [EX6], 5269)
          + tcp(EX, GLOBAL4, 22, 5270) + tcp(EX6, GLOBAL6, 22, 5270) + tcp(IN, GLOBAL4, 5269)))
    hold(w, edge(both, IN, user=''),
         (OTHER,
          tcp(EX, GLOBAL4, 443) + tcp(EX6, GLOBAL6, 443),
          tcp(EX, ['10.1.0.21', '192.168.1.1'], 443, 5269) + tcp(EX6, ['fd00::21', 'fd77::1'], 443, 5269)))


@test
def opened_networks_do_not_open_the_internal_one_nor_the_edge_itself(w):
    hold(w, edge(EX, IN, networks='networks="10.0.0.0/8"'),
         (SERVICE, tcp(EX, ['10.1.0.21', '10.0.1.1', '10.255.0.1', '8.8.4.4'], 5269),
          tcp(EX, ['10.0.0.77', '10.0.0.1', IN, EX, '192.168.1.1'], 5269)))


@test
def without_a_user_what_never_may_be_is_dropped_of_all_programs(w):
    for user in ('', 'root'):
        hold(w, edge(EX, IN, user),
             (OTHER,
              tcp(EX, GLOBAL4, 443, 5269) + udp(EX, GLOBAL4, 53) + udp(IN, ['10.0.0.77'], 514) + DNS,
              tcp(EX, ['10.1.0.21', '10.0.0.77', '192.168.1.1', '172.16.0.1', '169.254.1.1'], 22, 443, 5269)
              + tcp(IN, ['10.0.0.77', '8.8.4.4'], 22, 443, 5269)))


@test
def a_gateway_reaches_the_edge_and_the_inner_server_and_nothing_else(w):
    hold(w, GATEWAY,
         (SERVICE,
          tcp('', ['10.9.9.9'], 23456) + tcp('', ['10.0.0.77'], 5270),
          tcp('', ['10.9.9.9'], 22, 443, 5269) + tcp('', ['10.0.0.77'], 22, 5269, 23456)
          + tcp('', GLOBAL4 + GLOBAL6 + ['10.1.0.21', '127.0.0.1', '::1', IN], 5269, 23456, 5270)
          + udp('', ['10.9.9.9', '10.0.0.77', '10.0.0.53', '8.8.4.4', '2600::1'], 53, 5270, 23456)),
         (OTHER,
          tcp('', ['8.8.4.4', '2600::1', '10.0.0.77'], 22, 443) + udp('', ['10.0.0.53', '2600::1'], 53), []))


def answers(w, dials):
    """Which (source, destination, port) get an answer when they are dialled from beyond the wire."""
    def answer(dial):
        family, there = sockaddr(dial[1], dial[2])
        with socket.socket(family) as s:
            s.settimeout(0.7)
            try:
                s.bind(sockaddr(dial[0], 0)[1])
                s.connect(there)
                return s.recv(5) == b'hello'
            except OSError:
                return False

    def work():
        name = '/proc/%d/ns/net' % w.beyond.pid
        fd = os.open(name, os.O_RDONLY)
        check(ctypes.CDLL(None).setns(fd, 0) == 0, 'no way into ' + name)
        with ThreadPoolExecutor(len(dials)) as pool:
            return [dial for dial, good in zip(dials, pool.map(answer, dials)) if good]
    return [tuple(d) for d in in_child(work)]


class Service:
    """A process of the service's user that greets whoever connects."""

    def __init__(self, ports):
        self.child = os.fork()
        if self.child > 0:
            return
        as_user(SERVICE)
        listeners = [socket.create_server(('::', p), family=socket.AF_INET6, dualstack_ipv6=True) for p in ports]
        while True:
            for s in select.select(listeners, [], [])[0]:
                s.accept()[0].sendall(b'hello')

    def end(self):
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)


@test
def who_calls_on_the_rows_is_answered_by_the_service_and_nobody_else_gets_to_its_ports(w):
    out, lan = '203.0.113.1', '10.0.0.1'
    service = Service((5269, 23456, 8080))
    try:
        for config, good, bad in (
                (edge(EX, IN), [(out, EX, 5269), (lan, IN, 23456), (out, EX, 8080), ('2001:db8::1', EX6, 8080)],
                 [(out, EX, 23456), (lan, IN, 5269), ('2001:db8::1', EX6, 5269), ('2001:db8::1', EX6, 23456)]),
                (edge(EX6, IN), [('2001:db8::1', EX6, 5269), (lan, IN, 23456)], [(out, EX, 5269)]),
                (GATEWAY.replace('10.9.9.9', lan), [('10.0.0.77', IN, 5269), ('10.0.0.77', IN, 8080)],
                 [(lan, IN, 5269), (lan, IN, 8080), (out, EX, 5269)])):
            must(FLUSH)
            equal(answers(w, good + bad), good + bad, 'answered without rules')
            for form in w.forms:
                must(FLUSH)
                load(w, form, config)
                equal(answers(w, good + bad), good, form + ': answered')
    finally:
        service.end()


class Edge:
    """The real one, started by root as an administrator does, and a name server beyond the wire."""

    def __init__(self, w):
        self.dir = os.path.join(w.dir, 'edge')
        must('"$1" authority "$2" edge01.corp.example fe01.corp.example corp.example', binary(), self.dir)
        must('mkdir -p "$1/run" && rm -f "$1/run/s" && chown -R nobody "$1"', self.dir)
        self.file = os.path.join(self.dir, 'edge.xml')
        text = edge(EX, IN, partner='networks="10.0.0.0/8"').replace('</xmppedge>', '<control socket="run/s"/></xmppedge>')
        for was, name in (('a.pem', 'edge01.corp.example.pem'), ('a.key', 'edge01.corp.example.key'),
                          ('b.pem', 'corp.example.pem'), ('b.key', 'corp.example.key'), ('trust.pem', 'internal-ca.pem'),
                          ('ca.pem', 'internal-ca.pem'), ('secret', 'dialback.secret')):
            text = text.replace('"%s"' % was, '"%s"' % name)
        with open(self.file, 'w') as f:
            f.write(text.replace('<resolver address="2600::53"/>', ''))
        names = ['--srv-host=_xmpp-server._tcp.%s,x.%s,5269' % (d, d) for d in ('a.example', 'b.example')]
        self.children = [
            subprocess.Popen(['nsenter', '--net=/proc/%d/ns/net' % w.beyond.pid, 'dnsmasq', '--keep-in-foreground',
                              '--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--user=root', '--pid-file=',
                              '--listen-address=10.0.0.53', '--bind-interfaces', '--address=/x.a.example/8.8.4.4',
                              '--address=/x.b.example/10.1.0.21'] + names, stderr=subprocess.DEVNULL),
            subprocess.Popen([binary(), 'run', self.file], stderr=subprocess.DEVNULL)]
        wait_until(lambda: os.path.exists(os.path.join(self.dir, 'run/s')), what='the edge')

    def dials(self, w):
        """Where it tries to go when both partners are pinged."""
        w.wire.seen()
        asked = [subprocess.Popen([binary(), 'ping', self.file, d], stdout=subprocess.DEVNULL)
                 for d in ('a.example', 'b.example')]
        time.sleep(1)
        packets = w.wire.seen()
        for a in asked:
            a.kill()
            a.wait()
        return sorted({(p[0], p[2], p[3]) for p in packets if p is not None and p[1] in (EX, IN)})

    def end(self):
        for child in self.children:
            child.kill()
            child.wait()


@test
def the_edge_reaches_its_partner_and_what_dns_says_leads_it_nowhere_else(w):
    """Its own rules would let it into the LAN here; those of the machine do not."""
    if need_programs('dnsmasq'):
        raise Skip('needs dnsmasq')
    dns, partner, lan = ('udp', '10.0.0.53', 53), ('tcp', '8.8.4.4', 5269), ('tcp', '10.1.0.21', 5269)
    for form in [None] + w.forms:
        must(FLUSH)
        if form:
            load(w, form, edge(EX, IN))
        node = Edge(w)
        try:
            equal(node.dials(w), sorted([dns, partner] + [lan] * (form is None)), '%s: dialled' % form)
        finally:
            node.end()


# ---- the world ---------------------------------------------------------------------------------

class World:
    pass


def setup():
    w = World()
    w.dir = tempfile.mkdtemp(prefix='xmppedge-firewall-')
    os.chmod(w.dir, 0o755)
    w.beyond = subprocess.Popen(['unshare', '-n', 'sleep', '600'])
    mine = os.readlink('/proc/self/ns/net')
    while os.readlink('/proc/%d/ns/net' % w.beyond.pid) == mine:
        time.sleep(0.01)
    done = sh(SETUP, str(w.beyond.pid))
    if done.returncode != 0:
        w.beyond.kill()
        skip_all('no pair of interfaces here: ' + done.stdout.strip())
    w.legacy = os.path.join(w.dir, 'legacy')
    os.mkdir(w.legacy)
    for name, real in LEGACY.items():
        if shutil.which(real):
            os.symlink(shutil.which(real), os.path.join(w.legacy, name))
    w.forms = [form for form, words in FORMS.items() if sh(words, w.legacy).returncode == 0]
    for form in FORMS:
        if form not in w.forms:
            note('not tried, for this system does not take its rules: ' + form)
    note('rules tried: ' + ', '.join(w.forms))
    if not w.forms:
        skip_all('neither nft nor iptables works here')
    w.wire = Wire()
    return w


# What each form of the rules needs of this system.
FORMS = {
    'nft': 'nft list ruleset',
    'iptables': 'iptables -S && ip6tables -S && iptables-restore --version',
    'legacy': 'PATH="$1:$PATH"; test -e "$1/ip6tables-restore"; for t in iptables ip6tables; do '
              '$t -N X; $t -A X -m owner --uid-owner 1 -m conntrack --ctstate NEW -m comment --comment x '
              '-m addrtype --dst-type LOCAL -j DROP; $t -F X; $t -X X; done',
}


def no_lab(w):
    w.close = lambda: (w.beyond.kill(), w.beyond.wait(), shutil.rmtree(w.dir))
    w.mark_logs = w.dump_logs = lambda: None
    return w


if __name__ == '__main__':
    if not have_binary():
        skip_all('no ' + binary())
    if os.geteuid() != 0:
        skip_all('only root can make a network to load rules in')
    if need_programs('unshare', 'ip', 'nsenter'):
        skip_all('needs ' + ', '.join(need_programs('unshare', 'ip', 'nsenter')))
    if subprocess.call(['unshare', '-n', 'true'], stderr=subprocess.DEVNULL) != 0:
        skip_all('no network of its own can be made here')
    own_network()
    run(setup, no_lab)
