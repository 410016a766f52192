#!/usr/bin/env python3
"""37-clients.t -- what users do with real clients is the same through edge and gateway as without them.

    alice (slixmpp) -- Prosody -------------------------------- Prosody -- bob (slixmpp)
    alice (slixmpp) -- Prosody -- edge <==> gateway -- Prosody -- bob (slixmpp)

Both pairs do the same things at the same time.  All that a client is sent is written down in a canonical form,
without what differs from one run to the next, and compared, step by step and stanza by stanza.  Nothing may
differ.
"""
import asyncio
import base64
import collections
import hashlib
import os
import random
import re
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner                              # noqa: E402
from lab import Host, Lab                                                 # noqa: E402
from tap import check, note, skip_all, test, tests                        # noqa: E402

try:
    from people import Person, canonical, quiet                           # noqa: E402
except ImportError:
    if 'slixmpp' not in sys.modules and sys.executable != '/usr/bin/python3' and os.path.exists('/usr/bin/python3'):
        os.execv('/usr/bin/python3', ['/usr/bin/python3'] + sys.argv)     # whose packages are the system's
    skip_all('not installed: python3-slixmpp')

DOMAINS = ['pa.example', 'corp.example']
rooms = 'conference.{}'.format
FILE = random.Random(1).randbytes(10 ** 6)
PICTURE = base64.b64encode(random.Random(2).randbytes(15000)).decode()
MODULES = ['pep', 'vcard4', 'vcard_legacy', 'carbons', 'time', 'uptime', 'lastactivity', 'private', 'blocklist',
           'mam', 'bookmarks']
SETTINGS = 'c2s_stanza_size_limit = 4194304\n'
ROOM_SETTINGS = ['modules_enabled = { "muc_mam" }', 'restrict_room_creation = false', 'max_history_messages = 100',
                 'muc_room_default_history_length = 60']


# ---- the two federations -----------------------------------------------------------------------

class World:
    pass


class Pair:
    """alice and bob, and what both were sent, step by step."""

    def __init__(self, name, pa, corp):
        self.name, self.pa, self.corp = name, pa, corp
        self.steps = {}

    async def enter(self):
        self.alice = await Person('alice@pa.example/one', self.pa.c2s).enter()
        self.bob = await Person('bob@corp.example/two', self.corp.c2s).enter()
        self.people = [self.alice, self.bob]
        await self.end('login')

    async def end(self, step, seconds=0.6):
        await quiet(self.people, seconds)
        self.steps[step] = [[canonical(e) for e in p.news()] for p in self.people]

    def both_ways(self):
        """Who speaks, who is spoken to, and the domain of the latter."""
        return [(self.alice, self.bob, 'corp.example'), (self.bob, self.alice, 'pa.example')]


def server(lab, name, ip, dns, domain, user, pki, secure):
    cert = pki.public.issue(domain, rooms(domain)) if secure else None
    common = dict(cert=cert, ca=pki.public, secure=secure)
    return lab.prosody(name, ip, dns, [
        Host(domain, users=[user], **common),
        Host(rooms(domain), component='muc', settings=ROOM_SETTINGS, **common)], modules=MODULES, settings=SETTINGS)


def federation(w, name, n, behind):
    """n: where its addresses begin.  behind: the gateway's address, when there is a border between the two."""
    lab, pki = w.lab, w.pki
    dns = lab.resolver('dns-' + name, lab.ip(n))
    ip = {'pa.example': lab.ip(n + 1), 'corp.example': lab.ip(21) if behind else lab.ip(n + 2)}
    for domain in DOMAINS:
        for d in domain, rooms(domain):
            dns.server(d, ip[domain])
    dns.start()
    pa = server(lab, name + '-pa', lab.ip(n + 1), dns, 'pa.example', 'alice', pki, True)
    if behind:
        dns = w.inside = lab.resolver('inside-' + name, lab.ip(n + 3))
        dns.wildcard('example', behind)
        dns.start()
    corp = server(lab, name + '-corp', lab.ip(n + 2), dns, 'corp.example', 'bob', pki, not behind)
    return Pair(name, pa, corp)


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    outside = lab.resolver('outside', lab.ip(2))
    for d in 'pa.example', rooms('pa.example'):
        outside.server(d, lab.ip(71))
    outside.start()
    w.direct = federation(w, 'direct', 60, None)
    w.border = federation(w, 'border', 70, lab.ip(41))
    inner = ['corp.example', rooms('corp.example')]
    w.nodes = Border(lab, pki, outside, inner,
                     [partner('pa.example', rooms('pa.example'), tls='required', sasl='required', dialback=False)],
                     [w.border.corp.s2s + (inner, 'optional')])
    w.nodes.start()
    lab.wait_ready(*[s for p in (w.direct, w.border) for s in (p.pa, p.corp)])
    w.loop = asyncio.new_event_loop()
    asyncio.set_event_loop(w.loop)
    w.loop.run_until_complete(asyncio.wait_for(both(w, Pair.enter), 60))
    return w


async def both(w, work):
    await asyncio.gather(work(w.direct), work(w.border))


# ---- comparing ---------------------------------------------------------------------------------

MASKS = [(re.compile(pattern), instead) for pattern, instead in (
    (r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22,}', 'UUID'),
    (r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)', 'STAMP'),
    (r'\d{8}T\d\d:\d\d:\d\d', 'STAMP'),
    (r'((?:occupant-id|stanza-id|:result)[^>]*? id=")[^"]*', r'\1ID'),
    (r'(<n\d+:(?:first|last)[^>]*>)[^<]*', r'\1ID'),
    (r'seconds="\d+"', 'seconds="N"'),
    (r'(<n\d+:utc[^>]*>)[^<]*', r'\1STAMP'),
    (r' id="[A-Za-z0-9_-]{22,24}"', ' id="ID"'),
    (r' id="[0-9a-f]{32}"', ' id="ID"'),
    (r'(<n\d+:iq [^>]*id=")[A-Za-z0-9+/=_-]{12,}', r'\1ID'))]
# of the children of these Prosody keeps no order
SETS = re.compile('disco#|jabber:x:data|/caps|protocol/rsm|invited you')


def masked(text):
    """Without what is chosen at random or by the clock, and without order where there is none."""
    for pattern, instead in MASKS:
        text = pattern.sub(instead, text)
    if SETS.search(text):
        return ' '.join(sorted(re.findall(r'<[^>]*>|[^<>]+', text)))
    return text


def shown(text):
    return text if len(text) < 600 else text[:300] + ' ... ' + text[-300:]


def compare(w, step):
    """How many stanzas are equal, and the differences as text."""
    equal, lines = 0, []
    for who, direct, border in zip(('alice', 'bob'), w.direct.steps[step], w.border.steps[step]):
        a, b = collections.Counter(map(masked, direct)), collections.Counter(map(masked, border))
        equal += sum((a & b).values())
        for sign, of in (('-', a - b), ('+', b - a)):
            lines += ['%s %s %dx %s' % (sign, who, n, shown(text)) for text, n in of.items()]
    return equal, lines


def step(text, seconds=0.6):
    """The test that both pairs do something and are sent the same."""
    def declare(work):
        def function(w):
            async def do(pair):
                await work(pair)
                await pair.end(text, seconds)
            w.loop.run_until_complete(asyncio.wait_for(both(w, do), 100))
            same, lines = compare(w, text)
            note('%d stanzas are equal' % same)
            check(not lines, '- directly, + through us:\n' + '\n'.join(lines))
            check(same, 'nothing was sent')
        function.sentence = text
        tests.append(function)
        return work
    return declare


# ---- presence, vCards, avatars -----------------------------------------------------------------

@step('rosters: subscriptions are asked for and approved')
async def subscriptions(p):
    p.alice.say("<presence><show>away</show><status xml:lang='en'>out \U0001F680</status>"
                "<status xml:lang='de'>unterwegs</status><priority>5</priority></presence>")
    p.bob.say('<presence><priority>1</priority></presence>')
    for one, other, _ in p.both_ways():
        since = len(other.received)
        one.say("<presence to='%s' type='subscribe' id='sub'><status>please</status>"
                "<nick xmlns='http://jabber.org/protocol/nick'>N\u00e9</nick></presence>" % other.boundjid.bare)
        assert await other.until(lambda e: e.get('type') == 'subscribe', 10, since) is not None
        since = len(one.received)
        other.say("<presence to='%s' type='subscribed'/>" % one.boundjid.bare)
        assert await one.until(lambda e: e.get('type') == 'subscribed', 10, since) is not None
        await quiet(p.people)


@step('presence with capabilities, which the other client looks up')
async def capabilities(p):
    p.alice.send_presence(pshow='chat', pstatus='at work')
    await quiet(p.people)       # a server asks for what it does not know yet: that depends on who was first
    p.bob.send_presence(pshow='dnd', pstatus='busy')


@step('vCards with a picture')
async def vcards(p):
    for one, _, _ in p.both_ways():
        await one.ask(one.boundjid.bare, "<vCard xmlns='vcard-temp'><FN>Zo\u00eb &amp; co</FN><PHOTO><TYPE>image/png"
                      '</TYPE><BINVAL>%s</BINVAL></PHOTO></vCard>' % PICTURE, 'set')
    for one, other, _ in p.both_ways():
        await one.ask(other.boundjid.bare, "<vCard xmlns='vcard-temp'/>")


AVATAR = 'urn:xmpp:avatar:'
PEP = [(AVATAR + 'data', 'a1', "<data xmlns='%sdata'>%s</data>" % (AVATAR, PICTURE)),
       (AVATAR + 'metadata', 'a1', "<metadata xmlns='%smetadata'><info bytes='15000' id='a1' type='image/png'/>"
        '</metadata>' % AVATAR),
       ('http://jabber.org/protocol/nick', 'n', "<nick xmlns='http://jabber.org/protocol/nick'>Zo</nick>"),
       ('eu.siacs.conversations.axolotl.devicelist', 'current',
        "<list xmlns='eu.siacs.conversations.axolotl'><device id='1'/></list>")]


@step('avatars, nicknames and device lists are published, announced and fetched')
async def avatars(p):
    def pubsub(inner):
        return "<pubsub xmlns='http://jabber.org/protocol/pubsub'>%s</pubsub>" % inner
    for one, _, _ in p.both_ways():
        for node, id, payload in PEP:
            await one.ask(one.boundjid.bare, pubsub("<publish node='%s'><item id='%s'>%s</item></publish>"
                                                    % (node, id, payload)), 'set')
    for one, other, _ in p.both_ways():
        for node in [node for node, _, _ in PEP] + ['nothing']:
            await one.ask(other.boundjid.bare, pubsub("<items node='%s'/>" % node))


QUERIES = ["<query xmlns='http://jabber.org/protocol/disco#info'/>",
           "<query xmlns='http://jabber.org/protocol/disco#items'/>", "<ping xmlns='urn:xmpp:ping'/>",
           "<query xmlns='jabber:iq:version'/>", "<query xmlns='jabber:iq:last'/>", "<time xmlns='urn:xmpp:time'/>",
           "<strange xmlns='urn:strange'><a>x</a></strange>"]


@step('disco, ping, version, time: to servers, users, clients, rooms, and those who do not exist')
async def queries(p):
    for one, other, domain in p.both_ways():
        for to in (domain, other.boundjid.bare, other.boundjid.full, rooms(domain), 'none@' + rooms(domain),
                   'nobody@' + domain, 'nobody@' + domain + '/r', domain + '/r'):
            for payload in QUERIES:
                await one.ask(to, payload)
        await one.ask(domain, QUERIES[-1], 'set')
        await one.ask(other.boundjid.full, QUERIES[-1], 'set')


# ---- messages ----------------------------------------------------------------------------------

def chat(payload, attributes=''):
    return ("type='chat' " + attributes, payload)


def nested(n):
    return "<d xmlns='urn:d'>%s</d>" % ('<d>' * (n - 1) + '</d>' * (n - 1))


def attributes(n):
    return "<x xmlns='urn:x' %s/>" % ' '.join("a%d='%d'" % (i, i) for i in range(n))


ERROR = ("<body>x</body><error type='cancel' by='x.example'><service-unavailable xmlns='{0}'/>"
         "<text xmlns='{0}' xml:lang='en'>no &lt;</text><more xmlns='urn:more'/></error>"
         .format('urn:ietf:params:xml:ns:xmpp-stanzas'))
FORWARD = ("<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/>"
           "<message xmlns='jabber:client' from='r@x.example/y' to='m@y.example'><body>inner</body></message>"
           '</forwarded>')
XHTML = ("<body>hi</body><html xmlns='http://jabber.org/protocol/xhtml-im'><body "
         "xmlns='http://www.w3.org/1999/xhtml' xml:lang='en'><p style='color:red'>h<em>i</em><br/>"
         "<a href='http://x/?a=1&amp;b=2'>l</a> <img src='cid:x' alt=''/> </p></body></html>")
OMEMO = ("<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='27'><key rid='31' prekey='true'>%s</key>"
         "<iv>AAAA</iv></header><payload>%s</payload></encrypted><store xmlns='urn:xmpp:hints'/>"
         % (PICTURE[:200], PICTURE))
OMEMO2 = ("<e:encrypted xmlns:e='urn:xmpp:omemo:2' xmlns:x='urn:other'><e:header sid='1' x:q='2'><e:keys jid='a@b'>"
          "<e:key rid='1' x:y='z'>%s</e:key></e:keys></e:header></e:encrypted>" % PICTURE[:100])
ODD = ('\U0001F469\u200d\U0001F467 \u05e9\u05dc\u05d5\u05dd \u202eabc\u202c z\u0323\u0307 \ufeff \ufffd \U0010fffd '
       '&#x1F600; \u2028\u0085')

MESSAGES = {
    'plain': chat('<body>hello</body>'),
    'receipt': chat("<body>did you get it?</body><request xmlns='urn:xmpp:receipts'/>"),
    'typing': chat("<composing xmlns='http://jabber.org/protocol/chatstates'/>"),
    'correction': chat("<body>right</body><replace id='plain' xmlns='urn:xmpp:message-correct:0'/>"
                       "<origin-id xmlns='urn:xmpp:sid:0' id='o1'/>"),
    'markers': chat("<body>m</body><markable xmlns='urn:xmpp:chat-markers:0'/><no-copy xmlns='urn:xmpp:hints'/>"),
    'reaction': chat("<reactions id='plain' xmlns='urn:xmpp:reactions:0'><reaction>\U0001F44B</reaction></reactions>"),
    'omemo': chat(OMEMO),
    'omemo2': chat(OMEMO2),
    'odd text': chat('<body>%s</body>' % ODD),
    'markup as text': chat('<body>a]]&gt;b &lt;![CDATA[x]]&gt; &amp;amp; &quot;q&quot; &apos; &#60;?pi?&#62;</body>'),
    'cdata': chat('<body><![CDATA[<raw> & ]] > text]]></body>'),
    'white space': chat('<body> one\ntwo\n\ttab  \r\n crlf &#13;cr &#10;nl &#9;tab </body>'),
    'attribute text': chat("<x xmlns='urn:x' a='tab&#9;nl&#10;cr&#13;q&quot;a&apos;lt&lt;gt>amp&amp; ' b=\"it's\"/>"),
    'languages': chat("<body>Gr\u00fcezi</body><body xml:lang='en'>Hello</body><subject xml:lang='fr'>Salut</subject>",
                      "xml:lang='de-CH'"),
    'no language': chat('<body>none</body>', "xml:lang=''"),
    'xhtml': chat(XHTML),
    'thread': chat("<subject>S</subject><thread parent='e0'>t1</thread><body>b</body>"),
    'headline': ("type='headline'", '<subject>news</subject><body>flash</body>'),
    'normal': ('', '<subject>mail</subject><body>letter</body>'),
    'error': ("type='error'", ERROR),
    'groupchat to a user': ("type='groupchat'", '<body>x</body>'),
    'forwarded': chat(FORWARD),
    'namespaces of streams': chat("<f xmlns='urn:f'><message xmlns='jabber:server' from='a@b'><body>s</body></message>"
                                  "<iq xmlns='jabber:client'/><plain/></f>"),
    'no namespace': chat("<body>x</body><custom a='1'><deep/>t</custom>"),
    'empty namespace': chat("<body>x</body><custom xmlns=''><deep/></custom>"),
    'prefixes': chat("<a:b xmlns:a='urn:a' a:c='1' d='2'><a:e xmlns:a='urn:a2' a:f='3'/>"
                     "<g xmlns='urn:g' xmlns:a='urn:a3' a:h='4'/></a:b>"),
    'xml attributes': chat("<x xmlns='urn:x' xml:base='http://b/' xml:id='i1' xml:space='preserve'> s </x>"),
    'mixed content': chat("<x xmlns='urn:x'>one<y/>two<z>three</z> four </x>"),
    'call': chat("<propose xmlns='urn:xmpp:jingle-message:0' id='j'><description media='audio' "
                 "xmlns='urn:xmpp:jingle:apps:rtp:1'/></propose>"),
    'delayed': chat("<body>late</body><delay xmlns='urn:xmpp:delay' from='pa.example' stamp='2002-09-10T23:08:25Z'/>"),
    '40 deep': chat(nested(40)),
    '80 deep': chat(nested(80)),
    '30 attributes': chat(attributes(30)),
    '100 attributes': chat(attributes(100)),
    '3000 children': chat("<x xmlns='urn:x'>%s</x>" % ('<y/>' * 3000)),
    'a long value': chat("<x xmlns='urn:x' a='%s'/>" % ('v' * 5000)),
    'a long name': chat("<%s xmlns='urn:x'/>" % ('n' * 1000)),
    'many namespaces': chat(''.join("<n%d:e xmlns:n%d='urn:n:%d'/>" % (i, i, i) for i in range(100))),
    'names beyond ASCII': chat("<\u00e9l\u00e9ment xmlns='urn:\u00fc' \u00e5='\u00df'/>"),
    'a namespace with spaces': chat("<x xmlns='urn:with some spaces'/>"),
}


@step('messages of all kinds', 1.0)
async def messages(p):
    for one, other, _ in p.both_ways():
        for id, (how, payload) in MESSAGES.items():
            one.say("<message to='%s' id='%s' %s>%s</message>" % (other.boundjid.full, id, how, payload))
    for person in p.people:
        for id in MESSAGES:
            if await person.until(lambda e: e.get('id') == id and not e.tag.endswith('}presence'), 5) is None:
                note('%s: %s has not got %r' % (p.name, person.boundjid.bare, id))


@step('messages and presence to those who are not there')
async def nobody(p):
    for one, other, domain in p.both_ways():
        for to in ('nobody@' + domain, domain, rooms(domain), 'none@' + rooms(domain) + '/x',
                   other.boundjid.bare + '/gone', 'D\\27Artagnan@' + domain, 'UPPER@' + domain.upper() + '/Res'):
            one.say("<message to='%s' id='e' type='chat'><body>x</body><a xmlns='urn:a'>1</a></message>" % to)
            one.say("<presence to='%s' id='p'/>" % to)


@step('messages of up to 400 KiB', 1.0)
async def sizes(p):
    for one, other, _ in p.both_ways():
        for size in 60000, 130000, 260000, 400 * 1024:
            text = hashlib.sha256(b'%d' % size).hexdigest() * (size // 64)
            one.say("<message to='%s' id='size%d' type='chat'><body>%s</body></message>"
                    % (other.boundjid.full, size, text))
            if await other.until(lambda e: e.get('id') == 'size%d' % size, 10) is None:
                note('%s: %d bytes did not arrive' % (p.name, size))


@step('500 messages in a row, in order')
async def many(p):
    for one, other, _ in p.both_ways():
        since = len(other.received)
        for n in range(500):
            one.say("<message to='%s' id='n%d' type='chat'><body>%d</body></message>" % (other.boundjid.full, n, n))
        await other.until(lambda e: e.get('id') == 'n499', 20, since)
        numbers = [int(e.get('id')[1:]) for e in other.received[since:] if re.fullmatch(r'n\d+', e.get('id', ''))]
        assert numbers == list(range(500)), '%s: %d came, %s' % (p.name, len(numbers), numbers[:20])


# ---- rooms -------------------------------------------------------------------------------------

def muc(inner='', name=''):
    return "<x xmlns='http://jabber.org/protocol/muc%s'>%s</x>" % (name, inner)


def room_of(domain):
    return 'town@' + rooms(domain)


@step('a room is made and has a history')
async def rooms_are_made(p):
    for _, owner, domain in p.both_ways():
        room = room_of(domain)
        since = len(owner.received)
        owner.say("<presence to='%s/owner'>%s</presence>" % (room, muc()))
        await owner.until(lambda e: e.get('from') == room + '/owner', 10, since)
        await owner.ask(room, "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' "
                        "type='submit'/></query>", 'set')
        for i in range(50):
            owner.say("<message to='%s' type='groupchat' id='h%d'><body>line %d \U0001F600 &amp; &lt;</body></message>"
                      % (room, i, i))
        owner.say("<message to='%s' type='groupchat' id='s'><subject>The &lt;subject&gt; \u05e9</subject></message>"
                  % room)


@step('a guest joins, and is told the history')
async def joins(p):
    for guest, _, domain in p.both_ways():
        guest.say("<presence to='%s/guest \u00e9'>%s</presence>" % (room_of(domain), muc()))


@step('guest and owner talk, in public and in private')
async def talks(p):
    for guest, owner, domain in p.both_ways():
        room = room_of(domain)
        guest.say("<message to='%s' type='groupchat' id='g1'><body>from the guest</body></message>" % room)
        await quiet(p.people, 0.2)
        owner.say("<message to='%s' type='groupchat' id='g2'><body>from the owner</body></message>" % room)
        guest.say("<message to='%s/owner' type='chat' id='g3'><body>private</body>%s</message>" % (room, muc('', '#user')))
        guest.say("<message to='%s' type='groupchat' id='g4'><subject>may I?</subject></message>" % room)
        guest.say("<presence to='%s/guest \u00e9'><show>away</show></presence>" % room)
        guest.say("<presence to='%s/other name'/>" % room)
        for to in room, room + '/owner':
            for payload in QUERIES[:3] + ["<vCard xmlns='vcard-temp'/>"]:
                await guest.ask(to, payload)
        for what in "#admin'><item affiliation='owner'/></query>", "#owner'/>":
            await guest.ask(room, "<query xmlns='http://jabber.org/protocol/muc" + what)
        await guest.ask(room, "<query xmlns='urn:xmpp:mam:2' queryid='q'><set xmlns='http://jabber.org/protocol/rsm'>"
                        '<max>10</max></set></query>', 'set')


@step('the guest is invited, thrown out, comes again and leaves')
async def leaves(p):
    for guest, owner, domain in p.both_ways():
        room = room_of(domain)
        owner.say("<message to='%s'>%s</message>" % (room, muc("<invite to='%s'><reason>come</reason></invite>"
                                                               % guest.boundjid.bare, '#user')))
        await owner.ask(room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='other name' role='none'>"
                        '<reason>out &amp; away</reason></item></query>', 'set')
        await quiet(p.people)
        guest.say("<presence to='%s/again'>%s</presence>" % (room, muc("<history maxstanzas='3'/>")))
        await quiet(p.people)
        guest.say("<presence to='%s/again' type='unavailable'><status>bye</status></presence>" % room)
        await quiet(p.people)


@step('a guest makes a room at the other server, and destroys it')
async def remote_rooms(p):
    form = "<query xmlns='http://jabber.org/protocol/muc#owner'>%s</query>"
    for guest, _, domain in p.both_ways():
        room = 'remote@' + rooms(domain)
        since = len(guest.received)
        guest.say("<presence to='%s/me'>%s</presence>" % (room, muc()))
        await guest.until(lambda e: e.get('from') == room + '/me', 10, since)
        await guest.ask(room, form % '')
        await guest.ask(room, form % "<x xmlns='jabber:x:data' type='submit'/>", 'set')
        await guest.ask(room, form % "<destroy jid='o@x.example'><reason>gone</reason></destroy>", 'set')


# ---- a file ------------------------------------------------------------------------------------

async def send_file(one, other, sid):
    """The hash of what arrives in-band (XEP-0047)."""
    opened = asyncio.get_event_loop().create_future()

    def begin(stream):
        if not opened.done():
            opened.set_result(stream)
    other['xep_0047'].auto_accept = True
    other.add_event_handler('ibb_stream_start', begin)
    stream = await one['xep_0047'].open_stream(other.boundjid.full, block_size=8192, sid=sid, timeout=20)
    incoming = await asyncio.wait_for(opened, 10)
    other.del_event_handler('ibb_stream_start', begin)
    sending = asyncio.ensure_future(stream.sendall(FILE, timeout=60))
    data = bytearray()
    while len(data) < len(FILE):
        data.extend(await asyncio.wait_for(incoming.recv_queue.get(), 20))
    await sending
    await stream.close()
    return hashlib.sha256(data).hexdigest()


@test
def a_file_of_one_megabyte_arrives_whole_in_each_direction(w):
    async def files(p):
        for n, (one, other, _) in enumerate(p.both_ways()):
            digest = await send_file(one, other, 'file%d' % n)
            check(digest == hashlib.sha256(FILE).hexdigest(), '%s: the file is another' % p.name)
        await quiet(p.people)
        for person in p.people:
            person.news()
    w.loop.run_until_complete(asyncio.wait_for(both(w, files), 90))


@step('they part')
async def part(p):
    p.alice.say("<presence to='bob@corp.example' type='unsubscribe'/>")
    await quiet(p.people)
    p.bob.say("<presence to='alice@pa.example' type='unsubscribed'/>")
    await quiet(p.people)
    p.alice.say("<presence type='unavailable'><status>gone</status></presence>")


@test
def edge_and_gateway_end_in_order(w):
    trouble = w.nodes.stop()
    check(not trouble, '\n'.join(trouble))


begin(setup, 'prosody', 'dnsmasq', 'openssl')
