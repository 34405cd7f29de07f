"""What Stealmesh peers say to each other: ids, messages, bytes. Imports nothing above it."""
