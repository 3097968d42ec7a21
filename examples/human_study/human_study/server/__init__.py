"""The page that participants see: served with a database, or as files."""
