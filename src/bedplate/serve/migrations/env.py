"""Alembic's entry: runs the migrations on the connection :func:`bedplate.serve.database.migrate` hands over."""

from alembic import context

from bedplate.serve.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
