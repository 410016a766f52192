"""scene.py -- partners with defects, callers with defects: what tests of failures begin with.

Used by 20-failures.t, which looks at errors and logs, and 60-analyze.t, which looks at captures.  And what
strangers write that no terminal may be given.
"""

import ssl
import subprocess
import unicodedata

from edge import binary, partner
from lab import self_signed
from tap import check, equal
from wire import DeafPort, Said
from xmpp import NS_TLS, Closed, Peer, Stream, child, client_context, local, offers, show

# short enough to wait for; dialback before attempt, so that the cause is told apart
LIMITS = {'connect-time': '300ms', 'attempt-time': '2s', 'dialback-time': '1s',
          'hold-time': '500ms', 'partner-retry-first': '100ms', 'partner-retry-max': '200ms',
          'close-time': '500ms',
          'queue-stanzas': 20, 'queue-bytes': 40000, 'stanza-bytes': 20000, 'past-bytes': 20000,
          'source-connections': 500, 'source-rate': 1000, 'source-burst': 1000}
STRICT = dict(tls='required', sasl='required', dialback=False)
DIALBACK = dict(tls='optional', sasl='not-supported', dialback=True)


class World:
    pass


# ---- the scene ---------------------------------------------------------------------------------

def bad_certificates(lab, pki):
    return {'expired.example': pki.public.issue('expired.example', expired=True),
            'wrongname.example': pki.public.issue('other-name.example'),
            'untrusted.example': pki.unknown().issue('untrusted.example'),
            'selfsigned.example': self_signed(lab, 'selfsigned.example')}


def make_partners(w):
    """The servers that bob tries to reach, each with a defect of its own; their policies."""
    lab, pki = w.lab, w.pki
    n = 100
    policies = []
    w.places = {}       # domain -> address

    def place(domain, records=True, **policy):
        nonlocal n
        n += 1
        w.places[domain] = lab.ip(n)
        if records:
            w.outside.server(domain, lab.ip(n))
        policies.append(partner(domain, **policy))
        return lab.ip(n), 5269

    w.bad = bad_certificates(lab, pki)
    for domain, cert in w.bad.items():
        Peer(lab, [domain], place(domain, **STRICT), cert=cert, ca=pki.public, tls='required')
    Peer(lab, ['notls.example'], place('notls.example'), tls='off')
    for how in ('invalid', 'silent', 'error'):
        domain = 'db%s.example' % how
        Peer(lab, [domain], place(domain, **DIALBACK), result=how, verify=how)
    for domain in ('silent.example', 'full.example', 'heavy.example'):
        Peer(lab, [domain], place(domain), silent=True)
    DeafPort(lab, place('deaf.example'))
    # two servers, and the one that nearly always comes first does not answer
    Peer(lab, ['halfdeaf.example'], place('halfdeaf.example', **DIALBACK))
    w.outside.srv('halfdeaf.example', 'xmpp.deaf.example', 5269, weight=65535)
    place('closed.example', **DIALBACK)
    place('nxdomain.example', records=False, **DIALBACK)
    place('noservice.example', records=False)
    w.outside.no_service('noservice.example')
    place('nodns.example', records=False)
    w.outside.lines.append('server=/nodns.example/#')    # and there is nobody to ask: REFUSED
    # a good partner, by certificate; two of its domains by dialback
    w.raw_cert = pki.public.issue('raw.example')
    w.raw = Peer(lab, ['raw.example'], place('raw.example'), cert=w.raw_cert, ca=pki.public,
                 tls='required')
    w.db = Peer(lab, ['db.example', 'db2.example'], place('db.example', **DIALBACK))
    w.outside.server('db2.example', w.db.address[0])
    policies.append(partner('db2.example', **DIALBACK))
    # two servers, and the one that nearly always comes first takes connections and is silent
    Peer(lab, ['halfsilent.example'], place('halfsilent.example', **DIALBACK))
    w.outside.srv('halfsilent.example', 'xmpp.silent.example', 5269, weight=65535)
    Said(lab, place('web.example', **DIALBACK), b'HTTP/1.1 400 Bad Request\r\nServer: web\r\n\r\n')
    Said(lab, place('bare.example', **DIALBACK), b"<stream:error xmlns:stream='http://etherx.jabber.org/streams'>"
         b"<host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
    place('numeric.example', records=False, **DIALBACK)
    w.outside.srv('numeric.example', lab.ip(n), 5269)
    policies.append(partner('strict.example', **STRICT))
    policies.append(partner('nodialback.example', tls='optional', sasl='optional', dialback=False))
    return policies


# ---- callers -----------------------------------------------------------------------------------

def call(w, edge=None, frm='raw.example', to='corp.example', source=None):
    """A plain connection with our header sent and its features received."""
    s = Stream.dial((edge or w.edge).external, source=source, name='call from ' + frm)
    s.open(frm, to)
    return s, s.features()


def secure_call(w, edge=None, frm='raw.example', cert=None, source=None):
    s, features = call(w, edge, frm, source=source)
    check(child(features, 'starttls') is not None, 'no STARTTLS offered: ' + show(features))
    s.send("<starttls xmlns='%s'/>" % NS_TLS)
    s.wait('proceed')
    s.handshake(client_context(cert), sni='corp.example')
    s.open(frm, 'corp.example')
    return s


def trusted_call(w, edge=None, source=None):
    """An authenticated stream of raw.example."""
    s = secure_call(w, edge, cert=w.raw_cert, source=source)
    features = s.features()
    check(offers(features, 'EXTERNAL'), 'EXTERNAL is not offered: ' + show(features))
    equal(local(s.external()), 'success', 'SASL outcome')
    return s


def knock(w, cert, source=None, edge=None):
    """TLS to 23456 with this certificate and a header: how it ends."""
    s = Stream.dial((edge or w.edge).internal, source=source, name='trunk')
    try:
        s.handshake(client_context(cert), sni='edge01.corp.example')
        s.open('fe01.corp.example', 'edge01.corp.example')
        s.wait_end(5)
    except (OSError, ssl.SSLError, Closed):
        pass
    check(b'<trunk' not in bytes(s.raw_in), 'the trunk was offered')
    check(b'success' not in bytes(s.raw_in), 'SASL succeeded')


# ---- words that are none -----------------------------------------------------------------------

WORDS = ['\u202ereversed', '\u2066isolated', 'next\u0085line', 'csi\u009b31m', 'zero\u200bwidth', 'line\u2028separator',
         '\ufeffmark', 'del\x7f', 'tag\U000e0041', 'a=b why=none', '"quoted\\', 'new&#10;line', 'esc&#27;[31m']
BROKEN = [b'\x1b[31m', b'\x00', b'\xff\xfe', b'\xc0\xaf', b'\xed\xa0\x80', b'\xf8\x88\x80\x80\x80']
HOSTILE = [word.encode() for word in WORDS] + BROKEN


def unsafe(text):
    """What in these bytes is neither the end of a line nor a character that can be seen."""
    return [c for c in text.decode().replace('\n', '')
            if c != ' ' and unicodedata.category(c)[0] in 'CZ']


def printed(command):
    done = subprocess.run([binary()] + command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
    equal(unsafe(done.stdout), [], 'printed by %r' % command)
    return done.stdout
