"""The database: participants and their answers. Migrations bring older databases to this form."""

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, String, Table, Text

metadata = MetaData()

study = Table("study", metadata, Column("id", String(32), primary_key=True))
"""One row: the study that the database belongs to."""

participants = Table(
    "participants",
    metadata,
    Column("id", String(32), primary_key=True),  # opaque: what the export calls them
    Column("code_hash", String(64), nullable=False, unique=True),  # of the code that only the participant knows
    Column("platform_hash", String(64), unique=True),  # of the platform's id, by the study's key
    Column("source", String(16), nullable=False),
    Column("row", Integer, nullable=False, index=True),  # of the study's design
    Column("status", String(16), nullable=False),
    Column("started_at", Float, nullable=False),  # seconds since 1970, as all times
    Column("seen_at", Float, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("participant", String(32), ForeignKey("participants.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("item", String(32), nullable=False, index=True),
    Column("left", String(255), nullable=False),
    Column("right", String(255), nullable=False),
    Column("reasonable", Integer, nullable=False),
    Column("trust", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("answered_at", Float, nullable=False),
)
