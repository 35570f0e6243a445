-- Each query counts violations and must give 0. Databases: copies of the issuer's and the relay's, attached to one connection.
-- I: signed for accounts. X: signed for exchanges. L: ledger rows, of which E paid for an exchange. See invariants.md.

-- name: no account has more than its five
select count(*) from issuer.accounts where tokens_issued > 5;

-- name: every signature for an account is counted
select count(*) from issuer.accounts a
where (select count(*) from issuer.issuances i where i.account = a.account) > a.tokens_issued;

-- name: the public counters say what the accounts say
select abs((select coalesce(sum(count), 0) from issuer.key_counts where relay = '')
         - (select coalesce(sum(tokens_issued), 0) from issuer.accounts));

-- name: every signature for an exchange is counted
select abs((select coalesce(sum(count), 0) from issuer.key_counts c
            where relay <> '' and exists (select 1 from issuer.token_keys k where k.key_id = c.key_id))
         - (select count(*) from issuer.relay_exchanges));

-- name: no signature for an exchange without a ledger row that pays for it (X <= E, per new key)
select count(*) from issuer.token_keys k
where (select count(*) from issuer.relay_exchanges x where x.key_id = k.key_id)
    > (select count(*) from relay.ledger l where l.new_key_id = k.key_id)
    + (select coalesce(sum(exchanging + exchanged), 0) from relay.retired_keys);

-- name: no ledger row for a token that nobody signed (L <= I + X, per key)
select count(*) from (select key_id, count(*) as shown from relay.ledger group by key_id) l
where l.shown > (select coalesce(sum(c.count), 0) from issuer.key_counts c where c.key_id = l.key_id);

-- name: conservation: what can still be spent is no more than was signed for accounts (X + released <= L)
select max(0,
    (select coalesce(sum(count), 0) from issuer.key_counts where relay <> '')
  + (select count(*) from relay.ledger where state = 'released')
  - (select count(*) from relay.ledger)
  - (select coalesce(sum(attached + released + burnt + exchanging + exchanged), 0) from relay.retired_keys));

-- name: every queued cold message was paid for, at the mailbox it lies in
select count(*) from relay.messages m
left join relay.ledger l on l.nullifier = m.message and l.mailbox = m.mailbox
left join relay.unenforced u on u.mailbox = m.mailbox and u.message = m.message
where m.presentation is null and l.nullifier is null and u.message is null and not exists (select 1 from relay.retired_keys);

-- name: every message that was taken without a token is counted, and is no reply and of no token
select max(0, (select count(*) from relay.unenforced) - (select coalesce(sum(counted), 0) from relay.unenforced_counts))
  + (select count(*) from relay.unenforced u join relay.messages m on m.mailbox = u.mailbox and m.message = u.message where m.presentation is not null)
  + (select count(*) from relay.unenforced u join relay.ledger l on l.nullifier = u.message)
  + (select count(*) from relay.unenforced where mailbox not in (select mailbox from relay.mailboxes));

-- name: every queued reply has used its slot, at the mailbox it lies in, unless its epoch is behind the fence
select count(*) from relay.messages m
left join relay.reply_nullifiers n on n.mailbox = m.mailbox and n.epoch = m.reply_epoch
    and n.nullifier = substr(m.presentation, 65, 8) and n.message = m.message
where m.presentation is not null and n.nullifier is null
  and m.reply_epoch > coalesce((select max(f.epoch) from relay.reply_fence f), -1);

-- name: no reply has a ledger row
select count(*) from relay.ledger l
where l.nullifier in (select n.message from relay.reply_nullifiers n)
   or l.nullifier in (select m.message from relay.messages m where m.presentation is not null);

-- name: no two slots name one message
select count(*) - count(distinct n.message) from relay.reply_nullifiers n;

-- name: rows about replies are of open mailboxes
select count(*) from (
    select mailbox from relay.reply_keys union all select mailbox from relay.reply_nullifiers
    union all select mailbox from relay.reply_strikes union all select mailbox from relay.reply_reveals) r
where not exists (select 1 from relay.mailboxes b where b.mailbox = r.mailbox);

-- name: no prekey is there twice: none was handed out and is still to be, and none went to two claims
select count(*) - count(distinct p.sealed) from (
    select sealed from relay.prekeys union all select sealed from relay.prekey_claims) p;

-- name: no prekey is of a later batch than its mailbox's last
select count(*) from relay.prekeys p
where p.batch > coalesce((select s.batch from relay.prekey_supplies s where s.mailbox = p.mailbox), 0);

-- name: prekeys are of open mailboxes
select count(*) from (
    select mailbox from relay.prekey_supplies union all select mailbox from relay.prekeys
    union all select mailbox from relay.prekey_claims) p
where not exists (select 1 from relay.mailboxes b where b.mailbox = p.mailbox);

-- name: no message was queued for a token that was exchanged unspent
select count(*) from relay.messages m join relay.ledger l on l.nullifier = m.message where l.mailbox is null;

-- name: the quota counters say what the queue says
select count(*) from relay.mailboxes b
where b.queued_messages <> (select count(*) from relay.messages m where m.mailbox = b.mailbox)
   or b.queued_bytes <> (select coalesce(sum(m.size), 0) from relay.messages m where m.mailbox = b.mailbox);

-- name: every place in a queue is taken once, and was counted as an arrival
select (select count(*) from (select 1 from relay.messages m group by m.mailbox, m.position having count(*) > 1) twice)
     + (select count(*) from relay.messages m join relay.mailboxes b on b.mailbox = m.mailbox where m.position > b.arrivals);

-- name: no look-up without a token that was issued, in each window that is not over
select count(*) from (select time_window, count(*) as spent from issuer.lookup_spent group by time_window) s
where s.time_window > (select max(f.time_window) from issuer.lookup_fence f)
  and s.spent > (select coalesce(sum(i.count), 0) from issuer.lookup_issuances i where i.time_window = s.time_window);

-- name: look-up tokens are counted for the account that they were issued to
select count(*) from issuer.lookup_allowance a
where a.time_window > (select max(f.time_window) from issuer.lookup_fence f)
  and a.issued <> (select coalesce(sum(i.count), 0) from issuer.lookup_issuances i
                   where i.account = a.account and i.time_window = a.time_window);

-- name: the log has no gaps
select coalesce(max(l.place) + 1, 0) - count(*) from issuer.key_log l;

-- name: every manifest that was shown is in the log
select count(*) from issuer.directory_builds b
where b.state = 'published' and not exists (select 1 from issuer.key_log l where substr(l.leaf, 2) = b.manifest);
