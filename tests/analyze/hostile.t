#!/usr/bin/env python3
"""hostile.t -- whatever a capture brings, a report carries it as text and as nothing else.  TAP.

For every place of a capture that strangers fill (headers, errors, certificates, ClientHellos, DNS names, first lines,
pcapng options, key logs) one capture, in which hostile words stand there, and every form of the report:

  all forms  UTF-8, nothing in it that cannot be seen, no line that a word begins
  JSON       every line one object, no key twice
  HTML       tags and attributes that html.c knows, and no others; a content security policy

Each word ends in a mark of its own, so that a place whose words reach no form any more is noticed too.

XMPPEDGE_ANALYZE names another binary.
"""
import html.parser
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'live'))
sys.path.insert(0, HERE)

import gen_cert   # noqa: E402
import gen_talk   # noqa: E402
import gen_wire   # noqa: E402
import tap   # noqa: E402
from gen_cert import der, extension, oid, seq   # noqa: E402
from tap import check, test   # noqa: E402

BINARY = os.path.abspath(os.environ.get('XMPPEDGE_ANALYZE') or os.path.join(HERE, '..', '..', 'xmppedge-analyze'))

LINE = b'FORGED'     # what a word would like to begin a line with
WORDS = [
    b'\x1b[31m', b'\x1b]0;title\x07', b'\r\n' + LINE, b'\n\n' + LINE, b'\x00' + LINE, b'\x7f\x08\x08\x08', b'\t' + LINE,
    '\x9b31m\x85'.encode() + LINE,                                 # C1: CSI, next line
    b'\x9b31m', b'\xff\xfe\xfd', b'\xc0\xaf', b'\xed\xa0\x80', b'\xe4\xbe',    # not UTF-8, the last one cut
    '\u202e\u2066\u2067\u2068\u202a\u202b\u202d\u2069\u202c'.encode(),         # bidi
    'a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg'.encode(),        # zero width
    '\u2028'.encode() + LINE, '\u2029'.encode() + LINE,
    '\U000e0001\U000e0041\ufe0f'.encode(), '\ufffe\uffff'.encode(),
    b'<script>alert(1)</script>', b'"><img src=x onerror=alert(1)>', b"' onmouseover='x", b'</style></td></table></details>',
    b'<!--', b']]>', b'&lt;b&gt;', b'&#x1b;', b'{"type":"capture"}', b'","type":"', b'\\u001b', b'\\',
    b'=HYPERLINK("http://x")', b'@SUM(1)', b'a;b,c\t"d"', b'| a | `b` **c** [d](javascript:e)', b'%s%n%n',
    b' ' * 90 + LINE, b'x' * 2000, '\u4f8b'.encode() * 300, (LINE + b' ') * 90,
]


def mark(n):
    return b'zq%02dqz' % n


def words(longest=4000, without=b''):
    """What stands in a place: words that fit, each behind its mark, so that what is cut loses the word."""
    for n, w in enumerate(WORDS):
        if not any(c in w for c in without):
            yield mark(n) + w[:longest - 6]


# ---- places: scenes in which strangers choose the words ----

PLACES = {}


def place(function):
    PLACES[function.__name__] = function
    gen_talk.scenes[function.__name__] = (function, 'in', '1.2', None)
    return function


def xml(word):
    """As XML carries it.  What XML forbids stays as it is: the stream breaks there."""
    for raw, named in ((b'&', b'&amp;'), (b'<', b'&lt;'), (b'>', b'&gt;'), (b"'", b'&apos;'), (b'"', b'&quot;'),
                       (b'\r', b'&#13;'), (b'\n', b'&#10;'), (b'\t', b'&#9;')):
        word = word.replace(raw, named)
    return word


def both_ways(s, speak):
    """speak(call, word, side of the stranger) for every word: the stranger calls, and is called."""
    for word in words():
        for side, call in ((0, s.inbound), (1, s.outbound)):
            c = call()
            c.dial()
            speak(c, xml(word), side)
            c.finish(side)


def put(text, *values):
    """Bytes with %s in them; what a stranger says may be anything."""
    for v in values:
        text = text.replace(b'%s', v, 1)
    return text


def header_of(c, side, **values):
    """The header of this side, with attributes of a stranger."""
    h = c.header(side, **{k: '@%s@' % k for k in values}).encode()
    for k, v in values.items():
        h = h.replace(b'@%s@' % k.encode(), v)
    return h


def header_place(name, who):
    def speak(c, word, side):
        if side == 1:
            c.say(0, c.header(0))
        c.say(side, header_of(c, side, **{who: word}))
        if side == 0:
            c.say(1, c.header(1) + c.features('starttls-required'))
        c.error(1, 'host-unknown')

    def at(s):
        both_ways(s, speak)
    at.__name__ = name
    return place(at)


header_place('stream_from', 'frm')
header_place('stream_to', 'to')
header_place('stream_version', 'version')
header_place('stream_namespace', 'ns')


@place
def stream_id(s):
    for word in words():
        c = s.outbound()
        c.dial()
        c.say(0, c.header(0))
        c.say(1, header_of(c, 1, ident=xml(word)))
        c.error(1, 'host-unknown')
        c.finish(1)


def said_place(name, what, streams='starttls EXTERNAL dialback'):
    """What a stranger says behind the headers."""
    def speak(c, word, side):
        c.streams(streams)
        c.say(side, put(what, word, word, word))
        c.say(side, b'</stream:stream>')

    def at(s):
        both_ways(s, speak)
    at.__name__ = name
    return place(at)


STREAMS, STANZAS, SASL = (x.encode() for x in (gen_talk.NS_STREAMS, gen_talk.NS_STANZAS, gen_talk.NS_SASL))

said_place('stream_error_text', b"<stream:error><policy-violation xmlns='" + STREAMS + b"'/><text xmlns='" + STREAMS
           + b"'>%s</text></stream:error>")
said_place('stream_error_host', b"<stream:error><see-other-host xmlns='" + STREAMS + b"'>%s</see-other-host></stream:error>")
said_place('stream_error_name', b"<stream:error><other xmlns='%s'/></stream:error>")
said_place('sasl_text', b"<failure xmlns='" + SASL + b"'><not-authorized/><text>%s</text></failure>")
said_place('sasl_mechanism', b"<auth xmlns='" + SASL + b"' mechanism='%s'>%s</auth>")
said_place('dialback_names', b"<db:result from='%s' to='%s'>%s</db:result>")
said_place('dialback_type', b"<db:result from='pa.example' to='corp.example' type='%s'/>")
said_place('dialback_error', b"<db:result from='pa.example' to='corp.example' type='error'><error type='cancel'>"
           b"<item-not-found xmlns='" + STANZAS + b"'/><text xmlns='" + STANZAS + b"'>%s</text></error></db:result>")
said_place('dialback_verify', b"<db:verify from='%s' to='%s' id='%s'>aa</db:verify>")
said_place('element_namespace', b"<odd xmlns='%s' a='%s'>%s</odd>")
said_place('stanza', b"<message from='%s' to='%s' type='%s'><body>text</body></message>")
said_place('stanza_error_text', b"<message from='a@pa.example' to='b@corp.example' type='error' id='%s'><error type='cancel'>"
           b"<gone xmlns='" + STANZAS + b"'>%s</gone><text xmlns='" + STANZAS + b"'>%s</text></error></message>")


@place
def features(s):
    for word in words():
        c = s.outbound()
        c.dial()
        c.say(0, c.header(0))
        c.say(1, c.header(1).encode() + put(b"<stream:features><mechanisms xmlns='" + SASL + b"'><mechanism>%s</mechanism>"
                                            b"</mechanisms><odd xmlns='%s'/></stream:features>", xml(word), xml(word)))
        c.finish(0)


@place
def markup_as_it_is(s):
    """Not made XML first: in the place of a header, of an element, of a name."""
    for word in words():
        for before in (b'', b"<stream:stream xmlns='jabber:server' to='", b'<'):
            c = s.inbound()
            c.dial()
            c.say(0, before + word + b'\r\n')
            c.finish(1)


@place
def first_lines(s):
    """Peers that do not speak XMPP."""
    for word in words():
        for line in (b'SSH-2.0-%s', b'GET /%s HTTP/1.1\r\nHost: %s', b'220 %s ESMTP', b'%s'):
            for call, side in ((s.inbound, 0), (s.outbound, 1)):
                c = call()
                c.dial()
                c.say(side, put(line, word, word) + b'\r\n')
                c.finish(side)


def client_hello(name, protocol):
    """With names that no library would send."""
    def block(n, data):
        return len(data).to_bytes(n, 'big') + data
    sni = block(2, b'\0' + block(2, name))
    alpn = block(2, block(1, protocol[:255]))
    extensions = b'\0\0' + block(2, sni) + b'\0\x10' + block(2, alpn)
    body = b'\3\3' + bytes(32) + b'\0' + block(2, b'\xc0\x2b') + b'\1\0' + block(2, extensions)
    return b'\x16\3\1' + block(2, b'\1' + block(3, body))


@place
def server_name_indication(s):
    for word in words():
        for port in (5269, 5270):
            c = s.outbound(port=port)
            c.dial()
            c.say(0, client_hello(word, b'xmpp-server'))
            c.say(1, b'\x15\3\3\0\2\2\x70')     # unrecognized_name
            c.finish(1)


@place
def protocol_names(s):
    for word in words(255):
        c = s.inbound()
        c.dial()
        c.say(0, client_hello(b'corp.example', word))
        c.say(1, b'\x15\3\3\0\2\2\x78')         # no_application_protocol
        c.finish(1)


def is_utf8(word):
    try:
        return word.decode() is not None
    except UnicodeDecodeError:
        return False


def certificate(ca, word):
    """Signed by the authority and hostile wherever there is a text."""
    text = der(0x0c, word)
    common = text if is_utf8(word) else der(0x14, word)      # OpenSSL looks into UTF8String
    name = seq(der(0x31, seq(oid('2.5.4.3'), common)), der(0x31, seq(oid('2.5.4.10'), common)))
    names = seq(der(0x82, word), der(0x81, word), der(0x86, word), der(0x82, b'pa.example'),
                der(0xa0, oid(gen_cert.XMPP_ADDR), der(0xa0, text)),
                der(0xa0, oid(gen_cert.SRV_NAME), der(0xa0, der(0x16, word))))
    made = gen_cert.name
    gen_cert.name = lambda _: name
    try:
        pem = ca.write('', '', ca.leaf_key, ca.leaf_key, gen_cert.OK_FROM, gen_cert.OK_TO,
                       [extension('2.5.29.17', False, names)])
    finally:
        gen_cert.name = made
    path = os.path.join(ca.folder, 'hostile-%d.pem' % ca.serial)
    with open(path, 'wb') as out, open(ca.leaf_key.path, 'rb') as key:
        out.write(key.read() + pem)
    return path


@place
def certificates(s):
    for word in words(300):
        path = certificate(s.ca, word)
        for call, which in ((s.inbound, 'client_cert'), (s.outbound, 'server_cert')):
            c = call()
            c.dial()
            c.streams('starttls-required')
            c.starttls(**{which: path})
            c.streams('EXTERNAL')
            c.external(success=False, text='no')
            c.close()


def labels(word):
    """A domain name on the wire: any bytes in labels of 63."""
    return b''.join(bytes([len(word[i:i + 63])]) + word[i:i + 63] for i in range(0, min(len(word), 180), 63))


@place
def dns(s):
    """Questions of anybody and targets of their answers."""
    for n, word in enumerate(words()):
        name = b'\x0c_xmpp-server\x04_tcp' + labels(word) + b'\0'
        target = labels(word) + b'\7example\0'
        question = name + struct.pack('!HH', 33, 1)
        s.add(gen_talk.HOSTS['edge'], gen_talk.HOSTS['ns'], 17, 50000 + n, 53,
              payload=struct.pack('!HHHHHH', n, 0x100, 1, 0, 0, 0) + question)
        s.wait(0.01)
        data = struct.pack('!HHH', 1, 1, 5269) + target
        alias = b'\xc0\x0c' + struct.pack('!HHIH', 5, 1, 300, len(target)) + target
        s.add(gen_talk.HOSTS['ns'], gen_talk.HOSTS['edge'], 17, 53, 50000 + n,
              payload=struct.pack('!HHHHHH', n, 0x8180, 1, 2, 0, 0) + question + alias
              + target + struct.pack('!HHIH', 33, 1, 300, len(data)) + data)
        s.wait(0.01)


# ---- places of the files themselves ----

def harmless(s):
    c = s.inbound()
    c.dial()
    c.streams('starttls-required')
    c.starttls()
    c.streams('EXTERNAL')
    c.external()
    c.streams('')
    c.stanzas().close()
    d = s.outbound()
    d.refused()
    s.ask('_xmpp-server._tcp.pa.example', 'SRV', [(1, 1, 5269, 'x.pa.example')])
    s.ask('x.pa.example', 'A', [gen_talk.HOSTS['pa']])


gen_talk.scenes['harmless'] = (harmless, 'in', '1.2', None)


def options(*pairs):
    return b''.join(gen_wire.option('<', code, value) for code, value in pairs) + gen_wire.option('<', 0, b'')


def pcapng(packets, word):
    """Hostile in every option that the format has a text for, and in blocks of names."""
    out = [gen_wire.block('<', 0x0a0d0d0a, struct.pack('<IHHq', 0x1a2b3c4d, 1, 0, -1)
                          + options((1, word), (2, word), (3, word), (4, word)))]
    out.append(gen_wire.block('<', 1, struct.pack('<HHI', gen_wire.ETHERNET, 0, 0) + options(
        (1, word), (2, word), (3, word), (11, b'\0' + word), (12, word), (15, word))))
    out.append(gen_wire.block('<', 4, struct.pack('<HH', 1, 5 + len(word)) + bytes(4) + word + b'\0'
                              + b'\0' * (-(5 + len(word)) % 4) + struct.pack('<HH', 0, 0)))
    for p in packets:
        frame = gen_wire.link(p, gen_wire.ETHERNET)
        ticks = p.time // 1000
        out.append(gen_wire.block('<', 6, struct.pack('<IIIII', 0, ticks >> 32, ticks & 0xffffffff, len(frame), len(frame))
                                  + frame + b'\0' * (-len(frame) % 4) + options((1, word))))
    return b''.join(out)


# ---- what a report may be ----

# The characters of the report itself are visible ones; what strangers say is made so.
HIDDEN = re.compile('[^ %s]' % ''.join(re.escape(c) for c in map(chr, range(0x110000)) if unicodedata.category(c)[0] not in 'CZ'))


# The columns in which lines of the text begin, by section; a text that goes on does so in other ones.
OWN = {'PARTNERS': (0, 1, 3), 'FAILURES': (0, 1, 5), 'NOT KNOWN': (0, 1, 5), 'SETBACKS': (0, 1, 5), 'VIOLATIONS': (0, 1, 9, 11),
       'DETAILS': (0, 1, 9)}


def is_text(said):
    columns = (0, 1)
    for line in lines_of(said, 'text'):
        begin = line.lstrip()
        if begin == line and line:
            columns = next((OWN[h] for h in OWN if line.startswith(h)), (0, 1))
        check(not begin.startswith(LINE.decode()) or len(line) - len(begin) not in columns,
              'the text has a line of a stranger: %r' % line)


def lines_of(said, form):
    text = said.decode('utf-8')           # raises where it is none
    for line in text.split('\n'):
        odd = HIDDEN.search(line)
        check(not odd, '%s has %a in the line %a' % (form, odd and odd.group(), line[:200]))
        check(not line.startswith(LINE.decode()), '%s has a line of a stranger: %r' % (form, line))
    return text.split('\n')


def one_key(pairs):
    keys = [k for k, _ in pairs]
    check(len(keys) == len(set(keys)), 'JSON has a key twice: %r' % keys)
    return dict(pairs)


def is_json(said):
    for line in lines_of(said, 'JSON'):
        if line:
            check(type(json.loads(line, object_pairs_hook=one_key)) is dict, 'JSON has a line that is no object: %r' % line)


class Page(html.parser.HTMLParser):
    """Ours are these tags and these attributes, and one script that the policy knows; nothing fetches anything."""

    TAGS = set('html head meta title style body h1 h2 h3 p a div span small i code blockquote dl dt dd details summary input '
               'label table thead tbody tr th td wbr svg path script'.split())
    VALUES = {'class': r'[a-z0-9 ]+', 'href': r'#a\d+', 'id': r'a\d+|f\w|q', 'for': r'f\w|q', 'type': 'radio|search',
              'name': r'f|viewport|referrer', 'lang': 'en', 'charset': 'utf-8', 'http-equiv': 'Content-Security-Policy', 'content': r'[\w\' ;=,.+/-]+',
              'open': '', 'style': 'margin:0', 'title': r'[a-z ]+', 'checked': '', 'colspan': r'\d+',
              'viewbox': '0 0 1004 21', 'preserveaspectratio': 'none', 'role': 'img', 'd': r'[Mhv\d. ]+', 'hidden': '',
              'aria-label': r'\d+ worked, \d+ failed, \d+ not known', 'placeholder': r'[a-z ,]+'}
    scripts = 0

    def handle_starttag(self, tag, attributes):
        check(tag in self.TAGS, 'HTML has <%s>' % tag)
        self.scripts += tag == 'script'
        check(self.scripts <= 1, 'HTML has a second script')
        for name, value in attributes:
            check(re.fullmatch(self.VALUES.get(name, '(?!)'), value or ''), 'HTML has <%s %s=%r>' % (tag, name, value))

    def handle_comment(self, data):
        raise AssertionError('HTML has a comment: %r' % data)

    handle_pi = unknown_decl = handle_comment


def is_page(said):
    check(b'default-src \'none\'' in said, 'HTML has no content security policy')
    page = Page()
    page.feed('\n'.join(lines_of(said, 'HTML')))
    page.close()


FORMS = {
    'text': ([], is_text),
    'ladder': (['--ladder', '--show-content'], is_text),
    'json': (['--json'], is_json),
    'html': (['--html', '-'], is_page),
    'stream': (['--stream', '1', '--show-content'], lambda said: lines_of(said, 'stream')),
}


# ---- running ----

class Captures:
    def __init__(self):
        self.owner = tempfile.TemporaryDirectory()
        self.folder = self.owner.name
        self.ca = gen_cert.Authority(self.folder, 'Test Authority')

    def scene(self, name):
        return gen_talk.Scene(name, self.ca, self.folder)

    def write(self, name, data):
        path = os.path.join(self.folder.encode(), name if isinstance(name, bytes) else name.encode())
        with open(path, 'wb') as out:
            out.write(data)
        return path


def reported(arguments, form):
    """What the analyzer writes, the warnings too; it has the form that was asked for."""
    more, is_form = FORMS[form]
    done = subprocess.run([BINARY, *more, '--external', '203.0.113.10', '--internal', '10.0.0.10', *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    check(done.returncode in (0, 1, 3) or form == 'stream', 'exit status %d: %s' % (done.returncode, done.stderr.decode(errors='replace')[-500:]))
    is_form(done.stdout)
    lines_of(done.stderr, 'standard error')
    return done.stdout


def all_forms(arguments, where):
    said = b''
    for form in FORMS:
        try:
            said += reported(arguments, form)
        except Exception as e:
            raise AssertionError('%s: %s' % (where, e)) from e
    return said


# Places that no form shows: words there have no way into the report.
UNSEEN = {'stream_version', 'stream_error_host', 'stream_error_name', 'element_namespace'}


def marks(said):
    return sum(mark(n) in said for n in range(len(WORDS)))


def place_test(name):
    def run(captures):
        s = captures.scene(name)
        path = captures.write(name + '.pcap', gen_wire.pcap(s.packets))
        shown = marks(all_forms(['-k', s.key_path, path], name))
        check((shown > 0) != (name in UNSEEN), '%d of %d words are shown' % (shown, len(WORDS)))
    run.sentence = 'hostile words stay text: ' + name.replace('_', ' ')
    test(run)


for each in PLACES:
    place_test(each)


@test
def hostile_words_stay_text_options_and_names_of_pcapng(captures):
    s = captures.scene('harmless')
    shown = 0
    for word in words():
        path = captures.write('options.pcapng', pcapng(s.packets, word))
        shown += marks(all_forms([path], repr(word))) > 0
    check(shown > len(WORDS) / 2, '%d words are shown' % shown)


@test
def hostile_words_stay_text_key_logs(captures):
    s = captures.scene('harmless')
    capture = captures.write('keys.pcap', gen_wire.pcap(s.packets))
    log = b''.join(put(b'CLIENT_RANDOM %s %s\nCLIENT_RANDOM ' + b'ab' * 32 + b' %s\n%s\n# %s\n', *[w] * 5) for w in words())
    path = captures.write('hostile.keys', log)
    all_forms(['-k', path, capture], 'key log')
    inside = gen_wire.pcapng(s.packets, secrets=log)
    all_forms([captures.write('secrets.pcapng', inside)], 'decryption secrets block')


@test
def hostile_words_stay_text_names_of_files(captures):
    """A capture comes from somewhere, and has a name."""
    s = captures.scene('harmless')
    for word in words(200, without=b'/\0'):
        path = captures.write(word, gen_wire.pcap(s.packets))
        check(marks(all_forms([path], repr(word))) == 1, '%r is not shown' % word)
        broken = captures.write(word, b'no capture')
        for form in ('text', 'json'):
            reported([broken], form)
        os.unlink(path)


def json_of(captures, speak):
    """The JSON lines of one call to the edge, and its flow."""
    gen_talk.scenes['one'] = (speak, 'in', '1.2', None)
    s = captures.scene('one')
    said = reported(['-k', s.key_path, captures.write('one.pcap', gen_wire.pcap(s.packets))], 'json')
    lines = [json.loads(line) for line in said.splitlines()]
    return lines, [x for x in lines if x['type'] == 'flow'][0]


@test
def a_name_of_a_certificate_does_not_look_like_two(captures):
    def speak(s):
        c = s.inbound()
        c.dial()
        c.streams('starttls-required')
        c.starttls(client_cert=certificate(s.ca, b'x, bank.example, O=Bank'))
        c.close()
    shown = json_of(captures, speak)[1]['tls']['client_certificate']
    check('bank.example' not in shown['names'].split(', '), shown['names'])
    check(len(shown['names'].split(', ')) == 4, shown['names'])
    check(not re.search(r'(?<!\\), O=Bank', shown['subject']), shown['subject'])


@test
def words_in_quotation_marks_do_not_end_them(captures):
    def speak(s):
        c = s.outbound()
        c.dial()
        c.streams('starttls-required')
        c.error(1, 'host-unknown', 'no"; stream id 99')
        c.finish(1)
    told = [x['forward'] for x in json_of(captures, speak)[0] if x.get('about') == 'cause']
    check('no\'; stream id 99"' in told[0], told[0])


if __name__ == '__main__':
    tap.run(Captures, lambda world: None)
