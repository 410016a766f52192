#!/usr/bin/env python3
"""13-types.t -- what the type of a partner allows, with a real Prosody on either side and two gateways.

    partner Prosody --5269--> edge <==23456== two gateways --s2s--> inner Prosody

The inner server finds the partners at the first gateway; what comes from them takes either.
"""
import os
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Border, Pki, begin, partner, servers                  # noqa: E402
from lab import Lab                                                    # noqa: E402
from tap import check, equal, test                                     # noqa: E402
from xmpp import Client, child, domain_of, kind                        # noqa: E402

TYPES = {'own.example': 'federated', 'verified.example': 'public-verified',
         'open.example': 'public-unverified', 'wide.example': 'public-unverified'}
UNVERIFIED = ('open.example', 'wide.example')


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    pki = Pki(lab)
    outside, w.partner, w.inner = servers(lab, pki, TYPES, ('alice', 'anna', 'mallory'), ('bob', 'carol', 'dora'))
    w.border = Border(lab, pki, outside, ['corp.example'], [partner(d) for d in TYPES],
                      [w.inner.s2s + (['corp.example'], 'optional')], gateways=2)
    for gateway in w.border.gateways:
        gateway.file = os.path.join(lab.dir, gateway.name + '.invitations')
        gateway.extra = '<partners invitations-file="%s">%s</partners>' % (gateway.file, ''.join(
            '<partner domain="%s" type="%s"/>' % pair for pair in TYPES.items()))
    w.border.start()
    lab.wait_ready(w.partner, w.inner)
    return w


def users(w, contact, user):
    return Client(contact, w.partner), Client(user, w.inner)


def note_of(one, bob):
    """What a contact sees of a note that a user shows to him; None: that there is none."""
    bob.send("<presence to='%s'><show>away</show><status>at the dentist</status></presence>" % one.jid)
    seen = one.wait(lambda s: kind(s) == 'presence' and s.get('from') == bob.jid, what='presence of a user')
    equal(child(seen, 'show').text, 'away', 'the rest of it')
    note = child(seen, 'status')
    return None if note is None else note.text


@test
def a_federated_contact_writes_uninvited_asks_to_be_added_and_sees_the_note(w):
    one, bob = users(w, 'alice@own.example', 'bob@corp.example')
    one.message('bob@corp.example', 'first words')
    bob.wait_message('first words', sender=one)
    one.presence('bob@corp.example', 'subscribe')
    bob.wait_presence('alice@own.example', 'subscribe')
    equal(note_of(one, bob), 'at the dentist', 'the note')
    one.close()
    bob.close()


@test
def a_verified_contact_does_the_same_and_sees_no_note(w):
    one, bob = users(w, 'alice@verified.example', 'bob@corp.example')
    one.message('bob@corp.example', 'first words')
    bob.wait_message('first words', sender=one)
    one.presence('bob@corp.example', 'subscribe')
    bob.wait_presence('alice@verified.example', 'subscribe')
    equal(note_of(one, bob), None, 'the note')
    one.close()
    bob.close()


@test
def an_unverified_contact_reaches_nobody_who_has_not_begun_with_him(w):
    for domain in UNVERIFIED:
        one, bob = users(w, 'alice@' + domain, 'bob@corp.example')
        one.message('bob@corp.example', 'win a prize', id='u1')
        equal(one.wait_error('u1')[:2], ('not-allowed', 'cancel'), 'what comes back')
        one.presence('bob@corp.example', 'subscribe')
        one.wait_presence('bob@corp.example', 'error')
        # a stanza of his own path, so that what was refused would have come by now
        bob.message('alice@' + domain, 'good morning')
        one.wait_message('good morning', sender=bob)
        one.message('bob@corp.example', 'good morning to you')
        bob.wait_message('good morning to you', sender=one)
        check(not [s for s in bob.stream.inbox if kind(s) == 'presence subscribe'
                   and domain_of(s.get('from')) == domain], 'he was not asked')
        equal(note_of(one, bob), None, 'the note')
        one.presence('bob@corp.example', 'subscribe')
        bob.wait_presence('alice@' + domain, 'subscribe')
        one.close()
        bob.close()
    refused = [line for gateway in w.border.gateways for line in gateway.find_log('bounce', why='uninvited')]
    check(len(refused) >= 4, 'a line for each of them: %d' % len(refused))


@test
def an_unverified_contact_whom_a_user_adds_accepts_and_is_seen(w):
    for domain in UNVERIFIED:
        one, carol = users(w, 'anna@' + domain, 'carol@corp.example')
        carol.presence('anna@' + domain, 'subscribe')
        one.wait_presence('carol@corp.example', 'subscribe')
        one.presence('carol@corp.example', 'subscribed')
        carol.wait_subscribed('anna@' + domain)
        carol.wait_presence('anna@' + domain)
        one.close()
        carol.close()


@test
def who_was_invited_before_both_gateways_were_restarted_is_so_after_it(w):
    for gateway in w.border.gateways:
        equal(gateway.terminate(), 0, 'exit status')
        equal(os.stat(gateway.file).st_mode & 0o777, 0o600, 'for nobody else')
        with open(gateway.file) as f:
            lines = f.read().splitlines()
        equal((lines[0], lines[-1]), ('xmppedge invitations 1', 'end 4'), gateway.name)
        equal(sorted(lines[1:-1]), sorted(user + '@corp.example ' + contact + '@' + domain for domain in UNVERIFIED
                                          for user, contact in (('bob', 'alice'), ('carol', 'anna'))), 'pairs')
    for gateway in w.border.gateways:
        gateway.forget_log()
        gateway.start()
        gateway.wait_log('invitations-read', count='4')
        gateway.wait_trunk(w.border.edge)
    for domain in UNVERIFIED:
        one, dora = users(w, 'alice@' + domain, 'dora@corp.example')
        bob = Client('bob@corp.example', w.inner, presence=False)
        bob.send('<presence/>')
        one.message('bob@corp.example', 'are you still there?')
        bob.wait_message('are you still there?', sender=one)
        one.message('dora@corp.example', 'and you?', id='u2')
        equal(one.wait_error('u2').condition, 'not-allowed', 'of whom nobody has heard')
        for user in (one, dora, bob):
            user.close()


@test
def the_status_of_such_a_partner_says_how_many_were_invited(w):
    for gateway in w.border.gateways:
        told = {p['domain']: p for p in gateway.status_json()['partners']}
        for domain in UNVERIFIED:
            if domain in told:
                equal((told[domain]['type'], told[domain]['invitations']), ('public-unverified', 2), domain)


@test
def a_damaged_file_is_told_invites_nobody_and_stays_until_it_is_moved_away(w):
    gateway = w.border.gateways[0]
    gateway.terminate()
    with open(gateway.file, 'r+') as f:
        whole = f.read()
        f.truncate(len(whole) - len('end 4\n'))
    gateway.forget_log()
    gateway.start()
    gateway.wait_log('invitations-refused', text='its end is missing')
    gateway.wait_trunk(w.border.edge)
    equal(gateway.terminate(), 0, 'exit status')
    with open(gateway.file) as f:
        equal(f.read(), whole[:-len('end 4\n')], 'the damaged file')
    os.rename(gateway.file, gateway.file + '.damaged')
    gateway.forget_log()
    gateway.start()
    gateway.wait_log('invitations-read', count='0')
    gateway.wait_trunk(w.border.edge)


begin(setup, 'prosody')
