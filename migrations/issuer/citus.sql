-- The issuer's tables on Citus. Run once by the operator, after the first start has made the tables (ADR 15, docs/scaling.md):
--   psql -f migrations/issuer/citus.sql
-- Rows of one account are in one place; everything else is by its own name. What is small is whole everywhere.
select create_distributed_table('accounts', 'account', colocate_with => 'none');
select create_distributed_table('issuances', 'account', colocate_with => 'accounts');
select create_distributed_table('registrations', 'cookie_digest', colocate_with => 'none');
select create_distributed_table('relay_exchanges', 'blinded_digest', colocate_with => 'none');
select create_distributed_table('login_nonces', 'nonce_digest', colocate_with => 'none');
select create_distributed_table('sessions', 'session', colocate_with => 'none');
select create_distributed_table('attempts', 'bucket', colocate_with => 'none');
select create_distributed_table('lookup_allowance', 'account', colocate_with => 'accounts');
select create_distributed_table('lookup_issuances', 'account', colocate_with => 'accounts');
select create_distributed_table('lookup_spent', 'nullifier', colocate_with => 'none');
select create_reference_table('token_keys');
select create_reference_table('key_counts');
select create_reference_table('lookup_fence');
select create_reference_table('oprf_epochs');
select create_reference_table('directory_builds');
select create_reference_table('directory_files');
select create_reference_table('key_log');
select create_reference_table('leases');
