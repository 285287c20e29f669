from alembic import op

revision, down_revision = "2", "1"


def upgrade():
    op.execute("INSERT INTO orders (amount) VALUES (1), (2), (3)")


def downgrade():
    op.execute("DELETE FROM orders WHERE id <= 3")
