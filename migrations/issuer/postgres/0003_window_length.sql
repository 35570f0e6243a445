-- Windows are counted from 1970 on: with another length a number would name another time, fences would mean nothing, and quotas could
-- be had twice. An issuer that is configured otherwise must not start.
alter table lookup_fence add column window_seconds BIGINT; -- length of a window; null before the first start, then immutable
