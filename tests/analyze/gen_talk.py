"""gen_talk.py -- conversations: hosts, TCP connections, real TLS, XMPP, name servers

A scene is a function that lets hosts talk and states by hand what an analyzer must find:

    @scene(ways=('in', 'out'), tls=('1.2', '1.3'))
    def external(s):
        c = s.federation()              # a partner calls the edge, or the edge calls a partner
        c.dial(); c.streams('starttls-required'); c.starttls(); c.streams('EXTERNAL'); ...
        c.truth('worked', reached='stanzas', method='EXTERNAL')
        s.row(c.row, 'works', 'conforms')

Time is the scene's own clock, chance its own generator: only what TLS makes of its keys differs from run to
run.
"""

import os
import random
import ssl
import struct

import gen_wire as wire
from gen_wire import ACK, FIN, PSH, RST, SYN, Packet, address

START = 1773500400 * 10**9         # 2026-03-14 15:00:00
MS = 10**6
SECOND = 10**9

HOSTS = {
    'edge': '203.0.113.10', 'edge6': '2001:db8:e::10', 'inner': '10.0.0.10', 'edge2': '203.0.113.11',
    'fe1': '10.0.0.5', 'fe2': '10.0.0.6', 'client': '10.0.0.77',
    'pa': '198.51.100.20', 'pb': '192.0.2.30', 'pc': '198.51.100.33', 'pd': '192.0.2.44', 'pe': '198.51.100.55',
    'lo1': '127.0.0.1', 'lo2': '127.0.0.2', 'lo3': '127.0.0.3',
    'pa6': '2001:db8:a::20', 'router': '198.51.100.1', 'ns': '203.0.113.53', 'stranger': '192.0.2.99',
}
EDGE = ('edge', 'edge6', 'inner')
OURS = 'corp.example'
NO_CHECK_TIME = 0x200000
PARTIAL_CHAIN = 0x80000

NS_TLS = 'urn:ietf:params:xml:ns:xmpp-tls'
NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
NS_STREAMS = 'urn:ietf:params:xml:ns:xmpp-streams'
NS_STANZAS = 'urn:ietf:params:xml:ns:xmpp-stanzas'

FEATURES = {
    'starttls': "<starttls xmlns='%s'/>" % NS_TLS,
    'starttls-required': "<starttls xmlns='%s'><required/></starttls>" % NS_TLS,
    'EXTERNAL': "<mechanisms xmlns='%s'><mechanism>EXTERNAL</mechanism></mechanisms>" % NS_SASL,
    'SCRAM': "<mechanisms xmlns='%s'><mechanism>SCRAM-SHA-1</mechanism></mechanisms>" % NS_SASL,
    'dialback': "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>",
    'bidi': "<bidi xmlns='urn:xmpp:features:bidi'/>",
    'trunk': "<trunk xmlns='urn:xmppedge:trunk:0'/>",
    'sm': "<sm xmlns='urn:xmpp:sm:3'/>",
}

scenes = {}


# SSL_OP_NO_TX_CERTIFICATE_COMPRESSION and its RX sister: the same certificates whatever library makes the scenes.
NO_CERTIFICATE_COMPRESSION = 1 << 32 | 1 << 33


def scene(ways=('',), tls=('',), options=None):
    """One scene for each direction and TLS version; options: of the analyzer, instead of the usual ones."""
    def add(function):
        for way in ways:
            for version in tls:
                name = '_'.join(x for x in (function.__name__, way, version.replace('.', '')) if x)
                scenes[name] = (function, way, version, options)
        return function
    return add


class Scene:
    def __init__(self, name, ca, folder):
        self.name, self.ca, self.folder = name, ca, folder
        self.function, self.way, self.version, self.options = scenes[name]
        self.random = random.Random(name)
        self.clock = START
        self.packets, self.calls, self.lookups = [], [], []
        self.rows = {}
        self.rows_without_keys = {}
        self.lost_may = set()        # causes that a lossy capture may show instead: less special, not wrong
        self.remarks = set()         # expected ones
        self.headless = False        # no connection has its beginning: the order of its first bytes is not known
        self.groups = None           # (cause, how often) of the failures as they are told
        self.partners = None         # (ours, theirs) in order
        self.partners_without_keys = None
        self.also = {}               # ends of what is seen a second time: those that it is told about as
        self.port = 40000 + self.random.randrange(1000)
        self.ids = {}
        self.key_path = os.path.join(folder, name + '.keys')
        open(self.key_path, 'w').close()
        self.function(self)
        self.packets.sort(key=lambda p: p.time)
        with open(self.key_path, 'rb') as f:
            self.keys = f.read()

    def wait(self, seconds):
        self.clock += int(seconds * SECOND)

    def add(self, source, target, proto, *rest, **more):
        a, b = address(source), address(target)
        zone = 'int' if '10.0.0.' in source or '10.0.0.' in target else 'ext'
        self.ids[a] = self.ids.get(a, self.random.randrange(1, 20000)) + 4
        p = Packet(self.clock, zone, a, b, proto, *rest, ip_id=self.ids[a] & 0x7fff, **more)
        self.packets.append(p)
        return p

    def row(self, row, state, ruling, without_keys=None):
        """What the port table says; rows that are not named are not seen."""
        self.rows[row] = (state, ruling)
        if without_keys:
            self.rows_without_keys[row] = without_keys

    def call(self, caller, called, port, ours, partner, way, row, **more):
        c = Call(self, caller, called, port, ours, partner, way, row, **more)
        self.calls.append(c)
        return c

    def inbound(self, caller='pa', partner='pa.example', called='edge', **more):
        return self.call(caller, called, 5269, OURS, partner, 'in', '5269-in', **more)

    def outbound(self, called='pa', partner='pa.example', caller='edge', port=5269, **more):
        return self.call(caller, called, port, OURS, partner, 'out', '5269-out' if port == 5269 else 'other', **more)

    def federation(self, **more):
        return self.inbound(**more) if self.way == 'in' else self.outbound(**more)

    def trunk(self, gateway='fe1', **more):
        return self.call(gateway, 'inner', 23456, 'edge01.corp.example', gateway + '.corp.example', 'in', '23456-in',
                         **more)

    # ---- name servers ----

    def ask(self, name, kind, answer=None, rcode=0, client='edge', tries=1, between=1.0, alias=None):
        """kind: SRV, A, AAAA.  answer: list of (priority, weight, port, target) or addresses; None: silence.
        alias: a CNAME record comes first."""
        number = {'A': 1, 'AAAA': 28, 'SRV': 33}[kind]
        question = dns_name(name) + struct.pack('!HH', number, 1)
        for i in range(tries):
            if i > 0:
                self.wait(between)
            ident = self.random.randrange(65536)
            port = 50000 + self.random.randrange(9000)
            body = struct.pack('!HHHHHH', ident, 0x0100, 1, 0, 0, 0) + question
            self.add(HOSTS[client], HOSTS['ns'], 17, port, 53, payload=body)
        if answer is None:
            return
        self.wait(0.01)
        records = b''
        if alias:
            records = b'\xc0\x0c' + struct.pack('!HHIH', 5, 1, 300, len(dns_name(alias))) + dns_name(alias)
        for a in answer:
            data = struct.pack('!HHH', *a[:3]) + dns_name(a[3]) if kind == 'SRV' else address(a)
            records += b'\xc0\x0c' + struct.pack('!HHIH', number, 1, 300, len(data)) + data
        body = struct.pack('!HHHHHH', ident, 0x8180 | rcode, 1, len(answer) + bool(alias), 0, 0) + question + records
        self.add(HOSTS['ns'], HOSTS[client], 17, 53, port, payload=body)
        self.wait(0.005)

    def lookup(self, cause, domain, outcome='failed', **more):
        """Truth of an attempt that ended before there was a connection."""
        self.lookups.append({'to': domain, 'cause': cause, 'outcome': outcome, 'row': '5269-out', 'direction': 'out',
                             'reached': 'name', 'violations': [], **more})


def dns_name(name):
    out = b''
    for label in name.strip('.').split('.'):
        if label:
            out += bytes([len(label)]) + label.encode()
    return out + b'\0'


class Call:
    """A TCP connection, what is said on it, and the truth about it.  Sides: 0 the caller, 1 the called."""

    def __init__(self, s, caller, called, port, ours, partner, way, row, mss=wire.MSS):
        self.scene, self.way, self.row = s, way, row
        self.host = (HOSTS[caller], HOSTS[called])
        s.port += 7
        self.port = (s.port, port)
        self.next = [s.random.randrange(2**32), s.random.randrange(2**32)]
        self.mss = mss
        self.ttl = (60, 60)
        self.domain = (partner, ours) if way == 'in' else (ours, partner)
        self.ours, self.partner = ours, partner
        self.tls = None              # two ssl.SSLObject
        self.sent_tls = False
        self.expected = None
        self.stream_id = '%08x' % s.random.randrange(2**32)

    # ---- TCP ----

    def packet(self, side, flags, payload=b'', seq=None, options=b'', ack=None, **more):
        o = 1 - side
        more.setdefault('ttl', self.ttl[side])
        return self.scene.add(self.host[side], self.host[o], 6, self.port[side], self.port[o],
                              self.next[side] if seq is None else seq, (self.next[o] if flags & ACK else 0) if ack is None else ack,
                              flags, payload, options, **more)

    def syn(self):
        self.packet(0, SYN, options=struct.pack('!BBHBBBB', 2, 4, self.mss, 4, 2, 1, 1))
        self.scene.wait(0.015)

    def dial(self, hears=True):
        """The three-way handshake."""
        self.syn()
        self.next[0] += 1
        if not hears:
            return self
        self.packet(1, SYN | ACK, options=struct.pack('!BBH', 2, 4, self.mss))
        self.next[1] += 1
        self.scene.wait(0.015)
        self.packet(0, ACK)
        self.scene.wait(0.001)
        return self

    def unanswered(self, times=5):
        """SYN, and again at growing distances."""
        for i in range(times):
            self.packet(0, SYN, options=struct.pack('!BBHBBBB', 2, 4, self.mss, 4, 2, 1, 1))
            self.scene.wait(2.0**i)

    def refused(self):
        self.syn()
        self.next[0] += 1
        self.packet(1, RST | ACK, seq=0)
        self.scene.wait(0.01)

    def icmp(self, kind, code, reporter='router', about=None, mtu=0):
        """An ICMP error about the last packet of the caller (or `about`)."""
        p = about or [q for q in self.scene.packets if q.source == address(self.host[0])][-1]
        body = struct.pack('!BBHHH', kind, code, 0, 0, mtu) if len(p.source) == 4 else struct.pack('!BBHI', kind, code, 0, mtu)
        body += p.ip()[:28 if len(p.source) == 4 else 1200]
        source = HOSTS[reporter] if len(p.source) == 4 else '2001:db8:a::1'
        self.scene.wait(0.005)
        self.scene.add(source, self.host[0], 1 if len(p.source) == 4 else 58, payload=body)
        self.scene.wait(0.005)

    def send(self, side, data, acked=True):
        """Bytes as segments; the other side acknowledges."""
        for at in range(0, len(data), self.mss):
            part = data[at:at + self.mss]
            self.packet(side, ACK | PSH, part)
            self.next[side] += len(part)
            self.scene.clock += 20000
        if acked:
            self.scene.wait(0.012)
            self.packet(1 - side, ACK)
        self.scene.wait(0.004)
        return self

    def stuck(self, side, data, times=6, first=0.3):
        """Segments that never arrive: sent again at growing distances."""
        seq = self.next[side]
        self.send(side, data, acked=False)
        for i in range(times):
            self.scene.wait(first * 2**i)
            self.packet(side, ACK | PSH, data[:self.mss], seq=seq)

    def fin(self, side):
        self.packet(side, FIN | ACK)
        self.next[side] += 1
        self.scene.wait(0.012)
        return self

    def finish(self, side):
        """FIN of this side, then of the other."""
        self.fin(side)
        self.packet(1 - side, FIN | ACK)
        self.next[1 - side] += 1
        self.scene.wait(0.012)
        self.packet(side, ACK)
        self.scene.wait(0.05)

    def rst(self, side):
        self.packet(side, RST | ACK)
        self.scene.wait(0.05)

    # ---- TLS ----

    def certificate(self, side, **more):
        return self.scene.ca.leaf(self.domain[side], **more)

    def contexts(self, version, ask, client_cert, server_cert, verify, tickets, ciphers, versions, trust):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        exact = {'1.2': ssl.TLSVersion.TLSv1_2, '1.3': ssl.TLSVersion.TLSv1_3}
        for i, ctx in enumerate((client, server)):
            low = high = exact[version or '1.3']
            if versions:
                low, high = (exact[v] for v in versions[i])
            ctx.minimum_version, ctx.maximum_version = low, high
            if ssl.OPENSSL_VERSION_INFO >= (3, 2):
                ctx.options |= NO_CERTIFICATE_COMPRESSION
            ctx.load_verify_locations(self.scene.ca.path)
            for path in trust:
                ctx.load_verify_locations(path)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
        server.verify_mode = {'optional': ssl.CERT_OPTIONAL, 'required': ssl.CERT_REQUIRED, 'none': ssl.CERT_NONE}[ask]
        server.load_cert_chain(server_cert)
        if client_cert:
            client.load_cert_chain(client_cert)
        if tickets is not None:
            server.num_tickets = tickets
            if tickets == 0:
                server.options |= ssl.OP_NO_TICKET
        client.keylog_filename = self.scene.key_path
        if ciphers:
            client.set_ciphers(ciphers[0])
            server.set_ciphers(ciphers[1])
        return client, server

    def handshake(self, version=None, ask='optional', client_cert=True, server_cert=None, verify=False, tickets=None,
                  ciphers=None, versions=None, alert=None, sni=None, alpn=None, trust=(), check_time=False, session=None,
                  stop_after=None, contexts=None):
        """A real TLS handshake.  alert: (side, number) said in place of the one that the library says.
        stop_after: flights.  True: it stands on both sides."""
        if client_cert is True:
            client_cert = self.certificate(0)
        made = contexts or self.contexts(version or self.scene.version, ask, client_cert, server_cert or self.certificate(1),
                                         verify, tickets, ciphers, versions, trust)
        if not contexts and not check_time:
            for ctx in made:
                ctx.verify_flags |= NO_CHECK_TIME | PARTIAL_CHAIN
        if alpn:
            for ctx in made:
                ctx.set_alpn_protocols([alpn])
        self.made = made
        self.bio = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in (0, 1)]     # in, out
        self.tls = [made[0].wrap_bio(*self.bio[0], server_side=False, server_hostname=sni or self.domain[1], session=session),
                    made[1].wrap_bio(*self.bio[1], server_side=True)]
        done = [False, False]
        failed = False
        flights = 0
        for turn in range(12):
            side = turn & 1
            try:
                if not done[side]:
                    self.tls[side].do_handshake()
                    done[side] = True
                else:
                    self.drain(side)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                failed = True
            sent = self.flush(side, alert)
            flights += sent
            if failed or (stop_after is not None and flights >= stop_after) or (all(done) and not sent and turn > 3):
                break
        if not failed and all(done):
            self.sent_tls = True
        return not failed and all(done)

    def flush(self, side, alert=None):
        data = self.bio[side][1].read()
        if not data:
            return False
        if alert is not None and data[:1] == b'\x15' and data[3:5] == b'\0\2' and alert[0] == side:
            data = data[:6] + bytes([alert[1]]) + data[7:]
        self.send(side, data)
        self.bio[1 - side][0].write(data)
        return True

    def drain(self, side):
        """Reads what came; the content was known before."""
        try:
            while self.tls[side].read(65536):
                pass
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError:
            pass

    # ---- XMPP ----

    def say(self, side, text, acked=True):
        data = text.encode() if isinstance(text, str) else text
        if not self.sent_tls:
            return self.send(side, data, acked)
        self.tls[side].write(data)
        self.flush(side)
        self.drain(1 - side)
        return self

    def header(self, side, frm=None, to=None, version='1.0', ns='jabber:server', ident=None, declaration=True):
        text = "<?xml version='1.0'?>" if declaration else ''
        text += "<stream:stream xmlns='%s' xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback'" % ns
        frm = self.domain[side] if frm is None else frm
        to = self.domain[1 - side] if to is None else to
        if side == 1:
            self.stream_id = '%08x' % self.scene.random.randrange(2**32)
            text += " id='%s'" % (ident or self.stream_id)
        text += (" from='%s'" % frm if frm else '') + (" to='%s'" % to if to else '')
        return text + (" version='%s'" % version if version else '') + '>'

    def features(self, words):
        return '<stream:features>' + ''.join(FEATURES[w] for w in words.split()) + '</stream:features>'

    def streams(self, words=None, **more):
        """Both headers, and the features of the called (None: none, as before XMPP 1.0)."""
        self.say(0, self.header(0, **more))
        self.say(1, self.header(1, **more) + (self.features(words) if words is not None else ''))
        return self

    def starttls(self, **more):
        self.say(0, "<starttls xmlns='%s'/>" % NS_TLS)
        self.say(1, "<proceed xmlns='%s'/>" % NS_TLS)
        return self.handshake(**more)

    def external(self, success=True, condition='not-authorized', text=''):
        self.say(0, "<auth xmlns='%s' mechanism='EXTERNAL'>%s</auth>" % (NS_SASL, 'Y29ycC5leGFtcGxl'))
        if success:
            self.say(1, "<success xmlns='%s'/>" % NS_SASL)
        else:
            self.say(1, "<failure xmlns='%s'><%s/>%s</failure>" % (NS_SASL, condition,
                     text and '<text>%s</text>' % text))
        return self

    def key(self, frm=None, to=None, side=0):
        """A dialback key to be accepted."""
        self.say(side, "<db:result from='%s' to='%s'>%064x</db:result>" % (
            frm or self.domain[side], to or self.domain[1 - side], self.scene.random.getrandbits(255)))
        return self

    def answer(self, kind='valid', frm=None, to=None, side=1, condition=''):
        inner = '' if kind != 'error' else "<error type='cancel'><%s xmlns='%s'/></error>" % (condition, NS_STANZAS)
        self.say(side, "<db:result from='%s' to='%s' type='%s'>%s</db:result>" % (
            frm or self.domain[side], to or self.domain[1 - side], kind, inner))
        return self

    def verify(self, ident, kind='valid', answered=True, condition='item-not-found'):
        self.say(0, "<db:verify from='%s' to='%s' id='%s'>%064x</db:verify>" % (
            self.domain[0], self.domain[1], ident, self.scene.random.getrandbits(255)))
        inner = '' if kind != 'error' else "<error type='cancel'><%s xmlns='%s'/></error>" % (condition, NS_STANZAS)
        if answered:
            self.say(1, "<db:verify from='%s' to='%s' id='%s' type='%s'>%s</db:verify>" % (
                self.domain[1], self.domain[0], ident, kind, inner))
        return self

    def message(self, side=0, body='Hello', frm=None, to=None):
        self.say(side, "<message from='ann@%s/desk' to='bob@%s' type='chat' id='m%d'><body>%s</body></message>" % (
            frm or self.domain[side], to or self.domain[1 - side], self.scene.random.randrange(9999), body))
        return self

    def stanzas(self, side=0, n=1, wait=0.4):
        """A little life: messages, a presence, a question."""
        a, b = self.domain[side], self.domain[1 - side]
        for i in range(n):
            self.message(side, 'Line %d of many that are sent here.' % i)
            self.scene.wait(wait)
        self.say(side, "<presence from='ann@%s/desk' to='bob@%s'><show>away</show></presence>" % (a, b))
        self.say(side, "<iq type='get' id='q%d' from='ann@%s/desk' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % (n, a, b))
        self.scene.wait(wait)
        return self

    def error(self, side, condition, text='', extra='', end=True):
        self.say(side, "<stream:error><%s xmlns='%s'/>%s%s</stream:error>%s" % (
            condition, NS_STREAMS, text and "<text xmlns='%s'>%s</text>" % (NS_STREAMS, text), extra,
            '</stream:stream>' if end else ''))
        return self

    def shut(self, side):
        """Ends TLS and TCP without an end of the stream."""
        for i in (side, 1 - side):
            if self.sent_tls:
                try:
                    self.tls[i].unwrap()
                except ssl.SSLError:
                    pass
                self.flush(i)
        self.sent_tls = False
        self.finish(side)

    def close(self, side=0):
        """Both streams end, then TLS, then TCP."""
        self.say(side, '</stream:stream>')
        self.say(1 - side, '</stream:stream>')
        self.shut(side)
        return self

    # ---- truth ----

    def truth(self, outcome, cause='none', without_keys=None, violations=(), suspected=(), **more):
        """What the analyzer must say.  without_keys: what is different when the content of TLS cannot be read."""
        self.expected = {'row': self.row, 'direction': self.way, 'outcome': outcome, 'cause': cause, 'from': self.domain[0],
                         'to': self.domain[1], 'violations': sorted(violations), 'suspected': sorted(suspected),
                         'setback': 'none'}
        self.expected.update(more)
        self.blind = dict(self.expected)
        self.blind.update(without_keys or {})
        return self

    def identity(self):
        """By which the attempt is found in reports."""
        return (str(self.host[0]), self.port[0], str(self.host[1]), self.port[1])
