"""Answers that nobody gave, to test a study and its analysis before anyone is asked."""
