"""xmpp.py -- the people and the servers the tests play themselves.

  Client   an ordinary user: logs in at a real server, sends, waits, answers pings and queries
  Stream   one raw server-to-server stream, spoken step by step: header, STARTTLS, EXTERNAL, dialback
  Peer     a small XMPP server for the domains it is given; it can be told to misbehave

Incoming XML is read by expat.  A stanza is an ElementTree element, e.g. its name is
'{jabber:server}message'; the helpers at the top (kind, body, error) make that readable.
"""

import base64
import collections
import itertools
import select
import socket
import ssl
import threading
import time
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

NS_STREAM = 'http://etherx.jabber.org/streams'
NS_STREAMS = 'urn:ietf:params:xml:ns:xmpp-streams'
NS_STANZAS = 'urn:ietf:params:xml:ns:xmpp-stanzas'
NS_TLS = 'urn:ietf:params:xml:ns:xmpp-tls'
NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
NS_BIND = 'urn:ietf:params:xml:ns:xmpp-bind'
NS_SESSION = 'urn:ietf:params:xml:ns:xmpp-session'
NS_DB = 'jabber:server:dialback'
NS_DB_FEATURE = 'urn:xmpp:features:dialback'
NS_VERSION = 'jabber:iq:version'
NS_DISCO = 'http://jabber.org/protocol/disco#info'
NS_LAST = 'jabber:iq:last'
NS_PING = 'urn:xmpp:ping'

WAIT = 10           # seconds; every wait in the tests has an end

ids = itertools.count(1)


# ---- reading stanzas ---------------------------------------------------------------------------

def local(element):
    """The name without its namespace."""
    return element.tag.rpartition('}')[2]


def space(element):
    return element.tag.rpartition('}')[0][1:]


def child(element, name):
    """The first child with this local name."""
    for c in element:
        if local(c) == name:
            return c
    return None


def kind(element):
    """'message', 'presence subscribe', 'iq result', ... : name and type in one word to compare."""
    return (local(element) + ' ' + element.get('type', '')).strip()


def body(element):
    c = child(element, 'body')
    return c.text if c is not None else None


def bare(jid):
    return jid.partition('/')[0]


def domain_of(jid):
    return bare(jid).rpartition('@')[2]


Error = collections.namedtuple('Error', 'condition type text')


def error(element):
    """The condition, type and text of a stanza error or a stream error."""
    e = element if local(element) == 'error' and space(element) == NS_STREAM else child(element, 'error')
    if e is None:
        return Error('', '', '')
    condition = text = ''
    for c in e:
        if local(c) == 'text':
            text = c.text or ''
        elif space(c) in (NS_STANZAS, NS_STREAMS):
            condition = local(c)
    return Error(condition, e.get('type', ''), text)


def show(element):
    return ET.tostring(element, encoding='unicode')


def socket_for(ip):
    """A socket of the family of an address."""
    return socket.socket(socket.AF_INET6 if ':' in ip else socket.AF_INET)


# ---- a stream ----------------------------------------------------------------------------------

class Closed(Exception):
    """The other side ended the stream or the connection."""


class Timeout(AssertionError):
    pass


class Stream:
    """XML over a socket.  What arrives becomes elements in `inbox`; header, features and errors are
    elements like any other, the end is `ended` ('close' for </stream:stream>, 'eof', 'reset', 'bad-xml').
    """

    def __init__(self, sock, name='stream'):
        self.name = name
        self.sock = sock
        self.sock.setblocking(False)
        self.io = threading.Lock()          # one thread at a time inside the TLS library
        self.news = threading.Condition()
        self.reader = None
        self.on_element = None              # called for each element; True: do not keep it
        self.inbox = []
        self.raw_in = bytearray()
        self.ended = None
        self.eof = False                    # the connection, too, has ended
        self.closed_by_us = False
        self.header = None
        self.upgrade = False                # STARTTLS was agreed: handshake before reading on
        self.secure = self.authenticated = False
        self.renew = False                  # SASL succeeded: a new header follows
        self.trouble = None
        self.restart()

    @classmethod
    def dial(cls, address, source=None, timeout=WAIT, name='stream'):
        sock = socket_for(address[0])
        if source:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((source, 0))
        sock.settimeout(timeout)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, name)

    # -- parsing

    def restart(self):
        """Forget the parser: a new stream header follows."""
        self.parser = ET.XMLPullParser(('start', 'end'))
        self.depth = 0
        self.root = None

    def parse(self, data):
        self.raw_in += data
        try:
            self.parser.feed(data)
            for event, element in self.parser.read_events():
                self.take_event(event, element)
            if self.renew:
                self.renew = False
                self.restart()
        except ET.ParseError:
            self.ended = self.ended or 'bad-xml'

    def take_event(self, event, element):
        if event == 'start':
            self.depth += 1
            if self.depth == 1:
                self.root = self.header = element
                self.deliver(ET.Element(element.tag, element.attrib))
            return
        self.depth -= 1
        if self.depth == 1:
            self.root.remove(element)       # nothing is kept in the tree: streams may be long
            self.deliver(element)
        elif self.depth == 0:
            self.ended = 'close'

    def deliver(self, element):
        if self.on_element and self.on_element(element):
            return
        self.inbox.append(element)

    # -- bytes

    def send(self, text):
        data = text if isinstance(text, (bytes, bytearray)) else text.encode()
        deadline = time.monotonic() + WAIT
        view = memoryview(data)
        while view:
            try:
                with self.io:
                    n = self.sock.send(view)
                view = view[n:]
            except (BlockingIOError, ssl.SSLWantWriteError):
                select.select([], [self.sock], [], 0.5)
            except ssl.SSLWantReadError:
                select.select([self.sock], [], [], 0.5)
            except (OSError, ValueError) as e:
                raise Closed('%s: cannot send: %s (%s)' % (self.name, e, self.ended))
            if time.monotonic() > deadline:
                raise Timeout('%s: the other side does not read' % self.name)

    def pending(self):
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def pump(self, seconds):
        """Wait for bytes at most so long and parse them.  False when there is nothing more to come."""
        if self.eof or self.ended == 'bad-xml':
            return False
        try:
            if not self.pending():
                if not select.select([self.sock], [], [], max(0, seconds))[0]:
                    return True
            with self.io:
                data = self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except ConnectionResetError:
            return self.lost('reset')
        except (ssl.SSLError, OSError, ValueError):
            return self.lost('eof')
        if not data:
            return self.lost('eof')
        self.parse(data)
        return True

    def lost(self, how):
        self.eof = True
        self.ended = self.ended or how
        return False

    def start_reader(self):
        """Read in the background from now on, so that several streams live at the same time."""
        def run():
            while not self.closed_by_us:
                more = self.pump(0.5)
                with self.news:
                    self.news.notify_all()
                if not more:
                    return
        self.reader = threading.Thread(target=run, daemon=True)
        self.reader.start()

    # -- waiting

    def find(self, wanted):
        for i, element in enumerate(self.inbox):
            if wanted(element):
                return self.inbox.pop(i)
        return None

    def wait(self, wanted, seconds=WAIT, what='an element', unless=None):
        """The first element for which wanted(element) is true; others stay where they are.
        unless: gives the text of what makes waiting pointless, or None."""
        if isinstance(wanted, str):
            name = what = wanted
            wanted = lambda e: name in (local(e), kind(e))     # noqa: E731
        deadline = time.monotonic() + seconds
        while True:
            found = self.find(wanted)
            if found is not None:
                return found
            if unless and unless():
                raise AssertionError('%s: waited for %s, but %s' % (self.name, what, unless()))
            left = deadline - time.monotonic()
            if self.ended and self.ended != 'close' or self.ended and left <= 0:
                raise Closed('%s: ended (%s) while waiting for %s; have %s'
                             % (self.name, self.ended, what, [show(e)[:300] for e in self.inbox]))
            if left <= 0:
                raise Timeout('%s: waited %g s for %s; have %s'
                              % (self.name, seconds, what, [show(e)[:300] for e in self.inbox]))
            self.wait_for_news(left)

    def wait_for_news(self, seconds):
        if self.reader:
            with self.news:
                self.news.wait(min(seconds, 0.2))
        else:
            self.pump(seconds)

    def wait_end(self, seconds=WAIT):
        """The other side ends stream and connection; the stream error, '' if there was none."""
        deadline = time.monotonic() + seconds
        answered = False
        while not self.eof and self.ended != 'bad-xml':
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout('%s: still connected after %g s (%s); have %s' % (
                    self.name, seconds, self.ended, [show(e)[:300] for e in self.inbox]))
            if self.ended == 'close' and not answered:
                answered = True
                self.answer_close()
            self.wait_for_news(left)
        found = self.find(lambda e: e.tag == '{%s}error' % NS_STREAM)
        return error(found).condition if found is not None else ''

    def answer_close(self):
        try:
            self.send('</stream:stream>')
        except (Closed, Timeout):
            pass

    def quiet(self, seconds):
        """True when nothing at all arrives for so long and the connection stays."""
        before = len(self.raw_in)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.ended:
            self.wait_for_news(deadline - time.monotonic())
        return len(self.raw_in) == before and not self.ended

    def close(self, politely=True):
        self.closed_by_us = True
        try:
            if politely and not self.ended:
                self.send('</stream:stream>')
        except (Closed, Timeout):
            pass
        try:
            self.sock.close()
        except OSError:
            pass

    def abort(self):
        """End with a TCP reset."""
        self.closed_by_us = True
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        except OSError:
            pass
        self.sock.close()

    # -- TLS

    def handshake(self, context, server_side=False, sni=None):
        """TLS over the connection as it is.  Bytes that were read too early would be an error."""
        self.sock.setblocking(True)
        self.sock.settimeout(WAIT)
        self.sock = context.wrap_socket(self.sock, server_side=server_side, server_hostname=sni,
                                        suppress_ragged_eofs=True)
        self.sock.setblocking(False)
        self.restart()

    def peer_certificate(self):
        """What the other side showed, as DER."""
        return self.sock.getpeercert(binary_form=True)

    # -- speaking s2s, the initiating side

    def open(self, frm, to, ns='jabber:server', version='1.0', extra=''):
        """Send a stream header; return the answering header."""
        self.restart()
        self.frm, self.to = frm, to
        self.send("<?xml version='1.0'?><stream:stream xmlns='%s' xmlns:stream='%s' xmlns:db='%s'%s%s%s%s>"
                  % (ns, NS_STREAM, NS_DB, " from='%s'" % frm if frm else '', " to='%s'" % to if to else '',
                     " version='%s'" % version if version else '', extra))

    def features(self, seconds=WAIT):
        """The answering header and its features."""
        self.answer = self.wait('stream', seconds, 'a stream header')
        return self.wait('features', seconds, 'stream features')

    def starttls(self, context, frm=None, to=None):
        """From features that offer STARTTLS to the features inside TLS."""
        self.send("<starttls xmlns='%s'/>" % NS_TLS)
        self.wait('proceed')
        self.handshake(context, sni=self.to)
        self.open(frm or self.frm, to or self.to)
        return self.features()

    def external(self, frm=None):
        self.send("<auth xmlns='%s' mechanism='EXTERNAL'>%s</auth>"
                  % (NS_SASL, base64.b64encode((frm or self.frm).encode()).decode()))
        answer = self.wait(lambda e: space(e) == NS_SASL, what='the SASL outcome')
        if local(answer) != 'success':
            return answer
        self.open(self.frm, self.to)
        self.features()
        return answer

    def stream_id(self):
        return self.header.get('id')

    def dialback(self, key='key', frm=None, to=None, seconds=WAIT):
        """Ask to be authorised; the answer's type: valid, invalid or error."""
        frm, to = frm or self.frm, to or self.to
        self.send("<db:result from='%s' to='%s'>%s</db:result>" % (frm, to, key))
        answer = self.wait(lambda e: e.tag == '{%s}result' % NS_DB and e.get('to') == frm
                           and e.get('type') is not None, seconds, 'a dialback result')
        return answer.get('type')


def offers(features, mechanism):
    """Whether features offer a SASL mechanism."""
    return any(m.text == mechanism for m in features.iter('{%s}mechanism' % NS_SASL))


HEADER = ("<stream:stream xmlns='jabber:server' xmlns:stream='%s' from='pa.example' to='corp.example' "
          "version='1.0'>" % NS_STREAM)


def callers(address, count):
    """Connections that have said a stream header and no more."""
    made = []
    for _ in range(count):
        made.append(socket.create_connection(address))
        made[-1].sendall(HEADER.encode())
    return made


def client_context(cert=None, alpn=('xmpp-server',), ca=None):
    """TLS as the initiating side; the other side's certificate is looked at by the test, not here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if ca:
        context.load_verify_locations(ca.crt)
        context.verify_mode = ssl.CERT_REQUIRED
    if cert:
        context.load_cert_chain(cert.chain, cert.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def server_context(cert, ca=None):
    """TLS as the receiving side; with a CA the client is asked for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert.chain, cert.key)
    context.set_alpn_protocols(['xmpp-server'])
    if ca:
        context.load_verify_locations(ca.crt)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


# ---- stanzas to send ---------------------------------------------------------------------------

def message(frm, to, text, id=None, type='chat'):
    return '<message from=%s to=%s type=%s id=%s><body>%s</body></message>' % (
        quoteattr(frm), quoteattr(to), quoteattr(type), quoteattr(id or 'm%d' % next(ids)), escape(text))


def iq(frm, to, payload, type='get', id=None):
    return '<iq from=%s to=%s type=%s id=%s>%s</iq>' % (
        quoteattr(frm), quoteattr(to), quoteattr(type), quoteattr(id or 'q%d' % next(ids)), payload)


# ---- a user ------------------------------------------------------------------------------------

class Client:
    """A user of a real server.  Whatever the server sends waits in the stream's inbox until asked for."""

    def __init__(self, jid, server, password='secret', presence=True):
        self.bare = jid
        self.user, _, self.domain = jid.partition('@')
        self.enter(server, password)
        self.stream.on_element = self.answer_queries
        self.stream.start_reader()
        if presence:
            # whoever has not asked for the roster is not told about subscriptions (RFC 6121 2.2)
            self.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
            self.wait(lambda s: s.get('id') == 'roster', what='the roster')
            self.send('<presence/>')
            # not every server echoes our presence; one that answers this has dealt with it
            self.send("<iq type='get' id='ready' to='%s'><ping xmlns='%s'/></iq>" % (self.domain, NS_PING))
            self.wait(lambda s: s.get('id') == 'ready', what='a pong')

    def enter(self, server, password):
        """Log in.  jabberd2 2.7.0 answers every fifth login or so with internal-server-error."""
        for attempts_left in reversed(range(10)):
            self.stream = Stream.dial(server.c2s, name=self.bare)
            try:
                return self.login(password)
            except Closed as e:
                self.stream.close(politely=False)
                if 'internal-server-error' not in str(e) or not attempts_left:
                    raise

    def login(self, password):
        s = self.stream
        s.open(None, self.domain, ns='jabber:client')
        mechanisms = s.features()
        if not offers(mechanisms, 'PLAIN'):
            raise AssertionError('%s: no PLAIN in %s' % (self.bare, show(mechanisms)))
        secret = base64.b64encode(('\0%s\0%s' % (self.user, password)).encode()).decode()
        s.send("<auth xmlns='%s' mechanism='PLAIN'>%s</auth>" % (NS_SASL, secret))
        outcome = s.wait(lambda e: space(e) == NS_SASL, what='the SASL outcome')
        if local(outcome) != 'success':
            raise AssertionError('%s cannot log in: %s' % (self.bare, show(outcome)))
        s.open(None, self.domain, ns='jabber:client')
        features = s.features()
        s.send("<iq type='set' id='bind'><bind xmlns='%s'><resource>test</resource></bind></iq>" % NS_BIND)
        bound = s.wait(lambda e: e.get('id') == 'bind', what='resource binding')
        self.jid = bound.find('.//{%s}jid' % NS_BIND).text
        if child(features, 'session') is not None:      # old servers still want it (RFC 3921)
            s.send("<iq type='set' id='session'><session xmlns='%s'/></iq>" % NS_SESSION)
            s.wait(lambda e: e.get('id') == 'session', what='a session')

    def answer_queries(self, stanza):
        if local(stanza) != 'iq' or stanza.get('type') not in ('get', 'set') or not len(stanza):
            return False
        what = space(stanza[0])
        if what == NS_VERSION:
            payload = "<query xmlns='%s'><name>test client</name><version>1</version></query>" % NS_VERSION
        elif what == NS_DISCO:
            payload = ("<query xmlns='%s'><identity category='client' type='bot'/>"
                       "<feature var='%s'/></query>" % (NS_DISCO, NS_DISCO))
        elif what == NS_LAST:
            payload = "<query xmlns='%s' seconds='1'/>" % NS_LAST
        elif what == NS_PING:
            payload = ''
        else:
            return False
        self.send('<iq type="result" id=%s%s>%s</iq>' % (
            quoteattr(stanza.get('id', '')),
            ' to=' + quoteattr(stanza.get('from')) if stanza.get('from') else '', payload))
        return True

    def send(self, xml):
        self.stream.send(xml)

    def message(self, to, text, id=None):
        self.send("<message to=%s type='chat' id=%s><body>%s</body></message>"
                  % (quoteattr(to), quoteattr(id or 'm%d' % next(ids)), escape(text)))

    def presence(self, to, type):
        self.send("<presence to=%s type=%s/>" % (quoteattr(to), quoteattr(type)))

    def wait(self, wanted, seconds=WAIT, what='a stanza'):
        return self.stream.wait(wanted, seconds, what)

    def wait_message(self, text, seconds=WAIT, sender=None):
        """sender: the client whose message it is; an error that comes back to it ends the waiting."""
        def returned():
            for s in sender.stream.inbox:
                if kind(s) == 'message error':
                    return '%s got an error: %s' % (sender.bare, error(s))
        return self.stream.wait(lambda s: kind(s) == 'message chat' and body(s) == text, seconds,
                                'the message %r' % text, returned if sender else None)

    def wait_presence(self, frm, type='', seconds=WAIT):
        return self.wait(lambda s: local(s) == 'presence' and s.get('type', '') == type
                         and bare(s.get('from', '')) == bare(frm), seconds,
                         'presence %s from %s' % (type or 'available', frm))

    def wait_subscribed(self, other, seconds=WAIT):
        """Our subscription was accepted; jabberd2 says so in a roster push only."""
        def accepted(s):
            if local(s) == 'presence':
                return s.get('type') == 'subscribed' and bare(s.get('from', '')) == other
            return any(i.get('jid') == other and i.get('subscription') in ('to', 'both')
                       for i in s.iter('{jabber:iq:roster}item'))
        return self.wait(accepted, seconds, 'the approval of ' + other)

    def wait_error(self, id, seconds=WAIT):
        """The error that came back for a stanza we sent: (condition, type, text)."""
        return error(self.wait(lambda s: s.get('id') == id and s.get('type') == 'error', seconds,
                               'an error for ' + id))

    def iq(self, to, payload, type='get', seconds=WAIT):
        id = 'q%d' % next(ids)
        self.send('<iq to=%s type=%s id=%s>%s</iq>'
                  % (quoteattr(to), quoteattr(type), quoteattr(id), payload))
        return self.wait(lambda s: local(s) == 'iq' and s.get('id') == id
                         and s.get('type') in ('result', 'error'), seconds, 'an answer to iq ' + id)

    def close(self):
        self.stream.close()


def converse(alice, bob, seconds=WAIT):
    """A message, a presence subscription and an iq with its answer, in both directions."""
    tag = 'hello %d' % next(ids)
    for one, other in ((alice, bob), (bob, alice)):
        one.message(other.jid, tag + ' from ' + one.bare)
        other.wait_message(tag + ' from ' + one.bare, seconds, sender=one)
    for one, other in ((alice, bob), (bob, alice)):
        one.presence(other.bare, 'subscribe')
        other.wait_presence(one.bare, 'subscribe', seconds)
        other.presence(one.bare, 'subscribed')
        one.wait_subscribed(other.bare, seconds)
        one.wait_presence(other.bare, '', seconds)
    for one, other in ((alice, bob), (bob, alice)):
        answer = one.iq(other.jid, "<query xmlns='%s'/>" % NS_VERSION, seconds=seconds)
        if kind(answer) != 'iq result' or answer.find('.//{%s}name' % NS_VERSION).text != 'test client':
            raise AssertionError('iq answered with ' + show(answer))


# ---- a server that does as it is told ----------------------------------------------------------

class Peer:
    """A server-to-server speaker for `domains`, listening on `address`.

    tls        required, optional or off
    verify     how it answers "is this key yours?": valid, invalid, error or silent
    result     how it answers "let me in with this key": valid (without asking back), invalid, silent
    silent     accept the connection and say nothing
    direct     TLS from the first byte
    """

    def __init__(self, lab, domains, address, cert=None, ca=None, tls='off', verify='valid', result='valid',
                 external=True, silent=False, direct=False):
        self.domains = list(domains)
        self.address = address
        self.cert, self.ca = cert, ca
        self.tls, self.verify, self.result, self.external = tls, verify, result, external
        self.silent, self.direct = silent, direct
        self.streams = []                   # every connection accepted
        self.dialled = []
        self.stanzas = []                   # every stanza received, in order of arrival
        self.news = threading.Condition()
        self.on_stanza = None               # instead of keeping stanzas
        self.listener = socket_for(address[0])
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(address)
        self.listener.listen(64)
        self.stopping = False
        lab.closers.append(self.stop)
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self):
        self.stopping = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for s in self.streams + self.dialled:
            s.close(politely=False)

    # -- receiving

    def accept(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = Stream(sock, 'connection to ' + self.domains[0])
            self.streams.append(stream)
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        """One connection, until it ends.  Elements are answered as they are parsed."""
        try:
            if self.direct:
                stream.handshake(server_context(self.cert, self.ca), server_side=True)
                stream.secure = True
            stream.on_element = lambda e: self.take(stream, e)
            while not self.stopping and stream.pump(0.5):
                if stream.upgrade:
                    stream.upgrade = False
                    stream.handshake(server_context(self.cert, self.ca), server_side=True)
                    stream.secure = True
                if stream.ended == 'close':
                    stream.close()
                    return
        except (Closed, Timeout, OSError, ssl.SSLError) as e:
            stream.trouble = str(e)
        with self.news:
            self.news.notify_all()

    def take(self, stream, element):
        """True: the element is dealt with."""
        name, ns = local(element), space(element)
        if self.silent:
            return True
        if ns == NS_STREAM and name == 'stream':
            self.answer_header(stream, element)
        elif ns == NS_TLS and name == 'starttls' and self.tls != 'off':
            stream.send("<proceed xmlns='%s'/>" % NS_TLS)
            stream.upgrade = True
        elif ns == NS_SASL and name == 'auth':
            stream.send("<success xmlns='%s'/>" % NS_SASL)
            stream.authenticated = True
            stream.renew = True
        elif ns == NS_DB:
            self.answer_dialback(stream, element)
        elif name in ('message', 'presence', 'iq'):
            self.keep(stream, element)
        else:
            return False
        return True

    def answer_header(self, stream, header):
        stream.frm, stream.to = header.get('from'), header.get('to')
        stream.id = 'id%d' % next(ids)
        # Features only for those who said 1.0: jabberd2 without TLS does not, and when it gets features
        # nevertheless it asks for dialback twice and stumbles over the second answer.
        modern = header.get('version') is not None
        stream.send("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='%s' "
                    "xmlns:db='%s' from='%s' id='%s'%s%s>%s"
                    % (NS_STREAM, NS_DB, stream.to or self.domains[0], stream.id,
                       " to='%s'" % stream.frm if stream.frm else '', " version='1.0'" if modern else '',
                       '<stream:features>%s</stream:features>' % self.feature_list(stream) if modern else ''))

    def feature_list(self, stream):
        if stream.authenticated:
            return ''
        out = ''
        if not stream.secure and self.tls != 'off':
            out += "<starttls xmlns='%s'>%s</starttls>" % (
                NS_TLS, '<required/>' if self.tls == 'required' else '')
        if stream.secure and self.external and self.ca and stream.sock.getpeercert():
            out += "<mechanisms xmlns='%s'><mechanism>EXTERNAL</mechanism></mechanisms>" % NS_SASL
        return out + "<dialback xmlns='%s'><errors/></dialback>" % NS_DB_FEATURE

    def answer_dialback(self, stream, element):
        frm, to = element.get('from'), element.get('to')
        if element.get('type') is not None:
            stream.inbox.append(element)        # an answer to something we asked
            return
        how = self.result if local(element) == 'result' else self.verify
        if how == 'silent':
            return
        detail = ''
        if how == 'error':
            detail = ("<error type='cancel'><item-not-found xmlns='%s'/></error>" % NS_STANZAS)
        stream.send("<db:%s from='%s' to='%s'%s type='%s'>%s</db:%s>" % (
            local(element), to, frm, " id='%s'" % element.get('id') if element.get('id') else '', how,
            detail, local(element)))

    def keep(self, stream, stanza):
        if self.on_stanza and self.on_stanza(stanza):
            return
        with self.news:
            self.stanzas.append(stanza)
            self.news.notify_all()

    # -- waiting

    def wait(self, wanted, seconds=WAIT, what='a stanza'):
        deadline = time.monotonic() + seconds
        with self.news:
            while True:
                for i, stanza in enumerate(self.stanzas):
                    if wanted(stanza):
                        return self.stanzas.pop(i)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Timeout('%s: waited %g s for %s; have %s'
                                  % (self.domains[0], seconds, what, [show(s)[:300] for s in self.stanzas]))
                self.news.wait(left)

    def wait_message(self, text, seconds=WAIT):
        return self.wait(lambda s: body(s) == text, seconds, 'the message %r' % text)

    def wait_error(self, id, seconds=WAIT):
        return error(self.wait(lambda s: s.get('id') == id and s.get('type') == 'error', seconds,
                               'an error for ' + id))

    # -- calling out

    def dial(self, address, to, frm=None, method=None, cert=None, source=None):
        """A stream to another server on which we may speak.  method: external, dialback or tls-dialback."""
        frm = frm or self.domains[0]
        s = Stream.dial(address, source=source or self.address[0], name='%s to %s' % (frm, to))
        self.dialled.append(s)
        s.open(frm, to)
        features = s.features()
        if method != 'dialback' and child(features, 'starttls') is not None and (cert or self.cert):
            features = s.starttls(client_context(cert or self.cert))
        if method in (None, 'external') and offers(features, 'EXTERNAL'):
            outcome = s.external()
            if local(outcome) != 'success':
                raise AssertionError('EXTERNAL refused: ' + show(outcome))
        else:
            if method == 'external':
                raise AssertionError('EXTERNAL is not offered: ' + show(features))
            answer = s.dialback()
            if answer != 'valid':
                raise AssertionError('dialback answered ' + answer)
        s.on_element = lambda e: self.take_dialled(s, e)
        s.start_reader()
        return s

    def take_dialled(self, stream, element):
        """Answers come on streams of their own; what arrives here is dialback or an error."""
        if local(element) in ('message', 'presence', 'iq'):
            self.keep(stream, element)
            return True
        return False
