#!/usr/bin/env python3
"""43-metrics.t -- what a monitor is told: is it true, well-formed, and no burden to anybody else?

The text is read here by the rules of OpenMetrics 1.0, and by promtool and Prometheus itself where
Debian's prometheus is installed.
"""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner, shift_clock, shifted_clock, tag   # noqa: E402
from lab import Lab, Process, find_program, wait_until                    # noqa: E402
from tap import Skip, check, equal, note, test                            # noqa: E402
from xmpp import HEADER, Peer, callers, message                           # noqa: E402

MANY = 3000        # streams
PORT = 9269
PLACES = 8         # HTTP_CLIENTS
OPEN = 'application/openmetrics-text'
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\d+(?:\.\d+)?)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
SUFFIX = {'gauge': '', 'counter': '_total', 'info': '_info'}


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    w.clock = shifted_clock(lab)
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    outside.server('pa.example', lab.ip(61))
    outside.server('pb.example', lab.ip(62))
    w.peer = Peer(lab, ['pa.example'], (lab.ip(61), 5269))
    w.other = Peer(lab, ['pb.example'], (lab.ip(62), 5269), cert=pki.public.issue('pb.example'), ca=pki.public,
                   tls='required')
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'],
                      [partner('pa.example', tls='optional', sasl='not-supported', dialback=True),
                       partner('pb.example')],
                      [w.corp.address + (['corp.example'], 'optional')],
                      edge_limits={'connections': 9000, 'source-connections': 9000, 'source-rate': 100000,
                                   'source-burst': 100000, 'partner-connections': 9000},
                      gateway_limits={'partner-series': 1})
    w.edge, w.gateway = w.border.edge, w.border.gateway
    w.pki = pki
    for node, last in ((w.edge, 31), (w.gateway, 41)):
        node.port = (lab.ip(last), PORT)
        if node is w.gateway:
            node.port = (lab.ip(44), PORT)
        node.extra = listen(*node.port)
    w.border.start()
    w.stream = w.peer.dial(w.edge.external, 'corp.example', frm='pa.example')
    for i in range(3):
        w.stream.send(message('a@pa.example', 'b@corp.example', 'number %d' % i, id='m%d' % i))
        w.corp.wait_message('number %d' % i)
    w.strangers = []
    return w


def listen(ip, port, inner=None):
    return tag('metrics', {'address': ip, 'port': port}, inner)


# ---- asking over HTTP --------------------------------------------------------------------------

def get(node, path, method='GET', **fields):
    """(status, type, content)."""
    c = http.client.HTTPConnection(*node.port, timeout=15)
    c.request(method, path, headers=fields)
    r = c.getresponse()
    content = r.read().decode()
    c.close()
    return r.status, r.getheader('Content-Type'), content


def health(node):
    """(status, content); nothing when the port does not answer."""
    try:
        status, _, text = get(node, '/health')
    except OSError:
        return 0, ''
    return status, text


def everything(s):
    got = b''
    try:
        while True:
            more = s.recv(65536)
            if not more:
                return got.decode()
            got += more
    except ConnectionResetError:
        return got.decode()


def say(node, *pieces):
    """The status line of the answer to these bytes."""
    with socket.create_connection(node.port, timeout=15) as s:
        for piece in pieces:
            s.sendall(piece)
        return everything(s).split('\r\n')[0]


def refused(node):
    with socket.socket() as s:
        s.settimeout(5)
        return s.connect_ex(node.port) != 0


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
    w.strangers += callers(w.edge.external, MANY)
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
def who_has_asked_and_says_no_more_hears_it_all(w):
    with socket.create_connection(w.edge.port, timeout=15) as s:
        s.sendall(b'GET /metrics HTTP/1.0\r\n\r\n')
        s.shutdown(socket.SHUT_WR)
        check(everything(s).endswith('\n# EOF\n'), 'it ends early')


# ---- certificates ------------------------------------------------------------------------------

@test
def a_certificate_is_told_with_its_days(w):
    s = w.corp.dial(w.gateway.listen, 'pb.example', frm='corp.example')
    s.send(message('b@corp.example', 'd@pb.example', 'to the other', id='o'))
    w.other.wait_message('to the other')
    w.strangers.append(s)
    rows = {(r['name'], r['of']): r for r in w.edge.status_json()['certificates']}
    equal(sorted(rows), [('corp.example', 'this node'), (w.edge.host, 'this node, trunk'),
                         ('pb.example', 'server')], 'certificates')
    equal({r['days'] for r in rows.values()}, {90}, 'days left')
    check(re.search(r'\n +corp\.example +expires in 90 days, at 2[0-9TZ:-]+\n', w.edge.status()), 'ours, for people')
    theirs = w.edge.command('status', w.edge.path, 'pb.example')[1]
    check(re.search(r'\nITS CERTIFICATE\n +end +expires in 90 days\n +until +2[0-9TZ:-]+\n +seen +2[0-9TZ:-]+', theirs), theirs)
    until = numbers(w.edge, 'xmppedge_domain_certificate_expiry_timestamp_seconds', domain='pb.example')
    check(abs(until - time.time() - 90 * 86400) < 200, 'as a number')


@test
def certificates_are_told_before_they_hurt(w):
    if not w.clock:
        raise Skip('no clock of its own here')
    check(not w.edge.find_log('certificate-.*'), 'something is told too early')
    try:
        for passed, left, level in ((60, 30, 'warn'), (77, 13, 'warn'), (88, 2, 'error')):
            w.edge.forget_log()
            shift_clock(w.clock, passed * 86400)
            w.edge.reload()
            line = w.edge.wait_log('certificate-expires', name='corp.example', days=left, of='this node')
            equal(line.level, level, 'the level with %d days' % left)
            line = w.edge.wait_log('certificate-expires', name='pb.example', days=left, of='a server')
            equal(line.level, 'warn', 'the level of theirs')
        check(re.fullmatch('ok\n(note: our certificate for [^ ]+( \\(trunk\\))? expires in 2 days\n){2}',
                           health(w.edge)[1]), health(w.edge)[1])
        w.edge.forget_log()
        w.edge.reload()
        w.edge.wait_log('reloaded')
        w.edge.wait_log('certificate-expires', name='corp.example')
        check(not w.edge.find_log('certificate-expires', name='pb.example'), 'theirs is told twice a day')
        shift_clock(w.clock, 95 * 86400)
        w.edge.reload()
        w.edge.wait_log('certificate-expired', name='corp.example', days='-5|-6', todo='renew it, then reload')
        w.edge.wait_log('certificate-expired', name='pb.example', todo='tell its administrator')
        equal(health(w.edge)[0], 503, 'health')
        equal({r['days'] < 0 for r in w.edge.status_json()['certificates']}, {True}, 'days in the status')
    finally:
        shift_clock(w.clock, 0)
        w.edge.reload()
    wait_until(lambda: health(w.edge) == (200, 'ok\n'), 5, 'health')


# ---- over HTTP ---------------------------------------------------------------------------------

@test
def a_monitor_gets_the_form_that_it_knows(w):
    for node in (w.edge, w.gateway):
        status, kind, text = get(node, '/metrics', Accept=OPEN + ';version=1.0.0,text/plain;q=0.5')
        equal((status, kind), (200, OPEN + '; version=1.0.0; charset=utf-8'), 'OpenMetrics')
        check(value(read(text), 'xmppedge_healthy') == 1, 'healthy')
        status, kind, text = get(node, '/metrics?x=y')
        equal((status, kind), (200, 'text/plain; version=0.0.4; charset=utf-8'), 'the older form')
        promtool(text)
        equal(get(node, '/metrics', 'HEAD')[0::2], (200, ''), 'HEAD')
        equal(health(node), (200, 'ok\n'), 'health')


@test
def what_is_no_question_hears_why(w):
    host = b'\r\nHost: a\r\n\r\n'
    for status, text in ((404, b'GET / HTTP/1.1' + host), (404, b'GET /metrics/ HTTP/1.1' + host),
                         (405, b'POST /metrics HTTP/1.1\r\nContent-Length: 3' + host + b'a=b'),
                         (400, b'GET /metrics HTTP/1.1\r\n\r\n'), (400, b'\x16\x03\x01\x02\x00\n\n'),
                         (400, HEADER.encode() + b'\n\n'), (505, b'GET / HTTP/3.0' + host),
                         (431, b'GET / HTTP/1.1\r\nCookie: ' + b'a' * 9000 + host), (431, b'a' * 9000)):
        equal(say(w.edge, text).split(' ')[1], str(status), 'the answer to %r' % text[:40])
    check('Allow: GET, HEAD\r\n' in everything(send(w.edge, b'PUT /health HTTP/1.1' + host)), 'no Allow')
    equal(say(w.edge, *[bytes([c]) for c in b'GET /health HTTP/1.1' + host]), 'HTTP/1.1 200 OK', 'byte by byte')
    equal(say(w.edge, b'GET /health HTTP/1.0\n\n'), 'HTTP/1.1 200 OK', 'by hand')


def send(node, text):
    s = socket.create_connection(node.port, timeout=15)
    s.sendall(text)
    return s


@test
def who_is_silent_takes_no_place_for_long(w):
    silent = [send(w.edge, b'GET /') for _ in range(PLACES)]
    late = send(w.edge, b'GET /health HTTP/1.0\r\n\r\n')
    check('200 OK' in everything(late), 'no answer for the next one')
    equal(everything(silent[0]), '', 'the oldest that had not asked')
    check(everything(silent[1]).startswith('HTTP/1.1 408 '), 'the others hear that it took too long')
    for s in silent + [late]:
        s.close()


@test
def who_reads_nothing_is_let_go(w):
    slow = []
    for _ in range(PLACES):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.connect(w.edge.port)
        s.sendall(b'GET /metrics HTTP/1.0\r\n\r\n')
        slow.append(s)
    wait_until(lambda: say(w.edge, b'GET /health HTTP/1.0\r\n\r\n') == 'HTTP/1.1 200 OK', 20, 'a place')
    for s in slow:
        s.close()


@test
def prometheus_scrapes_it(w):
    program = find_program('prometheus')
    if not program:
        raise Skip('prometheus is not installed')
    at = '%s:9090' % w.lab.ip(45)
    config = w.lab.write('prometheus.yml', 'global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n'
                         '- job_name: border\n  static_configs:\n  - targets: [%s]\n'
                         % ', '.join('"%s:%d"' % n.port for n in (w.edge, w.gateway)))
    p = Process(w.lab, 'prometheus', [program, '--config.file=' + config, '--web.listen-address=' + at,
                                      '--storage.tsdb.path=' + w.lab.folder('tsdb')])

    def query(text):
        try:
            with urllib.request.urlopen('http://%s/api/v1/query?query=%s' % (at, text), timeout=5) as r:
                return json.loads(r.read())['data']['result']
        except OSError:
            return []
    try:
        wait_until(lambda: [r['value'][1] for r in query('up')] == ['1', '1'], 30, 'two targets that are up')
        result = query('sum(xmppedge_stanzas_total{direction="in"})'.replace('{', '%7B').replace('}', '%7D')
                       .replace('"', '%22').replace('=', '%3D'))
        equal(float(result[0]['value'][1]) >= 6, True, 'stanzas of both nodes')
        with urllib.request.urlopen('http://%s/api/v1/targets/metadata?metric=xmppedge_ends' % at) as r:
            equal({m['type'] for m in json.loads(r.read())['data']}, {'counter'}, 'the type that it has read')
        with open(p.log) as f:
            for line in f:
                check('level=warn' not in line and 'level=error' not in line, line)
    finally:
        p.kill()


@test
def a_reload_opens_and_closes_the_port(w):
    was = w.edge.extra
    w.edge.extra = ''
    w.edge.write()
    w.edge.reload()
    wait_until(lambda: refused(w.edge), 5, 'the end of the port')
    w.edge.extra = listen(*w.edge.external)
    w.edge.write()
    status, text = w.edge.command('check', w.edge.path)
    equal(status, 2, 'check')
    check('<metrics> address: expected one of loopback, or that of <internal>' not in text
          and 'those of the streams' in text, text)
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(w.edge.port)
    taken.listen(1)
    w.edge.extra = was
    w.edge.write()
    s = socket.socket(socket.AF_UNIX)
    s.connect(w.edge.control())
    s.sendall(b'reload\n')
    text = everything(s)
    check(re.fullmatch('ok\n.*: cannot listen on .*:%d: Address already in use\n' % PORT, text), text)
    check(w.edge.find_log('reload-incomplete', text='.*cannot listen on .*'), 'no line tells of it')
    taken.close()
    w.edge.reload()
    wait_until(lambda: health(w.edge)[0] == 200, 5, 'the port')


@test
def only_its_sources_may_ask(w):
    w.edge.extra = listen(*w.edge.port, inner=tag('source', {'address': w.lab.ip(46)}))
    w.edge.write()
    w.edge.reload()
    wait_until(lambda: say(w.edge, b'GET /health HTTP/1.0\r\n\r\n') == '', 5, 'silence')
    with socket.create_connection(w.edge.port, timeout=5, source_address=(w.lab.ip(46), 0)) as s:
        s.sendall(b'GET /health HTTP/1.0\r\n\r\n')
        check('200 OK' in everything(s), 'the monitor')
    w.edge.extra = listen(*w.edge.port)
    w.edge.write()
    w.edge.reload()
    wait_until(lambda: say(w.edge, b'GET /health HTTP/1.0\r\n\r\n') != '', 5, 'the end of that')


# ---- health ------------------------------------------------------------------------------------

@test
def a_certificate_that_has_expired_is_told(w):
    mine = w.edge.domains['corp.example']
    w.pki.public.issue('corp.example', expired=True).copy_to(mine)
    w.edge.reload()
    wait_until(lambda: health(w.edge)[0] == 503, 5, 'it')
    check(re.fullmatch('failed\nour certificate for corp.example expired \\d+ days ago\n', health(w.edge)[1]), health(w.edge)[1])
    w.pki.public.issue('corp.example').copy_to(mine)
    w.edge.reload()
    wait_until(lambda: health(w.edge) == (200, 'ok\n'), 5, 'health')


@test
def an_inner_server_that_is_down_is_told_by_both_nodes(w):
    w.corp.stop()
    w.gateway.forget_log()
    for s in w.corp.streams:
        s.close()
    w.gateway.wait_log('s2s-out-closed', local='pa.example', remote='corp.example')
    w.stream.send(message('a@pa.example', 'b@corp.example', 'nobody there', id='d'))
    wait_until(lambda: health(w.gateway)[0] == 503, 15, 'the failure')
    text = health(w.gateway)[1]
    check(re.fullmatch('failed\nnothing gets to the inner server of corp.example \\(for \\d+ seconds?\\): tcp-refused, .*; what to do: .*\n',
                       text), text)
    equal(numbers(w.gateway, 'xmppedge_healthy'), 0, 'the same as a number')
    equal(numbers(w.gateway, 'xmppedge_domain_failing', domain='corp.example', reason='tcp-refused'), 1, 'and why')
    wait_until(lambda: health(w.edge)[0] == 503, 5, 'the edge to hear of it')
    text = health(w.edge)[1]
    check(re.fullmatch('failed\nnothing gets from gateway fe01.corp.example to the inner server of corp.example \\(for \\d+ seconds?\\): tcp-refused, '
                       'our own server refused the connection; what to do: .*\n', text), text)


@test
def a_gateway_that_is_gone_is_told_by_the_edge(w):
    w.gateway.kill()
    wait_until(lambda: health(w.edge)[0] == 503, 10, 'the failure')
    text = health(w.edge)[1]
    check(re.fullmatch('failed\nno gateway is connected, so nothing passes to the inside or from it; missing: fe01.corp.example \\(for \\d+ seconds?\\): peer-lost, .*\n',
                       text), text)
    equal(numbers(w.edge, 'xmppedge_trunk_up', peer='fe01.corp.example'), 0, 'the trunk')


@test
def a_service_that_is_being_stopped_is_not_well(w):
    w.edge.process.signal(signal.SIGTERM)       # what waits for a gateway keeps it for a while
    said = health(w.edge)
    check(said[0] == 503 and said[1].startswith('failed\nthe service is being stopped\n'), said)


@test
def all_end_in_order(w):
    for s in w.strangers + [w.stream, w.corp_stream]:
        s.close()
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


if __name__ == '__main__':
    begin(setup, 'dnsmasq', 'openssl')
