#!/bin/sh
# The firewall of hosbs, rendered from the policy. Change that, not this.
set -eu
ufw --force reset >/dev/null
sed -i 's/^IPV6=.*/IPV6=yes/' /etc/default/ufw
cat >/etc/ufw/before.rules <<'END-OF-FILE'
*filter
:ufw-before-input - [0:0]
:ufw-before-output - [0:0]
:ufw-before-forward - [0:0]
:ufw-not-local - [0:0]
:mp-spoofed - [0:0]
:mp-over-exchange - [0:0]
:mp-count-exchange - [0:0]
-A mp-spoofed -m limit --limit 30/min --limit-burst 5 -j LOG --log-prefix "hosbs spoofed: "
-A mp-spoofed -j DROP
-A mp-over-exchange -m limit --limit 30/min --limit-burst 5 -j LOG --log-prefix "hosbs limited: "
-A mp-over-exchange -j DROP
-A mp-count-exchange -m hashlimit --hashlimit-above 20/sec --hashlimit-burst 60 --hashlimit-mode srcip --hashlimit-name exchange --hashlimit-htable-max 65536 --hashlimit-htable-expire 10000 -j mp-over-exchange
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-output -o lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-output -m conntrack --ctstate INVALID -j DROP
-A ufw-before-forward -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -s 10.0.0.6 -j mp-spoofed
-A ufw-before-input -s 127.0.0.0/8 -j mp-spoofed
-A ufw-before-input -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A ufw-before-input -p icmp --icmp-type destination-unreachable -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-input -p icmp --icmp-type time-exceeded -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-input -p icmp --icmp-type parameter-problem -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-input -p tcp ! --syn -m conntrack --ctstate NEW -j DROP
-A ufw-before-output -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A ufw-before-output -p icmp --icmp-type destination-unreachable -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-output -p icmp --icmp-type time-exceeded -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-output -p icmp --icmp-type parameter-problem -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-output -p tcp ! --syn -m conntrack --ctstate NEW -j DROP
-A ufw-before-forward -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp --icmp-type destination-unreachable -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-forward -p icmp --icmp-type time-exceeded -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-forward -p icmp --icmp-type parameter-problem -m conntrack --ctstate RELATED -j ACCEPT
-A ufw-before-forward -p tcp ! --syn -m conntrack --ctstate NEW -j DROP
-A ufw-before-input -s 10.100.0.5 -d 10.0.0.6 -p tcp --dport 4000 -m conntrack --ctstate NEW -j mp-count-exchange
COMMIT
END-OF-FILE
cat >/etc/ufw/before6.rules <<'END-OF-FILE'
*filter
:ufw6-before-input - [0:0]
:ufw6-before-output - [0:0]
:ufw6-before-forward - [0:0]
-A ufw6-before-input -i lo -j ACCEPT
-A ufw6-before-output -o lo -j ACCEPT
COMMIT
END-OF-FILE
cat >/etc/ufw/after.rules <<'END-OF-FILE'
*filter
:ufw-after-input - [0:0]
:ufw-after-output - [0:0]
:ufw-after-forward - [0:0]
-A ufw-after-input -m limit --limit 30/min --limit-burst 5 -j LOG --log-prefix "hosbs input: "
-A ufw-after-output -m limit --limit 30/min --limit-burst 5 -j LOG --log-prefix "hosbs output: "
-A ufw-after-forward -m limit --limit 30/min --limit-burst 5 -j LOG --log-prefix "hosbs forward: "
COMMIT
END-OF-FILE
cat >/etc/ufw/after6.rules <<'END-OF-FILE'
*filter
:ufw6-after-input - [0:0]
:ufw6-after-output - [0:0]
:ufw6-after-forward - [0:0]
COMMIT
END-OF-FILE
cat >/etc/ufw/sysctl.conf <<'END-OF-FILE'
net/ipv4/conf/all/accept_redirects=0
net/ipv4/conf/all/send_redirects=0
net/ipv4/conf/all/accept_source_route=0
net/ipv4/conf/default/accept_redirects=0
net/ipv4/conf/default/send_redirects=0
net/ipv4/conf/default/accept_source_route=0
net/ipv4/icmp_echo_ignore_broadcasts=1
END-OF-FILE
ufw logging off >/dev/null
ufw default deny incoming >/dev/null
ufw default deny outgoing >/dev/null
ufw default deny routed >/dev/null
ufw allow in proto tcp from 10.100.0.5 to 10.0.0.6 port 4000 comment 'exchange: labb to hosbs' >/dev/null
ufw allow out proto tcp from 10.0.0.6 to 10.0.0.5 port 5432 comment 'database: hosbs to hosb' >/dev/null
ufw --force enable >/dev/null
