-- The lake's catalog: which Iceberg metadata file each of the lake's tables is at.
--
-- The two iceberg_ tables are those of Iceberg's SQL catalog, version 1 (column names and
-- widths are its own); no code of ours writes them but through that catalog. They stand in a
-- schema of their own, for the mirror's role alone, outside the tenant policies: a row names
-- a file of metadata, never a tenant's data. The mirror writes rows, it does not own tables.
CREATE SCHEMA aetheris_lake;

CREATE TABLE aetheris_lake.iceberg_tables (
    catalog_name                varchar(255) NOT NULL,
    table_namespace             varchar(255) NOT NULL,
    table_name                  varchar(255) NOT NULL,
    metadata_location           varchar(1000),
    previous_metadata_location  varchar(1000),
    iceberg_type                varchar(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name)
);

CREATE TABLE aetheris_lake.iceberg_namespace_properties (
    catalog_name    varchar(255) NOT NULL,
    namespace       varchar(255) NOT NULL,
    property_key    varchar(255) NOT NULL,
    property_value  varchar(1000) NOT NULL,
    PRIMARY KEY (catalog_name, namespace, property_key)
);

-- Made anew whenever the mirror finds this database older than the lake it feeds: watermarks
-- from before then count transactions that this database has forgotten.
CREATE TABLE aetheris_lake.catalog_identity (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    incarnation  uuid NOT NULL DEFAULT gen_random_uuid(),
    renewed_at   timestamptz NOT NULL DEFAULT now()
);
INSERT INTO aetheris_lake.catalog_identity DEFAULT VALUES;

GRANT USAGE ON SCHEMA aetheris_lake TO aetheris_mirror;
GRANT SELECT, INSERT, UPDATE, DELETE ON aetheris_lake.iceberg_tables, aetheris_lake.iceberg_namespace_properties
    TO aetheris_mirror;
GRANT SELECT, UPDATE ON aetheris_lake.catalog_identity TO aetheris_mirror;
