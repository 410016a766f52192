#!/usr/bin/env python3
"""50-attack.t -- what somebody who means harm can try, from outside and as a partner.

The edge and the gateway are between a partner and an inner server that the test plays itself.  After every
attack both still run, the trunk is the same one, and a message still passes both ways.
"""
import os
import random
import socket
import sys
import threading
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                                    # noqa: E402
from lab import Lab, wait_until                                                 # noqa: E402
from tap import check, equal, note, test                                        # noqa: E402
from xmpp import NS_DB, NS_STREAM, NS_TLS, Closed, Peer, Stream, Timeout       # noqa: E402
from xmpp import client_context, ids, local, message, offers                   # noqa: E402

LIMITS = {'connect-time': '500ms', 'attempt-time': '2s', 'dialback-time': '1500ms', 'hold-time': '3s',
          'close-time': '500ms', 'partner-retry-first': '100ms', 'partner-retry-max': '200ms',
          'trunk-retry-first': '100ms', 'trunk-retry-max': '300ms', 'partner-connections': 4,
          'source-connections': 500, 'source-rate': 1000, 'source-burst': 1000}
HEADER = ("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='%s' xmlns:db='%s' "
          "from='pa.example' to='corp.example' version='1.0'>" % (NS_STREAM, NS_DB))


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    w.cert = pki.public.issue('pa.example')
    policies = [partner('pa.example', tls='optional'), partner('slow.example', tls='optional'),
                partner('pm.example', tls='optional')]
    for n, domain in ((61, 'pa.example'), (62, 'slow.example'), (61, 'pm.example')):
        outside.server(domain, lab.ip(n))
    w.pa = Peer(lab, ['pa.example', 'pm.example'], (lab.ip(61), 5269), cert=w.cert, ca=pki.public, tls='optional')
    w.slow = Peer(lab, ['slow.example'], (lab.ip(62), 5269), verify='silent')
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example', 'corp2.example'], policies,
                      [w.corp.address + (['corp.example'], 'optional')], edge_limits=LIMITS,
                      gateway_limits=LIMITS)
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.edge.gateways.append('fe02.corp.example')
    w.rogue_cert = pki.internal.issue('fe02.corp.example')
    w.border.start()
    w.back = w.corp.dial(w.gateway.listen, 'pa.example')
    all_is_well(w)
    return w


def trusted(w):
    return w.pa.dial(w.edge.external, 'corp.example', cert=w.cert)


def all_is_well(w, same_trunk=True):
    """Both run, no sanitizer has complained, and a message passes both ways."""
    for node in (w.edge, w.gateway):
        check(node.running(), node.name + ' is dead:\n' + node.log_text()[-2500:])
        check(not node.sanitizer_report(), node.sanitizer_report())
    s = trusted(w)
    text = 'well %d' % next(ids)
    s.send(message('a@pa.example', 'b@corp.example', text))
    w.corp.wait_message(text)
    w.back.send(message('b@corp.example', 'a@pa.example', text))
    w.pa.wait_message(text)
    s.close()
    if same_trunk:
        check(not w.edge.find_log('trunk-down', name='fe01.corp.example'), 'the trunk went down')
    w.border.forget_logs()


# ---- callers that nobody knows -----------------------------------------------------------------

def ask_and_run(w, domain, pause):
    """Ask for dialback, and be gone before it is answered."""
    s = Stream.dial(w.edge.external)
    s.open(domain, 'corp.example')
    s.features()
    s.send("<db:result from='%s' to='corp.example'>0123</db:result>" % domain)
    time.sleep(pause)
    s.abort() if pause % 2 else s.close()


@test
def a_caller_that_leaves_while_its_dialback_is_asked_about_does_no_harm(w):
    for domain in ('pa.example', 'slow.example'):
        for pause in (0, 0.001, 0.003, 0.01, 0.03):
            ask_and_run(w, domain, pause)
    time.sleep(0.3)
    all_is_well(w)


@test
def starttls_that_comes_in_pieces_works(w):
    s = Stream.dial(w.edge.external)
    for byte in HEADER:
        s.send(byte)
    s.features()
    for part in ("<starttls xmlns='urn:ietf:params", ":xml:ns:xmpp-t", "ls'/>"):
        s.send(part)
        time.sleep(0.02)
    s.wait('proceed')
    s.handshake(client_context(w.cert), sni='corp.example')
    s.open('pa.example', 'corp.example')
    check(offers(s.features(), 'EXTERNAL'), 'EXTERNAL is not offered')
    s.close()


@test
def callers_that_only_claim_to_be_a_partner_do_not_use_up_its_connections(w):
    claims = []
    for _ in range(8):      # twice what the partner may have
        s = Stream.dial(w.edge.external, source=w.lab.ip(190))
        s.open('pa.example', 'corp.example')
        claims.append(s)
    time.sleep(0.2)
    all_is_well(w)
    for s in claims:
        s.close()


def stage_calls(w):
    """Every stage of a call at which the caller can go: each as a function that leaves the stream there."""
    def header(s):
        s.send(HEADER)

    def half_header(s):
        s.send(HEADER[:60])

    def features(s):
        header(s)
        s.features()

    def proceed(s):
        features(s)
        s.send("<starttls xmlns='%s'/>" % NS_TLS)
        s.wait('proceed')

    def half_hello(s):
        proceed(s)
        s.send(b'\x16\x03\x01\x02\x00\x01\x00')

    def secure(s):
        proceed(s)
        s.handshake(client_context(w.cert), sni='corp.example')

    def secure_header(s):
        secure(s)
        s.open('pa.example', 'corp.example')

    def auth(s):
        secure_header(s)
        s.features()
        s.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")

    def asked(s):
        features(s)
        s.send("<db:result from='slow.example' to='corp.example'>0123</db:result>")

    def asked_and_starttls(s):
        asked(s)
        s.send("<starttls xmlns='%s'/>" % NS_TLS)

    def stanza(s):
        auth(s)
        s.wait('success')
        s.open('pa.example', 'corp.example')
        s.send("<message from='a@pa.example' to='b@corp.example'><body>")

    def hello(s):
        s.send(b'\x16\x03\x01')

    return [lambda s: None, half_header, header, features, proceed, half_hello, secure, secure_header, auth,
            asked, asked_and_starttls, stanza, hello]


@test
def callers_that_leave_at_any_stage_leave_nothing_behind(w):
    for how in ('close', 'abort', 'half'):
        for stage in stage_calls(w):
            s = Stream.dial(w.edge.external)
            try:
                stage(s)
                if how == 'half':
                    s.sock.shutdown(socket.SHUT_WR)
            except (OSError, Closed) as e:
                note('%s: %s' % (how, e))
            s.abort() if how == 'abort' else s.close(politely=False)
    wait_until(lambda: not [s for s in w.edge.status_json()['streams'] if s['direction'] == 'in'
                            and s['state'] == 'accepted'], 8, 'the edge to forget callers that left')
    all_is_well(w)


def mutate(random, data):
    data = bytearray(data)
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(data))
        how = random.randrange(4)
        if how == 0:
            data[at] = random.randrange(256)
        elif how == 1:
            del data[at:at + random.randrange(1, 9)]
        elif how == 2:
            data[at:at] = bytes(random.randrange(256) for _ in range(random.randrange(1, 5)))
        else:
            end = min(len(data), at + random.randrange(1, 40))
            data[at:at] = data[at:end]
        if not data:
            break
    return bytes(data)


@test
def damaged_negotiations_end_and_do_no_harm(w):
    dice = random.Random(5)
    plain = (HEADER + "<db:verify from='pa.example' to='corp.example' id='x'>01</db:verify>"
             "<db:result from='slow.example' to='corp.example'>0123</db:result>"
             "<starttls xmlns='%s'/>" % NS_TLS).encode()
    secret = (HEADER + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>" + HEADER
              + message('a@pa.example', 'x@corp.example', 'damaged') + '</stream:stream>').encode()
    hello = b'\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03' + bytes(range(32)) * 6
    until = time.monotonic() + 6
    while time.monotonic() < until:
        kind = dice.randrange(3)
        try:
            if kind < 2:
                with socket.create_connection(w.edge.external, 5) as raw:
                    raw.sendall(mutate(dice, hello if kind else plain))
                continue
            s = Stream.dial(w.edge.external)
            s.sock.settimeout(5)
            s.handshake(client_context(w.cert), sni='corp.example')
            s.send(mutate(dice, secret))
            s.pump(0.02)
            s.close(politely=False)
        except (OSError, Closed):
            pass
    w.corp.stanzas.clear()
    all_is_well(w)


@test
def a_flood_of_strangers_does_not_fill_the_log(w):
    def flood():
        for n in range(400):
            try:
                with socket.create_connection(w.edge.external, 5, (w.lab.ip(192), 0)) as raw:
                    raw.sendall(HEADER.replace('pa.example', 's%d-%d.example' % (n, id(raw))).encode())
                    raw.recv(2000)
            except OSError:
                pass
    threads = [threading.Thread(target=flood) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    lines = [line for line in w.edge.find_log('s2s-in-closed') if line.fields.get('why') == 'partner-unlisted']
    check(50 < len(lines) <= 202, '%d lines for 1600 callers' % len(lines))       # two windows, at most
    w.edge.forget_log()
    s = Stream.dial(w.edge.external, source=w.lab.ip(191))      # nor does it silence what others cause
    s.open('unlisted.example', 'corp.example')
    s.wait_end(5)
    w.edge.wait_log('s2s-in-closed', why='partner-unlisted', claims='unlisted.example')
    w.border.forget_logs()
    all_is_well(w)


@test
def stalled_askers_do_not_block_the_control_socket_for_ever(w):
    held = []
    for _ in range(8):
        c = socket.socket(socket.AF_UNIX)
        c.connect(w.edge.control())
        c.send(b'status')           # and never the end of the line
        held.append(c)
    check('streams' in w.edge.status_json(), 'no status')
    for _ in range(8):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].connect(w.edge.control())
    for others in 0, 100:           # more than are waited for until they have read why not
        for _ in range(others):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].connect(w.edge.control())
        status, said = w.edge.command('status', w.edge.path)
        equal((status, said), (1, 'failed: too many questions at a time: ask again\n'), 'the answer to one too many')
    for c in held:
        c.close()
    all_is_well(w)


# ---- a partner that sends what would hurt others ------------------------------------------------

def poison(w, header_extra, stanza):
    s = Stream.dial(w.edge.external)
    s.open('pa.example', 'corp.example', extra=header_extra)
    s.features()
    s.send("<starttls xmlns='%s'/>" % NS_TLS)
    s.wait('proceed')
    s.handshake(client_context(w.cert), sni='corp.example')
    s.open('pa.example', 'corp.example', extra=header_extra)
    s.features()
    s.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
    s.wait('success')
    s.open('pa.example', 'corp.example', extra=header_extra)
    s.features()
    s.send(stanza)
    s.send(message('a@pa.example', 'b@corp.example', 'behind it'))
    try:
        w.corp.wait_message('behind it', 3)
    except Timeout:
        pass
    s.close()
    all_is_well(w)


@test
def a_stanza_that_grows_while_it_is_rewritten_does_not_break_the_trunk(w):
    poison(w, '', "<message from='a@pa.example' to='b@corp.example' id='grow'><body><![CDATA[%s]]></body>"
           "</message>" % ('&' * 200000))


@test
def a_stanza_with_as_many_attributes_as_allowed_and_a_prefix_of_the_header_does_not_break_the_trunk(w):
    many = ''.join(" a%d='1'" % i for i in range(62))
    poison(w, " xmlns:far='urn:far' xml:lang='en'",
           "<message from='a@pa.example' to='b@corp.example'%s><far:x/><body>many</body></message>" % many)


@test
def a_stanza_with_as_many_namespaces_as_allowed_and_prefixes_of_the_header_does_not_break_the_trunk(w):
    deep = ''.join("<x%s>" % ''.join(" xmlns:p%d='urn:p'" % (32 * k + i) for i in range(32)) for k in range(2))
    poison(w, ''.join(" xmlns:h%d='urn:h%d'" % (i, i) for i in range(8)),
           "<message from='a@pa.example' to='b@corp.example'>%s%s</x></x></message>"
           % (deep, ''.join('<h%d:y/>' % i for i in range(8))))


@test
def one_domain_of_a_shared_stream_that_is_no_longer_allowed_ends_it(w):
    s = trusted(w)
    equal(s.dialback(frm='pm.example'), 'valid', 'dialback of the second domain')
    kept = w.edge.partners[:]
    w.edge.partners = [p for p in kept if 'pm.example' not in p]
    w.edge.write()
    w.edge.reload()
    w.edge.wait_log('reloaded')
    equal(s.wait_end(5), 'policy-violation', 'stream error')
    w.edge.partners = kept
    w.edge.write()
    w.edge.reload()
    all_is_well(w)


# ---- a gateway that misbehaves -------------------------------------------------------------------

TRUNK = "xmlns='urn:xmppedge:trunk:0'"
SM = "xmlns='urn:xmpp:sm:3'"


def rogue_trunk(w):
    """A trunk of the second gateway that is up and spoken by the test."""
    s = Stream.dial(w.edge.internal)
    s.handshake(client_context(w.rogue_cert), sni=w.edge.host)
    s.open('fe02.corp.example', w.edge.host)
    s.features()
    s.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
    s.wait('success')
    s.open('fe02.corp.example', w.edge.host)
    s.features()
    s.send("<trunk %s><domain>corp.example</domain></trunk>" % TRUNK)
    s.wait('trunk')
    s.send('<enable %s/>' % SM)
    s.wait('enabled')
    return s


def rogue_is_ended(w, sent, why):
    s = rogue_trunk(w)
    s.send(sent)
    s.wait_end(5)
    w.edge.wait_log('trunk-down', name='fe02.corp.example', why=why)
    all_is_well(w)


@test
def a_trunk_that_acknowledges_what_was_not_sent_is_closed(w):
    for h in ('7', '4294967295', '99999999999', '', '-1', '1 '):
        rogue_is_ended(w, "<a %s h='%s'/>" % (SM, h), 'trunk-protocol')


@test
def a_trunk_that_sends_what_has_no_place_there_is_closed(w):
    for what in ('<enable %s/>' % SM, "<db:result from='a' to='b'>x</db:result>", '<x/>'):
        rogue_is_ended(w, what, 'bad-element')


@test
def a_trunk_that_repeats_its_requests_does_no_harm(w):
    s = rogue_trunk(w)
    s.send(('<r %s/>' % SM) * 3000 + ('<drained %s/>' % TRUNK) * 100 + ('<drain %s/>' % TRUNK) * 100)
    s.wait('drained')
    s.abort()
    all_is_well(w)


@test
def a_stanza_on_a_trunk_that_is_too_large_comes_back_and_the_trunk_stays(w):
    s = rogue_trunk(w)
    s.send(message('b@corp.example', 'a@pa.example', 'x' * 1000000, id='huge'))
    equal(w.corp.wait_error('huge', 5).condition, 'policy-violation', 'condition')   # by whichever trunk
    check(not s.ended, 'the trunk ended')
    s.abort()
    all_is_well(w)


@test
def a_flood_on_a_trunk_that_is_never_read_does_no_harm(w):
    s = rogue_trunk(w)
    try:
        for _ in range(30):
            s.send(message('b@elsewhere.example', 'a@pa.example', 'not mine') * 500)
            s.send(message('b@corp.example', 'a@nobody.example', 'unlisted') * 500)
    except (Closed, Timeout):
        pass
    check(w.edge.running(), 'the edge is dead')
    s.abort()
    all_is_well(w)


@test
def what_a_gateway_took_and_never_answered_for_goes_by_another(w):
    s = rogue_trunk(w)
    stream = trusted(w)
    texts = ['given back %d' % n for n in range(20)]
    for text in texts:
        stream.send(message('a@pa.example', 'b@corp.example', text))
    time.sleep(0.2)
    s.send("<message from='b@corp.example' to='a@pa.")     # and in the middle of this it goes
    s.abort()
    for text in texts:
        w.corp.wait_message(text)
    stream.close()
    all_is_well(w)


@test
def a_gateway_that_serves_one_domain_more_after_a_reload_says_so(w):
    inner = w.gateway.inner
    w.gateway.inner = [w.corp.address + (['corp.example', 'corp2.example'], 'optional')]
    w.gateway.write()
    w.gateway.reload()
    w.gateway.wait_log('trunk-up', 5, domains='2')
    s = w.pa.dial(w.edge.external, 'corp2.example', cert=w.cert)
    s.send(message('a@pa.example', 'b@corp2.example', 'to the new one'))
    w.corp.wait_message('to the new one')
    s.close()
    w.gateway.inner = inner
    all_is_well(w, same_trunk=False)


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'dnsmasq', 'openssl')
