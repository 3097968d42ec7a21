"""Which explanation do people trust? A blinded study of two networks, from their runs to an honest analysis."""
