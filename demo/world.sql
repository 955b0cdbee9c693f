-- What an application's database holds before dashie comes: the roles of a
-- Supabase-like platform, its table of users, and the application's own
-- profiles.  Runs as superuser, connected to the application's database, which
-- belongs to app_owner.

CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE ROLE supabase_auth_admin LOGIN;

CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
GRANT USAGE ON SCHEMA auth TO app_owner, anon, authenticated, service_role;

CREATE TABLE auth.users (
	id uuid PRIMARY KEY,
	email text,
	created_at timestamptz,
	is_anonymous boolean NOT NULL DEFAULT false,
	deleted_at timestamptz
);
ALTER TABLE auth.users OWNER TO supabase_auth_admin;
GRANT SELECT, REFERENCES, TRIGGER ON auth.users TO app_owner;

CREATE FUNCTION auth.uid() RETURNS uuid
LANGUAGE sql STABLE
AS $$SELECT nullif(pg_catalog.current_setting('request.jwt.claim.sub', true), '')::uuid$$;
ALTER FUNCTION auth.uid() OWNER TO supabase_auth_admin;

GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
GRANT CREATE ON SCHEMA public TO app_owner;
-- The platform grants everything on every new table of public: dashie has to
-- take that back for its own.
ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA public
	GRANT ALL ON TABLES TO anon, authenticated, service_role;

-- The log and the comparison live apart from the product's tables.
CREATE SCHEMA demo AUTHORIZATION app_owner;
GRANT USAGE ON SCHEMA demo TO supabase_auth_admin;

SET ROLE app_owner;

CREATE TABLE public.user_profiles (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	auth_user_id uuid NOT NULL UNIQUE REFERENCES auth.users ON DELETE CASCADE,
	email text UNIQUE,
	stripe_customer_id text UNIQUE,
	stripe_subscription_id text UNIQUE,
	tier text NOT NULL DEFAULT 'trial',
	tier_started_at timestamptz,
	tier_expires_at timestamptz,
	subscription_status text,
	max_dashboards integer DEFAULT 1,
	max_calendars integer DEFAULT 2,
	first_sign_in_at timestamptz,
	last_sign_in_at timestamptz,
	last_seen_at timestamptz,
	current_app_version text,
	analytics_consent boolean DEFAULT true,
	created_at timestamptz DEFAULT now(),
	updated_at timestamptz DEFAULT now()
);
ALTER TABLE public.user_profiles ENABLE ROW LEVEL SECURITY;

CREATE TABLE public.access_control_config (
	key text PRIMARY KEY,
	value text NOT NULL,
	value_type text,
	description text,
	updated_at timestamptz DEFAULT now(),
	updated_by uuid
);
ALTER TABLE public.access_control_config ENABLE ROW LEVEL SECURITY;
INSERT INTO public.access_control_config (key, value) VALUES
	('beta_mode_enabled', 'true'),
	('trial_enabled', 'true'),
	('trial_duration_days', '14'),
	('current_app_version', '0.3.0');
