"""Evidence and gates for the exact artefact that would ship."""
