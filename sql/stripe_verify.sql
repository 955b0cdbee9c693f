-- Signatures of Stripe. Each was computed with
--   printf '%s.%s' 1700000000 "$body" | openssl dgst -sha256 -hmac "$secret"
SET client_min_messages = warning;
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
\set body '''{"id": "evt_v"}'''
\set good 65f6729212be9abc371389fa83ba90cea715dceda61b6e08d2c630fec70cb03b
\set other ca61864fff5d8663de80090f35e34a07ce1f42f488966a4949bf26e8c07a8dfd
CREATE FUNCTION verify(header text, at timestamptz DEFAULT '2023-11-14 22:13:20+00', secrets text[] DEFAULT '{whsec_dashie}',
	body bytea DEFAULT '{"id": "evt_v"}') RETURNS boolean LANGUAGE sql AS
	$$ SELECT dashie.stripe_verify(body, header, secrets, at => at) $$;

SELECT verify('t=1700000000,v1=' || :'good') AS one,
	verify('t=1700000000,v1=' || repeat('0', 64) || ',v1=' || :'good') AS several,
	verify('v1=' || :'good' || ',t=1700000000') AS any_order,
	verify('t=1700000000,v0=' || repeat('0', 64) || ',v2=x,v1=' || :'good') AS other_schemes,
	verify('t=1700000000,v1=' || :'other', secrets => '{whsec_dashie,whsec_other}') AS rotated,
	verify('t=1700000000,v1=' || :'other' || ',v1=' || :'good') AS while_rotating;
SELECT verify('t=1700000000,v1=3a2350ec8fa0c6a8a21cf30bd473303dc5b2edceccb5dc6e29a898a9b69a18c9', body => '') AS empty_body,
	verify('t=1700000000,v1=5d3486c33b8625c2ff953218eb2199972dc5c3640fe0e9be57a14214f67c34e5', body => '\x00fffe') AS bytes;

-- Not signed, or not as it should be: false, never an error.
SELECT header, verify(replace(replace(header, 'GOOD', :'good'), 'OTHER', :'other')) AS verified
FROM unnest(ARRAY['', 't=1700000000', 'v1=GOOD', 't=1700000000,v1=OTHER', 't=1700000000,v0=GOOD', 't=1700000001,v1=GOOD',
	't=17000000000000000000,v1=GOOD', 't=,v1=GOOD', 't=-1700000000,v1=GOOD', 't=+1700000000,v1=GOOD', 't=1700000000.0,v1=GOOD',
	't=01700000000,v1=GOOD', 't=1700000000,t=1700000000,v1=GOOD', 't = 1700000000, v1 = GOOD', ' t=1700000000,v1=GOOD',
	't=1700000000, v1=GOOD', 't=1700000000,v1=GOOD ', 't=1700000000,v1=GOOD0', 't=1700000000,v1=', 't=1700000000,v1',
	't=1700000000,v1=GOOD,', ',t=1700000000,v1=GOOD', 't=1700000000;v1=GOOD', 'nonsense', '=', ',,,', 'T=1700000000,V1=GOOD',
	't=1700000000,v1=' || chr(228) || chr(10)]) AS header;
SELECT verify('t=1700000000,v1=' || upper(:'good')) AS upper_case,
	verify('t=1700000000,v1=' || :'good', body => '{"id": "evt_v"} ') AS another_body,
	verify('t=1700000000,v1=' || :'good', secrets => '{whsec_dashi}') AS another_secret,
	verify('t=1700000000,v1=' || repeat(:'good', 100000)) AS very_long;

-- Exactly at the tolerance, and a moment beyond, in both directions.
SELECT at, verify('t=1700000000,v1=' || :'good', at) AS verified
FROM unnest(ARRAY['2023-11-14 22:18:20+00', '2023-11-14 22:18:20.000001+00', '2023-11-14 22:18:21+00', '2023-11-14 22:08:20+00',
	'2023-11-14 22:08:19.999999+00', '4714-11-24 00:00+00 BC', '294276-12-31 23:59:59+00']::timestamptz[]) AS at;
SELECT dashie.stripe_verify(:body, 't=1700000000,v1=' || :'good', '{whsec_dashie}', '1 month', '2023-12-14 22:13:20+00') AS month,
	dashie.stripe_verify(:body, 't=1700000000,v1=' || :'good', '{whsec_dashie}', '178956970 years', '9999-12-14 22:13:20+00') AS for_ever,
	dashie.stripe_verify(:body, 't=1700000000,v1=' || :'good', '{whsec_dashie}') AS now;

-- Bad arguments.
\set VERBOSITY sqlstate
SELECT dashie.stripe_verify(NULL, '', '{a}');
SELECT dashie.stripe_verify('', NULL, '{a}');
SELECT dashie.stripe_verify('', '', NULL);
SELECT dashie.stripe_verify('', '', '{a}', NULL);
SELECT dashie.stripe_verify('', '', '{a}', at => NULL);
\set VERBOSITY default
SELECT dashie.stripe_verify('', '', '{}');
SELECT dashie.stripe_verify('', '', '{a,NULL}');
SELECT dashie.stripe_verify('', '', ARRAY['a', '']);
SELECT dashie.stripe_verify('', '', '{a}', '0');
SELECT dashie.stripe_verify('', '', '{a}', '-1 second');
SELECT dashie.stripe_verify('', '', '{a}', at => 'infinity');
DROP FUNCTION verify;
