"""Many runs: trained, compared, and set beside published numbers."""
