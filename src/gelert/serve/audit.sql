-- The audit of several instances of gelert serve, for PostgreSQL 14 or later. Run it as the database's owner, who may
-- make roles: gelert audit schema | psql URL
-- Who may write it is a member of gelert_writer, which can add rows and read them:
--   CREATE ROLE gelert_one LOGIN PASSWORD '...' IN ROLE gelert_writer;
BEGIN;

CREATE SCHEMA IF NOT EXISTS gelert;

-- One chain per instance; instances share the table and nothing else.
CREATE TABLE IF NOT EXISTS gelert.decision (
  instance text NOT NULL, number bigint NOT NULL, entry text NOT NULL, previous text NOT NULL, hash text NOT NULL,
  PRIMARY KEY (instance, number));
CREATE TABLE IF NOT EXISTS gelert.signed (
  instance text NOT NULL, kind text NOT NULL, number bigint NOT NULL, hash text NOT NULL, signature text NOT NULL,
  PRIMARY KEY (instance, kind, number));

CREATE OR REPLACE FUNCTION gelert.only_added() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RAISE EXCEPTION 'decisions and their signatures are only added'; END $$;

-- The signed end moves with the chain. Writers may delete nothing, so this is done in the name of the owner.
CREATE OR REPLACE FUNCTION gelert.one_head() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  DELETE FROM gelert.signed WHERE instance = NEW.instance AND kind = 'head' AND number < NEW.number;
  RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER lasting BEFORE UPDATE OR DELETE OR TRUNCATE ON gelert.decision
  FOR EACH STATEMENT EXECUTE FUNCTION gelert.only_added();
CREATE OR REPLACE TRIGGER lasting BEFORE UPDATE OR DELETE ON gelert.signed
  FOR EACH ROW WHEN (OLD.kind <> 'head') EXECUTE FUNCTION gelert.only_added();
CREATE OR REPLACE TRIGGER whole BEFORE TRUNCATE ON gelert.signed
  FOR EACH STATEMENT EXECUTE FUNCTION gelert.only_added();
CREATE OR REPLACE TRIGGER ending AFTER INSERT ON gelert.signed
  FOR EACH ROW WHEN (NEW.kind = 'head') EXECUTE FUNCTION gelert.one_head();

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gelert_writer') THEN CREATE ROLE gelert_writer NOLOGIN; END IF;
END $$;
GRANT USAGE ON SCHEMA gelert TO gelert_writer;
GRANT SELECT, INSERT ON gelert.decision, gelert.signed TO gelert_writer;

COMMIT;
