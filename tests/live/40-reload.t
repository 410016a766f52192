#!/usr/bin/env python3
"""40-reload.t -- SIGHUP and SIGTERM: certificates and partners change while stanzas flow.

A partner keeps one stream to the edge open through the whole test and talks with the inner server on
it; unless a test is about ending streams, that stream must never notice anything.
"""
import os
import sys
import threading
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                              # noqa: E402
from lab import Lab, wait_until                                           # noqa: E402
from tap import check, equal, note, test                                  # noqa: E402
from xmpp import NS_TLS, Closed, Peer, Stream, client_context, message   # noqa: E402

LIMITS = {'source-connections': 500, 'source-rate': 1000, 'source-burst': 1000, 'hold-time': '2s',
          'close-time': '1s', 'trunk-retry-first': '100ms', 'trunk-retry-max': '300ms'}


class World:
    pass


class Traffic:
    """Two numbered flows, one each way, on streams that are opened once."""

    def __init__(self, w):
        self.w = w
        self.out = w.pa.dial(w.border.edge.external, 'corp.example')
        self.back = w.corp.dial(w.border.gateway.listen, 'pa.example')
        self.sent = 0
        self.got = {'pa': 0, 'corp': 0}
        self.stopping = False
        w.corp.on_stanza = lambda s: self.count('corp', s)
        w.pa.on_stanza = lambda s: self.count('pa', s)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def count(self, who, stanza):
        if not stanza.get('id', '').startswith('t') or stanza.get('type') == 'error':
            return False
        self.got[who] += 1
        return True

    def run(self):
        try:
            while not self.stopping:
                id = 't%d' % self.sent
                self.out.send(message('a@pa.example', 'b@corp.example', id, id=id))
                self.back.send(message('b@corp.example', 'a@pa.example', id, id=id))
                self.sent += 1
                time.sleep(0.005)
        except Closed:
            pass

    def undisturbed(self):
        """Both streams are the ones we opened, and everything sent so far arrives."""
        check(not self.out.ended, 'the stream of the partner ended: %s' % self.out.ended)
        check(not self.back.ended, 'the stream of the inner server ended: %s' % self.back.ended)
        sent = self.sent
        wait_until(lambda: min(self.got.values()) >= sent, 10,
                   'all of %d messages, have %s' % (sent, self.got))

    def stop(self):
        self.stopping = True
        self.thread.join()


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    w.peers = {}
    for n, domain in ((61, 'pa.example'), (62, 'pb.example'), (63, 'pc.example')):
        outside.server(domain, lab.ip(n))
        w.peers[domain] = Peer(lab, [domain], (lab.ip(n), 5269), cert=pki.public.issue(domain), ca=pki.public,
                               tls='required')
    outside.start()
    w.pa, w.pb, w.pc = w.peers.values()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'], [partner('pa.example'), partner('pb.example')],
                      [w.corp.address + (['corp.example'], 'optional')], edge_limits=LIMITS,
                      gateway_limits=LIMITS)
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.border.start()
    w.traffic = Traffic(w)
    return w


def reload(w, node=None, good=True):
    """SIGHUP, and wait for what it says about it."""
    node = node or w.edge
    node.forget_log()
    node.reload()
    return node.wait_log('reloaded' if good else 'reload-failed')


def shown_certificate(w):
    """What a new connection to the edge is shown for corp.example."""
    s = Stream.dial(w.edge.external)
    s.open('pb.example', 'corp.example')
    s.features()
    s.send("<starttls xmlns='%s'/>" % NS_TLS)
    s.wait('proceed')
    s.handshake(client_context(w.pb.cert), sni='corp.example')
    der = s.peer_certificate()
    s.close(politely=False)
    return der


@test
def a_new_certificate_serves_new_streams_and_old_streams_stay(w):
    cert = w.edge.domains['corp.example']
    old = cert.der()
    equal(shown_certificate(w), old, 'certificate before')
    w.pki.public.issue('corp.example').copy_to(cert)
    equal(shown_certificate(w), old, 'certificate before SIGHUP')
    reload(w)
    check(shown_certificate(w) == cert.der() != old, 'new streams do not show the new certificate')
    w.traffic.undisturbed()


@test
def a_certificate_that_cannot_be_read_changes_nothing_and_is_reported(w):
    cert = w.edge.domains['corp.example']
    good = cert.der()
    with open(cert.chain) as f:
        text = f.read()
    with open(cert.chain, 'w') as f:
        f.write(text[:200])
    line = reload(w, good=False)
    check(os.path.basename(cert.chain) in line.text, 'the file is not named: ' + line.text)
    equal(shown_certificate(w), good, 'certificate')
    with open(cert.chain, 'w') as f:
        f.write(text)
    w.traffic.undisturbed()


@test
def a_key_that_does_not_fit_its_certificate_changes_nothing_and_is_reported(w):
    cert = w.edge.domains['corp.example']
    good = cert.der()
    with open(cert.key) as f:
        text = f.read()
    with open(w.pb.cert.key) as f:
        other = f.read()
    with open(cert.key, 'w') as f:
        f.write(other)
    reload(w, good=False)
    equal(shown_certificate(w), good, 'certificate')
    with open(cert.key, 'w') as f:
        f.write(text)
    w.traffic.undisturbed()


@test
def a_faulty_configuration_changes_nothing_and_is_reported(w):
    with open(w.edge.path) as f:
        text = f.read()
    with open(w.edge.path, 'w') as f:
        f.write(text.replace('<partners', '<partnerz', 1))
    line = reload(w, good=False)
    check('partnerz' in line.text and '\\u000a"' not in line.text, 'the log says: ' + line.text)
    w.traffic.undisturbed()
    with open(w.edge.path, 'w') as f:
        f.write(text)
    reload(w)
    w.traffic.undisturbed()


@test
def a_partner_that_was_added_is_accepted(w):
    s = Stream.dial(w.edge.external)
    s.open('pc.example', 'corp.example')
    equal(s.wait_end(5), 'policy-violation', 'before: stream error')
    w.edge.partners.append(partner('pc.example'))
    w.edge.write()
    reload(w)
    w.pc_stream = w.pc.dial(w.edge.external, 'corp.example')
    w.pc_stream.send(message('c@pc.example', 'b@corp.example', 'newly allowed'))
    w.corp.wait_message('newly allowed')
    w.corp_to_pc = w.corp.dial(w.gateway.listen, 'pc.example')
    w.corp_to_pc.send(message('b@corp.example', 'c@pc.example', 'welcome'))
    w.pc.wait_message('welcome')
    w.traffic.undisturbed()


@test
def the_streams_of_a_partner_that_was_removed_are_closed(w):
    w.edge.partners.pop()
    w.edge.write()
    reload(w)
    equal(w.pc_stream.wait_end(5), 'policy-violation', 'stream error')
    w.edge.wait_log(None, why='policy-changed', remote='pc.example')
    wait_until(lambda: all(s.ended for s in w.pc.streams), 5, 'the end of the streams to pc.example')
    w.corp_to_pc.send(message('b@corp.example', 'c@pc.example', 'still there?', id='gone'))
    found = w.corp.wait_error('gone')
    equal((found.condition, found.type), ('not-allowed', 'cancel'), 'stanza error')
    w.traffic.undisturbed()


@test
def a_new_trunk_certificate_does_not_disturb_the_trunk(w):
    for node in (w.edge, w.gateway):
        w.pki.internal.issue(node.host).copy_to(node.cert)
        reload(w, node)
    time.sleep(0.5)
    check(not w.gateway.find_log('trunk-down'), 'the trunk went down')
    w.traffic.undisturbed()


@test
def the_log_level_can_be_changed_while_running(w):
    w.edge.level = 'info'
    w.edge.write()
    reload(w)
    shown_certificate(w)
    check(not [x for x in w.edge.lines() if x.level == 'debug'], 'debug lines after the level was raised')
    w.traffic.undisturbed()


@test
def sigterm_loses_nothing_that_was_sent_before_the_closing_tag(w):
    w.traffic.undisturbed()
    w.traffic.stop()
    w.traffic.undisturbed()
    got, n = dict(w.traffic.got), 300
    for i in range(n):
        w.traffic.out.send(message('a@pa.example', 'b@corp.example', 'late %d' % i, id='t-late%d' % i))
        w.traffic.back.send(message('b@corp.example', 'a@pa.example', 'late %d' % i, id='t-late%d' % i))
    started = time.monotonic()
    w.edge.process.signal(15)
    w.traffic.out.wait_for_news(5)
    condition = ''
    try:
        wait_until(lambda: w.traffic.out.ended, 8, 'the end of the stream')
        w.traffic.out.close()           # answers the closing tag
        condition = w.traffic.out.wait_end(1)
    except Closed:
        pass
    status = w.edge.process.wait(15)
    note('ended after %.1f s, stream error %r' % (time.monotonic() - started, condition))
    equal(status, 0, 'exit status of the edge')
    check(condition in ('', 'system-shutdown'), 'stream error ' + condition)
    errors = []

    def accounted():
        for peer in (w.pa, w.corp):
            with peer.news:
                errors.extend(s for s in peer.stanzas if s.get('type') == 'error')
                peer.stanzas = [s for s in peer.stanzas if s.get('type') != 'error']
        arrived = sum(w.traffic.got.values()) - sum(got.values())
        return arrived + len(errors) >= 2 * n
    wait_until(accounted, 8, '%d messages sent before SIGTERM; arrived %s, came back %d'
               % (2 * n, w.traffic.got, len(errors)))
    note('%d arrived, %d came back' % (sum(w.traffic.got.values()) - sum(got.values()), len(errors)))


@test
def a_gateway_without_an_edge_ends_at_once(w):
    started = time.monotonic()
    equal(w.gateway.terminate(), 0, 'exit status of the gateway')
    check(time.monotonic() - started < 7, 'it took %.1f s' % (time.monotonic() - started))
    for node in (w.edge, w.gateway):
        report = node.sanitizer_report()
        check(not report, report)


begin(setup, 'dnsmasq', 'openssl')
