#!/usr/bin/env python3
"""golden.t -- the analyzer over conversations whose truth is known, and over the same seen by other means

For every scene of gen.py, with the keys of its TLS and without them:

  truth      what the scene says by hand is what the analyzer says: row, direction, outcome, cause, domains, reach,
             method, violations; state and ruling of each row; exit status
  golden     the report without times and packet numbers is the one in golden/ (--update writes them)
  lossless   other file formats, link layers, tunnels, segments, order: the report is the same, word for word
  lossy      loss, short packets, one side, a late begin, an early end: the analyzer may know less.  It may never
             tell of a violation or a failure that the truth does not have, nor be more certain

  described  every line is as --json-fields says

And of all together: every cause and every kind of violation of verdict.c is reached, and every field that is described
is written.

    golden.t [--update] [WORD ...]         scenes whose names contain a word
    GOLDEN_ALL=1                           every variation of every scene; otherwise a rotating choice
    GOLDEN_KEEP=FOLDER                     keeps the captures that failed, and says the command line
    XMPPEDGE_ANALYZE=PROGRAM               ../../xmppedge-analyze
"""

import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import zlib

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import gen
import gen_cert
import gen_talk
import gen_wire as wire
from reference import Reference

PROGRAM = os.environ.get('XMPPEDGE_ANALYZE', os.path.join(HERE, '..', '..', 'xmppedge-analyze'))
ALL = os.environ.get('GOLDEN_ALL', '0') not in ('', '0')
KEEP = os.environ.get('GOLDEN_KEEP')
GOLDEN = os.path.join(HERE, 'golden')
HOSTS = [wire.address(gen_talk.HOSTS[h]) for h in gen_talk.EDGE]
SEEDS = range(12 if ALL else 3)
WORKERS = 2

# Times, numbers of packets and what TLS makes anew each time.
DROPPED = {'packet', 'alert_packet', 'error_packet', 'answer_packet', 'time', 'answer', 'first', 'last', 'duration', 'offset',
           'bytes', 'packets', 'retransmitted', 'lost', 'records_initiator', 'records_responder', 'sha256', 'files',
           'interfaces', 'interface', 'last_failure', 'community_id', 'id', 'closer'}
REFERENCE = Reference(PROGRAM)

# Fields that no scene can make speak, each with why not.
SILENT = {
    'capture: content_shown': 'no scene asks for it',
    'capture: damaged': 'a cut is no damage',
    'file: damaged': 'the same',
    'event/dns-question: attempt': 'always null',
    'event/dns-question: flow': 'always null',
    'event/dns-question: community_id': 'always null',
    'event/dns-question: alias': 'no scene follows one',
    'interface: description': 'the generator writes none',
    'interface: drops': 'the same',
    'verdict/summary: missing_rows': 'no scene requires rows',
    'verdict/summary: attempts_left_out': 'ceiling.t has as many',
    'verdict/summary: partners_left_out': 'the same',
    'verdict/summary: dns_left_out': 'the same',
}

# Nor has one a log; faults.t has.
SILENT.update(dict.fromkeys([
    'capture: logs', 'log: decided', 'log: entries', 'log: joined', 'log: lines', 'log: name',
    'told: by_peer_only', 'told: certificate', 'told: detail', 'told: event', 'told: file', 'told: hop',
    'told: state', 'told: time', 'told: why', 'verdict/attempt: against_log',
    'verdict/attempt: cause_from_log', 'verdict/attempt: log_initiator', 'verdict/attempt: log_responder',
    'verdict/attempt: trunk_flow',
], 'no scene has a log'))

NUMBER = re.compile(r'\bpacket \d+')
CLOCK = re.compile(r'\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( UTC|Z)?')


# ---- running ----

def nth(known, *who):
    """The key of another one of the same identity."""
    return who + (len([x for x in known if x[:len(who)] == who]),)


class Run:
    """One run of the analyzer."""

    def __init__(self, scene, folder, data, keys, name='capture'):
        self.command = [PROGRAM, '--json'] + gen.options(scene)
        if keys:
            self.command += ['-k', scene.key_path]
        parts = data if isinstance(data, list) else [data]
        stdin = b''
        self.files = []
        for i, part in enumerate(parts):
            if name == 'stdin':
                self.command.append('-')
                stdin = part
            else:
                path = os.path.join(folder, '%s-%s-%d.pcap' % (scene.name, name, i))
                with open(path, 'wb') as f:
                    f.write(part)
                self.files.append(path)
                self.command.append(path)
        p = subprocess.run(self.command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.status, self.errors = p.returncode, p.stderr.decode(errors='replace')
        self.lines = [json.loads(x) for x in p.stdout.decode().splitlines()]

    def drop(self):
        for path in self.files:
            os.unlink(path)

    def about(self, what):
        return [x for x in self.lines if x['type'] == 'verdict' and x['about'] == what]

    def about_capture(self):
        return [x for x in self.lines if x['type'] == 'capture'][0]

    def attempts(self):
        """Identity to (verdict, flow); attempts without a connection as ('name', domain)."""
        flows = {x['attempt']: x for x in self.lines if x['type'] == 'flow'}
        out = {}
        for v in self.about('attempt'):
            f = flows.get(v['attempt'])
            if f is None:
                name = re.search(r'looked for (\S+):', v['story']).group(1)
                out[nth(out, 'name', name)] = (v, None)
            else:
                a, b = f['initiator'], f['responder']
                out[nth(out, a['address'], a['port'], b['address'], b['port'])] = (v, f)
        return out


def plain(x, extra=()):
    """Without what differs from run to run."""
    if isinstance(x, dict):
        return {k: plain(v, extra) for k, v in x.items() if k not in DROPPED and k not in extra and not k.endswith('_epoch')}
    if isinstance(x, list):
        return [plain(v, extra) for v in x]
    return NUMBER.sub('packet N', CLOCK.sub('TIME', x)) if isinstance(x, str) else x


def report(run, extra=()):
    """The report as it is compared; extra: remarks that this variation brings."""
    out = []
    for line in run.lines:
        line = plain(line, extra)
        if line['type'] == 'capture':
            line['remarks'] = sorted(r['remark'] for r in line['remarks'] if r['remark'] not in extra)
            line.update(program='', version='')
        if line['type'] == 'flow':
            line['remarks'] = sorted(r for r in line['remarks'] if r not in extra)
        out.append(line)
    return out


# ---- truth ----

def seen(v, f):
    """What is compared with the truth of a scene."""
    out = {k: v[k] for k in ('row', 'direction', 'outcome', 'cause', 'reached', 'method', 'setback', 'verify_only',
                             'domains_by_dns', 'fault', 'closer', 'older', 'violations', 'suspected', 'words', 'said_by', 'remedy', 'forward')}
    out['cause'], out['setback'] = out['cause'] or 'none', out['setback'] or 'none'
    out['violations'], out['suspected'] = sorted(out['violations']), sorted(out['suspected'])
    if f is not None:
        out.update({'from': f['initiator']['domain'], 'to': f['responder']['domain'], 'bidi': f['stream']['bidi']})
        tls = f['tls'] or {}
        out.update({'proof': tls.get('client_proof'), 'version': tls.get('version'), 'starttls': tls.get('starttls'),
                    'resumed': tls.get('resumed'), 'stanzas': sum(f['stanzas'][x][k] for x in f['stanzas'] for k in ('message', 'presence', 'iq')),
                    'proxy': (f.get('proxy') or {}).get('source')})
    return out


def truths(scene, keys):
    out = {}
    for c in scene.calls:
        if c.expected:
            who = c.identity()
            out[nth(out, *who)] = c.expected if keys else c.blind
    for t in scene.lookups:
        out[nth(out, 'name', t['to'])] = t
    return out


def rows(scene, keys):
    out = {'5269-in': ('not seen', 'cannot-tell'), '5269-out': ('not seen', 'cannot-tell'),
           '23456-in': ('not seen', 'cannot-tell'), 'other': ('not seen', 'conforms')}
    out.update(scene.rows)
    if not keys:
        out.update(scene.rows_without_keys)
    return out


def wrong_truth(scene, run, keys):
    """Sentences about what the analyzer says and the scene does not."""
    out = []
    wanted, found = truths(scene, keys), run.attempts()
    for who in sorted(set(wanted) | set(found), key=str):
        if who not in found:
            out.append('%s: no such attempt in the report' % (who,))
        elif who not in wanted:
            out.append('%s: an attempt that there was not: %s' % (who, found[who][0]['story']))
        else:
            have = seen(*found[who])
            for k, v in wanted[who].items():
                if k != 'to' or found[who][1] is not None:
                    if v != '*' and have[k] != v:        # *: whatever it says
                        out.append('%s: %s is %r, expected %r' % (who, k, have[k], v))
    for r in run.about('row'):
        if (r['state'], r['ruling']) != rows(scene, keys)[r['row']]:
            out.append('row %s: %s, expected %s' % (r['row'], (r['state'], r['ruling']), rows(scene, keys)[r['row']]))
    out += wrong_lists(scene, run, keys)
    connections = run.about_capture()['connections']
    if connections != len(scene.calls):
        out.append('%d connections, expected %d' % (connections, len(scene.calls)))
    status = 1 if any(t['outcome'] == 'failed' for t in wanted.values()) \
        or any(r[1] == 'violates' for r in rows(scene, keys).values()) else 0
    if run.status != status:
        out.append('exit status %d, expected %d %s' % (run.status, status, run.errors))
    return out + wrong_times(scene, run)


def wrong_lists(scene, run, keys):
    """Which failures are told together, and who is a partner."""
    out = []
    groups = [(x['cause'], x['count']) for x in run.about('cause') if x['kind'] == 'failed']
    if scene.groups is not None and keys and groups != scene.groups:
        out.append('failures are told as %s, expected %s' % (groups, scene.groups))
    partners = [(x['ours'], x['theirs']) for x in run.about('partner')]
    wanted = scene.partners if keys else scene.partners_without_keys or scene.partners
    if wanted is not None and partners != wanted:
        out.append('partners are %s, expected %s' % (partners, wanted))
    return out


def wrong_times(scene, run):
    """Every packet number comes with the time of that packet."""
    out = []
    def look(x, what):
        packet, at = x.get('packet'), x.get('time')
        if packet and at and 0 < packet <= len(scene.packets):
            t = scene.packets[packet - 1].time
            wanted = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(t // 10**9)) + '.%06d' % (t % 10**9 // 1000)
            if not at.startswith(wanted):
                out.append('%s: packet %d is said to be of %s, and is of %s' % (what, packet, at, wanted))
    for line in run.lines:
        if line['type'] == 'event':
            look(line, 'event ' + line['event'])
        for proof in line.get('proofs') or []:
            look(proof, 'proof ' + proof['what'])
    return out[:3]


# ---- less certain, never wrong ----

REACH = ['nothing', 'name', 'syn', 'tcp', 'header', 'tls', 'stream', 'authenticated', 'stanzas']
RULING = {'conforms': ('conforms', 'cannot-tell'), 'cannot-tell': ('cannot-tell',), 'violates': ('violates', 'cannot-tell')}


def reach(v, f):
    """Plain headers are the stream, unless TLS begins after them: an early end of the capture may hide that."""
    return 'header' if v['reached'] == 'stream' and f is not None and f['tls'] is None else v['reached']


def wrong_attempt(scene, who, before, after):
    """An attempt of a lossy capture against the same one in the whole capture."""
    v, t = after[0], before[0]
    out = []
    if v['outcome'] == 'failed':
        if t['outcome'] != 'failed':
            out.append('failed with %s, and it had not (%s)' % (v['cause'], t['outcome']))
        elif v['cause'] != t['cause'] and v['cause'] not in scene.lost_may and v['cause'] != 'refused-inside-tls':
            out.append('failed with %s, and the truth is %s' % (v['cause'], t['cause']))
    if v['outcome'] == 'worked' and t['outcome'] != 'worked' and REACH.index(t['reached']) < REACH.index('authenticated'):
        out.append('worked, and it had not')
    if REACH.index(reach(*after)) > REACH.index(t['reached']):
        out.append('reached %s, and the truth is %s' % (v['reached'], t['reached']))
    if scene.options != [] and v['direction'] not in ('unknown', t['direction']):
        out.append('direction %s, and the truth is %s' % (v['direction'], t['direction']))
    if scene.options != [] and v['row'] not in ('other', t['row']):
        out.append('row %s, and the truth is %s' % (v['row'], t['row']))
    if v['setback'] not in ('', 'none', t['setback'], t['cause']):
        out.append('setback %s, and there was none' % v['setback'])
    proofs = [f['tls']['client_proof'] if f is not None and f['tls'] else '' for f in (before[1], after[1])]
    if proofs[1] in ('proven', 'inferred') and proofs[0] not in ('proven', 'inferred'):
        out.append('client certificate %s, and the truth is %r' % (proofs[1], proofs[0]))
    for kind in v['violations']:
        if kind not in t['violations']:
            out.append('violation ' + kind)
    return ['%s: %s' % (who, x) for x in out]


def wrong_loss(scene, whole, run, variation):
    out = []
    before, after = whole.attempts(), run.attempts()
    for who, found in after.items():
        who = scene.also.get(who[:4], who[:4]) + who[4:]     # what is seen twice may be told about twice
        turned = who[2:4] + who[:2] + who[4:]
        if who in before:
            out += wrong_attempt(scene, who, before[who], found)
        elif turned in before:
            out += wrong_attempt(scene, who, before[turned], found)
        elif found[0]['outcome'] != 'cannot-tell':
            out.append('%s: an attempt that there was not: %s' % (who, found[0]['story']))
    rulings = {r['row']: r['ruling'] for r in whole.about('row')}
    # whom a capture shows with two addresses it takes for the edge as long as it knows that they are one
    turned = scene.options == [] and scene.also and 'violates' in rulings.values()
    for r in run.about('row') if not turned else ():
        if r['ruling'] == 'violates' and rulings[r['row']] != 'violates':
            out.append('row %s violates, and the truth is %s' % (r['row'], rulings[r['row']]))
        if r['ruling'] == 'conforms' and rulings[r['row']] == 'violates' and not variation.startswith(('until', 'cut')) \
                and any(v['row'] == r['row'] and v['violations'] and who in after for who, (v, f) in before.items()):
            out.append('row %s conforms, and the truth is a violation' % r['row'])
    if run.status not in (0, 1, 3) or 'AddressSanitizer' in run.errors or 'runtime error' in run.errors:
        out.append('exit status %d %s' % (run.status, run.errors[:300]))
    if run.status == 1 and whole.status == 0:
        out.append('exit status 1, and nothing is wrong')
    return out


# ---- variations ----

def lossless(scene, keys):
    """(name, data of files, remarks and numbers that it changes)"""
    p = scene.packets
    ng = wire.pcapng
    zones = {'ext': 0, 'int': 1}
    yield 'nanoseconds', lambda: wire.pcap(p, nano=True), ()
    yield 'big-endian', lambda: wire.pcap(p, '>'), ()
    yield 'big-endian-nanoseconds', lambda: wire.pcap(p, '>', True), ()
    yield 'stdin', lambda: wire.pcap(p), ()
    yield 'pcapng', lambda: ng(p, simple_times=True), ()
    yield 'pcapng-big-endian', lambda: ng(p, '>'), ()
    yield 'pcapng-nanoseconds', lambda: ng(p, interfaces=((wire.ETHERNET, 9),)), ()
    yield 'pcapng-two-interfaces', lambda: ng(p, interfaces=((wire.ETHERNET, 6), (wire.SLL2, 9)), zones=zones), ()
    yield 'pcapng-raw-and-ethernet', lambda: ng(p, interfaces=((wire.RAW, 9), (wire.ETHERNET, 6)), zones=zones), ()
    yield 'two-files', lambda: [wire.pcap([x for x in p if x.zone == z]) for z in ('ext', 'int')], ()
    yield 'vlan', lambda: wire.pcap(p, tags=(wire.vlan(7),)), ()
    yield 'qinq', lambda: wire.pcap(p, tags=wire.QINQ), ()
    yield 'cooked', lambda: wire.pcap(p, kind=wire.SLL), ()
    yield 'cooked-2', lambda: wire.pcap(p, kind=wire.SLL2), ()
    yield 'raw-ip', lambda: wire.pcap(p, kind=wire.RAW), ()
    yield 'null', lambda: wire.pcap(p, kind=wire.NULL), ()
    yield 'loop', lambda: wire.pcap(p, kind=wire.LOOP), ()
    for name, frame in wire.TUNNELS.items():
        yield name, lambda frame=frame: wire.pcap(p, kind=wire.RAW, frame=frame), ()
    yield 'provider-bridge', lambda: wire.pcap(p, frame=wire.provider), ()
    yield 'offload-segments', lambda: wire.pcap(wire.merge(p)), ()
    yield 'offload-checksums', lambda: wire.pcap(wire.offload(p, HOSTS)), ('checksum',)
    yield 'fragments', lambda: wire.pcap(wire.fragments(p)), ()
    yield 'mirror', lambda: wire.pcap(wire.twice(p)), ('duplicates', 'dns_messages', 'asked', 'answered')
    if keys:
        yield 'pcapng-with-secrets', lambda: ng(p, secrets=scene.keys), ('keys_given',)
    for seed in SEEDS:
        r = random.Random(seed)
        yield 'small-segments-%d' % seed, lambda r=r: wire.pcap(wire.split(p, lambda: r.choice((1, 2, 5, 30, 300)))), ()
        yield 'reordered-%d' % seed, lambda r=r, seed=seed: wire.pcap(
            wire.exchange(wire.split(p, lambda: r.randrange(20, 200)), seed)), ()
        yield 'retransmitted-%d' % seed, lambda seed=seed: wire.pcap(wire.again(p, seed)), ()


def lossy(scene):
    """(name, data of a file)"""
    p = scene.packets
    for n in (68, 96, 128, 400):
        yield 'snaplen-%d' % n, lambda n=n: wire.pcap(wire.snaplen(p, n))
    yield 'sent-by-the-edge', lambda: wire.pcap(wire.one_direction(p, HOSTS, True))
    yield 'got-by-the-edge', lambda: wire.pcap(wire.one_direction(p, HOSTS, False))
    for seed in SEEDS:
        r = random.Random(seed)
        much = (0.03, 0.1, 0.3, 0.6)[seed % 4]
        share = (seed + 1) / (len(SEEDS) + 2)
        yield 'loss-%d' % seed, lambda seed=seed, much=much: wire.pcap(wire.lose(p, seed, much))
        yield 'loss-of-small-segments-%d' % seed, lambda r=r, seed=seed, much=much: wire.pcap(
            wire.lose(wire.split(p, lambda: r.randrange(20, 200)), seed, much))
        yield 'late-%d' % seed, lambda seed=seed: wire.pcap(wire.from_the_middle(p, seed))
        yield 'since-%.0f' % (share * 100), lambda share=share: wire.pcap(wire.since(p, share))
        yield 'until-%.0f' % (share * 100), lambda share=share: wire.pcap(wire.until(p, share))
    for share in (0.3, 0.6, 0.9, 1):
        yield 'cut-%.0f' % (share * 100), lambda share=share: cut(wire.pcap(p), share)


def cut(data, share):
    """A file whose end is missing; of all of it, the last byte."""
    return data[:int(len(data) * share) if share < 1 else len(data) - 1]


def chosen(scene, variations, keys, n=3):
    """All of them, or n in turn: another choice for each scene."""
    if scene.headless:
        variations = [x for x in variations if not x[0].startswith(('reordered', 'small-segments'))]
    if ALL:
        return variations
    start = zlib.crc32((scene.name + str(keys)).encode())
    step = len(variations) // n | 1
    return [variations[(start + i * step) % len(variations)] for i in range(n)]


def is_between_records(data):
    """A cut may fall on the end of a record: then the file is whole, only shorter."""
    at = 24
    while at + 16 <= len(data):
        at += 16 + int.from_bytes(data[at + 8:at + 12], 'little')
    return at == len(data)


# ---- one scene ----

def undescribed(run):
    return sorted({y for x in run.lines for y in REFERENCE.wrong(x)})


def keep(run, where):
    """The command line of what failed; its captures stay with GOLDEN_KEEP."""
    if KEEP:
        run.files = []
    return '%s: %s' % (where, ' '.join(run.command))


def difference(a, b):
    for x, y in zip(a, b):
        if x != y:
            keys = [k for k in set(x) | set(y) if x.get(k) != y.get(k)]
            return '%s %s: %s' % (x['type'], x.get('about', x.get('event', '')), '; '.join(
                '%s %r, expected %r' % (k, y.get(k), x.get(k)) for k in sorted(keys)[:4]))[:600]
    return '%d lines, expected %d' % (len(b), len(a))


# Sentences may become better without a change of what is found.
PROSE = ('remedy', 'forward', 'story', 'why', 'what', 'text', 'addresses_why', 'proof_how', 'client_proof_how', 'result')


def short(x):
    """Without sentences, and without all that is nothing."""
    if isinstance(x, dict):
        y = {k: [p['what'] for p in v] if k == 'proofs' else short(v) for k, v in x.items() if k not in PROSE}
        return {k: v for k, v in y.items() if v not in (None, '', 0, False, [], {})}
    return [short(v) for v in x] if isinstance(x, list) else x


def golden_text(run):
    lines = [short(x) for x in report(run) if (x['type'] != 'event' or x['event'] == 'dns-question')
             and x.get('state') != 'not seen']
    return ''.join(json.dumps(x, sort_keys=True) + '\n' for x in lines)


def check_golden(scene, run, keys, update):
    path = os.path.join(GOLDEN, scene.name + ('.json' if keys or not scene.keys else '.nokeys.json'))
    text = golden_text(run)
    if update:
        os.makedirs(GOLDEN, exist_ok=True)
        with open(path, 'w') as f:
            f.write(text)
        return []
    if not os.path.exists(path):
        return ['there is no %s (--update writes it)' % os.path.basename(path)]
    with open(path) as f:
        wanted = f.read()
    if wanted == text:
        return []
    return ['%s: %s' % (os.path.basename(path), difference([json.loads(x) for x in wanted.splitlines()],
                                                           [json.loads(x) for x in text.splitlines()]))]


def check_scene(name, ca, folder, update):
    """(errors, causes, violations, captures, fields)"""
    scene = gen_talk.Scene(name, ca, folder)
    errors, causes, kinds, count = [], set(), set(), 0
    for keys in ((True, False) if scene.keys else (False,)):
        suffix = '' if keys or not scene.keys else ' without keys'
        whole = Run(scene, folder, wire.pcap(scene.packets), keys, 'whole')
        count += 1
        found = wrong_truth(scene, whole, keys) + check_golden(scene, whole, keys, update)
        found += undescribed(whole)
        errors += ['%s%s' % (x, suffix) for x in found]
        if found:
            errors.append(keep(whole, 'run'))
        if not found:
            for v in truths(scene, keys).values():
                causes |= {v['cause'], v.get('setback', 'none')}
                kinds |= set(v['violations'])
        wanted = report(whole)
        for variation, make, extra in chosen(scene, list(lossless(scene, keys)), keys):
            run = Run(scene, folder, make(), keys and variation != 'pcapng-with-secrets', variation)
            count += 1
            base = wanted if not extra else report(whole, extra)
            if report(run, extra) != base or run.status != whole.status:
                errors.append('%s%s: not the same: %s' % (variation, suffix, difference(base, report(run, extra))))
                errors.append(keep(run, 'run'))
            errors += ['%s%s: %s' % (variation, suffix, x) for x in undescribed(run)]
            run.drop()
        for variation, make in chosen(scene, list(lossy(scene)), keys):
            data = make()
            run = Run(scene, folder, data, keys, variation)
            count += 1
            found = wrong_loss(scene, whole, run, variation) + undescribed(run)
            if variation.startswith('cut') and len(data) > 24 and (run.status == 3) == is_between_records(data):
                found.append('exit status %d of a file that is cut' % run.status)
            if found:
                errors += ['%s%s: %s' % (variation, suffix, x) for x in found] + [keep(run, 'run')]
            run.drop()
        whole.drop()
    return errors, causes, kinds, count, REFERENCE.spoken


def work(job):
    name, ca, folder, update = job
    try:
        return (name,) + check_scene(name, ca, folder, update)
    except Exception:
        return name, traceback.format_exc().splitlines()[-8:], set(), set(), 0, set()


# ---- what causes.c knows ----

def words_of(prefix):
    """The word of each row of a table in causes.c."""
    with open(os.path.join(HERE, '..', '..', 'analyze', 'causes.c')) as f:
        return set(re.findall(r'\[%s_\w+\] = \{ "([^"]+)"' % prefix, f.read()))


def tap(number, good, text, notes=()):
    print('%sok %d - %s' % ('' if good else 'not ', number, text), flush=True)
    for line in notes:
        print('#   ' + line[:700])


def main():
    update = '--update' in sys.argv[1:]
    words = [x for x in sys.argv[1:] if not x.startswith('--')]
    names = [n for n in sorted(gen_talk.scenes) if not words or any(w in n for w in words)]
    if not names:
        print('Bail out! no scene has a name with one of: ' + ' '.join(words))
        return 2
    started = time.time()
    causes, kinds, captures, failed = {'none'}, set(), 0, 0
    with tempfile.TemporaryDirectory(prefix='golden-') as folder:
        if KEEP:
            folder = KEEP
            os.makedirs(KEEP, exist_ok=True)
        ca = gen_cert.Authority(folder, 'Test Authority')
        jobs = [(n, ca, folder, update) for n in names]
        print('1..%d' % (len(names) + (0 if words else 3)))
        with multiprocessing.Pool(WORKERS) as pool:
            for i, (name, errors, c, k, n, spoken) in enumerate(pool.imap(work, jobs, 4)):
                causes |= c
                kinds |= k
                REFERENCE.spoken |= spoken
                captures += n
                failed += bool(errors)
                tap(i + 1, not errors, name.replace('_', ' '), errors)
    if not words:
        made = {n + x for n in names for x in ('.json', '.nokeys.json')}
        stale = sorted(set(os.listdir(GOLDEN)) - made)
        for x in stale if update else []:
            os.unlink(os.path.join(GOLDEN, x))
        missing = [sorted(words_of('CAUSE') - causes), sorted(words_of('VIOLATION') - kinds),
                   sorted(set(REFERENCE.silent()) - set(SILENT)) + REFERENCE.unexplained]
        tap(len(names) + 1, not missing[0], 'every cause is found in a scene that has it', missing[0])
        tap(len(names) + 2, not missing[1], 'every kind of violation is found in a scene that has it', missing[1])
        tap(len(names) + 3, not missing[2], 'every field that is described says something in a scene', missing[2])
        failed += sum(bool(x) for x in missing)
    print('# %d scenes, %d captures, %.0f s, %d failed' % (len(names), captures, time.time() - started, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
