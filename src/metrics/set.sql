-- The type dashie.user_set and all that belongs to it. Everything here is a pure function of its arguments and reads no
-- table: EXECUTE stays with PUBLIC. Who has no USAGE on schema dashie cannot name it all the same.
CREATE TYPE dashie.user_set;

CREATE FUNCTION dashie.user_set_in(cstring) RETURNS dashie.user_set
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_in';
COMMENT ON FUNCTION dashie.user_set_in(cstring) IS
'Input of type dashie.user_set: 22P02 for malformed text, 22003 for an integer below 0 or above 2147483647.';

CREATE FUNCTION dashie.user_set_out(dashie.user_set) RETURNS cstring
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_out';
COMMENT ON FUNCTION dashie.user_set_out(dashie.user_set) IS
'Output of type dashie.user_set.';

CREATE FUNCTION dashie.user_set_recv(internal) RETURNS dashie.user_set
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_recv';
COMMENT ON FUNCTION dashie.user_set_recv(internal) IS
'Binary input of type dashie.user_set: Roaring''s portable format; each byte is checked, 22P03 if it is no set.';

CREATE FUNCTION dashie.user_set_send(dashie.user_set) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_send';
COMMENT ON FUNCTION dashie.user_set_send(dashie.user_set) IS
'Binary output of type dashie.user_set: Roaring''s portable format.';

CREATE TYPE dashie.user_set (
	INPUT = dashie.user_set_in, OUTPUT = dashie.user_set_out, RECEIVE = dashie.user_set_recv, SEND = dashie.user_set_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended);
COMMENT ON TYPE dashie.user_set IS
'A set of integers from 0 to 2147483647, such as user numbers. As text: ''{1,2,5-9}''. As bytes: Roaring''s portable format, as in dashie.day_page.active; equal sets have equal bytes.';

-- From and to other types
CREATE FUNCTION dashie.user_set_from_bytea(bytes bytea) RETURNS dashie.user_set
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 20 AS 'MODULE_PATHNAME', 'dashie_user_set_from_bytea';
COMMENT ON FUNCTION dashie.user_set_from_bytea(bytea) IS
'The set that bytes in Roaring''s portable format hold, such as dashie.day_page.active. Each byte is checked.
Errors: 22P03 if the bytes are no such set, are of another format or version, or hold an integer above 2147483647.
Source: dashie semantics, "geographic_stats".';

CREATE CAST (bytea AS dashie.user_set) WITH FUNCTION dashie.user_set_from_bytea(bytea);
COMMENT ON CAST (bytea AS dashie.user_set) IS 'Checks each byte; 22P03 if they are no set.';
CREATE CAST (dashie.user_set AS bytea) WITHOUT FUNCTION;
COMMENT ON CAST (dashie.user_set AS bytea) IS 'The set in Roaring''s portable format.';

CREATE FUNCTION dashie.user_set(members integer[]) RETURNS dashie.user_set
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 100 AS 'MODULE_PATHNAME', 'dashie_user_set_from_array';
COMMENT ON FUNCTION dashie.user_set(integer[]) IS
'The set of an array''s elements, in any order, each counted once.
Errors: 22023 for an element that is NULL or below 0.';

CREATE FUNCTION dashie.to_array(users dashie.user_set) RETURNS integer[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 100 AS 'MODULE_PATHNAME', 'dashie_user_set_to_array';
COMMENT ON FUNCTION dashie.to_array(dashie.user_set) IS
'The members of a set, ascending.
Errors: 54000 for more members than an array can hold (about 268 million).';

CREATE CAST (integer[] AS dashie.user_set) WITH FUNCTION dashie.user_set(integer[]);
COMMENT ON CAST (integer[] AS dashie.user_set) IS 'As dashie.user_set(integer[]).';
CREATE CAST (dashie.user_set AS integer[]) WITH FUNCTION dashie.to_array(dashie.user_set);
COMMENT ON CAST (dashie.user_set AS integer[]) IS 'As dashie.to_array().';

CREATE FUNCTION dashie.unnest(users dashie.user_set) RETURNS SETOF integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER ROWS 1000 AS 'MODULE_PATHNAME', 'dashie_user_set_unnest';
COMMENT ON FUNCTION dashie.unnest(dashie.user_set) IS
'The members of a set, ascending, a row each.';

-- Questions
CREATE FUNCTION dashie.cardinality(users dashie.user_set) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_cardinality';
COMMENT ON FUNCTION dashie.cardinality(dashie.user_set) IS
'How many members a set has, without reading them.';

CREATE FUNCTION dashie.contains(users dashie.user_set, member integer) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_has_member';
COMMENT ON FUNCTION dashie.contains(dashie.user_set, integer) IS
'Whether an integer is a member of a set; one below 0 never is.';

CREATE FUNCTION dashie.contains(users dashie.user_set, part dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 10 AS 'MODULE_PATHNAME', 'dashie_user_set_contains';
COMMENT ON FUNCTION dashie.contains(dashie.user_set, dashie.user_set) IS
'Whether all members of "part" are members of "users".';

CREATE FUNCTION dashie.contained(member integer, users dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_is_member';
COMMENT ON FUNCTION dashie.contained(integer, dashie.user_set) IS
'Whether an integer is a member of a set; one below 0 never is.';

CREATE FUNCTION dashie.contained(part dashie.user_set, users dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 10 AS 'MODULE_PATHNAME', 'dashie_user_set_contained';
COMMENT ON FUNCTION dashie.contained(dashie.user_set, dashie.user_set) IS
'Whether all members of "part" are members of "users".';

CREATE FUNCTION dashie.user_set_overlaps(users dashie.user_set, others dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 10 AS 'MODULE_PATHNAME', 'dashie_user_set_overlaps';
COMMENT ON FUNCTION dashie.user_set_overlaps(dashie.user_set, dashie.user_set) IS
'Whether two sets have a member in common.';

CREATE OPERATOR dashie.@> (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.contains, COMMUTATOR = OPERATOR(dashie.<@), RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);
COMMENT ON OPERATOR dashie.@> (dashie.user_set, dashie.user_set) IS 'has the right set''s members';

CREATE OPERATOR dashie.<@ (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.contained, COMMUTATOR = OPERATOR(dashie.@>), RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);
COMMENT ON OPERATOR dashie.<@ (dashie.user_set, dashie.user_set) IS 'has only members of the right set';

CREATE OPERATOR dashie.@> (LEFTARG = dashie.user_set, RIGHTARG = integer, FUNCTION = dashie.contains, COMMUTATOR = OPERATOR(dashie.<@), RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);
COMMENT ON OPERATOR dashie.@> (dashie.user_set, integer) IS 'has the member';

CREATE OPERATOR dashie.<@ (LEFTARG = integer, RIGHTARG = dashie.user_set, FUNCTION = dashie.contained, COMMUTATOR = OPERATOR(dashie.@>), RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);
COMMENT ON OPERATOR dashie.<@ (integer, dashie.user_set) IS 'is a member';

CREATE OPERATOR dashie.&& (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_overlaps, COMMUTATOR = OPERATOR(dashie.&&), RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel);
COMMENT ON OPERATOR dashie.&& (dashie.user_set, dashie.user_set) IS 'have members in common';

-- Sets from sets
CREATE FUNCTION dashie.user_set_union(users dashie.user_set, others dashie.user_set) RETURNS dashie.user_set
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 20 AS 'MODULE_PATHNAME', 'dashie_user_set_union';
COMMENT ON FUNCTION dashie.user_set_union(dashie.user_set, dashie.user_set) IS
'The members of either set.';

CREATE FUNCTION dashie.user_set_intersect(users dashie.user_set, others dashie.user_set) RETURNS dashie.user_set
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 20 AS 'MODULE_PATHNAME', 'dashie_user_set_intersect';
COMMENT ON FUNCTION dashie.user_set_intersect(dashie.user_set, dashie.user_set) IS
'The members that both sets have.';

CREATE FUNCTION dashie.user_set_except(users dashie.user_set, others dashie.user_set) RETURNS dashie.user_set
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 20 AS 'MODULE_PATHNAME', 'dashie_user_set_except';
COMMENT ON FUNCTION dashie.user_set_except(dashie.user_set, dashie.user_set) IS
'The members of "users" that are not members of "others".';

CREATE OPERATOR dashie.| (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_union, COMMUTATOR = OPERATOR(dashie.|));
COMMENT ON OPERATOR dashie.| (dashie.user_set, dashie.user_set) IS 'union';

CREATE OPERATOR dashie.& (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_intersect, COMMUTATOR = OPERATOR(dashie.&));
COMMENT ON OPERATOR dashie.& (dashie.user_set, dashie.user_set) IS 'intersection';

CREATE OPERATOR dashie.- (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_except);
COMMENT ON OPERATOR dashie.- (dashie.user_set, dashie.user_set) IS 'difference';

-- Aggregates
CREATE FUNCTION dashie.user_set_agg_add(state internal, member integer) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_agg_add';
COMMENT ON FUNCTION dashie.user_set_agg_add(internal, integer) IS
'Part of the aggregate dashie.user_set_agg().';

CREATE FUNCTION dashie.user_set_agg_unite(state internal, users dashie.user_set) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE SECURITY INVOKER COST 10 AS 'MODULE_PATHNAME', 'dashie_user_set_agg_unite';
COMMENT ON FUNCTION dashie.user_set_agg_unite(internal, dashie.user_set) IS
'Part of the aggregate dashie.user_set_union().';

CREATE FUNCTION dashie.user_set_agg_combine(state internal, other internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_agg_combine';
COMMENT ON FUNCTION dashie.user_set_agg_combine(internal, internal) IS
'Part of the aggregates dashie.user_set_agg() and dashie.user_set_union().';

CREATE FUNCTION dashie.user_set_agg_serialize(state internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_agg_serialize';
COMMENT ON FUNCTION dashie.user_set_agg_serialize(internal) IS
'Part of the aggregates dashie.user_set_agg() and dashie.user_set_union().';

CREATE FUNCTION dashie.user_set_agg_deserialize(bytes bytea, state internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_agg_deserialize';
COMMENT ON FUNCTION dashie.user_set_agg_deserialize(bytea, internal) IS
'Part of the aggregates dashie.user_set_agg() and dashie.user_set_union(). The bytes are checked.';

CREATE FUNCTION dashie.user_set_agg_final(state internal) RETURNS dashie.user_set
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_user_set_agg_final';
COMMENT ON FUNCTION dashie.user_set_agg_final(internal) IS
'Part of the aggregates dashie.user_set_agg() and dashie.user_set_union().';

CREATE AGGREGATE dashie.user_set_agg(member integer) (
	SFUNC = dashie.user_set_agg_add, STYPE = internal, FINALFUNC = dashie.user_set_agg_final,
	COMBINEFUNC = dashie.user_set_agg_combine, SERIALFUNC = dashie.user_set_agg_serialize, DESERIALFUNC = dashie.user_set_agg_deserialize,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE dashie.user_set_agg(integer) IS
'The set of all integers that are not NULL; NULL if there are none. Can run in parallel.
Errors: 22023 for an integer below 0.';

CREATE AGGREGATE dashie.user_set_union(users dashie.user_set) (
	SFUNC = dashie.user_set_agg_unite, STYPE = internal, FINALFUNC = dashie.user_set_agg_final,
	COMBINEFUNC = dashie.user_set_agg_combine, SERIALFUNC = dashie.user_set_agg_serialize, DESERIALFUNC = dashie.user_set_agg_deserialize,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE dashie.user_set_union(dashie.user_set) IS
'The members of any of the sets that are not NULL; NULL if there is no such set. Can run in parallel.';

CREATE AGGREGATE dashie.user_set_intersect(users dashie.user_set) (
	SFUNC = dashie.user_set_intersect, STYPE = dashie.user_set, COMBINEFUNC = dashie.user_set_intersect, PARALLEL = SAFE);
COMMENT ON AGGREGATE dashie.user_set_intersect(dashie.user_set) IS
'The members that all of the sets that are not NULL have; NULL if there is no such set. Can run in parallel.';

-- Equality, for GROUP BY, DISTINCT and joins. The order is that of the bytes: it means nothing, but is always the same.
CREATE FUNCTION dashie.user_set_eq(users dashie.user_set, others dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_eq';
COMMENT ON FUNCTION dashie.user_set_eq(dashie.user_set, dashie.user_set) IS
'Whether two sets have the same members.';

CREATE FUNCTION dashie.user_set_ne(users dashie.user_set, others dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_ne';
COMMENT ON FUNCTION dashie.user_set_ne(dashie.user_set, dashie.user_set) IS
'Whether two sets differ in a member.';

CREATE FUNCTION dashie.user_set_lt(users dashie.user_set, others dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_lt';
COMMENT ON FUNCTION dashie.user_set_lt(dashie.user_set, dashie.user_set) IS
'Order of the bytes: before.';

CREATE FUNCTION dashie.user_set_le(users dashie.user_set, others dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_le';
COMMENT ON FUNCTION dashie.user_set_le(dashie.user_set, dashie.user_set) IS
'Order of the bytes: before or equal.';

CREATE FUNCTION dashie.user_set_gt(users dashie.user_set, others dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_gt';
COMMENT ON FUNCTION dashie.user_set_gt(dashie.user_set, dashie.user_set) IS
'Order of the bytes: after.';

CREATE FUNCTION dashie.user_set_ge(users dashie.user_set, others dashie.user_set) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_ge';
COMMENT ON FUNCTION dashie.user_set_ge(dashie.user_set, dashie.user_set) IS
'Order of the bytes: after or equal.';

CREATE FUNCTION dashie.user_set_cmp(users dashie.user_set, others dashie.user_set) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_cmp';
COMMENT ON FUNCTION dashie.user_set_cmp(dashie.user_set, dashie.user_set) IS
'Order of the bytes: -1, 0 or 1.';

CREATE FUNCTION dashie.user_set_hash(users dashie.user_set) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_hash';
COMMENT ON FUNCTION dashie.user_set_hash(dashie.user_set) IS
'Hash of a set.';

CREATE FUNCTION dashie.user_set_hash_extended(users dashie.user_set, seed bigint) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER COST 5 AS 'MODULE_PATHNAME', 'dashie_user_set_hash_extended';
COMMENT ON FUNCTION dashie.user_set_hash_extended(dashie.user_set, bigint) IS
'Hash of a set, with a seed.';

CREATE OPERATOR dashie.= (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_eq, COMMUTATOR = OPERATOR(dashie.=), NEGATOR = OPERATOR(dashie.<>), RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES, MERGES);
COMMENT ON OPERATOR dashie.= (dashie.user_set, dashie.user_set) IS 'same members';

CREATE OPERATOR dashie.<> (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_ne, COMMUTATOR = OPERATOR(dashie.<>), NEGATOR = OPERATOR(dashie.=), RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel);
COMMENT ON OPERATOR dashie.<> (dashie.user_set, dashie.user_set) IS 'not the same members';

CREATE OPERATOR dashie.#<# (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_lt, COMMUTATOR = OPERATOR(dashie.#>#), NEGATOR = OPERATOR(dashie.#>=#), RESTRICT = pg_catalog.scalarltsel, JOIN = pg_catalog.scalarltjoinsel);
COMMENT ON OPERATOR dashie.#<# (dashie.user_set, dashie.user_set) IS 'bytes before';

CREATE OPERATOR dashie.#<=# (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_le, COMMUTATOR = OPERATOR(dashie.#>=#), NEGATOR = OPERATOR(dashie.#>#), RESTRICT = pg_catalog.scalarlesel, JOIN = pg_catalog.scalarlejoinsel);
COMMENT ON OPERATOR dashie.#<=# (dashie.user_set, dashie.user_set) IS 'bytes before or equal';

CREATE OPERATOR dashie.#># (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_gt, COMMUTATOR = OPERATOR(dashie.#<#), NEGATOR = OPERATOR(dashie.#<=#), RESTRICT = pg_catalog.scalargtsel, JOIN = pg_catalog.scalargtjoinsel);
COMMENT ON OPERATOR dashie.#># (dashie.user_set, dashie.user_set) IS 'bytes after';

CREATE OPERATOR dashie.#>=# (LEFTARG = dashie.user_set, RIGHTARG = dashie.user_set, FUNCTION = dashie.user_set_ge, COMMUTATOR = OPERATOR(dashie.#<=#), NEGATOR = OPERATOR(dashie.#<#), RESTRICT = pg_catalog.scalargesel, JOIN = pg_catalog.scalargejoinsel);
COMMENT ON OPERATOR dashie.#>=# (dashie.user_set, dashie.user_set) IS 'bytes after or equal';

CREATE OPERATOR CLASS dashie.user_set_ops DEFAULT FOR TYPE dashie.user_set USING btree AS
	OPERATOR 1 dashie.#<#, OPERATOR 2 dashie.#<=#, OPERATOR 3 dashie.=, OPERATOR 4 dashie.#>=#, OPERATOR 5 dashie.#>#,
	FUNCTION 1 dashie.user_set_cmp(dashie.user_set, dashie.user_set);
CREATE OPERATOR CLASS dashie.user_set_ops DEFAULT FOR TYPE dashie.user_set USING hash AS
	OPERATOR 1 dashie.=,
	FUNCTION 1 dashie.user_set_hash(dashie.user_set), FUNCTION 2 dashie.user_set_hash_extended(dashie.user_set, bigint);
