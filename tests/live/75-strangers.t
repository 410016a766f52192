#!/usr/bin/env python3
"""75-strangers.t -- what those can take from others who have proven nothing: connections, and dialback questions.

Strangers come from many networks (every address of 127.0.0.0/8 is one here) and do as little as they can.  In
the middle of it somebody honest, whom the edge has never seen, must be served within a second.
"""
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Edge, Pki, binary, have_binary, partner, slowness              # noqa: E402
from lab import Lab, need_programs                                              # noqa: E402
from scene import HOSTILE, WORDS, call, printed, trusted_call, unsafe           # noqa: E402
from tap import check, equal, note, run, skip_all, test                         # noqa: E402
from xmpp import NS_DB, NS_STREAM, NS_TLS, Closed, Peer, Stream, local          # noqa: E402

SOON = 1.0          # seconds: what an honest caller may wait
HEADER = ("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='%s' xmlns:db='%s' "
          "from='%s' to='corp.example' version='1.0'>")
WIDE = {'source-connections': 1000, 'source-rate': 1000, 'source-burst': 1000, 'drain-time': '200ms',
        'close-time': '200ms'}


class World:
    pass


class Hesitant(Peer):
    """A server that answers at once about the key 'true', and about any other never."""

    def answer_dialback(self, stream, element):
        if element.text == 'true':
            super().answer_dialback(stream, element)


def setup():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.dns = lab.resolver('outside', lab.ip(2))
    w.raw_cert = pki.public.issue('raw.example')
    w.policies = [partner('raw.example', tls='optional'), partner('db.example', tls='optional')]
    w.policies.append(partner('slow.example', tls='optional'))
    w.policies.append(partner('lame.example', tls='optional'))
    w.policies.append("<default tls='optional' sasl='optional' dialback='true'/>")
    w.dns.server('db.example', lab.ip(62))
    w.db = Peer(lab, ['db.example'], (lab.ip(62), 5269))
    w.dns.server('slow.example', lab.ip(63))
    w.slow = Hesitant(lab, ['slow.example'], (lab.ip(63), 5269))
    w.dns.server('lame.example', lab.ip(64))
    Peer(lab, ['lame.example'], (lab.ip(64), 5269), silent=True)
    w.dns.wildcard('many.example', lab.ip(64))      # unlisted domains, as many as a stranger likes
    w.dns.wildcard('new.example', lab.ip(65))
    Hesitant(lab, ['new.example'], (lab.ip(65), 5269))
    w.dns.wildcard('rude.example', lab.ip(66))
    w.rude = Rude(lab, ['rude.example'], (lab.ip(66), 5269), cert=pki.public.issue('*.rude.example'), ca=pki.public,
                  tls='optional')
    w.dns.start()
    w.cert = pki.public.issue('corp.example')
    w.count = 0
    return w


def new_edge(w, default=None, resolver=None, **limits):
    if w.count > 0 and w.edge.running():    # of a test that failed
        w.edge.kill()
    w.count += 1
    limits = dict(WIDE, **{k.replace('_', '-'): v for k, v in limits.items()})
    w.edge = Edge(w.lab, 'edge%02d' % w.count, w.lab.ip(21), w.lab.ip(31), w.pki, resolver or w.dns,
                  {'corp.example': w.cert}, w.policies, limits=limits, level='info', default=default)
    return w.edge.start()


def network(n):
    """An address that nobody else has; each is a network of its own."""
    return '127.%d.%d.%d' % (50 + n // 62500, n // 250 % 250, n % 250 + 1)


def well(edge):
    check(edge.running(), edge.name + ' is dead:\n' + edge.log_text()[-2500:])
    check(not edge.sanitizer_report(), edge.sanitizer_report())
    equal(edge.terminate(), 0, 'exit status')


# ---- ways to keep a connection without proving anything ----------------------------------------

def header(frm='raw.example'):
    return (HEADER % (NS_STREAM, NS_DB, frm)).encode()


STARTTLS = ("<starttls xmlns='%s'/>" % NS_TLS).encode()
SILENCES = {
    'nothing': b'',
    'one byte': b'<',
    'half a header': header()[:80],
    'a header': header(),
    'a header and starttls': header() + STARTTLS,
    'direct TLS that stops': b'\x16\x03\x01\x02\x00\x01\x00',
    'a question that is not answered': header() + b"<db:result from='raw.example' to='corp.example'>00</db:result>",
}


def sit(edge, said, addresses):
    """One connection from each address; it says this, and then nothing."""
    seats = []
    for address in addresses:
        try:
            s = Stream.dial(edge.external, source=address)
            s.send(said)
            seats.append(s)
        except (OSError, Closed):
            pass
    return seats


def served_soon(w, edge, address, what):
    started = time.monotonic()
    s, _ = call(w, edge, source=address)
    took = time.monotonic() - started
    check(took < SOON, '%s: %.2f s until an honest caller is served' % (what, took))
    return s


def reconnects_soon(w, edge, address):
    """Somebody honest proves a domain within 2 s, be it with another try or two, as servers do."""
    started = time.monotonic()
    while True:
        try:
            s, _ = call(w, edge, source=address)
            equal(s.dialback(frm='db.example'), 'valid', 'dialback in the middle of the flood')
            return
        except Closed as e:
            check(time.monotonic() - started < 2, 'not served within 2 s: %s' % e)


@test
def a_thousand_silent_callers_make_room_at_once(w):
    edge = new_edge(w)
    seats = sit(edge, header(), [network(i % 40) for i in range(1000)])
    for i in range(20):
        served_soon(w, edge, network(100 + i), 'caller %d' % i)
    for s in seats:
        s.abort()
    well(edge)


@test
def no_more_connections_are_held_than_there_are_descriptors(w):
    few = w.lab.write('few', '#!/bin/sh\nulimit -n 200\nexec %s "$@"\n' % binary())
    os.chmod(few, 0o755)
    before, os.environ['XMPPEDGE'] = os.environ.get('XMPPEDGE'), few
    try:
        edge = new_edge(w)
    finally:
        os.environ.pop('XMPPEDGE')
        if before:
            os.environ['XMPPEDGE'] = before
    edge.wait_log('config-warning', text='.*62 connections are held')
    seats = sit(edge, header(), [network(i % 40) for i in range(300)])
    time.sleep(0.5)
    served_soon(w, edge, network(100), 'a caller')
    equal(edge.status_json()['state'], 'running', 'state, asked among them')
    check(not edge.find_log('accept-failed'), 'descriptors were out')
    for s in seats:
        s.abort()
    well(edge)


@test
def whatever_silent_callers_have_said_they_make_room(w):
    edge = new_edge(w, connections=80)
    proven = [trusted_call(w, edge, source=network(5000)) for _ in range(3)]
    for what, said in SILENCES.items():
        for spread in (1, 8, 160):
            seats = sit(edge, said, [network(i % spread) for i in range(160)])
            time.sleep(0.3)
            for i in range(5):
                served_soon(w, edge, network(1000 + i), '%s, from %d networks' % (what, spread)).close()
            for s in seats:
                s.abort()
    equal([s for s in proven if s.ended], [], 'proven streams that were ended')
    well(edge)


@test
def callers_that_come_again_and_again_do_not_keep_others_out(w):
    edge = new_edge(w, connections=80)
    over = threading.Event()

    def flood(first):
        n = 0
        seats = []
        while not over.is_set():
            n += 1
            said = list(SILENCES.values())[n % len(SILENCES)]
            seats += sit(edge, said, [network(first + n % 10)])
            seats = seats[-30:]

    threads = [threading.Thread(target=flood, args=(2000 + 10 * i,)) for i in range(4)]
    for t in threads:
        t.start()
    try:
        time.sleep(1)
        for i in range(10):
            reconnects_soon(w, edge, network(1000 + i))
    finally:
        over.set()
        for t in threads:
            t.join()
    well(edge)


@test
def those_who_have_proven_something_are_never_ended_for_others(w):
    edge = new_edge(w, connections=16)      # 14 of them for callers
    proven = [trusted_call(w, edge, source=network(5000)) for _ in range(14)]
    for i in range(30):
        s = Stream.dial(edge.external, source=network(1000 + i))
        try:
            s.open('raw.example', 'corp.example')
        except Closed:
            pass
        equal(s.wait_end(5), 'resource-constraint', 'stream error')
    for s in proven:
        check(not s.ended, 'a proven stream was ended')
    edge.wait_log('connection-refused', why='limit-connections')
    well(edge)


@test
def one_network_that_fills_the_table_is_the_one_that_gives_way(w):
    edge = new_edge(w, connections=80)
    others = sit(edge, header(), [network(1000 + i) for i in range(20)])
    seats = sit(edge, header(), [network(1)] * 200)
    time.sleep(0.3)
    equal([s for s in others if s.ended], [], 'callers of other networks that were ended')
    for s in seats:
        s.abort()
    well(edge)


# ---- dialback questions -------------------------------------------------------------------------

def ask(edge, address, domains):
    """A stranger's connection on which the keys of these domains are shown, none of them true."""
    s = Stream.dial(edge.external, source=address)
    s.open(domains[0], 'corp.example')
    for domain in domains:
        s.send("<db:result from='%s' to='corp.example'>00</db:result>" % domain)
    return s


def hold(edge, spread, each, domain):
    """Ask `each` times from each of so many networks; domain(n) is the domain of the nth question."""
    held = []
    for i in range(spread):
        for first in range(0, each, 10):
            held.append(ask(edge, network(i), [domain(i * each + n) for n in range(first, first + 10)]))
    time.sleep(1.2)     # all of them have had their turn
    return held


def proven_soon(w, edge, domain, address, what):
    started = time.monotonic()
    s, _ = call(w, edge, frm=domain, source=address)
    answer = s.dialback(key='true')
    took = time.monotonic() - started
    equal(answer, 'valid', '%s: the answer about the key of %s' % (what, domain))
    check(took < 2 * slowness(), '%s: %.1f s until %s is proven' % (what, took, domain))
    note('%s: %s in %.2f s' % (what, domain, took))
    s.close()


FLOODS = {
    'one domain that is listed and slow': lambda n: 'slow.example',
    'two domains that are listed and slow': lambda n: ('slow.example', 'lame.example')[n % 2],
    'many domains that are not listed': lambda n: 'm%d.many.example' % n,
    'all of them': lambda n: ('slow.example', 'lame.example', 'm%d.many.example' % n)[n % 3],
}


@test
def whatever_strangers_ask_about_an_honest_partner_is_proven_soon(w):
    for what, domain in FLOODS.items():
        for spread, each in ((1, 300), (5, 100), (14, 50)):
            edge = new_edge(w, default='allow', dialback_wait='5s')
            held = hold(edge, spread, each, domain)
            where = '%s, from %d networks' % (what, spread)
            for i, honest in enumerate(('db.example', 'slow.example', 'new.example')):
                proven_soon(w, edge, honest, network(1000 + i), where)
            for s in held:
                s.abort()
            well(edge)


@test
def who_has_proven_a_domain_lately_has_room_that_no_number_of_networks_takes(w):
    edge = new_edge(w, default='allow')
    proven_soon(w, edge, 'slow.example', network(1000), 'before')
    held = hold(edge, 300, 10, FLOODS['all of them'])
    proven_soon(w, edge, 'slow.example', network(1000), 'from 300 networks')
    proven_soon(w, edge, 'db.example', network(1000), 'from 300 networks')
    for s in held:
        s.abort()
    well(edge)


@test
def a_question_that_waits_in_vain_is_answered(w):
    edge = new_edge(w, dialbacks=1, partner_dialbacks=1, source_dialbacks=1, dialback_wait='1s')
    held = ask(edge, network(1), ['slow.example'])
    time.sleep(0.2)
    s, _ = call(w, edge, frm='lame.example', source=network(2))
    equal(s.dialback(), 'error', 'the answer')
    edge.wait_log('s2s-in-refused', why='dialback-wait')
    check(not held.ended, 'the one that was asked about was ended')
    well(edge)


# ---- claims -------------------------------------------------------------------------------------

@test
def what_a_stranger_claims_is_not_held_against_the_one_that_he_claims_to_be(w):
    edge = new_edge(w)
    proven = trusted_call(w, edge, source=network(5000))

    def pair():
        return [p for p in edge.status_json()['pairs'] if p['from'] == 'raw.example'][0]

    before = pair()
    for n in range(5):
        s, _ = call(w, edge, source=network(n))
        s.send('<message/>')
        equal(s.wait_end(5), 'not-authorized', 'stream error')
    claim, _ = call(w, edge, source=network(9))
    after = pair()
    for key in ('state', 'last_error', 'detail', 'bounced', 'passed'):
        equal(after.get(key), before.get(key), key)
    streams = edge.status_json()['streams']
    equal([s['peer'].split(':')[0] for s in streams if s.get('remote') == 'raw.example'], [network(5000)],
          'who is raw.example')
    equal([s['peer'].split(':')[0] for s in streams if s.get('claims') == 'raw.example'], [network(9)],
          'who claims to be')
    claim.close()
    proven.close()
    well(edge)


def memory_kb(node):
    with open('/proc/%d/status' % node.process.popen.pid) as f:
        return int([line.split()[1] for line in f if line.startswith('VmRSS')][0])


@test
def who_asks_and_does_not_read_is_not_read_either_and_has_every_answer_later(w):
    edge = new_edge(w)
    s = trusted_call(w, edge)
    s.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)     # the system keeps little for us
    count, question = 200000, "<db:verify from='raw.example' to='corp.example' id='i'>0</db:verify>"
    before = memory_kb(edge)
    asking = threading.Thread(target=s.send, args=(question * count,), daemon=True)
    asking.start()
    time.sleep(3)
    more = memory_kb(edge) - before
    note('%d KB more while it was not read' % more)
    check(asking.is_alive(), 'the edge reads on')
    check(more < 1024 * slowness(), 'the edge keeps %d KB for somebody who does not read' % more)
    answers = []
    s.on_element = lambda e: answers.append(e.get('type')) or True
    deadline = time.monotonic() + 30
    while len(answers) < count and time.monotonic() < deadline and s.pump(0.5):
        pass
    equal(len(answers), count, 'answers')
    equal(set(answers), {'invalid'}, 'answers')
    s.close()
    well(edge)


# ---- words --------------------------------------------------------------------------------------

PLACES = [
    "<stream:stream xmlns='jabber:server' xmlns:stream='{s}' from='{w}' to='corp.example' version='1.0' id='i'>",
    "<stream:stream xmlns='jabber:server' xmlns:stream='{s}' from='raw.example' to='{w}' version='1.0'>",
    "<stream:stream xmlns='jabber:server' xmlns:stream='{s}' from='raw.example' to='corp.example' version='{w}'>",
    "<stream:stream xmlns='{w}' xmlns:stream='{s}' from='raw.example' to='corp.example' version='1.0'>",
    "{h}<db:result from='{w}' to='corp.example'>k</db:result>",
    "{h}<db:result from='raw.example' to='{w}'>{w}</db:result>",
    "{h}<db:verify from='raw.example' to='corp.example' id='{w}'>{w}</db:verify>",
    "{h}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{w}'>{w}</auth>",
    "{h}<odd xmlns='{w}'>{w}</odd>",
    "{h}<message from='{w}' to='{w}' id='{w}'/>",
    "{h}<stream:error><{c} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{w}</text></stream:error>",
    "{h}<!{w}", "{h}<?{w}?>", "{h}<{w}/>", "{w}",
]


@test
def no_word_of_a_stranger_reaches_a_terminal_as_he_wrote_it(w):
    edge = new_edge(w)
    held = []
    for n, word in enumerate(HOSTILE):
        for place in PLACES:
            s = socket.create_connection(edge.external, 5, source_address=(network(n), 0))
            text = place.replace('{s}', NS_STREAM).replace('{h}', header().decode()).replace('{c}', 'undefined-condition')
            s.sendall(text.encode().replace(b'{w}', word))
            held.append(s)
        time.sleep(0.1)
        for command in (['status', edge.path], ['status', edge.path, '--json'],
                        [b'ping', edge.path, word.replace(b'\0', b'?')], [b'message', edge.path, word.replace(b'\0', b'?')],
                        [b'check', b'/nowhere/' + word.replace(b'\0', b'?')], [word.replace(b'\0', b'?')]):
            done = subprocess.run([binary()] + command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
            equal(unsafe(done.stdout), [], 'printed by %r' % command)
    for s in held:
        s.close()
    well(edge)
    with open(edge.process.log, 'rb') as f:
        log = f.read()
    note('%d words in %d places, %d lines' % (len(HOSTILE), len(PLACES), log.count(b'\n')))
    equal(unsafe(log), [], 'in the log')
    check(b'\\u202e' in log, 'the words did not even get there')


# ---- words of servers that we dial --------------------------------------------------------------

ERROR = "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>%s</stream:error>"
DIALLED = {     # place: (header, what follows it)
    'id': ("xmlns='jabber:server' from='{me}' id='{w}' version='1.0'", ''),
    'from': ("xmlns='jabber:server' from='{w}' id='i' version='1.0'", ''),
    'version': ("xmlns='jabber:server' from='{me}' id='i' version='{w}'", ''),
    'namespace': ("xmlns='{w}' from='{me}' id='i' version='1.0'", ''),
    'features': (None, "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>{w}</mechanism>"
                       "</mechanisms><odd xmlns='{w}'/></stream:features>"),
    'error-text': (None, ERROR % "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{w}</text>"),
    'error-name': (None, ERROR % "<odd xmlns='{w}'>{w}</odd>"),
    'other-host': (None, "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{w}</see-other-host>"
                         "</stream:error>"),
    'sasl': (None, '{f}'), 'dialback': (None, '{f}'), 'answer': (None, '{f}'), 'stanza': (None, '{f}'),
    'nonsense': (None, '<{w}/>'), 'no-xml': ('', '{w}'),
}
LATER = {       # what is said to the element that asks for it
    'sasl': (('auth', 'result'), "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text>{w}</text></failure>"),
    'dialback': (('result',), "<db:result from='{me}' to='corp.example' type='error'><error type='cancel'><item-not-found "
                 "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>{w}</text>"
                 "</error></db:result>"),
    'answer': (('result',), "<db:result from='{me}' to='corp.example' type='{w}'>{w}</db:result>"),
    'stanza': (('iq', 'message'), "<{kind} type='error' from='{me}' to='{to}' id='{id}'><error type='cancel'>"
               "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>{w}</gone>"
               "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>{w}</text></error></{kind}>"),
}


class Rude(Peer):
    """A server of PLACE-NUMBER.rude.example that puts word NUMBER into PLACE."""

    def say(self, stream, text, **more):
        place, number = stream.to.split('.')[0].rsplit('-', 1)
        for key, value in dict(more, me=stream.to).items():
            text = text.replace('{%s}' % key, value or '')
        stream.sock.sendall(text.encode().replace(b'{w}', HOSTILE[int(number)]))

    def answer_header(self, stream, header):
        stream.frm, stream.to = header.get('from'), header.get('to')
        place = stream.to.rsplit('-', 1)[0]
        attributes, then = DIALLED[place]
        if attributes is None:
            attributes = "xmlns='jabber:server' from='{me}' id='i' version='1.0'"
        if attributes:
            self.say(stream, "<stream:stream xmlns:stream='%s' xmlns:db='%s' %s>" % (NS_STREAM, NS_DB, attributes))
        self.say(stream, then, f='<stream:features>%s</stream:features>' % self.feature_list(stream))
        if place not in LATER:
            stream.sock.shutdown(socket.SHUT_WR)

    def feature_list(self, stream):
        offered = super().feature_list(stream)
        return offered if stream.to.startswith('sasl') else re.sub('<mechanisms.*</mechanisms>', '', offered)

    def take(self, stream, element):
        asks, text = LATER.get(getattr(stream, 'to', '').rsplit('-', 1)[0], ((), ''))
        if local(element) not in asks:
            return super().take(stream, element)
        more = {'kind': local(element), 'to': element.get('from'), 'id': element.get('id')}
        if local(element) in ('iq', 'message'):
            threading.Thread(target=self.call_back, args=(stream.to, text), kwargs=more, daemon=True).start()
        else:
            self.say(stream, text, **more)
        return True

    def call_back(self, domain, text, **more):
        """An answer comes on a stream of its own, proven by dialback."""
        s = Stream.dial(self.edge.external)
        s.open(domain, 'corp.example')
        s.features()
        s.send("<db:result from='%s' to='corp.example'>key</db:result>" % domain)
        s.wait('result')
        s.to = domain
        self.say(s, text, **more)
        self.streams.append(s)


@test
def no_word_of_a_server_that_we_dial_reaches_a_terminal_as_it_wrote_it(w):
    edge = w.rude.edge = new_edge(w, default='allow')
    said = b''
    for place in DIALLED:
        # an answer that is no XML ends its stream, and so nobody answers
        for n in range(len(WORDS) - 1 if place == 'stanza' else len(HOSTILE)):
            said += printed([('ping', 'message')[n % 2], edge.path, '%s-%d.rude.example' % (place, n)])
        for more in ([], ['--json']):
            said += printed(['status', edge.path] + more)
    well(edge)
    with open(edge.process.log, 'rb') as f:
        log = f.read()
    note('%d words in %d places, %d lines' % (len(HOSTILE), len(DIALLED), log.count(b'\n')))
    equal(unsafe(log), [], 'in the log')
    for before in (b'undefined-condition', b'not-authorized', b'gone'):
        check(before + b': \\u202ereversed' in said, 'the words after %s did not get there' % before.decode())


class RudeNames:
    """A name server that leads xNUMBER.names.example to a host of hostile bytes, and that to where nobody is dialled."""

    def __init__(self, lab):
        self.ip, self.port = lab.ip(3), 5353
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.ip, self.port))
        lab.closers.append(self.socket.close)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                asked, whom = self.socket.recvfrom(4096)
            except OSError:
                return
            end = asked.index(b'\0', 12) + 5
            number = re.search(rb'(\d+)\x05names', asked[12:end])
            answer = b''
            if asked[end - 3] == 33 and number:
                word = (HOSTILE + [b'host'])[int(number.group(1))]
                host = b''.join(bytes([len(x)]) + x for x in (word, b'names', b'example', b''))
                answer = struct.pack('>HHHIHHHH', 0xc00c, 33, 1, 1, 6 + len(host), 0, 0, 5269) + host
            elif asked[end - 3] == 1:
                answer = struct.pack('>HHHIH', 0xc00c, 1, 1, 1, 4) + bytes([10, 1, 2, 3])     # where nobody may be dialled
            head = b'\x84\0\0\1\0\1' if answer else b'\x84\3\0\1\0\0'
            self.socket.sendto(asked[:2] + head + bytes(4) + asked[12:end] + answer, whom)


@test
def no_word_of_a_name_server_reaches_a_terminal_as_it_wrote_it(w):
    edge = new_edge(w, default='allow', resolver=RudeNames(w.lab))
    said = b''.join(printed(['ping', edge.path, 'x%d.names.example' % n]) for n in range(len(HOSTILE) + 1))
    check(b'address-refused' in said, 'the last of them is no hostile one: ' + said.decode()[-300:])
    printed(['status', edge.path])
    printed(['status', edge.path, '--json'])
    well(edge)
    with open(edge.process.log, 'rb') as f:
        equal(unsafe(f.read()), [], 'in the log')


if __name__ == '__main__':
    missing = need_programs('dnsmasq', 'openssl')
    if missing or not have_binary():
        skip_all('missing: ' + ' '.join(missing) if missing else 'no ' + binary())
    run(setup)
