-- The relay's tables on Citus. Run once by the operator, after the first start has made the tables (ADR 15, docs/scaling.md):
--   psql -f migrations/relay/citus.sql
-- Everything of one mailbox is in one place; the ledger is by token. A send writes both: two shards, committed in two phases. What is small
-- is whole everywhere.
select create_distributed_table('mailboxes', 'mailbox', colocate_with => 'none');
select create_distributed_table('closed_mailboxes', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('cards', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('messages', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('ledger', 'nullifier', colocate_with => 'none');
select create_distributed_table('reply_keys', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('reply_nullifiers', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('reply_strikes', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('reply_reveals', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('prekey_supplies', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('prekeys', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('prekey_claims', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('unenforced', 'mailbox', colocate_with => 'mailboxes');
select create_distributed_table('bells', 'process', colocate_with => 'none');
select create_reference_table('token_keys');
select create_reference_table('retired_keys');
select create_reference_table('reply_fence');
select create_reference_table('leases');
select create_reference_table('unenforced_counts');
