CREATE FUNCTION dashie.seal_guard() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_seal_guard';
COMMENT ON FUNCTION dashie.seal_guard() IS
'Trigger of dashie.audit_seal: seals are written once. Changes, deletes and truncates fail with 42501 for every role but a superuser; entries may become NULL when their day is more than 7 years ago.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.seal_guard() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.seal_guard() TO @extowner@;

CREATE FUNCTION dashie.verify_audit(
	"from" date DEFAULT NULL, "to" date DEFAULT NULL,
	OUT day date, OUT status text, OUT row_count bigint, OUT changed bigint, OUT removed bigint,
	OUT added bigint, OUT late bigint, OUT expired bigint, OUT touched uuid[], OUT digest text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 1000 AS 'MODULE_PATHNAME', 'dashie_verify_audit';
COMMENT ON FUNCTION dashie.verify_audit(date, date) IS
'Compares the rows of stripe_webhook_events with the seals that the job seal_audit wrote, a row a day of UTC; shows also what a superuser did.
from, to: days, both included; NULL: from the first that has a seal to yesterday.
status: intact; touched (rows were changed or removed); added later (there are rows that came after the day was sealed); broken (the seals themselves were changed, or one is missing before this one); expired (retention removed rows after 7 years; the rest is intact); not sealed (yet).
row_count: rows that were sealed; changed, removed, added: rows that differ from the seals, are not there any more, or are in no seal; late: rows sealed after their day; expired: rows removed after 7 years; touched: ids of rows changed, removed or added, the first 100; digest: of the day''s last seal, in hex: keep it elsewhere to prove that nobody made the seals anew.
Errors: 22023 for days that are none, or from after to; 55000 when stripe_webhook_events is not enabled.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.verify_audit(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.verify_audit(date, date) TO @extowner@;

CREATE FUNCTION dashie.legal_hold(
	reason text, user_id uuid DEFAULT NULL, "from" date DEFAULT NULL, "to" date DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_legal_hold';
COMMENT ON FUNCTION dashie.legal_hold(text, uuid, date, date) IS
'Keeps payment records beyond 7 years: retention leaves them, and nobody but a superuser can delete them, until the hold is released. Returns its number; holds are rows of dashie.legal_hold.
reason: for whoever reads it later; user_id: only rows of this user, also when the user is deleted meanwhile; from, to: only rows created on these days of UTC, both included. One of the three must be given.
Errors: 22023 without a reason or a condition, or from after to; 23503 for an unknown user; 55000 when stripe_webhook_events is not enabled.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.legal_hold(text, uuid, date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.legal_hold(text, uuid, date, date) TO @extowner@;

CREATE FUNCTION dashie.release_legal_hold(number bigint) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_release_legal_hold';
COMMENT ON FUNCTION dashie.release_legal_hold(bigint) IS
'Ends what dashie.legal_hold() began; rows that no other hold covers go by retention again.
number: as dashie.legal_hold() returned it.
Errors: 22023 for a hold that does not exist or was released before; 55000 when stripe_webhook_events is not enabled.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.release_legal_hold(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.release_legal_hold(bigint) TO @extowner@;
