#!/usr/bin/env python3
"""70-dial.t -- where an edge lets itself be led by what strangers write into DNS.

Each domain of a stranger leads, in a way of its own, to something that is not his: traps that listen on
loopback addresses, the edge's own ports, addresses of networks inside.  Each is tried in both ways in which
an edge dials: to deliver a stanza, and to ask about a dialback key.  No trap may ever get a connection,
the log says where it would have gone, and the stranger hears the same of each.
"""
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import LOOPBACK, Edge, Gateway, Pki, begin, binary, partner           # noqa: E402
from lab import Lab, free_port                                                  # noqa: E402
from scene import DIALBACK, LIMITS, World                                       # noqa: E402
from tap import Skip, check, equal, note, test, tests                           # noqa: E402
from xmpp import Peer, Stream                                                   # noqa: E402

NOT_ASKED = 'dialback failed: the authoritative server could not be asked'
# one address of each block that is not for partners (RFC 6890, and what was registered since); their networks
# are not here: the reason tells that nobody has tried to reach them
ELSEWHERE = ['0.0.0.0', '10.1.2.3', '100.64.1.1', '127.1.2.3', '169.254.169.254', '172.16.1.1', '192.0.0.8',
             '192.0.2.1', '192.31.196.1', '192.52.193.1', '192.88.99.1', '192.168.1.1', '192.175.48.1', '198.18.1.1',
             '198.51.100.1', '203.0.113.1', '224.0.0.251', '240.0.0.1', '255.255.255.255']
ELSEWHERE_V6 = ['::', '::1', '::ffff:8.8.8.8', '64:ff9b:1::8.8.8.8', '100::1', '2001:0:7f00:1::1', '2001:1::1', '2001:2::1',
                '2001:3::1', '2001:4:112::1', '2001:10::1', '2001:20::1', '2001:db8::1', '2620:4f:8000::1', '3fff::1',
                '4000::1', '5f00::1', 'fd00::1', 'fe80::1', 'fec0::1', 'ff02::1']


def in_ipv6(ip):
    """The forms of IPv6 that carry an address of IPv4 or lead to it: mapped, compatible, NAT64, 6to4."""
    halves = '%02x%02x:%02x%02x' % tuple(int(n) for n in ip.split('.'))
    return ['::ffff:' + ip, '::' + ip, '64:ff9b::' + ip, '2002:%s::1' % halves]


CARRIED = [form for ip in ELSEWHERE for form in in_ipv6(ip)]
# what leads there: the SRV record's target, the domain itself without any, a static route that is a name
WAYS = ('%s%d.example', 'bare-%s%d.example', 'routed-%s%d.example')


class Trap:
    """Listens, and remembers who has connected."""

    def __init__(self, lab, ip, port):
        self.callers = []
        self.address = ip, port
        self.listener = socket.socket(socket.AF_INET6 if ':' in ip else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(self.address)
        self.listener.listen(64)
        lab.closers.append(self.listener.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                caller, source = self.listener.accept()
            except OSError:
                return
            self.callers.append(source)
            caller.sendall(b'HTTP/1.0 400 Bad Request\r\n\r\n')
            caller.close()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(('::1', 0))
        return True
    except OSError:
        return False


def name_of_the_hosts_file():
    """A name that this machine's hosts file gives a loopback address; not localhost, which c-ares knows."""
    with open('/etc/hosts') as f:
        for words in (line.split('#')[0].split() for line in f):
            for name in words[1:]:
                if words[0].startswith('127.') and re.fullmatch(r'[a-z][a-z0-9-]*', name) and name != 'localhost':
                    return name, words[0]
    return None, None


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.dns = lab.resolver('outside', lab.ip(2))
    w.trap = Trap(lab, lab.ip(100), 8080)
    w.trap5269 = Trap(lab, lab.ip(100), 5269)
    w.port6 = free_port()
    w.irc = Trap(lab, lab.ip(101), 6667)
    w.hosts_name, w.hosts_ip = name_of_the_hosts_file()
    w.hosts_trap = Trap(lab, w.hosts_ip or '127.0.0.1', free_port())
    w.hosted = Peer(lab, ['hosted.example'], (w.hosts_ip or '127.0.0.1', free_port()))
    w.traps = [w.trap, w.trap5269, w.irc, w.hosts_trap]
    w.friend = Peer(lab, ['friend.example', 'halfbad.example', 'mixed.example', 'moved.example'], (lab.ip(61), 5269))
    w.routed = Peer(lab, ['routed.example'], (lab.ip(62), 5269))
    w.named = Peer(lab, ['named.example', 'opened.example'], (lab.ip(63), 5269))
    policies = [
        "<default tls='optional' sasl='not-supported' dialback='true'/>",
        partner('friend.example', networks='127.0.0.0/8', **DIALBACK),
        partner('mixed.example', networks='127.0.0.0/8', **DIALBACK),
        partner('halfbad.example', networks='127.0.0.0/8', **DIALBACK),
        partner('irc.example', networks='127.0.0.0/8', **DIALBACK),
        partner('self.example', networks='127.0.0.0/8 10.0.0.0/8', **DIALBACK),
        partner('inward.example', networks='127.0.0.0/8', **DIALBACK),
        partner('both.example', networks='127.0.0.0/8', **DIALBACK),
        partner('halfclosed.example', networks='127.0.0.0/8', **DIALBACK),
        partner('moved.example', networks='127.0.0.0/8', **DIALBACK),
        partner('listed.example', **DIALBACK),
        partner('routed.example', proxy=lab.ip(62), **DIALBACK),
        partner('hosted.example', proxy='%s:%d' % (w.hosts_name or 'none', w.hosted.address[1]), **DIALBACK),
        partner('named.example', proxy='relay.example', **DIALBACK),
        partner('opened.example', proxy='relay.example', networks='127.0.0.0/8', **DIALBACK)]
    records(w)
    w.dns.start()
    w.cert = pki.public.issue('corp.example')
    w.edge = Edge(lab, 'edge01', lab.ip(21), lab.ip(31), pki, w.dns, {'corp.example': w.cert},
                  policies + routes('else', ELSEWHERE), default='allow', networks=None, limits=LIMITS)
    w.edge.start()
    w.edges = [w.edge]
    if not has_ipv6():
        return w
    w.traps.append(Trap(lab, '::1', w.port6))
    # from an IPv4 address no IPv6 address is dialled: another edge for those
    w.edge6 = Edge(lab, 'edge02', '::', lab.ip(32), pki, w.dns, {'corp.example': w.cert},
                   policies[:1] + routes('six', ELSEWHERE_V6), default='allow', networks=None, limits=LIMITS)
    w.edge6.external = '::', free_port()
    w.edge6.listens = [w.edge6.internal]
    w.edges.append(w.edge6.start())
    return w


def lead(w, domain, *addresses, port=8080, target=None):
    """The SRV record of a domain leads to a host with these addresses."""
    target = target or 'host.' + domain
    w.dns.srv(domain, target, port)
    if addresses:
        w.dns.address(target, *addresses)


def routes(kind, addresses):
    return [partner('routed-%s%d.example' % (kind, i), proxy='host.%s%d.example' % (kind, i), **DIALBACK)
            for i in range(len(addresses))]


def records(w):
    lab = w.lab
    for domain in ('friend', 'moved'):
        lead(w, domain + '.example', lab.ip(61), port=5269)
    for domain, first, port, second in (('mixed', 'host.else1', 5269, 'host.friend'),
                                        ('halfbad', 'irc-host', 6667, 'host.friend'),
                                        ('halfclosed', 'host.else1', 5269, 'host.closed')):
        w.dns.srv(domain + '.example', first + '.example', port, priority=1)
        w.dns.srv(domain + '.example', second + '.example', 5269, priority=2)
    w.dns.address('host.closed.example', lab.ip(150))
    lead(w, 'both.example', '10.1.2.3', '2a00::1', port=5269)
    lead(w, 'irc.example', lab.ip(101), port=6667, target='irc-host.example')
    lead(w, 'self.example', lab.ip(21), port=5269)
    lead(w, 'inward.example', lab.ip(31), port=23456)
    w.dns.address('relay.example', lab.ip(63))
    # what strangers write
    lead(w, 'a.example', lab.ip(100))
    w.dns.address('bare.example', lab.ip(100))          # no SRV record: port 5269
    lead(w, 'listed.example', lab.ip(100))
    lead(w, 'localhost.example', target='localhost', port=w.hosts_trap.address[1])
    lead(w, 'own.example', lab.ip(21), port=5269)
    lead(w, 'trunk.example', lab.ip(31), port=23456)
    lead(w, 'resolver.example', lab.ip(2), port=w.dns.port)
    lead(w, 'aaaa.example', '::1', port=w.port6)
    w.dns.srv('xmpps.example', 'host.a.example', 8080, service='_xmpps-server')
    for kind, addresses in (('else', ELSEWHERE), ('six', ELSEWHERE_V6), ('carried', CARRIED)):
        for i, ip in enumerate(addresses):
            lead(w, '%s%d.example' % (kind, i), ip, port=5269)
            w.dns.address('bare-%s%d.example' % (kind, i), ip)
    if w.hosts_name:
        lead(w, 'hosts.example', target=w.hosts_name, port=w.hosts_trap.address[1])


# ---- what the tests do again and again ---------------------------------------------------------

def sprung(w):
    time.sleep(0.1)     # a connection that was made has been accepted by then
    return [(t.address, t.callers) for t in w.traps if t.callers]


def call_v6(port):
    s = socket.socket(socket.AF_INET6)
    s.settimeout(10)
    s.connect(('::1', port))
    return Stream(s, 'call')


def claim(w, edge, domain, source=None):
    """A stranger says that the domain is his: the answer that he hears, without the domain."""
    s = call_v6(edge.external[1]) if edge is not w.edge else Stream.dial(edge.external, source=source)
    s.open(domain, 'corp.example')
    s.features()
    heard = len(s.raw_in)
    equal(s.dialback(), 'error', 'dialback result')
    answer = s.raw_in[heard:].decode().replace(domain, 'DOMAIN')
    s.close()
    return answer


def is_refused(w, edge, domain, why='address-refused', detail=r''):
    """Neither stanza nor question goes there; the log tells why, and the one who asks for a ping hears it."""
    edge.forget_log()
    status, said = edge.command('ping', edge.path, domain, seconds=30)
    detail = '.*' + detail + '.*'
    equal(status, 1, said)
    check(why in said and re.search(detail, said), said)
    edge.wait_log('s2s-out-closed', remote=re.escape(domain), why=why, detail=detail)
    edge.forget_log()
    answer = claim(w, edge, domain)
    check(NOT_ASKED in answer, answer)
    edge.wait_log('s2s-verify-closed', remote=re.escape(domain), why=why, detail=detail)
    equal(sprung(w), [], 'connections')
    return answer


def is_dialled(w, domain, ip, port=5269):
    """A stanza goes there; nobody waits for the answer."""
    w.edge.forget_log()
    ping = subprocess.Popen((binary(), 'ping', w.edge.path, domain), stdout=subprocess.DEVNULL)
    try:
        w.edge.wait_log('s2s-out-open', remote=re.escape(domain), peer=re.escape('%s:%d' % (ip, port)))
    finally:
        ping.kill()
        ping.wait()


# ---- strangers ---------------------------------------------------------------------------------

@test
def who_is_honest_and_inside_an_open_network_is_reached(w):
    is_dialled(w, 'friend.example', w.lab.ip(61))
    s = Stream.dial(w.edge.external)
    s.open('friend.example', 'corp.example')
    s.features()
    equal(s.dialback(), 'valid', 'dialback result')
    s.close()


STRANGERS = [
    ('an A record that is a loopback address', 'a.example', r'127\.[\d.]+:8080: loopback'),
    ('an A record without any SRV record', 'bare.example', r'127\.[\d.]+:5269: loopback'),
    ('the SRV record of direct TLS', 'xmpps.example', r'127\.[\d.]+:8080: loopback'),
    ('a listed partner for whom no network is open', 'listed.example', r'127\.[\d.]+:8080: loopback'),
    ("the edge's own external port", 'own.example', r':5269: our own address'),
    ("the edge's own port for gateways", 'trunk.example', r':23456: our own address'),
    ("the edge's name server", 'resolver.example', r':5353: loopback'),
]


def refusal(edge, domain, detail):
    return lambda w: is_refused(w, getattr(w, edge), domain, detail=detail)


for what, domain, detail in STRANGERS:
    function = refusal('edge', domain, detail)
    function.sentence = 'nobody is dialled because of ' + what
    tests.append(function)


def need_ipv6(w):
    if len(w.edges) < 2:
        raise Skip('there is no IPv6 here')


@test
def nobody_is_dialled_because_of_an_aaaa_record_that_is_loopback(w):
    need_ipv6(w)
    is_refused(w, w.edge6, 'aaaa.example', detail=r'\[::1\]:\d+: ')


@test
def nobody_is_dialled_because_of_an_srv_target_of_the_hosts_file(w):
    """They are asked for in DNS, which does not know them; newer versions of c-ares know localhost."""
    for domain in ('localhost.example', 'hosts.example') if w.hosts_name else ('localhost.example',):
        w.edge.forget_log()
        status, said = w.edge.command('ping', w.edge.path, domain)
        equal(status, 1, said)
        check(NOT_ASKED in claim(w, w.edge, domain), 'another answer')
        w.edge.wait_log('s2s-verify-closed', remote=domain, why='dns-failed|dns-not-found|address-refused')
        equal(sprung(w), [], 'connections')


def nowhere(w, edge, kind, addresses, ways=WAYS):
    """Neither a stanza nor a question goes to one of these addresses, whatever leads there."""
    def ask(n, domain):
        said = edge.command('ping', edge.path, domain, seconds=30)[1]
        check(NOT_ASKED in claim(w, edge, domain, source='127.61.%d.%d' % (n // 250, n % 250 + 1)), domain)
        return domain, said

    domains = [way % (kind, i) for way in ways for i in range(len(addresses))]
    edge.forget_log()
    with ThreadPoolExecutor(8) as pool:
        said = dict(pool.map(ask, range(len(domains)), domains))
    lines = {line.fields['remote']: line for line in edge.find_log('s2s-verify-closed')}
    for n, domain in enumerate(domains):
        ip = addresses[n % len(addresses)]
        what = re.compile(r'\[.*\]:5269: ' if ':' in ip else re.escape(ip) + ':5269: ')
        heard = 'address-refused' in said[domain] and what.search(said[domain])
        if domain.startswith('routed-'):    # for some of them no address is told
            heard = 'address-refused' in said[domain]
        check(heard, '%s at %s: %s' % (domain, ip, said[domain]))
        if edge is w.edge:                  # the other one has all questions from ::1, and tells of a few
            line = lines[domain]
            check(line.has(None, {'why': 'address-refused'}) and line.fields['why'] in said[domain],
                  line.text)
    equal(sprung(w), [], 'connections')
    note('%d addresses, %d ways to each, each for a stanza and for a question' % (len(addresses), len(ways)))


@test
def nobody_is_dialled_at_addresses_that_no_partner_has(w):
    nowhere(w, w.edge, 'else', ELSEWHERE)


@test
def nobody_is_dialled_at_addresses_of_ipv6_that_no_partner_has(w):
    need_ipv6(w)
    nowhere(w, w.edge6, 'six', ELSEWHERE_V6)
    nowhere(w, w.edge6, 'carried', CARRIED, WAYS[:1])


@test
def a_stranger_hears_the_same_whatever_kept_us_from_asking(w):
    heard = {claim(w, w.edge, d) for d in ('a.example', 'bare.example', 'else1.example', 'trunk.example',
                                           'nxdomain.example', 'localhost.example')}
    w.dns.lines = [line for line in w.dns.lines if 'moved.example' not in line]
    lead(w, 'moved.example', port=5269, target='host.closed.example')
    w.dns.restart()
    time.sleep(1.1)
    heard.add(claim(w, w.edge, 'moved.example'))         # it refuses TCP
    w.edge.wait_log('s2s-verify-closed', remote='moved.example', why='tcp-refused')
    equal(len(heard), 1, '\n'.join(sorted(heard)))
    check('127.' not in heard.pop(), 'an address is told')


# ---- partners ----------------------------------------------------------------------------------

@test
def a_port_of_another_protocol_is_not_dialled_even_in_an_open_network(w):
    is_refused(w, w.edge, 'irc.example', why='port-refused', detail=r':6667: a port of another protocol')


@test
def an_open_network_does_not_open_our_own_addresses(w):
    is_refused(w, w.edge, 'self.example', detail=r':5269: our own address')
    is_refused(w, w.edge, 'inward.example', detail=r':23456: our own address')


@test
def what_is_left_out_among_good_targets_is_said_once(w):
    for domain, why in (('mixed.example', 'address-refused'), ('halfbad.example', 'port-refused')):
        is_dialled(w, domain, w.lab.ip(61))
        lines = w.edge.find_log('s2s-target-refused', remote=domain)
        equal([line.fields['why'] for line in lines], [why], 'reasons')
        equal(lines[0].fields['refused'], '1', 'how many')
    equal(sprung(w), [], 'connections')


@test
def what_may_not_be_dialled_tells_more_than_no_way_and_less_than_a_refusal(w):
    # an IPv6 address, to which there is no way from an IPv4 address, beside a private one
    is_refused(w, w.edge, 'both.example', detail=r'10\.1\.2\.3:5269: private')
    w.edge.forget_log()
    status, said = w.edge.command('ping', w.edge.path, 'halfclosed.example')
    equal(status, 1, said)
    check('tcp-refused' in said, said)
    w.edge.wait_log('s2s-target-refused', remote='halfclosed.example', target='10.1.2.3:5269', why='address-refused',
                    detail='.*private.*')


@test
def a_static_route_that_is_an_address_is_dialled(w):
    is_dialled(w, 'routed.example', w.lab.ip(62))


@test
def a_static_route_that_is_a_name_of_the_hosts_file_is_dialled(w):
    if not w.hosts_name:
        raise Skip('the hosts file here has no name but localhost')
    is_dialled(w, 'hosted.example', w.hosts_ip, w.hosted.address[1])


@test
def a_static_route_that_is_a_name_leads_where_dns_may_lead(w):
    is_refused(w, w.edge, 'named.example', detail=re.escape(w.lab.ip(63)) + ':5269: loopback')
    is_dialled(w, 'opened.example', w.lab.ip(63))


@test
def the_status_tells_what_may_not_be_dialled(w):
    is_refused(w, w.edge, 'a.example')
    check('address-refused' in w.edge.status(), 'not in the text')
    check(re.search(r'127\.[\d.]+:8080: loopback', str(w.edge.status_json())), 'no address in it')


@test
def a_reload_opens_a_network_and_closes_it(w):
    was = w.edge.networks
    for networks, opens in ((LOOPBACK, True), (None, False)):
        w.edge.networks = networks
        w.edge.write()
        w.edge.forget_log()
        w.edge.reload()
        w.edge.wait_log('reloaded')
        before = len(w.trap.callers)
        claim(w, w.edge, 'a.example')
        w.edge.wait_log('s2s-verify-closed', remote='a.example', why='not-xmpp' if opens else 'address-refused')
        equal(len(w.trap.callers) > before, opens, 'a connection')
    w.edge.networks = was
    w.trap.callers.clear()


@test
def a_gateway_dials_the_edge_that_its_configuration_names_wherever_dns_says(w):
    w.dns.address('edge-inside.example', w.lab.ip(31))
    w.dns.restart()
    gateway = Gateway(w.lab, 'fe01', w.lab.ip(41), w.pki, [(w.edge.host, 'edge-inside.example', 23456)],
                      [(w.lab.ip(51), 5269, ['corp.example'], 'optional')], resolver=w.dns)
    gateway.start()
    gateway.wait_log('trunk-up')
    equal(gateway.terminate(), 0, 'exit status')


@test
def the_edges_end_in_order_and_no_trap_was_ever_sprung(w):
    equal(sprung(w), [], 'connections')
    for edge in w.edges:
        check(not edge.sanitizer_report(), edge.sanitizer_report())
        equal(edge.terminate(), 0, 'exit status')


begin(setup, 'dnsmasq', 'openssl')
