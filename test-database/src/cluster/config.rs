//! How the parts of a cluster are told what to do. An operator's files say the same (docs/scaling.md), but for addresses, passwords and TLS.

use std::path::Path;

use crate::server::USER;

/// The ports of one node on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// PostgreSQL's.
    pub(super) postgres: u16,
    /// That of Patroni's REST interface.
    pub(super) rest: u16,
}

/// Patroni's configuration of one node. Times are the shortest that Patroni's documentation allows, but for the pause between two looks.
pub(super) fn patroni(name: &str, ports: Ports, etcd: u16, binaries: &Path, data: &Path) -> String {
    let Ports { postgres, rest } = ports;
    let (binaries, data) = (binaries.display(), data.display());
    format!(
        "scope: postern
name: {name}
restapi: {{listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}'}}
etcd3: {{hosts: '127.0.0.1:{etcd}'}}
watchdog: {{mode: 'off'}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 3
    synchronous_mode: true
    synchronous_mode_strict: true
    postgresql: {{use_pg_rewind: true, parameters: {{max_connections: 200}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}]
  pg_hba: ['host replication all 127.0.0.1/32 trust', 'host all all 127.0.0.1/32 trust']
postgresql:
  listen: '127.0.0.1:{postgres}'
  connect_address: '127.0.0.1:{postgres}'
  data_dir: '{data}'
  bin_dir: '{binaries}'
  authentication: {{superuser: {{username: {USER}}}, replication: {{username: replication}}, rewind: {{username: {USER}}}}}
  parameters: {{unix_socket_directories: ''}}
"
    )
}

/// HAProxy's: connections go to the node that Patroni says is the leader, and end with its reign.
pub(super) fn haproxy(port: u16, nodes: &[Ports]) -> String {
    let mut text = format!(
        "defaults
  mode tcp
  timeout connect 2s
  timeout client 30m
  timeout server 30m
  timeout check 2s
listen leader
  bind 127.0.0.1:{port}
  option httpchk GET /primary
  http-check expect status 200
  default-server inter 1s fastinter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
"
    );
    for (i, Ports { postgres, rest }) in nodes.iter().enumerate() {
        text.push_str(&format!("  server node{i} 127.0.0.1:{postgres} check port {rest}\n"));
    }
    text
}
