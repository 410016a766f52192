#!/usr/bin/env python3
"""43-metrics.t -- what a monitor is told: is it true, well-formed, and no burden to anybody else?

The text is read here by the rules of OpenMetrics 1.0, and by promtool where Debian's prometheus is
installed.
"""
import os
import re
import shutil
import socket
import subprocess
import sys
import time
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                              # noqa: E402
from lab import Lab, find_program, wait_until                             # noqa: E402
from tap import Skip, check, equal, note, test                            # noqa: E402
from xmpp import NS_STREAM, Peer, message                                 # noqa: E402

MANY = 3000        # streams
HEADER = ("<stream:stream xmlns='jabber:server' xmlns:stream='%s' from='pa.example' to='corp.example' "
          "version='1.0'>" % NS_STREAM)
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\d+(?:\.\d+)?)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
SUFFIX = {'gauge': '', 'counter': '_total', 'info': '_info'}


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    outside.server('pa.example', lab.ip(61))
    w.peer = Peer(lab, ['pa.example'], (lab.ip(61), 5269))
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'],
                      [partner('pa.example', tls='optional', sasl='not-supported', dialback=True)],
                      [w.corp.address + (['corp.example'], 'optional')],
                      edge_limits={'connections': 9000, 'source-connections': 9000, 'source-rate': 100000,
                                   'source-burst': 100000, 'partner-connections': 9000},
                      gateway_limits={'partner-series': 1})
    w.border.start()
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.stream = w.peer.dial(w.edge.external, 'corp.example', frm='pa.example')
    for i in range(3):
        w.stream.send(message('a@pa.example', 'b@corp.example', 'number %d' % i, id='m%d' % i))
        w.corp.wait_message('number %d' % i)
    w.strangers = []
    return w


# ---- reading -----------------------------------------------------------------------------------

def read(text):
    """Samples {(name, labels): value} of an OpenMetrics text; an error for every rule that is broken."""
    lines = text.split('\n')
    equal(lines[-2:], ['# EOF', ''], 'the last lines')
    samples, types, family, kind = {}, {}, None, None
    for line in lines[:-2]:
        words = line.split(' ', 3)
        if words[0] == '#':
            check(words[1] in ('HELP', 'TYPE', 'UNIT') and len(words) == 4 and words[3], 'a strange line: ' + line)
            if words[1] == 'HELP':
                family = words[2]
                check(family not in types, 'twice: ' + family)
            equal(words[2], family, 'the family of ' + line)
            if words[1] == 'TYPE':
                kind = types[family] = words[3]
            if words[1] == 'UNIT':
                check(family.endswith('_' + words[3]), 'the unit does not end the name: ' + line)
            continue
        sample = SAMPLE.match(line)
        check(sample, 'no sample: ' + line)
        equal(sample.group(1), family + SUFFIX[kind], 'the name of a sample')
        key = (sample.group(1), tuple(sorted(LABEL.findall(sample.group(2) or ''))))
        check(key not in samples, 'a sample stands there twice: ' + line)
        samples[key] = float(sample.group(3))
    return samples


def ask(node, *options):
    status, text = node.command('metrics', node.path, *options)
    equal(status, 0, 'exit code of ' + text[-200:])
    return text


def value(samples, sample, **labels):
    return samples.get((sample, tuple(sorted(labels.items()))))


def numbers(node, sample, **labels):
    return value(read(ask(node)), sample, **labels)


def promtool(text):
    program = find_program('promtool')
    if not program:
        raise Skip('promtool is not installed')
    done = subprocess.run([program, 'check', 'metrics'], input=text.encode(), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    equal((done.returncode, done.stdout.decode()), (0, ''), 'promtool')


# ---- tests -------------------------------------------------------------------------------------

@test
def both_nodes_tell_what_has_passed(w):
    for node in (w.edge, w.gateway):
        wait_until(lambda: numbers(node, 'xmppedge_stanzas_total', direction='in') == 3, 5, 'three at ' + node.name)
        m = read(ask(node))
        equal(value(m, 'xmppedge_stanzas_total', direction='out'), 0, 'out')
        equal(value(m, 'xmppedge_domain_stanzas_total', domain='pa.example', direction='in'), 3, 'of the partner')
        equal(value(m, 'xmppedge_queue_stanzas', direction='in'), 0, 'what is held')
        check(value(m, 'xmppedge_received_bytes_total', leg='s2s') > 200, 'no bytes of servers')
        check(value(m, 'xmppedge_sent_bytes_total', leg='trunk') > 200, 'no bytes of trunks')
        check(abs(value(m, 'xmppedge_start_time_seconds') - time.time()) < 100, 'when it was started')
    m = read(ask(w.edge))
    equal(value(m, 'xmppedge_build_info', role='edge', name='edge01.corp.example',
                version=w.edge.status_json()['version']), 1, 'the node')
    equal(value(m, 'xmppedge_streams', kind='in', state='open'), 1, 'streams')
    equal(value(m, 'xmppedge_trunk_up', peer='fe01.corp.example'), 1, 'the trunk')
    equal(value(m, 'xmppedge_tls_handshakes_total', side='server', result='done'), 1, 'its handshake')
    check(abs(value(m, 'xmppedge_domain_success_timestamp_seconds', domain='pa.example', kind='in')
              - time.time()) < 100, 'when the partner came')
    check(value(m, 'xmppedge_certificate_expiry_timestamp_seconds', use='s2s', name='corp.example')
          > time.time() + 86400, 'our certificate')


@test
def openssl_agrees_on_the_last_moment_of_a_certificate(w):
    done = subprocess.run(['openssl', 'x509', '-enddate', '-noout', '-in', w.edge.cert.chain],
                          stdout=subprocess.PIPE, check=True)
    ends = time.strptime(done.stdout.decode().split('=')[1].strip(), '%b %d %H:%M:%S %Y GMT')
    import calendar
    equal(numbers(w.edge, 'xmppedge_certificate_expiry_timestamp_seconds', use='trunk', name=w.edge.host),
          calendar.timegm(ends), 'seconds')


@test
def a_bounce_and_an_end_are_two_things(w):
    w.corp_stream = w.corp.dial(w.gateway.listen, 'gone.example', frm='corp.example')
    w.corp_stream.send(message('b@corp.example', 'c@gone.example', 'into the void', id='v'))
    wait_until(lambda: numbers(w.edge, 'xmppedge_bounces_total', direction='out', reason='partner-unlisted'),
               10, 'the bounce')
    before = read(ask(w.edge))
    equal(value(before, 'xmppedge_bounces_total', direction='out', reason='partner-unlisted'), 1, 'bounces')
    with socket.create_connection(w.edge.external) as s:
        s.sendall(b'<a/>')
        s.recv(1000)
    wait_until(lambda: value(read(ask(w.edge)), 'xmppedge_ends_total', kind='in', reason='not-xmpp'), 10, 'the end')
    after = read(ask(w.edge))
    equal([k for k in after if k[0] == 'xmppedge_bounces_total'],
          [k for k in before if k[0] == 'xmppedge_bounces_total'], 'reasons of bounces')


@test
def so_many_domains_have_series_of_their_own(w):
    m = read(ask(w.gateway))
    told = set(dict(labels)['domain'] for name, labels in m if name.startswith('xmppedge_domain_'))
    equal(told, {'pa.example', 'corp.example'}, 'domains: one outside, and ours')
    equal(value(m, 'xmppedge_domains'), 2, 'their number')


@test
def promtool_has_nothing_to_say(w):
    for node in (w.edge, w.gateway):
        promtool(ask(node, '--text'))


@test
def the_older_form_has_the_same_samples(w):
    new, old = ask(w.edge), ask(w.edge, '--text')
    names = [set(line.split(' ')[0] for line in text.split('\n') if not line.startswith('#')) for text in (new, old)]
    equal(names[1], names[0], 'samples')
    check('# TYPE xmppedge_stanzas_total counter\n' in old and '# UNIT' not in old, 'the older form')
    check('# TYPE xmppedge_stanzas counter\n' in new and '# UNIT xmppedge_sent_bytes bytes\n' in new, 'the newer')


@test
def many_streams_hold_up_nobody(w):
    for _ in range(MANY):
        s = socket.create_connection(w.edge.external)
        s.sendall(HEADER.encode())
        w.strangers.append(s)
    wait_until(lambda: w.edge.status_json()['connections'] >= MANY + 1, 20, 'all streams')
    began = time.monotonic()
    m = read(ask(w.edge))
    note('%d streams: told in %.0f ms' % (MANY, (time.monotonic() - began) * 1000))
    equal(value(m, 'xmppedge_streams', kind='in', state='accepted'), MANY, 'streams')
    askers = []
    for _ in range(8):
        s = socket.socket(socket.AF_UNIX)
        s.connect(w.edge.control())
        s.sendall(b'metrics\n')
        askers.append(s)
    began = time.monotonic()
    w.stream.send(message('a@pa.example', 'b@corp.example', 'nobody waits', id='n'))
    w.corp.wait_message('nobody waits')
    note('a message beside them: %.0f ms' % ((time.monotonic() - began) * 1000))
    for s in w.strangers[::2]:
        s.close()
    for s in askers:
        text = b''
        while True:
            more = s.recv(65536)
            if not more:
                break
            text += more
        read(text.decode())


@test
def all_end_in_order(w):
    for s in w.strangers + [w.stream, w.corp_stream]:
        s.close()
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


if __name__ == '__main__':
    begin(setup, 'dnsmasq', 'openssl')
