"""What pytest should leave alone: Alembic runs its files itself."""

collect_ignore_glob = ["human_study/server/migrations/*"]
