"""What the library shows a person: tables."""
