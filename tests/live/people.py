"""people.py -- users with a real client (slixmpp), who remember all that they are sent.

    alice = Person('alice@pa.example/one', ('127.0.0.1', 5222))
    await alice.enter()
    alice.say("<message to='bob@corp.example'>...</message>")
    await alice.until(lambda e: e.get('id') == 'x1')
    answer = await alice.ask('corp.example', "<ping xmlns='urn:xmpp:ping'/>")

`news()` gives what has arrived since the last time, as elements; canonical() makes text of an element that is
the same for the same content, whatever prefixes and quotation marks a server has chosen.
"""

import asyncio
import logging
import time
import xml.etree.ElementTree as ET

import slixmpp

from lab import PASSWORD

# what clients answer and announce by themselves: data forms, disco, bytestreams, receipts, caps, pings, ...
PLUGINS = '0004 0012 0030 0045 0047 0054 0060 0066 0084 0085 0092 0115 0153 0163 0172 0184 0199 0202 0203 0249 0308 0313'
logging.basicConfig(level=logging.CRITICAL)


def canonical(element):
    return ET.canonicalize(ET.tostring(element, encoding='unicode'), rewrite_prefixes=True)


class Person(slixmpp.ClientXMPP):
    def __init__(self, jid, address):
        super().__init__(jid, PASSWORD)
        self.door = address
        self.received = []
        self.told = 0               # of them
        self.last = time.monotonic()
        self.count = 0
        self.entered = asyncio.Event()
        for number in PLUGINS.split():
            self.register_plugin('xep_' + number)
        self['feature_mechanisms'].config['unencrypted_plain'] = True
        self['feature_mechanisms'].unencrypted_plain = True
        self.roster.auto_authorize = None
        self.roster.auto_subscribe = False
        self.whitespace_keepalive = False
        self.add_filter('in', self.remember)
        self.add_event_handler('session_start', lambda event: self.entered.set())

    def remember(self, stanza):
        self.last = time.monotonic()
        self.received.append(ET.fromstring(ET.tostring(stanza.xml, encoding='unicode')))
        return stanza

    async def enter(self):
        """Log in without TLS: the server is beside us."""
        try:
            self.connect(self.door, disable_starttls=True, force_starttls=False, use_ssl=False)
        except TypeError:           # slixmpp 1.9 and later
            self.enable_starttls, self.enable_direct_tls, self.enable_plaintext = False, False, True
            self.connect(*self.door)
        await asyncio.wait_for(self.entered.wait(), 30)
        await self.get_roster()
        return self

    def say(self, xml):
        self.send_raw(xml)

    async def ask(self, to, payload, type='get', seconds=10):
        """The answer; None when there is none."""
        self.count += 1
        id = 'ask%d' % self.count
        since = len(self.received)
        self.say("<iq to='%s' type='%s' id='%s'>%s</iq>" % (to, type, id, payload))
        return await self.until(lambda e: e.get('id') == id and e.get('type') in ('result', 'error'), seconds, since)

    async def until(self, wanted, seconds=10, since=0):
        """The first element, from the one numbered `since`, that is wanted; None when time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for element in self.received[since:]:
                if wanted(element):
                    return element
            await asyncio.sleep(0.02)
        return None

    def news(self):
        since, self.told = self.told, len(self.received)
        return self.received[since:]


async def quiet(people, seconds=0.5, most=20):
    """Until nobody has been sent anything for so long."""
    start = time.monotonic()
    while True:
        now = time.monotonic()
        if min(now - max([start] + [p.last for p in people]), most) > seconds or now - start > most:
            return
        await asyncio.sleep(0.02)
