#!/usr/bin/env python3
"""cli.t -- the command line of the analyzer: what it refuses, its exit status, where it writes.  TAP.

XMPPEDGE_ANALYZE names another binary.
"""
import base64
import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'live'))
sys.path.insert(0, HERE)

import gen_wire as wire   # noqa: E402
import tap   # noqa: E402
from tap import Skip, check, test   # noqa: E402

BINARY = os.path.abspath(os.environ.get('XMPPEDGE_ANALYZE')
                         or os.path.join(HERE, '..', '..', 'xmppedge-analyze'))


class Scenes:
    """Captures of conversations whose truth is known, made when they are asked for."""

    def __init__(self):
        self.owner = tempfile.TemporaryDirectory()
        self.folder = self.owner.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def options(self, scene):
        """The options that its author gives, without keys; the file is the last."""
        if not os.path.exists(self.path(scene + '.command')):
            said = subprocess.run([sys.executable, os.path.join(HERE, 'gen.py'), scene, self.folder], check=True,
                                  stdout=subprocess.PIPE, text=True).stdout.splitlines()[0]
            with open(self.path(scene + '.command'), 'w') as out:
                out.write(said)
        with open(self.path(scene + '.command')) as command:
            words = shlex.split(command.read())[1:]
        at = words.index('-k')
        return words[:at] + words[at + 2:]

    def keys(self, scene):
        self.options(scene)
        return self.path(scene + '.keys')


def run(*arguments, **more):
    more.setdefault('stdout', subprocess.PIPE)
    done = subprocess.run([BINARY, *arguments], stderr=subprocess.PIPE, timeout=30, **more)
    return done.returncode, (done.stdout or b'').decode(), done.stderr.decode()


WRONG = [
    (['--wrong'], 'no such option'), (['--json=yes', 'FILE'], 'no such option'), (['-i'], 'needs a value'),
    (['--external', '1.2.3', 'FILE'], 'not an IP address'), (['--require', '4', 'FILE'], 'not a row'),
    (['-s', 'many', '-i', 'lo'], 'not a number'), (['-s', '96', 'FILE'], 'only with -i'),
    (['-w', 'NEW', 'FILE'], 'exactly one -i'), (['-w', 'NEW', '-i', 'lo', '-i', 'lo'], 'exactly one -i'),
    (['-f', 'port (', 'FILE'], 'filter'), (['-i', 'lo', 'FILE'], 'exclude each other'), (['-', '-'], 'only once'),
    (['--json', '--ladder', 'FILE'], 'exclude each other'), (['FOLDER/nothing'], 'No such file'),
    (['-c', 'FOLDER/nothing', 'FILE'], 'No such file'), (['-k', 'FOLDER/nothing', 'FILE'], 'No such file'),
    (['--ca', 'FOLDER/nothing', 'FILE'], 'certificates'), (['--log', 'FOLDER/nothing', 'FILE'], 'nothing'),
    (['-i', 'no-such-interface'], 'no-such-interface'),
    (['--html', 'FOLDER/nowhere/page.html', 'FILE'], 'No such file'), (['FOLDER'], 'irectory'),
    (['--flow', '0', 'FILE'], 'not the number'), (['--stream', '1', '--json', 'FILE'], 'instead of a report'),
    (['--flow', '17x', 'FILE'], 'not the number'), (['--partner'], 'needs a value'),
]


@test
def wrong_uses_are_named_in_one_line(scenes):
    file = scenes.options('all_rows_12')[-1]
    for words, said in WRONG:
        words = [w.replace('FILE', file).replace('FOLDER', scenes.folder).replace('NEW', scenes.path('new'))
                 for w in words]
        code, _, error = run(*words)
        lines = error.splitlines()
        check(code == 2, '%s: exit status %d: %s' % (words, code, error))
        check(len(lines) == 1 and lines[0].startswith('xmppedge-analyze: ') and said in lines[0],
              '%s: expected one line with "%s": %s' % (words, said, error))


EDGE = ('<?xml version="1.0"?>\n<!-- an edge --><xmppedge role="edge"><!-- two addresses -->'
        '<external address="192.0.2.77"/><internal address=\'10.9.8.7\' port="&#50;3457"><key/></internal></xmppedge>\n')
NO_CONFIGURATION = [
    ('<xmppedge><external address="1.2.3"/></xmppedge>', "<external>: '1.2.3' is not an IP address"),
    ('<xmppedge><edge address="a.example" port="65536"/></xmppedge>', "<edge>: '65536' is not a port"),
    ('<xmppedge><name/></xmppedge>', 'names no edge'), ('<other/>', 'not a configuration'), ('', 'not a configuration'),
    ('<xmppedge><external address="192.0.2.1"/>', 'not a configuration'), ('<xmppedge></other>', 'not well-formed'),
]


@test
def a_configuration_tells_the_addresses_of_the_edge(scenes):
    file, config = scenes.options('all_rows_12')[-1], scenes.path('edge.xml')
    with open(config, 'w') as out:
        out.write(EDGE)
    found = json.loads(run('-c', config, '--json', file)[1].splitlines()[0])
    got = [found[k] for k in ('external', 'external_source', 'internal', 'internal_port')]
    check(got == [['192.0.2.77'], 'configuration', ['10.9.8.7'], 23457], 'an edge: %s' % got)
    with open(config, 'w') as out:
        out.write(EDGE.replace('<internal', '<external address="2001:db8::77"/><internal'))
    found = json.loads(run('-c', config, '--json', file)[1].splitlines()[0])['external']
    check(found == ['192.0.2.77', '2001:db8::77'], 'an edge with an address of each family: %s' % found)
    with open(config, 'w') as out:
        out.write('<xmppedge role="gateway"><edge address="edge.example"/></xmppedge>')
    check(run('-c', config, '--json', file)[1] != '', 'a gateway that names its edge')
    for text, said in NO_CONFIGURATION:
        with open(config, 'w') as out:
            out.write(text)
        code, _, error = run('-c', config, file)
        check(code == 2 and said in error and error.count('\n') == 1, '%s: %d, %s' % (text, code, error))


LAN = ('<xmppedge><external address="203.0.113.10"%s/><internal address="10.0.0.10"/><partners default="deny">'
       '<partner domain="q.example"/><!-- the one --><partner domain="pa.example" %s/></partners></xmppedge>')
WAYS = [   # of all partners, of one; what is thought of its call to 10.0.0.77:5269
    ('', '', 'breach'), (' networks="10.0.0.0/24"', '', ''), ('', 'networks="fd00::/8 10.0.0.77"', ''),
    ('', 'networks="10.0.0.78 11.0.0.0/8"', 'breach'), ('', 'proxy="10.0.0.77"', ''), ('', 'proxy="10.0.0.77:5269"', ''),
    ('', 'proxy="10.0.0.77:5270"', 'breach'), ('', 'proxy="[fd00::1]:5269"', 'breach'),
    ('', 'proxy="relay.example"', 'maybe'), ('', 'proxy="relay.example:443"', 'breach'),
]


@test
def where_the_configuration_leads_the_edge_is_no_violation(scenes):
    file, config = scenes.options('dns_leads_into_the_lan_out_12')[-1], scenes.path('lan.xml')
    for everybody, one, wanted in WAYS:
        with open(config, 'w') as out:
            out.write(LAN % (everybody, one))
        code, said, error = run('-c', config, file)
        got = re.findall(r'^ (\w+) .*\n.*edge-to-inside|^ (\w+) .*edge-to-inside', said, re.M)
        check([''.join(g) for g in got] == [wanted] * bool(wanted) and error == '' and code == (wanted == 'breach'),
              '%s %s: %d %s, not %s' % (everybody, one, code, got, wanted))
        check(('why it matters, what to do: ' in said) == bool(wanted), said)
    with open(config, 'w') as out:
        out.write(LAN % (' networks="10.0.0.0/33"', ''))
    check("'10.0.0.0/33' is not a network" in run('-c', config, file)[2], 'a wrong network')
    page = scenes.path('lan.html')
    with open(config, 'w') as out:
        out.write(LAN % ('', ''))
    run('-c', config, '--html', page, file)
    with open(page) as f:
        check('towards the inside' in f.read(), 'the page does not tell')


@test
def without_arguments_it_tells_how_it_is_used(_):
    code, said, error = run()
    check(code == 2 and said == '' and error.startswith('usage: '), error)
    code, said, error = run('--help')
    check(code == 0 and said.startswith('usage: ') and error == '', error)
    for words in (['help'], ['--json', '-h'], ['--failed', 'x.pcap', '--help']):
        check(run(*words) == (0, said, ''), words)
    check(max(len(line) for line in said.splitlines()) <= 92, said)
    code, said, error = run('--manual')
    check(code == 0 and said.startswith('.TH XMPPEDGE-ANALYZE 1 ') and error == '', error)


@test
def the_exit_status_tells_how_it_went(scenes):
    good = scenes.options('all_rows_12')
    check(run('--require', '1,2,3', *good)[0] == 0, 'good: %s' % (run(*good),))
    check(run(*scenes.options('cert_expired_said_plain_in'))[0] == 1, 'a failure')
    check(run('--require', '3', *scenes.options('cert_expired_said_plain_in'))[0] in (1, 4), 'a failure, a row missing')
    only_in = scenes.options('addresses_inferred_in')
    check(run('--require', '3', *only_in)[0] == 4, 'a row that was not observed: %d' % run('--require', '3', *only_in)[0])
    with open(good[-1], 'rb') as whole, open(scenes.path('cut.pcap'), 'wb') as out:
        out.write(whole.read()[:-7])
    code, said, _ = run(*good[:-1], scenes.path('cut.pcap'))
    check(code == 3 and 'cut' in said, 'a damaged file: %d' % code)


@test
def standard_input_is_read_like_a_file(scenes):
    good = scenes.options('all_rows_12')
    _, by_name, _ = run('--json', *good)
    with open(good[-1], 'rb') as file:
        code, by_stream, _ = run('--json', *good[:-1], '-', stdin=file)
    check(code == 0, 'exit status %d' % code)
    check(by_stream.replace('"name":"-"', '').count('\n') == by_name.count('\n'), 'not the same report')
    check(by_stream.splitlines()[1:] == by_name.splitlines()[1:], 'not the same report')


@test
def a_report_that_cannot_be_written_is_an_error(scenes):
    if not os.path.exists('/dev/full'):
        raise Skip('no /dev/full')
    good = scenes.options('all_rows_12')
    for words in [], ['--json'], ['--html', '/dev/full']:
        with open('/dev/full', 'w') as full:
            code, _, error = run(*words, *good, stdout=full)
        check(code == 2 and error.startswith('xmppedge-analyze: '), '%s: %d %s' % (words, code, error))


@test
def each_line_of_json_is_an_object_with_a_type(scenes):
    _, said, _ = run('--json', *scenes.options('all_rows_12'))
    kinds = [json.loads(line)['type'] for line in said.splitlines()]
    check(kinds[0] == 'capture' and {'flow', 'event', 'verdict'} <= set(kinds), kinds)


@test
def the_fields_of_json_are_explained_by_the_program(scenes):
    code, said, error = run('--json-fields')
    check(code == 0 and error == '', error)
    check(max(len(line) for line in said.splitlines()) <= 80, 'lines are too long')
    first = json.loads(run('--json', *scenes.options('all_rows_12'))[1].splitlines()[0])
    check(said.startswith('schema %d\n' % first['schema']), said[:40])


@test
def what_is_asked_for_is_shown_alone(scenes):
    words = scenes.options('all_rows_12')
    attempts = [json.loads(x) for x in run('--json', *words)[1].splitlines() if '"about":"attempt"' in x]
    flow = attempts[1]['flow']
    for choice in ['--flow', '#%d' % flow], ['--flow=%d' % flow]:
        said = [json.loads(x) for x in run('--json', *choice, *words)[1].splitlines()]
        check({x['flow'] for x in said if x.get('about') == 'attempt'} == {flow}, 'connection %d' % flow)
        text = run(*choice, *words)[1]
        check('CHOSEN   1 attempt, connection #%d' % flow in text and text.count('\n #') == 1, text)
    named = re.search(r' - (\S+)\n', run(*words)[1]).group(1)
    text = run('--partner', named.upper(), *words)[1]
    check(text.count(' - ') == text.count(' - ' + named), text)
    check('CHOSEN   0 attempts that failed' in run('--failed', *words)[1], 'nothing failed')
    code, text, _ = run('--failed', *scenes.options('cert_expired_said_plain_in'))
    check(code == 1 and 'CHOSEN   1 attempt that failed' in text.replace('attempts', 'attempt'), text)


@test
def a_conversation_is_printed_as_xml_without_what_people_said(scenes):
    words = ['-k', scenes.keys('all_rows_12'), *scenes.options('all_rows_12')]
    more = ['-k', scenes.keys('dialback_invalid_in_12'), *scenes.options('dialback_invalid_in_12')]
    flows = [(o, json.loads(x)) for o in (words, more) for x in run('--json', *o)[1].splitlines() if '"type":"flow"' in x]
    quiet, shown = '', ''
    for o, f in flows:
        code, said, error = run('--stream', str(f['flow']), *o)
        check(code == 0 and error == '', error)
        check(len(re.findall('<stream:stream ', said)) >= 2 and re.search(r'^> \d\d:\d\d:\d\d\.\d{3} packet \d+, ', said, re.M), said)
        for line in said.splitlines():
            check(line[0] in '<> ' and line.isprintable(), line)
        quiet += said
        shown += run('--stream', '#%d' % f['flow'], '--show-content', *o)[1]
    users = set(re.findall(r'[a-z0-9.]+@[a-z.]+example', shown))
    bodies, keys = re.findall('<body>(.*)</body>', shown), re.findall('<db:result[^>]*>([^<]+)<', shown)
    check(users and bodies and keys, 'nothing is shown with --show-content')
    for secret in users | set(bodies) | set(keys):
        check(secret not in quiet, secret + ' is shown')
    check('\n    <body>***</body>\n  </message>\n' in quiet and '>***</db:result>' in quiet, quiet)
    check("      <mechanism>EXTERNAL</mechanism>\n" in quiet, quiet)
    check(run('--stream', '99', *words)[0] == 2, 'a connection that there is not')
    said = run('--stream', str(flows[0][1]['flow']), *scenes.options('all_rows_12'))[1]
    check('[from here on encrypted, and not readable]' in said, said)


@test
def of_a_packet_in_fragments_all_of_them_go_to_the_file(scenes):
    scene, folder, out = 'cert_expired_out_13', scenes.path('odd'), scenes.path('fragments.pcapng')
    subprocess.run([sys.executable, os.path.join(HERE, 'gen.py'), scene, folder, 'odd'], check=True, stdout=subprocess.DEVNULL)
    whole = os.path.join(folder, scene + '.pcap')
    code, _, error = run('--export', out, whole)
    check(code == 1 and 'packets' in error, error)
    was, now = ([json.loads(x) for x in run('--json', path)[1].splitlines()] for path in (whole, out))
    check(was[0]['packets'] == now[0]['packets'], 'packets: %d of %d' % (now[0]['packets'], was[0]['packets']))
    check('fragment-lost' not in [x['remark'] for x in now[0]['remarks']], now[0]['remarks'])


@test
def packets_that_are_asked_for_go_to_a_file_with_what_was_found_and_their_secrets(scenes):
    failed, good, out = 'cert_expired_out_13', 'all_rows_13', scenes.path('export.pcapng')
    words = ['-k', scenes.keys(failed), '-k', scenes.keys(good), *scenes.options(good)[:-1],
             scenes.options(good)[-1], scenes.options(failed)[-1]]
    attempt = [json.loads(x) for x in run('--json', '--failed', *words)[1].splitlines() if '"about":"attempt"' in x][0]
    code, said, error = run('--failed', '--export', out, *words)
    check(code == 1 and re.fullmatch(re.escape(out) + r': \d+ packets\n', error) and 'CHOSEN' in said, error)
    check(os.stat(out).st_mode & 0o077 == 0, 'others may read the secrets')
    again = [json.loads(x) for x in run('--json', *scenes.options(good)[:-1], out)[1].splitlines()]
    found = [x for x in again if x.get('about') == 'attempt']
    check([(x['cause'], x['reached'], x['story']) for x in found] == [(attempt['cause'], attempt['reached'], attempt['story'])], found)
    check([x['tls']['decrypted'] for x in again if x['type'] == 'flow'] == [True], 'the secrets are not inside')
    with open(out, 'rb') as f:
        data = f.read()
    with open(scenes.keys(good), 'rb') as f:
        check(not any(line.split()[1] in data for line in f if line.strip() and line[:1] != b'#'), 'secrets of others are inside')
    check(run('--failed', '--export', out, *words)[0] == 2, 'a file was written over')
    check(run('--export', out, '-')[0] == 2, 'standard input cannot be read again')
    if shutil.which('tshark') is None:
        return
    def shark(*arguments):
        return subprocess.run(['tshark', '-r', out, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    comments = shark('-Y', 'frame.comment', '-T', 'fields', '-e', 'frame.comment')
    check(attempt['story'] in comments and attempt['cause'] + ': ' in comments, comments)
    check(shark('-Y', 'tls.handshake.type == 11') != '', 'the certificate is not decrypted')


@test
def the_page_needs_nothing_from_elsewhere(scenes):
    page = scenes.path('page.html')
    code, _, error = run('--html', page, *scenes.options('all_rows_12'))
    with open(page) as file:
        text = file.read()
    check(code == 0, error)
    check(text.startswith('<!DOCTYPE html>') and '</html>' in text, text[:200])
    lanes = re.findall('<div class=lane>.*', text)
    check(lanes and all(re.search('<path class=t[wfu] d="M', lane) for lane in lanes), 'a lane without a stroke: %s' % lanes)
    script = re.search('<script>(.*)</script>', text, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    check("script-src 'sha256-%s'" % digest in text and text.count('<script') == 1, 'the policy wants sha256-' + digest)
    check('<div class=find hidden>' in text, 'a search is shown that needs a script')
    check(not re.search(r'(src|href)\s*=\s*["\']?(https?:|//|file:)|@import|url\(', text), 'it refers to elsewhere')


@test
def a_file_that_is_no_page_is_not_overwritten(scenes):
    path = scenes.path('precious')
    with open(path, 'w') as file:
        file.write('keep me\n')
    code, _, error = run('--html', path, *scenes.options('all_rows_12'))
    check(code == 2 and error.count('\n') == 1, error)
    with open(path) as file:
        check(file.read() == 'keep me\n', 'it was overwritten')


@test
def what_people_said_is_shown_only_when_asked_for(scenes):
    words = ['-k', scenes.keys('all_rows_12'), *scenes.options('all_rows_12')]
    page = scenes.path('content.html')
    quiet = ''.join(run(*o, *words)[1] for o in ([], ['--json'], ['--ladder'], ['--html', page]))
    with open(page) as file:
        quiet += file.read()
    _, shown, _ = run('--json', '--show-content', *words)
    users = set(re.findall(r'[a-z0-9.]+@[a-z.]+example', shown))
    check(users, 'no user is shown with --show-content')
    for user in users:
        check(user not in quiet, user + ' is shown')
    check(not re.search(r'\bHello\b', quiet), 'a body is shown')


@test
def what_is_captured_can_be_kept(scenes):
    copy = scenes.path('live.pcap')
    listener = socket.create_server(('127.0.0.1', 0))
    port = listener.getsockname()[1]
    program = subprocess.Popen([BINARY, '--json', '-i', 'lo', '-f', 'tcp port %d' % port, '-w', copy],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = program.stderr.readline().decode()
    if 'capturing' not in said:
        program.communicate()
        check(re.search('permission|permitted|No such device', said, re.I), said)
        raise Skip('nothing can be captured here')
    with socket.create_connection(('127.0.0.1', port)) as caller, listener.accept()[0] as called:
        caller.sendall(b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' "
                       b"from='far.example' to='corp.example' version='1.0'>")
        called.recv(1000)
    ended = select.select([program.stderr], [], [], 20)[0] and program.stderr.readline().decode()
    check(ended and re.match(r'\d\d:\d\d:\d\d\.\d{3} far\.example \(127\.0\.0\.1:\d+\) -> corp\.example \(127\.0\.0\.1:%d\): '
                             'failed, [a-z-]+\n$' % port, ended), 'no line as it ends: %s' % ended)
    program.send_signal(signal.SIGINT)
    live = [json.loads(line) for line in program.communicate(timeout=20)[0].splitlines()]
    check(live[0]['connections'] == 1, live[0])
    check(os.stat(copy).st_mode & 0o077 == 0, 'others may read it')
    later = [json.loads(line) for line in run('--json', copy)[1].splitlines()]
    check(later[0]['packets'] == live[0]['packets'] > 3, (later[0]['packets'], live[0]['packets']))
    code, _, error = run('-i', 'lo', '-w', copy)
    check(code == 2 and 'exists' in error, error)


@test
def clients_on_the_web_are_counted_and_no_attempts(scenes):
    said = [b'GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nsec-websocket-protocol: xmpp\r\n\r\n',
            b'POST /bind HTTP/1.1\r\n\r\n<body xmlns="http://jabber.org/protocol/httpbind"/>',
            b'POST /http-bind/ HTTP/1.1\r\nContent-Length: 300\r\n\r\n',
            b'GET /chat HTTP/1.1\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n',
            b'GET /xmpp HTTP/1.1\r\n\r\n']
    packets, ends = [], (wire.address('192.0.2.7'), wire.address('192.0.2.8'))
    for port, text in enumerate(said, 40000):
        for side, seq, flags, payload in ((0, 0, wire.SYN, b''), (1, 0, wire.SYN | wire.ACK, b''),
                                          (0, 1, wire.ACK, text)):
            packets.append(wire.Packet(len(packets) * 10**6, 'ext', ends[side], ends[1 - side], 6,
                                       (port, 5280)[side], (5280, port)[side], seq, 1, flags, payload))
    capture = scenes.path('web.pcap')
    with open(capture, 'wb') as file:
        file.write(wire.pcap(packets))
    code, text, _ = run('--json', capture)
    lines = [json.loads(line) for line in text.splitlines()]
    counted = {r['remark']: r['count'] for r in lines[0]['remarks'] if r['remark'].startswith('client')}
    check(code == 0 and counted == {'client-websocket': 1, 'client-bosh': 2}, (code, lines[0]['remarks']))
    check(not any(line['type'] == 'flow' for line in lines), text)


if __name__ == '__main__':
    tap.run(Scenes, lab_of=lambda scenes: None)
