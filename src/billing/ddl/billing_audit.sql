-- What proves that payment records are as they came, and which of them are held
-- beyond 7 years. Made by dashie.enable() of stripe_webhook_events, owned by
-- the caller, plain core types: it is dumped as data and outlives DROP EXTENSION.

-- One seal a finished day of UTC, and further ones for rows that came after it.
CREATE TABLE IF NOT EXISTS dashie.audit_seal (
	number bigint PRIMARY KEY CHECK (number > 0), -- without gaps
	day date NOT NULL,
	late boolean NOT NULL,           -- of rows that came after the day was sealed
	sealed_at timestamptz NOT NULL,
	row_count bigint NOT NULL CHECK (row_count >= 0),
	entries bytea,                   -- for each row its id, created_at and SHA-256; NULL when the last is gone after 7 years
	content bytea NOT NULL CHECK (octet_length(content) = 32), -- SHA-256 over entries
	digest bytea NOT NULL CHECK (octet_length(digest) = 32)    -- SHA-256 over the digest of number - 1 and this row
);
CREATE UNIQUE INDEX IF NOT EXISTS audit_seal_day ON dashie.audit_seal (day) WHERE NOT late;
CREATE INDEX IF NOT EXISTS audit_seal_late ON dashie.audit_seal (day) WHERE late;
ALTER TABLE dashie.audit_seal ALTER COLUMN entries SET STORAGE EXTERNAL;

-- Rows that the law's 7 years are not long enough for. A condition that is NULL
-- holds for every row.
CREATE TABLE IF NOT EXISTS dashie.legal_hold (
	number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	reason text NOT NULL,
	user_id uuid,
	customer_ids text[],             -- the user's with Stripe: rows lose their user_id when the user is deleted
	"from" date,                     -- days of UTC, both included
	"to" date,
	placed_by text NOT NULL,
	placed_at timestamptz NOT NULL,
	released_by text,
	released_at timestamptz
);
REVOKE ALL ON TABLE dashie.audit_seal, dashie.legal_hold FROM PUBLIC;
