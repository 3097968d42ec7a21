"""Proposals: from others' feature files to a store that training reads."""
