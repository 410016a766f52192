#!/usr/bin/env python3
"""42-status.t -- who asks for the status of many streams, and does not read it, and whom that disturbs.
"""
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, binary, have_binary, partner                # noqa: E402
from lab import Lab, need_programs, wait_until                            # noqa: E402
from tap import check, equal, note, run, skip_all, test                   # noqa: E402
from xmpp import Peer, callers, message                                   # noqa: E402

MANY = 3000        # rows: half a megabyte, of which the system takes less than half
STAY = 10          # of them, until the end
LONG = 'a-name-that-has-more-characters-than-the-column.that-it-stands-in.even-more.than-a-line.closed.example'
HERE = os.path.dirname(os.path.abspath(__file__))


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    outside.server('pa.example', lab.ip(61))
    w.peer = Peer(lab, ['pa.example'], (lab.ip(61), 5269))
    outside.server('closed.example', lab.ip(62))      # nobody listens there
    outside.server(LONG, lab.ip(62))
    outside.start()
    w.corp = Peer(lab, ['corp.example'], (lab.ip(51), 5269))
    w.border = Border(lab, pki, outside, ['corp.example'],
                      [partner(name, tls='optional', sasl='not-supported', dialback=True)
                       for name in ('pa.example', 'closed.example', LONG)],
                      [w.corp.address + (['corp.example'], 'optional')],
                      edge_limits={'connections': 9000, 'source-connections': 9000, 'source-rate': 100000,
                                   'source-burst': 100000, 'partner-connections': 9000})
    w.border.start()
    w.edge = w.border.edge
    w.strangers = []
    # before the many: the peers of the tests look at descriptors below 1024
    w.stream = w.peer.dial(w.edge.external, 'corp.example', frm='pa.example')
    w.stream.send(message('a@pa.example', 'b@corp.example', 'first', id='f'))
    w.corp.wait_message('first')
    return w


def ask(w, question):
    s = socket.socket(socket.AF_UNIX)
    s.connect(w.edge.control())
    s.settimeout(20)
    s.sendall(question.encode() + b'\n')
    return s


def rest(s):
    """All that is still to come."""
    got = b''
    while True:
        more = s.recv(65536)
        if not more:
            s.close()
            return got.decode()
        got += more


def peers(status):
    return [row['peer'] for row in json.loads(status)['streams']]


@test
def many_streams_are_told_each_once(w):
    w.strangers += callers(w.edge.external, MANY)
    names = ['%s:%d' % s.getsockname() for s in w.strangers]
    wait_until(lambda: w.edge.status_json()['connections'] >= MANY + 1, 20, 'all streams')
    equal(w.edge.command('status', w.edge.path)[0], 0, 'exit code')
    told = [p for p in peers(rest(ask(w, 'status json'))) if p.startswith('127.0.0.1:')]
    equal(sorted(told), sorted(names), 'peers')


@test
def who_does_not_read_his_answer_holds_up_nobody(w):
    w.slow = [ask(w, 'status json') for _ in range(3)]
    w.text = ask(w, 'status')
    for s in w.slow:
        equal(s.recv(1, socket.MSG_PEEK), b'{', 'its first byte')
    w.stream.send(message('a@pa.example', 'b@corp.example', 'nobody waits', id='m'))
    w.corp.wait_message('nobody waits')


@test
def an_answer_is_whole_although_streams_end_where_it_stands(w):
    for s in w.strangers[:-STAY]:
        s.close()
    left = w.strangers[-STAY:]
    wait_until(lambda: len(peers(rest(ask(w, 'status json')))) <= STAY + 2, 30, 'the end of the others')
    w.slow[0].close()      # and who asks may go
    for s in w.slow[1:]:
        told = peers(rest(s))
        equal(len(told), len(set(told)), 'rows and different ones')
        note('%d rows of %d' % (len(told), MANY))
        check(len(told) < MANY, 'all was told before they ended: the test shows nothing')
        equal([t for t in told if t in ['%s:%d' % l.getsockname() for l in left]],
              ['%s:%d' % l.getsockname() for l in left], 'those that stayed')
    check(rest(w.text).endswith('\nEND\n'), 'the text has no end')


@test
def what_is_wrong_and_what_to_do_stands_first(w):
    lines = w.edge.command('status', w.edge.path)[1].splitlines()
    equal(lines[2], 'ALL IS WELL', 'the first heading')
    w.border.gateway.terminate()
    wait_until(lambda: not w.edge.status_json()['healthy'], 10, 'the edge to miss its gateway')
    lines = w.edge.command('status', w.edge.path)[1].splitlines()
    equal(lines[2], 'WHAT IS WRONG', 'the first heading')
    wrong = lines[3:lines.index('', 3)]
    check(all(len(line) <= 80 for line in wrong), 'a line is too long for a terminal:\n' + '\n'.join(wrong))
    told = ' '.join(line.strip() for line in wrong)
    check(told.startswith('no gateway is connected') and 'what to do:' in told, 'it says: ' + told)
    check('missing: %s (for ' % w.border.gateway.host in told, 'who, since when?  it says: ' + told)
    equal([re.sub(r'\(for [^)]+\)', '', told)], [re.sub(r'\(for [^)]+\)', '', line)
                                                 for line in w.edge.status_json()['health']], 'the same for programs')
    w.border.gateway.start()
    wait_until(lambda: w.edge.status_json()['healthy'], 10, 'the gateway to be back')
    equal(w.edge.status_json()['health'], [], 'what is wrong then')


# ---- partners ----------------------------------------------------------------------------------

def write_to(w, domain):
    """A message of an inner user to somebody there; its fate."""
    s = w.corp.dial(w.border.gateway.listen, domain, frm='corp.example')
    w.strangers.append(s)
    s.send(message('b@corp.example', 'x@' + domain, 'anybody there?', id='to-' + domain))
    if domain != 'pa.example':
        w.corp.wait_error('to-' + domain)


def rows(text):
    """What stands in the table of partners."""
    lines = text.splitlines()
    begin = lines.index('PARTNERS') + 2
    return lines[begin:lines.index('', begin)]


def sides(w, domain):
    [row] = [row for row in w.edge.status_json()['partners'] if row['domain'] == domain]
    return row.get('to'), row.get('from')


@test
def who_fails_stands_first_and_a_name_that_is_too_long_has_a_line_for_itself(w):
    for domain in ('pa.example', LONG, 'closed.example'):
        write_to(w, domain)
    wait_until(lambda: sides(w, 'pa.example')[0]['stanzas'] == 1, 10, 'the one that is well')
    text = w.edge.status()
    wide = [line for line in text.splitlines() if len(line) > 80 and line.strip(' ,') != LONG]
    equal(wide, [], 'lines that are too long')
    table = rows(text)
    at = table.index('  ' + LONG)
    check(re.fullmatch(' {26}to   failed +- +- +- +[0-9]+s +0 +0', table[at + 1]), '\n'.join(table))
    equal([line.split()[0] for line in table if line[2:3] != ' '], [LONG, 'closed.example', 'pa.example'], 'names')
    check(re.fullmatch(r' {6}tcp-refused for [0-9]+ seconds?, at [0-9.]+:5269', table[at + 2]), '\n'.join(table))
    told = ' '.join(text.split())
    check(re.search(r'WHAT IS WRONG 2 of 3 partners, %s, closed\.example \(for \d+ seconds?\): tcp-refused, the partner' % re.escape(LONG),
                    told), text)
    check('ALL IS WELL' not in text and '\nSomething is wrong: it stands at the top.\n\nEND\n' in text, text)
    known = w.edge.status_json()
    equal((known['healthy'], known['partners_known'], known['partners_failing']), (True, 3, 2), 'counts')


@test
def who_has_never_come_has_no_row_for_that(w):
    to, frm = sides(w, 'closed.example')
    equal((to['state'], to['failing'], to['why'], to['hop'], frm), ('failed', True, 'tcp-refused', 'partner', None), 'closed')
    to, frm = sides(w, 'pa.example')
    equal((to['state'], frm['state'], frm['failing'], frm['method']), ('open', 'open', False, 'tcp-dialback'), 'well')
    equal((to['stanzas'], to['returned'], frm['returned']), (1, 0, 0), 'counts')


@test
def what_has_ended_and_what_went_back_are_counted_apart(w):
    known = w.edge.status_json()
    equal([(r['kind'], r['count']) for r in known['ends'] if r['why'] == 'tcp-refused'], [('out', 2)], 'ends')
    equal([(r['direction'], r['count']) for r in known['returned'] if r['why'] == 'tcp-refused'], [('out', 2)], 'returned')
    write_to(w, 'closed.example')
    known = w.edge.status_json()
    equal([r['count'] for r in known['returned'] if r['why'] == 'tcp-refused'], [3], 'returned')


@test
def all_is_told_of_one_partner(w):
    code, text = w.edge.command('status', w.edge.path, 'closed.example')
    equal(code, 0, 'exit code')
    told = ' '.join(text.split())
    for words in ('closed.example, as %s sees it' % w.edge.host, 'TO closed.example state failed since 20',
                  "why tcp-refused: the partner's server refused the connection what to do Check that",
                  'peer %s:5269 last failure 20' % w.lab.ip(62), 'returned 2',
                  'pair from corp.example to closed.example: failed, 0 passed, 2 returned, last tcp-refused, 0 waiting'):
        check(words in told, 'no %r in:\n%s' % (words, text))
    check('FROM closed' not in text and text.endswith('\nEND\n'), text)
    equal([line for line in text.splitlines() if len(line) > 80], [], 'lines that are too long')
    told = json.loads(w.edge.command('status', w.edge.path, 'closed.example', '--json')[1])
    [row] = [row for row in w.edge.status_json()['partners'] if row['domain'] == 'closed.example']
    equal(sorted(told), sorted(list(row) + ['pairs', 'streams']), 'keys')
    equal({p['to'] for p in told['pairs']} | {p['from'] for p in told['pairs']}, {'corp.example', 'closed.example'}, 'pairs')
    code, text = w.edge.command('status', w.edge.path, 'unlisted.example')
    check(code == 1 and text.startswith('failed why=partner-unlisted: ') and 'Add a <partner>' in text, text)


@test
def an_inner_server_has_a_table_of_its_own_at_the_gateway(w):
    text = w.border.gateway.status()
    table = text[text.index('\nINNER SERVERS\n'):text.index('\nPARTNERS\n')].splitlines()
    check(re.fullmatch('  corp.example +to   open +dialback +none .*', table[3]), text)
    equal([r['domain'] for r in w.border.gateway.status_json()['partners'] if 'of' in r], ['corp.example'], 'inner')


def documented():
    """part: its keys, as the comment of the section has them."""
    with open(os.path.join(HERE, '..', '..', 'xmppedge.c')) as f:
        source = f.read()
    text = source[source.index('(itself)  ', source.index(' * [STATUS] status_')):]
    parts, keys = {}, None
    for line in text[:text.index(' * Of one domain')].splitlines():
        line = line.strip(' *')
        head = re.match('(\\(itself\\)|to, from|[a-z]+)  +', line)
        if head:
            keys = parts.setdefault(head.group(1), [])
            line = line[head.end():]
        keys += re.findall('[a-z_]+', line)
    return parts, source


@test
def what_programs_are_told_is_documented(w):
    parts, source = documented()
    known = [node.status_json() for node in (w.edge, w.border.gateway)]
    rows = [(part, row) for told in known for part in parts if part in told for row in told[part]]
    rows += [('(itself)', told) for told in known]
    rows += [('to, from', p[way]) for told in known for p in told['partners'] for way in ('to', 'from') if way in p]
    rows += [('certificate', p['certificate']) for told in known for p in told['partners'] if 'certificate' in p]
    for part, row in rows:
        equal([key for key in row if key not in parts[part]], [], 'keys of %s that are not documented' % part)
    check({part for part, _ in rows} >= set(parts) - {'certificate'}, 'not all parts were there')


# ---- again and again ---------------------------------------------------------------------------

@test
def who_watches_sees_what_fits_his_terminal_and_ends_with_a_signal(w):
    shell = 'stty rows 24 cols 80; exec "$0" "$@"'
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp('sh', ['sh', '-c', shell, binary(), 'status', w.edge.path, '--watch'])
    said = b''
    while said.count(b'\x1b[H\x1b[J') < 3:
        said += os.read(terminal, 65536)
    os.kill(pid, signal.SIGINT)
    equal(os.waitpid(pid, 0)[1], 0, 'exit status')
    os.close(terminal)
    screens = [s.decode().replace('\r', '') for s in said.split(b'\x1b[H\x1b[J')[1:3]]
    for screen in screens:
        check(screen.startswith('xmppedge ') and screen.endswith('... and more, which has no room here\n'), screen)
        equal(sum(1 + len(line) // 81 for line in screen.splitlines()), 23, 'lines')


@test
def who_watches_is_told_when_the_service_goes(w):
    watch = subprocess.Popen([binary(), 'status', w.border.gateway.path, '--json', '--watch'],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = json.loads(watch.stdout.readline())
    equal(first['role'], 'gateway', 'role')
    w.border.gateway.terminate()
    said, trouble = watch.communicate(timeout=20)
    equal(watch.returncode, 1, 'exit status')
    check(b'nobody answers on the control socket' in trouble, trouble)
    w.border.gateway.start()
    wait_until(lambda: w.edge.status_json()['healthy'], 10, 'the gateway to be back')


def doubtful(node, domain):
    """Why the gateway's last stanza to a partner came back."""
    return [row['to'].get('why') for row in node.status_json()['partners'] if row['domain'] == domain]


@test
def what_came_back_for_want_of_a_trunk_is_no_remark_when_there_is_one(w):
    gateway = w.border.gateway
    w.edge.terminate()
    wait_until(lambda: not gateway.status_json()['healthy'], 10, 'the gateway to miss its edge')
    s = w.corp.dial(gateway.listen, 'pa.example', frm='corp.example')
    s.send(message('b@corp.example', 'x@pa.example', 'anybody there?', id='cut-off'))
    w.corp.wait_error('cut-off', 20)
    equal(doubtful(gateway, 'pa.example'), ['no-trunk'], 'while it is down')
    gateway.forget_log()
    w.edge.start()
    gateway.wait_trunk(w.edge)
    equal(doubtful(gateway, 'pa.example'), [None], 'when it is up')
    s.close()


@test
def all_end_in_order(w):
    for s in w.strangers[-STAY:] + [w.stream]:
        s.close()
    trouble = w.border.stop()
    check(not trouble, '\n'.join(trouble))


if __name__ == '__main__':
    missing = need_programs('dnsmasq', 'openssl')
    if missing or not have_binary():
        skip_all('missing: ' + ' '.join(missing) if missing else 'no ' + binary())
    run(setup)
