"""From other systems into Aetheris: one file per source."""
