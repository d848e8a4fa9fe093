"""The only room that speaks to PostgreSQL: schema, roles, statements, the embedded server."""
