"""jabberd2.py -- a jabberd2 for lab.py: four programs and their four configuration files.

Its resolver library (udns) takes the name server from NAMESERVERS and its port from RES_OPTIONS.
Accounts are rows of an SQLite table, everything else its session manager keeps in plain files.
"""

import glob
import os
import sqlite3

from lab import C2S_PORT, PASSWORD, HarnessError, Process, Server, find_program, free_port, port_open, \
    read_text, wait_until

ROUTER = '''<router><id>router</id>
  <log type='file'><file>%(dir)s/router.log</file></log>
  <local><ip>127.0.0.1</ip><port>%(router)d</port><users>%(dir)s/users.xml</users>
    <secret>secret</secret></local>
  <io><max_fds>256</max_fds></io>
  <aci><acl type='all'><user>jabberd</user></acl></aci>
</router>
'''

TO_ROUTER = '''<router><ip>127.0.0.1</ip><port>%(router)d</port><user>jabberd</user><pass>secret</pass>
    <retry><init>10</init><lost>1</lost><sleep>1</sleep></retry></router>
'''

USERS = '<users><user><name>jabberd</name><secret>secret</secret></user></users>\n'

S2S = '''<s2s><id>s2s</id>
  ''' + TO_ROUTER + '''
  <log type='file'><file>%(dir)s/s2s.log</file></log>
  <local><ip>%(s2s_ip)s</ip><port>%(s2s_port)d</port><origins><ip>%(s2s_ip)s</ip></origins></local>
  <io><max_fds>256</max_fds><limits><stanzasize>524288</stanzasize></limits></io>
  <check><interval>60</interval><queue>60</queue><retry>5</retry><idle>86400</idle></check>
  <lookup><srv>xmpp-server</srv><min-ttl>1</min-ttl><max-ttl>5</max-ttl>
    <bad-host-timeout>1</bad-host-timeout></lookup>
  <out-conn-reuse/>
</s2s>
'''

SM = '''<sm><id>sm</id>
  ''' + TO_ROUTER + '''
  <log type='file'><file>%(dir)s/sm.log</file></log>
  <local><id>%(domain)s</id></local>
  <storage><path>%(modules)s</path><driver>fs</driver><fs><path>%(dir)s/fs</path></fs></storage>
  <modules><path>%(modules)s</path>
    <chain id='sess-start'><module>status</module></chain>
    <chain id='in-sess'><module>validate</module><module>roster</module><module>iq-ping</module>
      <module>disco</module><module>presence</module><module>deliver</module></chain>
    <chain id='in-router'><module>session</module><module>validate</module><module>presence</module></chain>
    <chain id='pkt-sm'><module>iq-ping</module><module>iq-version</module><module>disco</module>
      <module>presence</module></chain>
    <chain id='pkt-user'><module>roster</module><module>presence</module><module>disco</module>
      <module>deliver</module></chain>
    <chain id='pkt-router'><module>session</module><module>disco</module></chain>
    <chain id='user-load'><module>active</module><module>roster</module></chain>
    <chain id='user-create'><module>active</module></chain>
    <chain id='user-delete'><module>active</module><module>roster</module></chain>
  </modules>
  <discovery><identity><category>server</category><type>im</type><name>jabberd2</name></identity></discovery>
  <user><auto-create/></user>
</sm>
'''

C2S = '''<c2s><id>c2s</id>
  ''' + TO_ROUTER + '''
  <log type='file'><file>%(dir)s/c2s.log</file></log>
  <local><id>%(domain)s</id><ip>%(ip)s</ip><port>%(c2s)d</port></local>
  <io><max_fds>256</max_fds><limits><stanzasize>524288</stanzasize></limits></io>
  <authreg><path>%(modules)s</path><module>sqlite</module>
    <mechanisms><sasl><plain/></sasl></mechanisms>
    <sqlite><dbname>%(dir)s/users.db</dbname><busy-timeout>2000</busy-timeout>
      <password_type><plaintext/></password_type></sqlite>
  </authreg>
</c2s>
'''


def make_accounts(path, domain, users):
    db = sqlite3.connect(path)
    db.execute('CREATE TABLE "authreg" ("username" TEXT NOT NULL, "realm" TEXT NOT NULL, "password" TEXT)')
    db.executemany('INSERT INTO authreg VALUES (?, ?, ?)', [(u, domain, PASSWORD) for u in users])
    db.commit()
    db.close()


def start_jabberd2(lab, name, ip, dns, host, s2s):
    modules = glob.glob('/usr/lib/*/jabberd2')
    if not modules:
        raise HarnessError('the modules of jabberd2 are not installed')
    folder = lab.folder(name)
    os.makedirs(folder + '/fs', exist_ok=True)
    values = {'dir': folder, 'domain': host.domain, 'modules': modules[0], 'ip': ip, 'c2s': C2S_PORT,
              's2s_ip': s2s[0], 's2s_port': s2s[1], 'router': free_port()}
    make_accounts(folder + '/users.db', host.domain, host.users)
    lab.write(name + '/users.xml', USERS)
    env = {'NAMESERVERS': dns.ip, 'RES_OPTIONS': 'port:%d' % dns.port}
    server = Server(name, 'jabberd2', ip, *s2s)
    for part, text in (('router', ROUTER), ('sm', SM), ('s2s', S2S), ('c2s', C2S)):
        config = lab.write('%s/%s.xml' % (name, part), text % values)
        lab.logs.append('%s/%s.log' % (folder, part))
        server.processes.append(Process(lab, '%s-%s' % (name, part),
                                        [find_program('jabberd2-' + part), '-c', config], env, cwd=folder))
        if part == 'router':    # the others would wait a whole second before they try again
            wait_until(lambda: port_open('127.0.0.1', values['router']), 10, 'the jabberd2 router')
    # listening is not enough: the session manager must have taken its domain
    server.ready = lambda: '[%s] online' % host.domain in read_text(folder + '/router.log')
    return server
