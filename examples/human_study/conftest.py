"""What pytest should leave alone: Alembic runs its files itself, and the programs that torture the server are long."""

collect_ignore_glob = ["human_study/server/migrations/*", "tests/torture_*.py", "tests/harness.py"]
