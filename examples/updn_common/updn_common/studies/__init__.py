"""Many runs: trained at equal budget, and compared with one another and with published numbers."""
