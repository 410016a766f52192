"""crowd.py -- a server for hundreds of domains in one thread: no TLS, dialback asked back as Prosody asks it.

    town = Crowd(['a.example', 'b.example'], (ip, 5269), lambda domain: (ip_of_the_edge, 5269))
    town.up()
    town.send('a.example', 'corp.example', "<iq .../>")
    town.down()             # as a server that is killed: everything is reset, and nobody listens

What it has to send waits until the pair is proven, and goes by another connection when one ends before; a
server that is told an error instead keeps it in `refusals`.  An iq that asks is answered, an iq that answers is
kept in `answers` by its id, and so is one that comes back, with its condition.
"""

import asyncio
import socket
import threading
import xml.etree.ElementTree as ET

from xmpp import NS_DB, NS_DB_FEATURE, NS_STREAM, domain_of, error, local, space

HEADER = ("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='%s' xmlns:db='%s' "
          "from='%%s' to='%%s'%%s version='1.0'>" % (NS_STREAM, NS_DB))
AGAIN = 0.1     # seconds until a door that is closed is tried again


class Wire(asyncio.Protocol):
    """One connection, in either direction."""

    def __init__(self, crowd, pair=None):
        self.crowd = crowd
        self.pair = pair            # (from, to) of a dialled one
        self.parser = ET.XMLPullParser(('start', 'end'))
        self.depth = 0
        self.id = ''                # of the stream
        self.proven = False
        self.questions = []         # dialback questions that wait for the header
        self.root = None

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info('socket').setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.crowd.wires.add(self)
        if self.pair:
            self.say(HEADER % (self.pair[0], self.pair[1], ''))

    def say(self, text):
        self.transport.write(text.encode())

    def data_received(self, data):
        try:
            self.parser.feed(data)
            for event, element in self.parser.read_events():
                self.take_event(event, element)
        except ET.ParseError:
            self.transport.abort()

    def take_event(self, event, element):
        self.depth += 1 if event == 'start' else -1
        if event == 'start' and self.depth == 1:
            self.root = element
            self.take_header(element)
        elif event == 'end' and self.depth == 1:
            self.root.remove(element)
            self.take(element)
        elif event == 'end' and self.depth == 0:
            self.say('</stream:stream>')
            self.transport.close()

    def take_header(self, header):
        if self.pair:
            self.id = header.get('id')
            return
        self.id = self.crowd.new_id()
        self.say((HEADER + "<stream:features><dialback xmlns='%s'><errors/></dialback></stream:features>")
                 % (header.get('to'), header.get('from'), " id='%s'" % self.id, NS_DB_FEATURE))

    def take(self, element):
        if space(element) == NS_DB:
            self.take_dialback(element)
        elif element.tag == '{%s}features' % NS_STREAM and self.pair:
            self.say("<db:result from='%s' to='%s'>key</db:result>" % self.pair + ''.join(self.questions))
            self.questions = None
        elif element.tag == '{%s}error' % NS_STREAM:
            self.crowd.refused(error(element))
        elif not self.pair:
            self.crowd.take_stanza(element)

    def take_dialback(self, element):
        frm, to, name, type = element.get('from'), element.get('to'), local(element), element.get('type')
        if name == 'verify' and type is None:       # is this key ours?  All keys are alike here.
            self.say("<db:verify from='%s' to='%s' id='%s' type='valid'/>" % (to, frm, element.get('id')))
        elif name == 'verify':
            asker = self.crowd.asked.pop((frm, to, element.get('id')), None)
            if asker:
                asker.say("<db:result from='%s' to='%s' type='%s'/>" % (to, frm, type))
        elif type is None:                          # ask on the stream towards whoever has shown it
            self.crowd.asked[frm, to, self.id] = self
            self.crowd.ask(to, frm, "<db:verify from='%s' to='%s' id='%s'>%s</db:verify>"
                           % (to, frm, self.id, element.text))
        elif type == 'valid':
            self.proven = True
            self.crowd.flush(self)
        else:
            self.crowd.refused(error(element))

    def connection_lost(self, exc):
        self.crowd.wires.discard(self)
        if self.pair:
            self.crowd.lost(self)


class Crowd:
    def __init__(self, domains, address, door_of):
        self.domains = list(domains)
        self.address = address
        self.door_of = door_of      # a domain -> where its server is found
        self.wires = set()
        self.streams = {}           # (from, to) -> Wire, or None while it connects
        self.queues = {}            # (from, to) -> what waits
        self.asked = {}             # (remote, local, id) -> Wire that waits for the answer
        self.answers = {}           # id -> 'result', or the condition of what came back
        self.refusals = []
        self.count = 0
        self.is_up = False
        self.listener = None
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine):
        """Run it in the thread of the crowd, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def new_id(self):
        self.count += 1
        return 'id%d' % self.count

    # -- life

    async def open(self):
        self.is_up = True
        self.listener = await self.loop.create_server(lambda: Wire(self), *self.address, backlog=512)

    async def shut(self):
        self.is_up = False
        self.listener.close()
        for wire in list(self.wires):
            wire.transport.abort()
        self.streams, self.queues, self.asked = {}, {}, {}

    def up(self):
        self.run(self.open())

    def down(self):
        self.run(self.shut())

    def open_streams(self):
        """How many of its own are proven."""
        return sum(1 for wire in list(self.streams.values()) if wire and wire.proven)

    # -- sending

    def send(self, frm, to, text):
        self.loop.call_soon_threadsafe(self.put, frm, to, text)

    def put(self, frm, to, text):
        self.queues.setdefault((frm, to), []).append(text)
        wire = self.stream(frm, to)
        if wire and wire.proven:
            self.flush(wire)

    def ask(self, frm, to, text):
        wire = self.stream(frm, to)
        if wire and wire.questions is None:
            wire.say(text)
        elif wire:
            wire.questions.append(text)
        else:
            self.loop.call_later(0.01, self.ask, frm, to, text)

    def stream(self, frm, to):
        """The stream of a pair; None while there is none yet."""
        if (frm, to) not in self.streams and self.is_up:
            self.streams[frm, to] = None
            self.loop.create_task(self.dial(frm, to))
        return self.streams.get((frm, to))

    async def dial(self, frm, to):
        while self.is_up:
            try:
                _, wire = await self.loop.create_connection(
                    lambda: Wire(self, (frm, to)), *self.door_of(to), local_addr=(self.address[0], 0))
                self.streams[frm, to] = wire
                return
            except OSError:
                await asyncio.sleep(AGAIN)

    def flush(self, wire):
        for text in self.queues.pop(wire.pair, []):
            wire.say(text)

    def lost(self, wire):
        if self.streams.get(wire.pair) is wire:
            del self.streams[wire.pair]
            if self.queues.get(wire.pair):
                self.loop.call_later(AGAIN, self.stream, *wire.pair)

    # -- receiving

    def refused(self, e):
        if e.condition not in ('system-shutdown', 'connection-timeout'):
            self.refusals.append('%s (%s)' % (e.condition, e.text))

    def take_stanza(self, stanza):
        frm, to, type = stanza.get('from'), stanza.get('to'), stanza.get('type')
        if type in ('get', 'set'):
            self.put(domain_of(to), domain_of(frm), "<iq type='result' from='%s' to='%s' id='%s'/>"
                     % (to, frm, stanza.get('id')))
        else:
            self.answers[stanza.get('id')] = type if type == 'result' else error(stanza).condition
